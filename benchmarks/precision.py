"""What rounding does to thresholds, IoU and P: of the cache, of the network, of the device.

    python benchmarks/precision.py DATASET --weights WEIGHTS [--images N] [--json FILE]

Dissects four layers with everything in float32 on the processor, and then otherwise: the cache in
float16, the network in bfloat16 or TF32, on a CUDA device if there is one. Each is set beside the
first: the largest and the mean difference of IoU, the median and the largest relative difference of
thresholds, how many units have another best concept, and the largest relative difference of P.
"""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from recording import Record, describe_device
from rich.console import Console
from rich.table import Table

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.artefacts.similarity import open_similarity
from dissect_embed.config import Activations
from dissect_embed.datasets.broden import load_broden
from dissect_embed.device import choose_device
from dissect_embed.dissection import write_profiles
from dissect_embed.labels import write_labels
from dissect_embed.networks.models import build_model
from dissect_embed.networks.settings import Model
from dissect_embed.similarity import write_similarity

LAYERS = ("layer1", "layer2", "layer3", "layer4")
MODEL = Model(weights="random", layers=LAYERS)
COLUMNS = (
    "case", "layer", "IoU: largest", "mean", "threshold: median", "largest", "best differs",
    "P: largest",
)  # fmt: skip


class Case(NamedTuple):
    """A way of dissecting."""

    precision: str
    dtype: str
    device: str

    def __str__(self) -> str:
        """Return the name of the row."""
        return f"{self.precision}, cache {self.dtype}, {self.device}"


EXACT = Case("float32", "float32", "cpu")


def cases_on(device: str) -> list[Case]:
    if device == "cpu":
        return [Case("float32", "float16", "cpu"), Case("bfloat16", "float16", "cpu")]
    return [
        Case("float32", "float32", device), Case("float32", "float16", device),
        Case("tf32", "float16", device), Case("bfloat16", "float16", device),
    ]  # fmt: skip


def compare(exact: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return how far the numbers of a layer lie apart."""
    iou = np.abs(exact["iou"] - other["iou"])
    relative = np.abs(exact["threshold"] - other["threshold"])
    relative /= np.maximum(np.abs(exact["threshold"]), 1e-9)
    best = exact["iou"].argmax(1) != other["iou"].argmax(1)
    return {
        "iou_largest": float(iou.max()), "iou_mean": float(iou.mean()),
        "threshold_median": float(np.median(relative)), "threshold_largest": float(relative.max()),
        "best_differs": int(best.sum()), "units": len(best),
        "p_largest": float((np.abs(exact["p"] - other["p"]) / exact["p"]).max()),
    }  # fmt: skip


def main(
    dataset: Path,
    weights: Annotated[str, typer.Option(help="'random' or a state_dict.")] = "random",
    images: int | None = None,
    device: str = "auto",
    json: Path | None = None,
) -> None:
    device = choose_device(device)
    record = Record(json, describe_device(device))
    data = load_broden(dataset)
    data = dataclasses.replace(data, rows=data.rows[:images])
    model = build_model("resnet18", weights)
    table = Table(title=f"{dataset.name}: {len(data.rows)} images, beside {EXACT}")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("case", "layer") else "right")

    def dissect(case: Case, folder: Path) -> dict[str, dict[str, np.ndarray]]:
        cache, profiles, similarity = (folder / f"{k}.h5" for k in ("maps", "profiles", "p"))
        settings = Activations(dtype=case.dtype, precision=case.precision)
        write_activations(
            cache, data, model, Model(weights="random", layers=LAYERS), settings, device=case.device
        )
        write_profiles(profiles, cache, folder / "labels.h5", device=case.device)
        write_similarity(similarity, cache, device=case.device)
        with open_profiles(profiles) as dissected, open_similarity(similarity) as targets:
            return {
                layer: {
                    "iou": dissected[layer].iou,
                    "threshold": dissected[layer].threshold,
                    "p": targets.target(layer),
                }
                for layer in LAYERS
            }

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_labels(folder / "labels.h5", data)
        missing = [case for case in cases_on(device) if str(case) not in record]
        exact = dissect(EXACT, folder) if missing else {}
        for case in missing:
            start = time.perf_counter()
            found = dissect(case, folder)
            taken = time.perf_counter() - start
            rows = {layer: compare(exact[layer], found[layer]) for layer in LAYERS}
            record.add(str(case), {"layers": rows, "images": len(data.rows), "seconds": taken})
    for case, row in record.rows.items():
        for layer, found in row["layers"].items():
            table.add_row(
                case, layer, f"{found['iou_largest']:.5f}", f"{found['iou_mean']:.6f}",
                f"{found['threshold_median']:.6f}", f"{found['threshold_largest']:.6f}",
                f"{found['best_differs']} of {found['units']}", f"{found['p_largest']:.1e}",
            )  # fmt: skip
    Console(width=140).print(table)
    record.finish()


if __name__ == "__main__":
    typer.run(main)
