"""Whether a change left every number of a run as it was, bit for bit.

    python benchmarks/same_numbers.py record before.json results/mini [results/camvid …]
    python benchmarks/same_numbers.py compare before.json results/mini [results/camvid …]

Records the shape, type and SHA-256 of every array in the HDF5, NPZ and PT files of results folders,
of every table (CSV, TSV), and of every result of a training less what differs from run to run
(times, machine). Compares the same later: a line for whatever changed, and status 1. Run both on
the same machine, where equal settings give equal bits. The runs, from an empty ``results``:

    snakemake --cores all all results/mini/table1.md
    snakemake --cores all --config run=camvid dataset='{"root": "PATH"}' model='{…: "random"}'

``--config dataset='{"images": 200}' embedding='{"epochs": 10}'`` and the like make it a matter of
minutes.
"""

import csv
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import typer

# Columns and keys that tell of the run and not of its numbers.
TIMES = {"seconds_a_step", "relative_step", "memory_bytes"}
app = typer.Typer()


def digest(values: Any) -> str:
    """Return type, shape and the beginning of the hash of an array."""
    array = np.asarray(values)
    content = json.dumps(array.tolist(), default=str).encode() if array.dtype == object else None
    hashed = hashlib.sha256(array.tobytes() if content is None else content).hexdigest()
    return f"{array.dtype} {array.shape} {hashed[:16]}"


def read_hdf5(path: Path) -> Iterator[tuple[str, str]]:
    found = []

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((name, digest(item[()])))

    with h5py.File(path) as file:
        file.visititems(keep)
    yield from found


def read_table(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
    for n, column in enumerate(rows[0] if rows else []):
        if column not in TIMES:
            yield column, digest([row[n] if n < len(row) else "" for row in rows[1:]])


def read_result(path: Path) -> Iterator[tuple[str, str]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and "accuracy" in content:
        for key in ("accuracy", "best", "curve", "network"):
            yield key, hashlib.sha256(json.dumps(content[key]).encode()).hexdigest()[:16]


def read_tensors(path: Path) -> Iterator[tuple[str, str]]:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    yield from ((name, digest(value.numpy())) for name, value in state.items())


def read_npz(path: Path) -> Iterator[tuple[str, str]]:
    with np.load(path) as arrays:
        yield from ((name, digest(arrays[name])) for name in arrays.files)


READERS = {
    ".h5": read_hdf5, ".csv": read_table, ".tsv": read_table, ".json": read_result,
    ".pt": read_tensors, ".npz": read_npz,
}  # fmt: skip


def read_run(folder: Path) -> dict[str, str]:
    """Return the digest of everything in a results folder, by file and name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in READERS and path.is_file() and "logs" not in path.parts:
            name = path.relative_to(folder).as_posix()
            found |= {f"{name}: {key}": value for key, value in READERS[path.suffix](path)}
    if not found:
        sys.exit(f"{folder}: no results")
    return found


@app.command()
def record(file: Path, folders: list[Path]) -> None:
    """Write what the numbers of some runs are."""
    runs = {folder.name: read_run(folder) for folder in folders}
    file.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    print(f"{file}: {sum(map(len, runs.values()))} arrays of {len(runs)} runs")


@app.command()
def compare(file: Path, folders: list[Path]) -> None:
    """Tell what is no longer as it was recorded."""
    before = json.loads(file.read_text(encoding="utf-8"))
    n_changed = n_equal = 0
    for folder in folders:
        old, new = before[folder.name], read_run(folder)
        for name in sorted(old.keys() | new.keys()):
            was, now = (run.get(name, "missing") for run in (old, new))
            if was == now:
                n_equal += 1
            else:
                n_changed += 1
                print(f"{folder.name}/{name}: {was} before, {now} now")
    print(f"{n_equal} arrays are the same, {n_changed} are not")
    sys.exit(min(1, n_changed))


if __name__ == "__main__":
    app()
