"""How much dissection costs above the bare forward pass: time, memory, growth.

    python benchmarks/dissect.py DATASET [--images 500] [--weights random] [--repeat 3]
        [--precision float32 …] [--cache all|none …] [--device auto] [--json FILE]

Prints a row a stage: seconds, milliseconds an image, and the ratio to the bare forward pass of the
same network on the same images, already decoded in memory, in the same precision, with as many
threads. Rounds of all stages alternate with the forward pass, each is compared with the forward
pass of its own round, and medians are given, since this kind of machine is shared. On a CUDA device
every time ends when the device is done, and the most memory of its tensors is told.
"""

import dataclasses
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from recording import Record, describe_device, peak_memory, wait_for
from rich.console import Console
from rich.table import Table

from dissect_embed.activations import write_activations
from dissect_embed.chance import write_chance
from dissect_embed.config import Activations
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.device import arithmetic, choose_device
from dissect_embed.dissection import write_profiles
from dissect_embed.labels import write_labels
from dissect_embed.memory import keep_freed_memory
from dissect_embed.networks.inputs import find_input, to_input
from dissect_embed.networks.models import build_model
from dissect_embed.networks.preparation import PRECISIONS
from dissect_embed.networks.settings import Model, ModelInput
from dissect_embed.networks.speedups import activate_in_place, fold_batch_norm
from dissect_embed.parallel import map_in_threads

LAYERS = ("layer1", "layer2", "layer3", "layer4")
MODEL = Model(weights="random", layers=LAYERS)
Stages = dict[str, Callable[[], object]]


def seconds(function: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - start


def bare_stages(
    decoded: torch.Tensor, weights: str, precision: str, batch: int, device: str
) -> Stages:
    """Return the forward pass alone, as it is and with its normalisations folded."""
    plain, folded = (build_model("resnet18", weights) for _ in range(2))
    fold_batch_norm(folded, LAYERS)
    size = (decoded.shape[1], decoded.shape[2])
    given = find_input(plain, ModelInput(), size, name="resnet18", weights="random")
    networks = []
    for network in (plain, folded):
        activate_in_place(network)
        network.to(device=device, memory_format=torch.channels_last)
        networks.append(network.to(PRECISIONS[precision]))

    def forward(network: torch.nn.Module) -> None:
        with torch.inference_mode(), arithmetic(precision):
            for images in decoded.split(batch):
                network(to_input(images.to(device), given).to(PRECISIONS[precision]))

    return {
        "bare forward pass": lambda: forward(networks[0]),
        "bare forward pass, batch norm folded": lambda: forward(networks[1]),
    }


def dissection_stages(
    folder: Path, data: Broden, weights: str, settings: Activations, device: str
) -> Stages:
    """Return the stages of a dissection, with the activations stored or computed twice."""
    cache, labels, profiles, chance = (
        folder / f"{name}.h5" for name in ("activations", "labels", "profiles", "chance")
    )
    model = build_model("resnet18", weights)
    again: dict[str, Any] = {"device": device}
    again |= {} if settings.cache == "all" else {"model": model, "dataset": data}

    def write_cache() -> None:
        # The old file goes just before: the system then has its memory at hand. A virtual
        # machine gives free memory back to its host after seconds, and then a page that is
        # touched costs ten times as much.
        cache.unlink(missing_ok=True)
        write_activations(
            cache, data, model, Model(weights="random", layers=LAYERS), settings, device=device
        )

    return {
        "labels.h5 (decode)": lambda: write_labels(labels, data),
        "activations.h5 (decode, forward, write)": write_cache,
        "profiles.h5 (thresholds, counts, IoU)": lambda: write_profiles(
            profiles, cache, labels, **again
        ),
        "chance.h5 (counts on other images' labels)": lambda: write_chance(
            chance, cache, labels, profiles, **again
        ),
    }


def measure(stages: Stages, repeat: int, device: str) -> dict[str, Any]:
    """Return the seconds of every stage by round, their ratios to the first, and memory."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    memory: dict[str, float] = {}
    for _ in range(repeat):
        for name, stage in stages.items():
            times[name].append(seconds(stage, device))
            memory[name] = peak_memory(device)
    names = list(times)
    times["whole dissection"] = [
        sum(parts) for parts in zip(*(times[name] for name in names[2:]), strict=True)
    ]
    ratio = {
        name: statistics.median(a / b for a, b in zip(values, times[names[0]], strict=True))
        for name, values in times.items()
    }
    return {
        "seconds": times, "ratio": ratio, "device_mb": memory,
        "process_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }  # fmt: skip


def print_table(title: str, n_images: int, row: dict[str, Any]) -> None:
    table = Table(title=title)
    for column in ("stage", "s", "ms an image", "ratio", "device, MB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, values in row["seconds"].items():
        median = statistics.median(values)
        cells = f"{median:.1f}", f"{median / n_images * 1e3:.2f}", f"{row['ratio'][name]:.2f}"
        table.add_row(name, *cells, f"{row['device_mb'].get(name, 0):.0f}")
    Console(width=110).print(table)


def main(
    dataset: Path,
    images: Annotated[int, typer.Option(help="The first so many images.")] = 500,
    weights: Annotated[str, typer.Option(help="'random' or a state_dict.")] = "random",
    repeat: int = 3,
    bare_batch: Annotated[int, typer.Option(help="Images a batch of the bare forward pass.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Images a batch of the stage.")] = 16,
    precision: Annotated[list[str], typer.Option()] = ["float32"],  # noqa: B006
    cache: Annotated[list[str], typer.Option(help="'all' or 'none'.")] = ["all"],  # noqa: B006
    device: str = "auto",
    json: Path | None = None,
) -> None:
    keep_freed_memory()
    device = choose_device(device)
    record = Record(json, describe_device(device))
    data = load_broden(dataset)
    data = dataclasses.replace(data, rows=data.rows[:images])
    n_images = len(data.rows)
    decoded = torch.from_numpy(
        np.stack(list(map_in_threads(lambda row: read_image(data, row), data.rows)))
    )
    for kind in precision:
        bare = bare_stages(decoded, weights, kind, bare_batch, device)
        for stored in cache:
            name = f"{n_images} images, {kind}, cache {stored}"
            if name in record:
                continue
            settings = Activations(batch_size=batch_size, precision=kind, cache=stored)
            with tempfile.TemporaryDirectory() as folder:
                stages = dissection_stages(Path(folder), data, weights, settings, device)
                if device != "cpu":  # its libraries and kernels load at their first use
                    seconds(bare["bare forward pass"], device)
                row = measure(bare | stages, repeat, device)
            row |= {"images": n_images, "precision": kind, "cache": stored}
            record.add(name, row)
            title = f"{dataset.name}: {name}, {device}, {torch.get_num_threads()} threads"
            print_table(title, n_images, row)
    record.finish()


if __name__ == "__main__":
    typer.run(main)
