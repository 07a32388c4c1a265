"""How much dissection costs above the bare forward pass: time, memory, growth.

    python benchmarks/dissect.py DATASET [--images 500] [--weights random] [--repeat 3]

Prints a row a stage: seconds, milliseconds an image, and the ratio to the bare forward pass of the
same network on the same images, already decoded in memory, with as many threads. Rounds of all
stages alternate with the forward pass, each is compared with the forward pass of its own round, and
medians are given, since this kind of machine is shared.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.activations import write_activations
from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.dissection import write_profiles
from dissect_embed.inference import activate_in_place, fold_batch_norm
from dissect_embed.labels import write_labels
from dissect_embed.models import build_model
from dissect_embed.parallel import keep_freed_memory
from dissect_embed.probing import normalise

LAYERS = ("layer1", "layer2", "layer3", "layer4")


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main(
    dataset: Path,
    images: Annotated[int, typer.Option(help="The first so many images.")] = 500,
    weights: Annotated[str, typer.Option(help="'random' or a state_dict.")] = "random",
    repeat: int = 3,
    bare_batch: Annotated[int, typer.Option(help="Images a batch of the bare forward pass.")] = 32,
    batch_size: Annotated[int, typer.Option(help="Images a batch of the stage.")] = 16,
) -> None:
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = load_broden(dataset)
    data = dataclasses.replace(data, rows=data.rows[:images])
    model = build_model("resnet18", weights)
    plain = build_model("resnet18", weights).to(memory_format=torch.channels_last)
    folded = build_model("resnet18", weights)
    fold_batch_norm(folded, LAYERS)
    folded = folded.to(memory_format=torch.channels_last)
    for network in (plain, folded):
        activate_in_place(network)
        network.to(device)
    decoded = torch.from_numpy(np.stack([read_image(data, row) for row in data.rows]))
    config = {"dataset": {}, "model": {}, "layers": list(LAYERS), "activations": {}}

    def forward(network: torch.nn.Module) -> None:
        with torch.inference_mode():
            for batch in decoded.split(bare_batch):
                network(normalise(batch.to(device)))
        if device == "cuda":
            torch.cuda.synchronize()

    with tempfile.TemporaryDirectory() as folder:
        cache, labels = Path(folder, "activations.h5"), Path(folder, "labels.h5")
        profiles = Path(folder, "profiles.h5")

        def write_cache() -> None:
            # The old file goes just before: the system then has its memory at hand. A virtual
            # machine gives free memory back to its host after seconds, and then a page that is
            # touched costs ten times as much.
            cache.unlink(missing_ok=True)
            write_activations(cache, data, model, LAYERS, config=config, batch_size=batch_size)

        stages: dict[str, Callable[[], object]] = {
            "bare forward pass": lambda: forward(plain),
            "bare forward pass, batch norm folded": lambda: forward(folded),
            "labels.h5 (decode)": lambda: write_labels(labels, data),
            "activations.h5 (decode, forward, write)": write_cache,
            "profiles.h5 (thresholds, counts, IoU, chance)": lambda: write_profiles(
                profiles, cache, labels
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in stages}
        for _ in range(repeat):
            for name, stage in stages.items():
                times[name].append(seconds(stage))
    names = list(times)
    stages_of = [times[name] for name in names[2:]]
    times["whole dissection"] = [sum(parts) for parts in zip(*stages_of, strict=True)]
    bare = times[names[0]]
    table = Table(
        title=f"{dataset.name}: {len(data.rows)} images, {device}, "
        f"{torch.get_num_threads()} threads"
    )
    for column in ("stage", "s", "ms an image", "ratio"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name, values in times.items():
        median = statistics.median(values)
        ratio = statistics.median(a / b for a, b in zip(values, bare, strict=True))
        cells = f"{median:.1f}", f"{median / len(data.rows) * 1e3:.1f}", f"{ratio:.2f}"
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
