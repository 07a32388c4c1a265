"""How ``activations.h5`` is laid out: for a run to fill, or as a view of the files of shards."""

import functools
import json
import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dissect_embed.artefacts.activations import Activations, LayerActivations
from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import attest, mark_derived, mark_rows
from dissect_embed.errors import ArtefactError, ModelError

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
        mark_derived(peak)
        if layer in cached:
            # Only what is compressed lies in chunks: the rest is written and read fastest in one.
            chunks = chunk_shape(shape, np.dtype(dtypes[layer]).itemsize, len(images))
            maps = group.create_dataset(
                "activations", (len(images), *shape), dtypes[layer],
                chunks=chunks if options else None, **options,
            )  # fmt: skip
            label_axes(maps, ("image", "unit", "y", "x"), scales)
            mark_rows(maps)


def compression_options(compression: str) -> dict[str, Any]:
    """Return what HDF5 is asked for to compress maps.

    Raises
    ------
    ModelError
        If the package hdf5plugin is needed and not there.
    """
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


def view_parts(file: h5py.File, parts: Sequence[Activations], folder: Path) -> None:
    """Fill an empty ``activations.h5`` with views of the files of all shards, in order.

    Parameters
    ----------
    folder
        That of the file: views name their sources as seen from it.

    Raises
    ------
    ArtefactError
        If a layer was stored in another type in some of them.
    """
    names = [os.path.relpath(part.path, folder) for part in parts]
    fingerprints = dict(zip(names, (part.fingerprint for part in parts), strict=True))
    file.attrs["parts"] = json.dumps(fingerprints)
    file.attrs["first_image"], file.attrs["reference"] = 0, parts[0].reference
    if "weights_provenance" in parts[0].file.attrs:
        file.attrs["weights_provenance"] = parts[0].file.attrs["weights_provenance"]
    images = write_scale(file, "images", [name for part in parts for name in part.images])
    for layer in parts[0].layers:
        _view_layer(file, images, layer, parts, names)


def _view_layer(
    file: h5py.File,
    images: h5py.Dataset,
    layer: str,
    parts: Sequence[Activations],
    names: Sequence[str],
) -> None:
    first = parts[0][layer]
    for part in parts:
        if part[layer].dtype != first.dtype:
            msg = (
                f"{part.path}: {layer} is {part[layer].dtype}, in {parts[0].path} {first.dtype}: "
                "some values do not fit float16; set activations.dtype to float32"
            )
            raise ArtefactError(msg)
    group = file.create_group(f"layers/{layer}")
    group.attrs["shape"], group.attrs["dtype"] = first.shape, first.dtype
    scales = {"image": images, "unit": write_scale(group, "unit", np.arange(first.n_units))}
    views = {"peak": [part[layer].peak for part in parts]}
    if first.maps is not None:
        views["activations"] = [part[layer].maps for part in parts]
    for name, sources in views.items():
        n_images = sum(len(source) for source in sources)
        layout = h5py.VirtualLayout((n_images, *sources[0].shape[1:]), sources[0].dtype)
        start = 0
        for source, path in zip(sources, names, strict=True):
            layout[start : start + len(source)] = h5py.VirtualSource(
                path, source.name, source.shape
            )
            start += len(source)
        view = group.create_virtual_dataset(name, layout)
        mark_rows(view)
        label_axes(view, ("image", "unit", "y", "x")[: view.ndim], scales)
    # Of the peaks the parts are read: through the view HDF5 would look for them under their names.
    attest(group["peak"], np.concatenate([part[layer].peaks for part in parts]))
    whole = LayerActivations(group)
    whole.write_digests(np.concatenate([part[layer].digests for part in parts]))
    top = first.top
    for part in parts[1:]:
        top.merge(part[layer].top)
    whole.write_top(top)
    whole.write_magnitude(first.magnitude)  # the same in all, as their ``reference`` is
    sums = [of_part for part in parts if (of_part := part[layer].sums) is not None]
    if sums:
        whole.write_sums(functools.reduce(operator.add, sums))
