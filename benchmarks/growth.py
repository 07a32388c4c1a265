"""How the time of dissection grows with the number of images.

    python benchmarks/growth.py DATASET [--images 500 --images 1000 …] [--weights random]

Labels, activations (four layers), profiles and chance of the first so many images, all in this
process, and milliseconds an image. A first run of 100 images, not
shown, bears what a process does once.
"""

import dataclasses
import itertools
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.chance import write_chance
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.labels import write_labels
from dissect_embed.memory import keep_freed_memory
from dissect_embed.networks.models import build_model

LAYERS = ("layer1", "layer2", "layer3", "layer4")
MODEL = Model(weights="random", layers=LAYERS)


def milliseconds(data: Broden, n_images: int, model: nn.Module) -> list[float]:
    """Return the time an image of labels, activations, profiles and chance, and of all."""
    some = dataclasses.replace(data, rows=data.rows[:n_images])
    with tempfile.TemporaryDirectory() as folder:
        labels, cache, profiles, chance = (
            Path(folder, f"{name}.h5") for name in ("labels", "activations", "profiles", "chance")
        )
        times = [time.perf_counter()]
        write_labels(labels, some)
        times.append(time.perf_counter())
        write_activations(cache, some, model, MODEL)
        times.append(time.perf_counter())
        write_profiles(profiles, cache, labels)
        times.append(time.perf_counter())
        write_chance(chance, cache, labels, profiles)
        times.append(time.perf_counter())
    spans = [b - a for a, b in itertools.pairwise(times)]
    return [span / n_images * 1e3 for span in (*spans, times[-1] - times[0])]


def main(
    dataset: Path,
    images: Annotated[list[int], typer.Option()] = [500, 1000, 2000, 4000],  # noqa: B006
    weights: Annotated[str, typer.Option(help="'random' or a state_dict.")] = "random",
) -> None:
    keep_freed_memory()
    data = load_broden(dataset)
    model = build_model("resnet18", weights)
    columns = ("images", "labels", "activations", "profiles", "chance", "whole")
    table = Table(title=f"{dataset.name}: milliseconds an image")
    for column in columns:
        table.add_column(column, justify="right")
    milliseconds(data, 100, model)
    for n_images in images:
        cells = [f"{value:.1f}" for value in milliseconds(data, n_images, model)]
        table.add_row(f"{n_images:,}", *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
