"""``activations.h5``, what layers put out: how it is written and how it is read."""

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from dissect_embed.artefacts.files import label_axes, write_scale
from dissect_embed.errors import ModelError
from dissect_embed.mathematics.thresholds import TopCounts


def write_top(group: h5py.Group, top: TopCounts) -> None:
    """Store the counts that are not zero, by unit and key, in a layer's group."""
    counts = top.counts
    unit, place = counts.nonzero()
    folder = group.create_group("top")
    folder["floor"], folder["least"] = top.floor.astype(np.int32), top.least.astype(np.int32)
    for name, values in (
        ("unit", unit.astype(np.int32)),
        ("key", (place + top.floor[unit]).astype(np.int32)),
        ("count", counts[unit, place]),
    ):
        folder[name] = values


def read_top(group: h5py.Group) -> TopCounts:
    """Return the counts of a layer's highest values, as ``write_top`` stored them."""
    folder = group["top"]
    floor, unit, key = (folder[name][:].astype(np.int64) for name in ("floor", "unit", "key"))
    place = key - floor[unit]
    counts = np.zeros((len(floor), int(place.max(initial=0)) + 1), dtype=np.int64)
    counts[unit, place] = folder["count"][:]
    return TopCounts(floor, folder["least"][:].astype(np.int64), counts)


# Of compressed maps, chunks of this size were read and written fastest (benchmarks/README.md).
CHUNK_BYTES = 410_000


# Zstandard and LZ4 need the package hdf5plugin, to write and to read.
COMPRESSIONS = ("none", "gzip", "lz4", "zstd")


def activation_bytes(
    n_images: int,
    shapes: Mapping[str, tuple[int, int, int]],
    dtypes: Mapping[str, str],
    cached: Sequence[str],
) -> int:
    """Return the bytes that the activations and peaks of some layers take, uncompressed."""
    return n_images * sum(
        units * (4 + (height * width * np.dtype(dtypes[layer]).itemsize if layer in cached else 0))
        for layer, (units, height, width) in shapes.items()
    )


def chunk_shape(shape: tuple[int, int, int], itemsize: int, n_images: int) -> tuple[int, ...]:
    """Return the chunk (images, units, h, w) of about 0.4 MB that divides the units evenly.

    Examples
    --------
    >>> chunk_shape((64, 56, 56), 2, 1000), chunk_shape((512, 7, 7), 2, 1000)
    ((1, 64, 56, 56), (8, 512, 7, 7))
    """
    units, height, width = shape
    map_bytes = height * width * itemsize
    divisors = [d for d in range(1, units + 1) if units % d == 0 and d * map_bytes <= CHUNK_BYTES]
    chunk_units = max(divisors, default=1)
    images = max(1, CHUNK_BYTES // (units * map_bytes)) if chunk_units == units else 1
    return min(images, n_images), chunk_units, height, width


def create_layers(
    file: h5py.File,
    images: Sequence[str],
    shapes: Mapping[str, tuple[int, int, int]],
    dtypes: Mapping[str, str],
    cached: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    """Lay out ``activations.h5``: names and empty arrays. ``options`` are HDF5's, for the maps."""
    image = write_scale(file, "images", images)
    for layer, shape in shapes.items():
        group = file.create_group(f"layers/{layer}")
        group.attrs["shape"], group.attrs["dtype"] = shape, dtypes[layer]
        scales = {"image": image, "unit": write_scale(group, "unit", np.arange(shape[0]))}
        peak = group.create_dataset("peak", (len(images), shape[0]), np.float32)
        label_axes(peak, ("image", "unit"), scales)
        if layer in cached:
            # Only what is compressed lies in chunks: the rest is written and read fastest in one.
            chunks = chunk_shape(shape, np.dtype(dtypes[layer]).itemsize, len(images))
            maps = group.create_dataset(
                "activations", (len(images), *shape), dtypes[layer],
                chunks=chunks if options else None, **options,
            )  # fmt: skip
            label_axes(maps, ("image", "unit", "y", "x"), scales)


def compression_options(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1}
    try:
        import hdf5plugin
    except ImportError as error:
        msg = f"activations.compression: {compression} needs 'pip install hdf5plugin'"
        raise ModelError(msg) from error
    return dict(hdf5plugin.Zstd(clevel=1) if compression == "zstd" else hdf5plugin.LZ4())
