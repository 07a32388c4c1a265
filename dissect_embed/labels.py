"""Decode all labels of a data set once: ``labels.h5``.

A label map costs more to decode than to count on. Each image's labels are kept as regions
(``datasets.pixels.Regions``): ``/region`` holds the region of every pixel of every image, one label
map behind the other; ``/members/region`` and ``/members/concept`` which concepts hold in it.
``/size (N, 2)`` has the height and width of each label map, in pixels; ``/members/offset (N + 1,)``
where each image's members start. Nothing of it depends on a network.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
from jaxtyping import Int, Integer
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from dissect_embed.artefacts.disk import check_disk_space
from dissect_embed.artefacts.files import (
    create_artefact,
    label_axes,
    write_scale,
)
from dissect_embed.datasets.broden import Broden, ImageRow
from dissect_embed.datasets.pixels import read_regions

# Images that a process reads at a time.
BATCH = 32
# Pixels of label maps that are read before other processes have begun: some 600 images.
FEW_PIXELS = 25_000_000


def write_labels(
    path: Path,
    dataset: Broden,
    *,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write ``labels.h5`` for the rows of a data set.

    Raises
    ------
    DatasetError
        If a label PNG is damaged, of another size than the index says, or has an unknown number.
    DiskSpaceError
        If the disk is too small.
    """
    size = np.array([row.label_size for row in dataset.rows], dtype=np.int64)
    pixels = size.prod(axis=1)
    # An image has at most as many regions as pixels.
    dtype = np.dtype("<u2" if pixels.max() <= 2**16 else "<u4")
    offset = np.concatenate([[0], np.cumsum(pixels)])
    check_disk_space(path, int(offset[-1]) * dtype.itemsize)
    parts: list[tuple[Int[np.ndarray, " *any"], ...]] = []
    with create_artefact(path, "labels", config or {}, {"dataset": dataset.fingerprint}) as file:
        image = write_scale(file, "images", [row.image for row in dataset.rows])
        region = file.create_dataset("region", (int(offset[-1]),), dtype)
        n_done = 0
        with tqdm(total=len(size), desc="labels", unit=" images", disable=None) as bar:
            for read in _read_all(dataset, dtype):
                stop = n_done + len(read.n_regions)
                region[offset[n_done] : offset[stop]] = read.region
                parts.append(read[1:])
                bar.update(stop - n_done)
                n_done = stop
        n_members, member_region, member_concept, n_regions = map(
            np.concatenate, zip(*parts, strict=True)
        )
        for name, values in (("size", size), ("n_regions", n_regions)):
            label_axes(file.create_dataset(name, data=values), ("image",), {"image": image})
        members = file.create_group("members")
        members["offset"] = np.concatenate([[0], np.cumsum(n_members)])
        members["region"], members["concept"] = member_region, member_concept
        concepts = file.create_group("concepts")
        concepts["number"] = np.array([c.number for c in dataset.concepts], dtype=np.int64)
        concepts["category"] = dataset.concept_category
        write_scale(concepts, "name", [c.name for c in dataset.concepts])
        write_scale(file, "categories", dataset.categories)


class _Read(NamedTuple):
    """The labels of some images, one behind the other, in the types in which they are stored."""

    region: Integer[np.ndarray, " pixel"]
    n_members: Int[np.ndarray, " image"]
    member_region: Int[np.ndarray, " pair"]
    member_concept: Int[np.ndarray, " pair"]
    n_regions: Int[np.ndarray, " image"]


def _read_all(dataset: Broden, dtype: np.dtype) -> Iterator[_Read]:
    """Yield the labels of all images, in order, some at a time.

    Processes read them, one a core, unless they are few: most of the time goes into small
    operations, which threads do in turn.
    """
    batches = [dataset.rows[n : n + BATCH] for n in range(0, len(dataset.rows), BATCH)]
    n_pixels = sum(
        math.prod(row.label_size) * sum(not isinstance(entry, int) for entry in row.entries)
        for row in dataset.rows
    )
    if n_pixels <= FEW_PIXELS or joblib.cpu_count() == 1:
        yield from (_read_regions(dataset, rows, dtype) for rows in batches)
        return
    small = dataclasses.replace(dataset, rows=(), concepts=())
    try:
        yield from joblib.Parallel(-1, return_as="generator")(
            joblib.delayed(_read_regions)(small, rows, dtype) for rows in batches
        )
    finally:
        # joblib keeps its processes for minutes, and a child process would wait for them.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _read_regions(dataset: Broden, rows: Sequence[ImageRow], dtype: np.dtype) -> _Read:
    read = [read_regions(dataset, row) for row in rows]
    return _Read(
        np.concatenate([r.region.ravel() for r in read]).astype(dtype),
        np.array([len(r.member_region) for r in read]),
        np.concatenate([r.member_region for r in read]).astype(np.int32),
        np.concatenate([r.member_concept for r in read]).astype(np.int32),
        np.array([r.n_regions for r in read]),
    )
