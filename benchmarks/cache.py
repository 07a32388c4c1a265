"""What compression and chunks cost and save on real activations: size, and speed both ways.

    python benchmarks/cache.py ACTIVATIONS [--images 256] [--repeat 3]

Rewrites the first maps of every layer in each way, in batches as the stages do, and prints the
ratio of sizes and MB of float16 maps a second (medians), written and read from the page cache.
"""

import statistics
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.artefacts import layout

BATCH = 32
FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "lz4": dict(hdf5plugin.LZ4()),
    "zstd": dict(hdf5plugin.Zstd(clevel=1)),
}


def measure(path: Path, layers: dict[str, np.ndarray], options: dict) -> tuple[float, float]:
    """Return the seconds that writing and reading took."""
    start = time.perf_counter()
    with h5py.File(path, "w") as file:
        for layer, maps in layers.items():
            chunks = None
            if layout.CHUNK_BYTES:
                chunks = layout.chunk_shape(maps.shape[1:], maps.itemsize, len(maps))
            data = file.create_dataset(layer, maps.shape, maps.dtype, chunks=chunks, **options)
            for n in range(0, len(maps), BATCH):
                data[n : n + BATCH] = maps[n : n + BATCH]
    written = time.perf_counter()
    with h5py.File(path) as file:
        for layer, maps in layers.items():
            for n in range(0, len(maps), BATCH):
                file[layer][n : n + BATCH]
    return written - start, time.perf_counter() - written


def main(source: Path, images: int = 256, repeat: int = 3) -> None:
    with h5py.File(source) as file:
        layers = {k: g["activations"][:images] for k, g in file["layers"].items()}
    n_bytes = sum(maps.nbytes for maps in layers.values())
    table = Table(title=f"{images} images, {n_bytes / 1e6:.0f} MB of maps")
    for column in ("compression", "chunk, MB", "ratio", "write, MB/s", "read, MB/s"):
        table.add_column(column, justify="left" if column == "compression" else "right")
    chosen = layout.CHUNK_BYTES
    cases = [(name, chosen) for name in FILTERS]
    # 0: in one piece, which is how maps are stored that are not compressed.
    cases += [("none", size) for size in (0, chosen // 4, chosen * 4, chosen * 16)]
    seconds: dict[tuple[str, int], list[tuple[float, float]]] = {case: [] for case in cases}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "maps.h5")
        for _ in range(repeat):
            for name, size in cases:
                layout.CHUNK_BYTES = size
                seconds[name, size].append(measure(path, layers, FILTERS[name]))
                sizes[name, size] = path.stat().st_size
    for name, size in cases:
        write, read = (statistics.median(t) for t in zip(*seconds[name, size], strict=True))
        cells = [f"{n_bytes / t / 1e6:.0f}" for t in (write, read)]
        chunk = f"{size / 1e6:.2f}" if size else "one piece"
        table.add_row(name, chunk, f"{sizes[name, size] / n_bytes:.2f}", *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
