"""What rounding does to thresholds and IoU: a float16 cache, and a network in bfloat16.

    python benchmarks/precision.py DATASET --weights WEIGHTS [--images N]

Dissects four layers with the cache in float32, in float16, and with the forward pass in bfloat16
(cache in float16), and sets the last two beside the first: the largest and the mean difference of
IoU, the median and the largest relative difference of thresholds, and how many units have another
best concept.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.activations import write_activations
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.labels import write_labels
from dissect_embed.models import build_model

LAYERS = ("layer1", "layer2", "layer3", "layer4")
CASES = {
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "bfloat16 network": {"dtype": "float16", "precision": "bfloat16"},
}


def main(
    dataset: Path,
    weights: Annotated[str, typer.Option(help="'random' or a state_dict.")] = "random",
    images: int | None = None,
) -> None:
    data = load_broden(dataset)
    data = dataclasses.replace(data, rows=data.rows[:images])
    model = build_model("resnet18", weights)
    table = Table(title=f"{dataset.name}: {len(data.rows)} images, beside a float32 cache")
    names = (
        "case",
        "layer",
        "IoU: largest",
        "mean",
        "threshold: median",
        "largest",
        "best differs",
    )
    for column in names:
        table.add_column(column, justify="left" if column in ("case", "layer") else "right")
    speed = {}
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder, "labels.h5")
        write_labels(labels, data)
        for case, options in CASES.items():
            cache = Path(folder, "activations.h5")
            config = {"layers": list(LAYERS), "activations": {"batch_size": 16}, "case": case}
            start = time.perf_counter()
            write_activations(cache, data, model, LAYERS, config=config, **options)
            speed[case] = len(data.rows) / (time.perf_counter() - start)
            write_profiles(Path(folder, f"{case}.h5"), cache, labels)
        with h5py.File(Path(folder, "float32.h5")) as exact:
            for case in list(CASES)[1:]:
                with h5py.File(Path(folder, f"{case}.h5")) as file:
                    for layer in LAYERS:
                        one, other = (f[f"layers/{layer}"] for f in (exact, file))
                        iou = np.abs(one["iou"][:] - other["iou"][:])
                        true = one["threshold"][:]
                        relative = np.abs(true - other["threshold"][:]) / np.maximum(true, 1e-9)
                        best = one["iou"][:].argmax(1) != other["iou"][:].argmax(1)
                        cells = f"{iou.max():.5f}", f"{iou.mean():.6f}"
                        cells += f"{np.median(relative):.5f}", f"{relative.max():.5f}"
                        table.add_row(case, layer, *cells, f"{best.sum()} of {len(best)}")
    Console(width=110).print(table)
    for case, rate in speed.items():
        print(f"{case}: {rate:.1f} images/s")


if __name__ == "__main__":
    typer.run(main)
