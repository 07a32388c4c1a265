"""Decode images and label maps of a data set in Broden's format."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps
from tqdm import tqdm

from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.decoding import decode_image, decode_numbers
from dissect_embed.datasets.index import UNKNOWN, ImageRow, format_size
from dissect_embed.errors import DatasetError
from dissect_embed.mathematics.regions import Regions
from dissect_embed.parallel import map_in_threads

# Regions are numbered anew when there are more: that takes as long as a look at every pixel.
MAX_REGIONS = 8192


def read_image(dataset: Broden, row: ImageRow) -> UInt8[np.ndarray, "y x 3"]:
    """Decode one image.

    Raises
    ------
    DatasetError
        If the file is truncated, no image, or of another size than the index says.
    """
    path = dataset.root / "images" / row.image
    choice = dataset.subset
    pixels = decode_image(
        path, path, background=choice.background, orientation=choice.orientation,
        setting="dataset.{}",
    )  # fmt: skip
    if pixels.shape[:2] != row.size:
        msg = (
            f"{path}: {format_size(pixels.shape[:2])} pixels, the index says "
            f"{format_size(row.size)} (ih × iw); correct index.csv or the image"
        )
        raise DatasetError(msg)
    return pixels


def read_picture(path: Path, size: tuple[int, int]) -> UInt8[np.ndarray, "y x 3"]:
    """Decode a picture from anywhere and bring it to a size, in pixels; what juts out is cut off.

    Raises
    ------
    DatasetError
        If it cannot be read as a picture, or is one of which a network would see something else
        than a person, as one that is partly transparent.
    """
    # As cameras mean it: some store a picture lying on its side.
    try:
        upright = Image.fromarray(decode_image(path, path, orientation="apply"))
    except DatasetError as error:
        if error.__cause__ is None:
            raise
        # It is no file of the data set, to be fetched again.
        msg = (
            f"{path}: cannot be read as a picture ({error.__cause__}); name a JPEG, PNG or the like"
        )
        raise DatasetError(msg) from error
    return np.asarray(ImageOps.fit(upright, size[::-1], Image.Resampling.BICUBIC))


def read_regions(dataset: Broden, row: ImageRow) -> Regions:
    """Decode all labels of one image.

    Raises
    ------
    DatasetError
        If a label PNG is truncated, of another size than the index says, or has a number that
        ``label.csv`` lacks.
    """
    height, width = row.label_size
    region = np.zeros(height * width, dtype=np.int64)
    n_regions = 1
    # What each map says: the concept (or -1) of each region.
    maps: list[Int[np.ndarray, " region"]] = []
    whole_image = []
    for entry in dict.fromkeys(row.entries):
        if isinstance(entry, int):
            whole_image.append(max(dataset.concept_index[entry], -1))
            continue
        numbers, present = _read_numbers(dataset, row, entry)
        # Each region is split into as many as there are numbers, though most of them get no pixel.
        index = np.zeros(present[-1] + 1, dtype=np.int64)
        index[present] = np.arange(len(present))
        region *= len(present)
        region += index.take(numbers)
        concepts = np.where(present > 0, dataset.concept_index[present], -1).clip(-1)
        maps = [said.repeat(len(present)) for said in maps]
        maps.append(np.tile(concepts, n_regions))
        n_regions *= len(present)
        if n_regions > MAX_REGIONS:
            region, n_regions, maps = _drop_empty(region, n_regions, maps)
    region, n_regions, maps = _drop_empty(region, n_regions, maps)
    said = np.stack([*maps, *(np.full(n_regions, c) for c in whole_image)] or [np.full(1, -1)])
    said.sort(axis=0)
    # A concept that two label maps give to the same region counts once.
    said[1:][said[1:] == said[:-1]] = -1
    member_region, which = (said >= 0).T.nonzero()
    member_concept = said[which, member_region]
    return Regions(region.reshape(height, width), member_region, member_concept, n_regions)


def read_all_regions(dataset: Broden, n_threads: int | None = None) -> Iterator[Regions]:
    """Decode the labels of all images, in order, and show how far it is.

    Raises
    ------
    DatasetError
        As ``read_regions`` does.
    """
    read = functools.partial(read_regions, dataset)
    regions = map_in_threads(read, dataset.rows, n_threads=n_threads)
    yield from tqdm(regions, "labels", len(dataset.rows), unit=" images", disable=None)


def _drop_empty(
    region: Int[np.ndarray, " pixel"], n_regions: int, maps: list[Int[np.ndarray, " region"]]
) -> tuple[Int[np.ndarray, " pixel"], int, list[Int[np.ndarray, " used"]]]:
    """Renumber the regions that have a pixel, and drop the others."""
    used = np.flatnonzero(np.bincount(region, minlength=n_regions))
    index = np.zeros(n_regions, dtype=np.int64)
    index[used] = np.arange(len(used))
    return index.take(region), len(used), [said[used] for said in maps]


def read_label_png(dataset: Broden, row: ImageRow, entry: str) -> Int[np.ndarray, "y x"]:
    """Decode one label PNG to label numbers, checked against the index and ``label.csv``."""
    return _read_numbers(dataset, row, entry)[0].reshape(row.label_size)


def _read_numbers(
    dataset: Broden, row: ImageRow, entry: str
) -> tuple[Int[np.ndarray, " pixel"], Int[np.ndarray, " number"]]:
    """Return the label number of every pixel, and the numbers that occur."""
    path = dataset.root / "images" / entry
    decoded = decode_numbers(path, path)
    if decoded.shape != row.label_size:
        msg = (
            f"{path}: {format_size(decoded.shape)} pixels, the index says "
            f"{format_size(row.label_size)} (sh × sw); correct index.csv or the label map"
        )
        raise DatasetError(msg)
    numbers = decoded.ravel()
    known = dataset.concept_index
    # One look at the few numbers present is cheaper than one at every pixel.
    present = np.flatnonzero(np.bincount(numbers))
    unknown = [n for n in present if n and (n >= len(known) or known[n] == UNKNOWN)]
    if unknown:
        msg = (
            f"{path}: label number {unknown[0]} (red + 256 · green, or gray) is not in "
            f"{dataset.root / 'label.csv'}; add it there or correct the label map"
        )
        raise DatasetError(msg)
    return numbers, present
