"""What a step of training costs, over a plain eager loop; and what 240 epochs then take.

    python benchmarks/training.py [NETWORK …] [--rounds 20] [--repeat 3]

A step is augmentation, forward, cross-entropy, backward and SGD on a batch of 64. *Eager* is the
loop as it is usually written: float32, contiguous, torch's own SGD, images normalised beforehand
and not augmented, no value asked for. *Ours* is the step of ``distillation.steps``, which on a CUDA
device replays graphs. Blocks of steps of all kinds take turns, and medians are compared.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
import typer

from dissect_embed.distillation.augmentation import draw_epoch
from dissect_embed.distillation.methods import build_method
from dissect_embed.distillation.schedules import SCHEDULES
from dissect_embed.distillation.steps import (
    Models,
    Pixels,
    empty_tally,
    graph_steps,
    make_optimiser,
    make_step,
    momenta,
)
from dissect_embed.distillation.zoo import NETWORKS, build_network
from dissect_embed.parallel import keep_freed_memory

BATCH, STEPS = 64, 782 * 240


def eager_loop(name: str, device: torch.device) -> Callable[[], None]:
    """Return a function that makes a step as it is usually written."""
    network = build_network(name, 100, 0).to(device).train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(BATCH, 3, 32, 32, device=device)
    labels = torch.randint(100, (BATCH,), device=device)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimiser.step()

    return step


def our_step(name: str, device: torch.device, *, autocast: bool) -> Callable[[], None]:
    """Return a function that makes a step as the trainer does."""
    network = build_network(name, 100, 0).to(device, memory_format=torch.channels_last)
    n_images = 50_000 if device.type == "cuda" else 2_000
    images = torch.randint(256, (n_images, 32, 32, 3), dtype=torch.uint8, device=device)
    labels = torch.randint(100, (n_images,), device=device)
    half = torch.full((3,), 0.5, device=device)
    with torch.no_grad():
        shapes = network.eval().outputs(torch.zeros(2, 3, 32, 32, device=device))
    method = build_method("plain", shapes, None, labels.cpu(), 0)
    network.train()
    tally = empty_tally(device)
    optimiser = make_optimiser([*network.parameters()], SCHEDULES["crd"], device)
    optimiser.param_groups[0]["lr"].fill_(0.01)
    models, pixels = Models(network, None, method), Pixels(images, labels, half, half)
    step = make_step(models, pixels, optimiser, tally, is_first_stage=False, autocast=autocast)
    if device.type == "cuda":
        step = graph_steps(step, [*network.state_dict().values(), *momenta(optimiser), tally])
    draws = draw_epoch(n_images, 0, "main", 0)[:BATCH].to(device)
    return lambda: step(draws)


def seconds(step: Callable[[], None], rounds: int) -> float:
    """Return the seconds of a step."""
    start = time.perf_counter()
    for _ in range(rounds):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / rounds


def main(
    networks: Annotated[list[str] | None, typer.Argument()] = None,
    rounds: int = 20,
    repeat: int = 3,
) -> None:
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(f"Batch {BATCH}, {where}, {torch.get_num_threads()} threads\n")
    print("| network | eager, ms | float32, ms | × | bfloat16, ms | × | 240 epochs, min |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in networks or NETWORKS:
        steps = {
            "eager": eager_loop(name, device),
            "float32": our_step(name, device, autocast=False),
            "bfloat16": our_step(name, device, autocast=True),
        }
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for step in steps.values():
            seconds(step, 3)
        for _ in range(repeat):
            for kind, step in steps.items():
                times[kind].append(seconds(step, rounds))
        eager, exact, rough = (statistics.median(times[kind]) for kind in steps)
        print(
            f"| {name} | {eager * 1e3:.2f} | {exact * 1e3:.2f} | {eager / exact:.2f} "
            f"| {rough * 1e3:.2f} | {eager / rough:.2f} | {min(exact, rough) * STEPS / 60:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    typer.run(main)
