"""Decode all labels of a data set once: ``labels.h5``."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dissect_embed.artefacts.disk import check_disk_space
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.labels import ReadLabels, write_label_file
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.index import ImageRow
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.processes import map_in_processes

# Images that a process reads at a time.
BATCH = 32
# Pixels of label maps that are read before other processes have begun: some 600 images.
FEW_PIXELS = 25_000_000


def write_labels(
    path: Path, dataset: Broden, *, name: str = "", n_threads: int | None = None
) -> None:
    """Write ``labels.h5`` for the rows of a data set.

    Parameters
    ----------
    name
        The data set's, in titles; by default that of its folder.
    n_threads
        How many processes read labels side by side; by default one for each core.

    Raises
    ------
    DatasetError
        If a label PNG is damaged, of another size than the index says, or has an unknown number.
    DiskSpaceError
        If the disk is too small.
    """
    pixels = [math.prod(row.label_size) for row in dataset.rows]
    # An image has at most as many regions as pixels.
    dtype = np.dtype("<u2" if max(pixels) <= 2**16 else "<u4")
    check_disk_space(path, sum(pixels) * dtype.itemsize)
    config = {"dataset": dataset.settings(name)}
    with (
        create_artefact(path, "labels", config, {"dataset": dataset.fingerprint}) as file,
        tqdm(total=len(pixels), desc="labels", unit=" images", disable=None) as bar,
    ):
        write_label_file(file, dataset, _read_all(dataset, dtype, n_threads), dtype, bar.update)


def _read_all(dataset: Broden, dtype: np.dtype, n_threads: int | None) -> Iterator[ReadLabels]:
    """Yield the labels of all images, in order, some at a time.

    Processes read them, one a core, unless they are few: most of the time goes into small
    operations, which threads do in turn.
    """
    batches = [dataset.rows[n : n + BATCH] for n in range(0, len(dataset.rows), BATCH)]
    n_pixels = sum(
        math.prod(row.label_size) * sum(not isinstance(entry, int) for entry in row.entries)
        for row in dataset.rows
    )
    small = dataclasses.replace(dataset, rows=(), concepts=())
    work = ((small, rows, dtype) for rows in batches)
    n_jobs = 1 if n_pixels <= FEW_PIXELS else n_threads or -1
    yield from map_in_processes(_read_regions, work, n_jobs)


def _read_regions(dataset: Broden, rows: Sequence[ImageRow], dtype: np.dtype) -> ReadLabels:
    read = [read_regions(dataset, row) for row in rows]
    return ReadLabels(
        np.concatenate([r.region.ravel() for r in read]).astype(dtype),
        np.array([len(r.member_region) for r in read]),
        np.concatenate([r.member_region for r in read]).astype(np.int32),
        np.concatenate([r.member_concept for r in read]).astype(np.int32),
        np.array([r.n_regions for r in read]),
    )
