"""What the draws of chance cost, how exact their coarse grid is, how much they move by the seed.

    python benchmarks/chance.py RUN [--seeds 6] [--draws 100] [--brute 10] [--forward DATASET]

RUN has activations.h5, labels.h5, profiles.h5. Prints, a row a layer: how many units have q at most
0.05 with each seed, and how far the most and the least lie apart; and for some draws, counted at
full resolution by the code that dissects, how far each unit's best IoU on the grid lies from it.
With --forward also how long the draws take beside the bare forward pass of the run's network over
its images (the first 500), decoded in memory, both on as many threads.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.artefacts.activations import Activations, open_activations
from dissect_embed.artefacts.chance import open_chance
from dissect_embed.artefacts.labels import Labels, open_labels
from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.chance import write_chance
from dissect_embed.config import Chance
from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.mathematics.iou import compute_iou
from dissect_embed.mathematics.null import draw_partners
from dissect_embed.mathematics.pairings import Pairings
from dissect_embed.mathematics.regions import Regions
from dissect_embed.memory import keep_freed_memory
from dissect_embed.networks.inputs import Input, to_input
from dissect_embed.networks.models import build_model
from dissect_embed.networks.replay import add_up
from dissect_embed.networks.speedups import activate_in_place, fold_batch_norm


class Swapped:
    """Labels of which every image has those of its partner."""

    def __init__(self, labels: Labels, partner: np.ndarray) -> None:
        self._labels, self._partner = labels, partner
        self.size, self.names, self.categories = labels.size, labels.names, labels.categories
        self.concept_category = labels.concept_category

    def regions(self, image: int) -> Regions:
        """Return the labels that an image's masks are laid on."""
        return self._labels.regions(int(self._partner[image]))


def brute_best(
    source: Activations, labels: Labels, profiles: Profiles, partner: np.ndarray
) -> dict[str, np.ndarray]:
    """Return each unit's best IoU in a draw, counted at full resolution."""
    thresholds = {layer: profiles[layer].threshold for layer in source.layers}
    found = Pairings(Swapped(labels, partner), thresholds, 0, "cpu")
    add_up(found, source, source.layers, None, "cpu", desc="at full resolution")
    return {
        layer: compute_iou(*counts, profiles.pixels, labels.concept_category).max(axis=1)
        for layer, counts in found.counts.items()
    }


def time_forward(source: Activations, root: Path, checkpoint: Path | None) -> float:
    """Return the seconds an image of the bare forward pass, folded, decoded in memory."""
    data = load_broden(root)
    images = np.stack([read_image(data, row) for row in data.rows[:500]])
    config = source.config["model"]
    network = build_model(config["name"], str(checkpoint or config["weights"]), config["arguments"])
    given = Input.of_settings(config["input"])
    fold_batch_norm(network, source.layers)
    activate_in_place(network)
    network.to(memory_format=torch.channels_last)
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in torch.from_numpy(images).split(16):
            network(to_input(batch, given))
    return (time.perf_counter() - start) / len(images)


def main(
    run: Path,
    seeds: Annotated[int, typer.Option(help="Seeds 0, 1, …")] = 6,
    draws: int = 100,
    brute: Annotated[int, typer.Option(help="Draws counted at full resolution.")] = 10,
    forward: Annotated[Path | None, typer.Option(help="The run's data set, to be timed.")] = None,
) -> None:
    """Measure the draws of chance on a run."""
    keep_freed_memory()
    paths = [run / f"{name}.h5" for name in ("activations", "labels", "profiles")]
    console = Console(width=120)
    with (
        tempfile.TemporaryDirectory(dir=run) as folder,
        open_activations(paths[0]) as source,
        open_labels(paths[1]) as labels,
        open_profiles(paths[2]) as profiles,
    ):
        counts: dict[str, list[int]] = {layer: [] for layer in source.layers}
        seconds = []
        for seed in range(seeds):
            path = Path(folder, f"{seed}.h5")
            start = time.perf_counter()
            write_chance(path, *paths, Chance(draws=draws, seed=seed))
            seconds.append(time.perf_counter() - start)
            with open_chance(path) as chance:
                for layer in source.layers:
                    above = chance.compare(layer, profiles[layer].iou).detectors()
                    counts[layer].append(int(above.sum()))
        table = Table("layer", "units", *(f"seed {s}" for s in range(seeds)), "apart, %")
        for layer, found in counts.items():
            apart = 100 * (max(found) - min(found)) / max(1, max(found))
            table.add_row(layer, str(len(profiles[layer])), *map(str, found), f"{apart:.1f}")
        console.print(f"Units with q at most 0.05, {draws} draws", table)
        if brute:
            print_errors(console, Path(folder, "0.h5"), source, labels, profiles, brute)
        n_images = len(source)
        per_image = 1000 * min(seconds) / n_images
        console.print(f"{per_image:.2f} ms an image, the fastest of {seeds}, its start with it")
        if forward:
            checkpoint = run / "model.pt"
            bare = 1000 * time_forward(source, forward, checkpoint if checkpoint.exists() else None)
            console.print(f"bare forward pass {bare:.2f} ms an image: {per_image / bare:.2f} of it")


def print_errors(
    console: Console,
    path: Path,
    source: Activations,
    labels: Labels,
    profiles: Profiles,
    n_draws: int,
) -> None:
    """Compare draws on the grid with the same at full resolution."""
    with open_chance(path) as chance:
        grid = {layer: chance.best(layer)[:n_draws] for layer in source.layers}
        spread = {layer: chance.best(layer).std(axis=0, ddof=1) for layer in source.layers}
        partners = draw_partners(chance.stratum, n_draws, 0)
    full = [brute_best(source, labels, profiles, row) for row in partners]
    table = Table("layer", "mean null", "error, mean", "error, std", "most", "std of draws")
    for layer, on_grid in grid.items():
        error = on_grid - np.array([best[layer] for best in full])
        values = (
            on_grid.mean(), error.mean(), error.std(), abs(error).max(), spread[layer].mean()
        )  # fmt: skip
        table.add_row(layer, *(f"{value:.5f}" for value in values))
    console.print(f"Best IoU by chance on the grid less that at full resolution, {n_draws} draws")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
