"""What one step of eq. 1 costs at the mean target, and as published.

    python benchmarks/embed.py DATASET [--repeat 5]

As published, a step forwards a batch of 64 images, computes its p = mean h(d(A, A)) for the four
layers of ResNet18, and moves the vectors. At the mean target it moves the vectors. Prints
milliseconds and their ratio.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.mathematics.vectors import Schedule, initial_vectors, train_vectors
from dissect_embed.memory import keep_freed_memory
from dissect_embed.networks.hooks import probe
from dissect_embed.networks.inputs import find_input, to_input
from dissect_embed.networks.models import build_model
from dissect_embed.networks.settings import ModelInput
from dissect_embed.networks.speedups import fold_batch_norm
from dissect_embed.parallel import map_in_threads, one_torch_thread

LAYERS = ("layer1", "layer2", "layer3", "layer4")
STEPS = 200


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def main(dataset: Path, repeat: int = 5, batch_size: int = 64) -> None:
    keep_freed_memory()
    data = load_broden(dataset)
    rows = data.rows[:batch_size]
    images = torch.from_numpy(np.stack([read_image(data, row) for row in rows]))
    model = build_model("resnet18", "random")
    fold_batch_norm(model, LAYERS)
    model = model.to(memory_format=torch.channels_last)
    given = find_input(model, ModelInput(), data.image_size, name="resnet18", weights="random")

    def batch_target() -> dict[str, torch.Tensor]:
        with torch.inference_mode(), probe(model, LAYERS) as outputs:
            model(to_input(images, given))
            maps = {layer: outputs[layer].contiguous() for layer in LAYERS}
            with one_torch_thread():
                pieces = [(layer, piece) for layer in LAYERS for piece in maps[layer].split(16)]
                sums = list(map_in_threads(lambda item: similarity_sum(item[1]), pieces))
        return {
            layer: sum(
                (s for (name, _), s in zip(pieces, sums, strict=True) if name == layer),
                start=torch.zeros(()),
            )
            / len(images)
            for layer in LAYERS
        }

    targets = {layer: p.float() for layer, p in batch_target().items()}

    def move(steps: int) -> None:
        for p in targets.values():
            start = initial_vectors(len(p), 16, [0])
            train_vectors(start, lambda step, p=p: p, Schedule(1, steps))

    with one_torch_thread():
        move(10)
    forward, mean = [], []
    for _ in range(repeat):
        forward.append(milliseconds(batch_target))
        with one_torch_thread():
            mean.append(milliseconds(lambda: move(STEPS)) / STEPS)
    step = statistics.median(mean)
    published = statistics.median(forward) + step
    table = Table(
        title=f"One step for the four layers of ResNet18, {torch.get_num_threads()} threads"
    )
    for column in ("target", "ms a step", "ratio"):
        table.add_column(column, justify="left" if column == "target" else "right")
    table.add_row(f"batch of {batch_size}: forward, p, step", f"{published:.1f}", "1")
    table.add_row("mean target: step", f"{step:.2f}", f"1/{published / step:.0f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
