"""What a step of training costs, over a plain eager loop; and what 240 epochs then take.

    python benchmarks/training.py [NETWORK …] [--rounds 20] [--repeat 3] [--json FILE]

A step is augmentation, forward, cross-entropy, backward and SGD on a batch of 64. *Loop* is the
step as it is usually written: float32, contiguous, torch's own SGD and settings, images normalised
beforehand and not augmented, no value asked for. The others are the step of ``training.step``
as the trainer runs it, deterministic, by precision and memory layout (the trainer's is channels
last), and on a CUDA device launched operation by operation or replayed as a graph. *SKD* is that of
a student with eq. 3 beside the cross-entropy, in the trainer's layout. Blocks of steps of all kinds
take turns, and medians are compared.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
import typer
from recording import Record, describe_device, wait_for

from dissect_embed.device import choose_device, current_device
from dissect_embed.distillation.methods.method import build_method
from dissect_embed.distillation.training.augmentation import draw_epoch
from dissect_embed.distillation.training.schedules import SCHEDULES
from dissect_embed.distillation.training.step import (
    Models,
    Pixels,
    deterministic,
    empty_tally,
    graph_steps,
    make_optimiser,
    make_step,
    momenta,
)
from dissect_embed.distillation.zoo import build_network, map_shapes
from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax
from dissect_embed.memory import keep_freed_memory

STEPS = 782 * 240
# Students and teachers of Table 1, those of its first pairs first.
STUDENTS = ("resnet20", "vgg8", "resnet8x4", "wrn-16-2", "resnet32")
NETWORKS = (*STUDENTS, "resnet56", "resnet110", "vgg13", "resnet32x4", "wrn-40-2")
LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


class Kind(NamedTuple):
    """A way of making a step."""

    method: str  # "loop", "plain" or "SKD"
    precision: str = "float32"
    layout: str = "contiguous"
    graphs: bool = False

    def __str__(self) -> str:
        """Return the name of the row."""
        return ", ".join([*self[:3], "graph" if self.graphs else "eager"])


def kinds_of(name: str, device: str) -> list[Kind]:
    """Return the ways to measure of a network, those that the trainer takes first."""
    graphs = (True, False) if device != "cpu" else (False,)
    kinds = [Kind("loop")]
    for layout, graph, precision in product(LAYOUTS, graphs, ("float32", "bfloat16")):
        kinds.append(Kind("plain", precision, layout, graph))
        if name in STUDENTS and layout == "channels last":
            kinds.append(Kind("SKD", precision, layout, graph))
    return kinds


def usual_step(name: str, device: torch.device, batch_size: int) -> Callable[[], None]:
    """Return a function that makes a step as it is usually written."""
    network = build_network(name, 100, 0).to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch_size, 3, 32, 32, device=device)
    labels = torch.randint(100, (batch_size,), device=device)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimiser.step()

    return step


def our_step(name: str, kind: Kind, device: torch.device, batch_size: int) -> Callable[[], None]:
    """Return a function that makes a step as the trainer does."""
    network = build_network(name, 100, 0).to(device, memory_format=LAYOUTS[kind.layout])
    n_images = 50_000 if device.type == "cuda" else 2_000
    images = torch.randint(256, (n_images, 32, 32, 3), dtype=torch.uint8, device=device)
    labels = torch.randint(100, (n_images,), device=device)
    half = torch.full((3,), 0.5, device=device)
    targets = None
    if kind.method == "SKD":
        vectors = (torch.randn(n, 16, device=device) for n, *_ in map_shapes(network)[1:])
        targets = [row_softmax(cosine_similarity(s)) for s in vectors]
    with torch.no_grad():
        shapes = network.eval().outputs(torch.zeros(2, 3, 32, 32, device=device))
    name = "plain" if targets is None else "skd"
    method = build_method(name, shapes, None, labels.cpu(), 0, targets=targets)
    if kind.layout == "contiguous":
        outputs = network.outputs
        network.outputs = lambda x: outputs(x.contiguous())
    network.train()
    tally = empty_tally(device)
    optimiser = make_optimiser([*network.parameters()], SCHEDULES["crd"], device)
    optimiser.param_groups[0]["lr"].fill_(0.01)
    models, pixels = Models(network, None, method), Pixels(images, labels, half, half)
    autocast = kind.precision == "bfloat16"
    step = make_step(models, pixels, optimiser, tally, is_first_stage=False, autocast=autocast)
    if kind.graphs:
        step = graph_steps(step, [*network.state_dict().values(), *momenta(optimiser), tally])
    draws = draw_epoch(n_images, 0, "main", 0)[:batch_size].to(device)
    return lambda: step(draws)


def milliseconds(
    name: str, kinds: list[Kind], device: str, rounds: int, repeat: int, batch_size: int
) -> dict[Kind, float]:
    """Return the milliseconds of a step of each kind: medians over blocks that take turns."""
    where = torch.device(device)

    def settings(kind: Kind) -> object:
        return nullcontext() if kind.method == "loop" else deterministic()

    def run(step: Callable[[], None], kind: Kind, n: int) -> float:
        with settings(kind):
            start = time.perf_counter()
            for _ in range(n):
                step()
            wait_for(device)
        return (time.perf_counter() - start) / n * 1e3

    steps = {}
    for kind in kinds:
        with settings(kind):
            steps[kind] = (
                usual_step(name, where, batch_size)
                if kind.method == "loop"
                else our_step(name, kind, where, batch_size)
            )
        run(steps[kind], kind, min(3, rounds))
    times = {kind: [run(step, kind, rounds)] for kind, step in steps.items()}
    for _ in range(repeat - 1):
        for kind, step in steps.items():
            times[kind].append(run(step, kind, rounds))
    return {kind: statistics.median(values) for kind, values in times.items()}


def main(
    networks: Annotated[list[str] | None, typer.Argument()] = None,
    rounds: int = 20,
    repeat: int = 3,
    batch_size: int = 64,
    device: str = "auto",
    json: Path | None = None,
) -> None:
    keep_freed_memory()
    device = choose_device(device)
    record = Record(json, describe_device(device))
    print(f"Batch {batch_size}, {record.machine['processor']}, {torch.get_num_threads()} threads\n")
    print("| network | step | ms | loop / step | over plain | 240 epochs, min |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name in networks or NETWORKS:
        if name in record:
            continue
        with current_device(torch.device(device)):
            times = milliseconds(name, kinds_of(name, device), device, rounds, repeat, batch_size)
        record.add(name, {str(kind): taken for kind, taken in times.items()})
        loop = times[Kind("loop")]
        for kind, taken in times.items():
            plain = times.get(kind._replace(method="plain"), loop)
            over = f"{taken / plain:.2f}" if kind.method == "SKD" else ""
            print(
                f"| {name} | {kind} | {taken:.2f} | {loop / taken:.2f} | {over} "
                f"| {taken * STEPS / 6e4:.1f} |",
                flush=True,
            )
    record.finish()


if __name__ == "__main__":
    typer.run(main)
