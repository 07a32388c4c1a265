"""Time and peak memory of every stage, and how they grow with the number of images.

    python benchmarks/memory.py --images 500 --images 5000 [--weights trained] [--device auto]

Renders data sets of so many images, runs every stage as a process of its own, and prints the peak
resident memory of each (MB) beside its wall time (s), the start of the process included. With a
CUDA device the embedding runs there and on the processor. Files go to a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from recording import Record
from rich.console import Console
from rich.table import Table


def measure(arguments: list[str]) -> tuple[float, float]:
    """Run a stage; return its peak resident memory in MB and its wall time in seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "dissect_embed", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    notes = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"dissect-embed {' '.join(arguments)} failed: {notes.strip()[-500:]}")
    return usage.ru_maxrss / 1e3, time.perf_counter() - start  # Linux counts in kB


def stages(
    root: Path, run: Path, n_images: int, weights: str, device: str, epochs: int, steps: int
) -> dict[str, list[str]]:
    data, where = f"--dataset={root}", f"--device={device}"
    maps, labels, profiles, similarity = (
        f"{run}/{name}.h5" for name in ("activations", "labels", "profiles", "similarity")
    )
    layers = [f"--layer=layer{n}" for n in (1, 2, 3, 4)]
    network = [f"--weights={weights}"]
    if weights == "trained":
        network.append(f"--checkpoint={run}/model.pt")
    embed = ["embed", similarity, profiles, f"--epochs={epochs}", f"--steps-per-epoch={steps}"]
    table = {
        "mini": ["mini", f"--images={n_images}", f"--output={root}"],
        "train": ["train", data, "--epochs=1", f"--output={run}/model.pt"],
        "activations": ["activations", data, *layers, *network, f"--output={maps}", where],
        "labels": ["labels", data, f"--output={labels}"],
        "dissect": ["dissect", maps, labels, f"--output={profiles}", where],
        "chance": ["chance", maps, labels, profiles, f"--output={run}/chance.h5", where],
        "detectors": ["detectors", str(run)],
        "units": ["units", str(run)],
        "similarity": ["similarity", maps, f"--output={similarity}", where],
        "embed": [*embed, f"--output={run}/embedding.h5", where],
        "embed, cpu": [*embed, f"--output={run}/cpu.h5", "--device=cpu"],
        "score": ["score", str(run)],
        "relations": ["relations", str(run), where],
        "figure4": ["figure4", str(run)],
    }  # fmt: skip
    left_out = {"train"} if weights == "random" else set()
    left_out |= set() if device.startswith("cuda") else {"embed, cpu"}
    return {name: arguments for name, arguments in table.items() if name not in left_out}


def main(
    images: Annotated[list[int], typer.Option()] = [500, 5000],  # noqa: B006
    weights: Literal["trained", "random"] = "trained",
    epochs: Annotated[int, typer.Option(help="Of the embedding.")] = 10,
    steps: Annotated[int, typer.Option(help="Of an epoch of the embedding.")] = 100,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only these; what they need has to be among them.")
    ] = None,
    device: str = "auto",
    json: Path | None = None,
) -> None:
    record = Record(json, {"device": device, "cores": os.cpu_count()})
    for n_images in images:
        if f"{n_images} images" in record:
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            of = stages(folder / "data", folder, n_images, weights, device, epochs, steps)
            chosen = {k: v for k, v in of.items() if stage is None or k in stage}
            measured = {k: measure(arguments) for k, arguments in chosen.items()}
        record.add(
            f"{n_images} images",
            {k: {"mb": mb, "seconds": wall} for k, (mb, wall) in measured.items()},
        )
    table = Table(title=f"Peak memory and wall time of every stage, {device}")
    table.add_column("stage")
    for n_images in images:
        table.add_column(f"N = {n_images:,}: MB", justify="right")
        table.add_column("s", justify="right")
    for name in record.rows[f"{images[0]} images"]:
        cells = [record.rows[f"{n} images"][name] for n in images]
        texts = (text for c in cells for text in (f"{c['mb']:.0f}", f"{c['seconds']:.1f}"))
        table.add_row(name, *texts)
    Console(width=100).print(table)
    record.finish()


if __name__ == "__main__":
    typer.run(main)
