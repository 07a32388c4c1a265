"""What a training step costs with a method of distillation, over the plain student's step.

    python benchmarks/distil.py [STUDENT …] [--rounds 30] [--threads 2] [--sgd]

A step is forward, loss, backward and SGD (momentum 0.9, weight decay 5e-4) on a batch of 64. The
methods take turns step by step, each with a network of its own, and a ratio is the median over
rounds of a method's step over the plain one's beside it, for timings drift. "Kept" is the memory
of what the forward pass leaves for the backward pass. Memory layout and kind of SGD are those that
are the fastest for the plain student; --sgd prints all.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from dissect_embed.distillation.methods.static_loss import static_loss
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.zoo import build_network, map_shapes
from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax
from dissect_embed.memory import keep_freed_memory

STUDENTS = ["resnet20", "resnet32", "wrn-16-2", "resnet8x4", "vgg8"]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
SGD = {"foreach": {"foreach": True}, "fused": {"fused": True}, "loop": {"foreach": False}}

Loss = Callable[[Network, Tensor, Tensor], Tensor]


def plain(network: Network) -> Loss:
    return lambda student, images, labels: F.cross_entropy(student(images), labels)


def skd(network: Network) -> Loss:
    """Return eq. 3 of SKD on f1, f2, …, at vectors of 16 dimensions."""
    device = next(network.parameters()).device
    targets = [
        row_softmax(cosine_similarity(torch.randn(n_units, 16, device=device)))
        for n_units, _, _ in map_shapes(network)[1:]
    ]

    def loss(student: Network, images: Tensor, labels: Tensor) -> Tensor:
        outputs = student.outputs(images)
        return F.cross_entropy(outputs.logits, labels) + 0.5 * static_loss(
            outputs.maps[1:], targets
        )

    return loss


# A row each: given the student's network, returns the loss of (network, images, labels).
METHODS: dict[str, Callable[[Network], Loss]] = {"plain": plain, "SKD": skd}


def make_step(network: Network, loss: Loss, layout: str, sgd: str, batch_size: int) -> Callable:
    """Return a function that trains a copy of the network for one step."""
    student = copy.deepcopy(network).to(memory_format=LAYOUTS[layout])
    device = next(student.parameters()).device
    images = torch.randn(batch_size, 3, 32, 32, device=device).to(memory_format=LAYOUTS[layout])
    labels = torch.randint(100, (batch_size,), device=device)
    optimiser = torch.optim.SGD(
        student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, **SGD[sgd]
    )

    def step() -> None:
        optimiser.zero_grad()
        loss(student, images, labels).backward()
        optimiser.step()

    return step


def megabytes_kept(step: Callable[[], None]) -> float:
    kept: dict[int, int] = {}

    def remember(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 1e6


def take_turns(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Return the milliseconds of every step."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for n in range(rounds + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if n >= 3:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def find_fastest(network: Network, rounds: int, batch_size: int) -> tuple[str, str, str]:
    """Return layout and SGD of the fastest plain step, and a line that tells all."""
    choices = {f"{a}, {b}": (a, b) for a in LAYOUTS for b in SGD}
    loss = plain(network)
    steps = {k: make_step(network, loss, *v, batch_size) for k, v in choices.items()}
    medians = {k: statistics.median(v) for k, v in take_turns(steps, rounds).items()}
    best = min(medians, key=medians.__getitem__)
    return *choices[best], "; ".join(f"{k} {v:.1f}" for k, v in medians.items())


def main(
    students: Annotated[list[str] | None, typer.Argument()] = None,
    rounds: int = 30,
    threads: int = 0,
    batch_size: int = 64,
    sgd: bool = False,
) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads or torch.get_num_threads())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"Batch {batch_size}, {device}, {torch.get_num_threads()} threads\n")
    print("| student | layout, SGD | method | ms a step | over plain | kept, MB |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    notes = []
    for name in students or STUDENTS:
        torch.manual_seed(0)
        network = build_network(name).to(device)
        layout, kind, note = find_fastest(network, max(3, rounds // 4), batch_size)
        notes.append(f"{name}, plain, ms: {note}")
        steps = {
            method: make_step(network, build(network), layout, kind, batch_size)
            for method, build in METHODS.items()
        }
        kept = {method: megabytes_kept(step) for method, step in steps.items()}
        times = take_turns(steps, rounds)
        for method, taken in times.items():
            ratio = statistics.median(a / b for a, b in zip(taken, times["plain"], strict=True))
            print(
                f"| {name} | {layout}, {kind} | {method} | {statistics.median(taken):.1f} "
                f"| {ratio:.2f} | {kept[method]:.0f} |",
                flush=True,
            )
    if sgd:
        print("\n" + "\n\n".join(notes))


if __name__ == "__main__":
    typer.run(main)
