"""Peak memory of every stage, and how it grows with the number of images.

    python benchmarks/memory.py --images 500 --images 5000

Renders data sets of so many images, runs every stage as a process of its own, and prints the peak
resident memory of each (MB) beside its wall time (s). Files go to a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table


def measure(arguments: list[str]) -> tuple[float, float]:
    """Run a stage; return its peak resident memory in MB and its wall time in seconds."""
    start = time.perf_counter()
    command = [str(Path(sys.executable).with_name("dissect-embed")), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1e3, time.perf_counter() - start  # Linux counts in kB


def stages(root: Path, run: Path, n_images: int) -> dict[str, list[str]]:
    data = f"--dataset={root}"
    maps, profiles, similarity, embedding = (
        f"{run}/{name}.h5" for name in ("activations", "profiles", "similarity", "embedding")
    )
    three = [profiles, similarity, embedding]
    layers = [f"--layer=layer{n}" for n in (1, 2, 3, 4)]
    return {
        "mini": ["mini", f"--images={n_images}", f"--output={root}"],
        "train": ["train", data, "--epochs=1", f"--output={run}/model.pt"],
        "activations": [
            "activations", data, *layers, "--weights=trained", f"--checkpoint={run}/model.pt",
            f"--output={maps}",
        ],
        "labels": ["labels", data, f"--output={run}/labels.h5"],
        "dissect": ["dissect", maps, f"{run}/labels.h5", f"--output={profiles}"],
        "detectors": ["detectors", profiles, f"--output={run}/detectors.svg"],
        "units": ["units", profiles, f"--output={run}/units.csv"],
        "similarity": ["similarity", maps, f"--output={similarity}"],
        "embed": ["embed", similarity, profiles, "--epochs=10", f"--output={embedding}"],
        "controls": ["controls", *three, f"--output={run}/controls.csv"],
        "score": ["score", *three, f"{run}/controls.csv", f"--output={run}/scores.csv"],
        "figure4": ["figure4", f"{run}/scores.csv", profiles, f"--output={run}/figure4.svg"],
    }  # fmt: skip


def main(images: Annotated[list[int], typer.Option()] = [500, 5000]) -> None:  # noqa: B006
    results: dict[str, list[str]] = {}
    for n_images in images:
        with tempfile.TemporaryDirectory() as folder:
            for name, arguments in stages(Path(folder, "data"), Path(folder), n_images).items():
                peak, wall = measure(arguments)
                results.setdefault(name, []).extend([f"{peak:.0f}", f"{wall:.1f}"])
    table = Table(title="Peak memory and wall time of every stage")
    table.add_column("stage")
    for n_images in images:
        table.add_column(f"N = {n_images:,}: MB", justify="right")
        table.add_column("s", justify="right")
    for name, cells in results.items():
        table.add_row(name, *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
