"""The mean target beside minibatches as published: one curve, within the spread over seeds.

    python benchmarks/minibatch.py ACTIVATIONS PROFILES --layer layer3 [--epochs 100]

Trains a layer's vectors from the same starts in both ways, with as many steps an epoch as there are
batches, and prints KL(T, S) along training: mean over seeds, its standard deviation over seeds, and
the difference between the two ways.
"""

from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.mathematics.scores import score_vectors
from dissect_embed.mathematics.vectors import (
    Schedule,
    initial_vectors,
    minibatch_targets,
    profile_target,
    train_vectors,
)
from dissect_embed.memory import keep_freed_memory
from dissect_embed.parallel import one_torch_thread


def main(
    activations: Path,
    profiles: Path,
    layer: str = "layer3",
    epochs: int = 100,
    seeds: int = 5,
    batch_size: int = 64,
) -> None:
    keep_freed_memory()
    with (
        open_activations(activations) as source,
        open_profiles(profiles) as of_run,
        one_torch_thread(),
    ):
        maps = source[layer].maps
        t = profile_target(of_run[layer].iou)
        total = torch.zeros((maps.shape[1], maps.shape[1]), dtype=torch.float64)
        for start in range(0, len(maps), batch_size):
            total += similarity_sum(torch.from_numpy(maps[start : start + batch_size]))
        mean = (total / len(maps)).float()
        steps = -(-len(maps) // batch_size)
        schedule = Schedule(epochs, steps)
        start_vectors = initial_vectors(maps.shape[1], 16, range(seeds))
        curves = [
            score_vectors(t, train_vectors(start_vectors, targets, schedule).trajectory)
            for targets in (
                lambda step: mean,
                minibatch_targets(maps.__getitem__, len(maps), batch_size, 0, "cpu"),
            )
        ]
    table = Table(
        title=f"{layer}, {len(maps)} images, {steps} steps an epoch, {seeds} seeds; KL in nats"
    )
    for column in ("epoch", "mean target", "minibatch", "sd over seeds", "difference", "÷ sd"):
        table.add_column(column, justify="right")
    shown = sorted({0, 1, 5, 10, 20, 50, 75, epochs} & set(range(epochs + 1)))
    ours, published = curves
    for epoch in shown:
        spread = float(ours[:, epoch].std())
        difference = float((published[:, epoch] - ours[:, epoch]).mean())
        table.add_row(
            str(epoch), f"{float(ours[:, epoch].mean()):.5f}",
            f"{float(published[:, epoch].mean()):.5f}", f"{spread:.5f}", f"{difference:+.6f}",
            f"{abs(difference) / spread:.2f}",
        )  # fmt: skip
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
