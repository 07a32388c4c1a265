"""COCO's JSON of instances: polygons and run lengths of categories."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from dissect_embed.datasets.decoding import read_size
from dissect_embed.datasets.folders import check_replaceable
from dissect_embed.datasets.importing.documents import (
    look_at_all,
    read_field,
    read_points,
)
from dissect_embed.datasets.importing.files import decode_picture
from dissect_embed.datasets.importing.listing import find_images, read_listing
from dissect_embed.datasets.importing.writing import (
    Labelled,
    Source,
    check_size,
    write_dataset,
)
from dissect_embed.datasets.index import format_size
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError


def import_coco(
    root: Path,
    images: Path,
    annotations: Path,
    settings: Import = Import(),
    *,
    n_threads: int | None = None,
) -> int:
    """Make a data set in Broden's format of COCO's instances; return its images.

    The instances of a category are one concept, crowds too. Where instances of several categories
    overlap, all hold: they go to several label maps. The images are those that the JSON file lists,
    also such as have no instance.

    Parameters
    ----------
    root
        The folder to make.
    images
        The folder below which the images have their ``file_name``.
    annotations
        A JSON file of instances, such as ``instances_val2017.json``.

    Raises
    ------
    DatasetError
        If the JSON file is broken, or an image is missing or has another size than it says, or an
        annotation is of no image or category, or has no area that can be read.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    check_replaceable(root, images)
    listing = read_listing(annotations)
    source = listing.source
    found: dict[Any, list[Any]] = defaultdict(list)
    for n, annotation in enumerate(
        read_field(source, listing.document, "annotations", list), start=1
    ):
        where = f"{source}: annotation {n}"
        if isinstance(annotation, dict) and "segments_info" in annotation:
            msg = (
                f"{where}: segments, whose pixels are in PNGs: the file is panoptic; import it as "
                "that ('import panoptic')"
            )
            raise DatasetError(msg)
        for key, known in (("image_id", listing.images), ("category_id", listing.categories)):
            if read_field(where, annotation, key, int) not in known:
                msg = f"{where}: {key} {annotation[key]} is not in the file; drop the annotation"
                raise DatasetError(msg)
        found[annotation["image_id"]].append((where, annotation))
    listed = find_images(listing, images)

    def read(n: int) -> Labelled:
        image = listed[n]
        pixels = decode_picture(image.path, settings)
        check_size(pixels.shape[:2], image.size, image.path, f"{source}: image {image.number}")
        masks: dict[int, Bool[np.ndarray, "y x"]] = {}
        for place_in_file, annotation in found[image.number]:
            mask = decode_segmentation(place_in_file, annotation.get("segmentation"), image.size)
            number = listing.categories[annotation["category_id"]]
            masks[number] = masks[number] | mask if number in masks else mask
        return Labelled(pixels, _stack(masks))

    def check(places: Sequence[int]) -> None:
        """Look at all that the JSON file says: corrected, it is another, for all images."""

        def measure(place: int) -> None:
            number, _, path, size = listed[place]
            found = read_size(path, orientation=settings.orientation, setting="--{}")
            check_size(found, size, path, f"{source}: image {number}")

        def look(item: tuple[str, Any, tuple[int, int]]) -> None:
            where, annotation, size = item
            _read_segmentation(where, annotation.get("segmentation"), size)

        said = [(*item, listed[n].size) for n in places for item in found[listed[n].number]]
        look_at_all(look, said, "annotations", n_threads)
        look_at_all(measure, places, "images", n_threads)

    note = {"format": "coco", "source": str(images), "labels": source}
    files = [[image.path] for image in listed]
    names = [image.name for image in listed]
    data = Source(
        names, listing.classes, read, note, files, [annotations], check, has_rest=True
    )  # fmt: skip
    write_dataset(root, data, settings, n_threads)
    return len(listed)


def _stack(masks: dict[int, Bool[np.ndarray, "y x"]]) -> list[Int[np.ndarray, "y x"]]:
    """Return label maps in which all masks are, each in the first where its pixels are free."""
    maps: list[Int[np.ndarray, "y x"]] = []
    for number, mask in sorted(masks.items()):
        free = next((m for m in maps if not m[mask].any()), None)
        if free is None:
            free = np.zeros(mask.shape, dtype=np.int64)
            maps.append(free)
        free[mask] = number
    return maps


def decode_segmentation(where: str, said: Any, size: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels of an annotation: of polygons together, or of run lengths.

    Parameters
    ----------
    where
        The annotation, named in errors.
    said
        Lists of x, y, x, y, …, or ``{"size": [height, width], "counts": …}`` with a list of counts
        or COCO's compressed text.
    size
        Height and width of the image, in pixels.

    Raises
    ------
    DatasetError
        If it is neither, or does not fit the image.
    """
    runs, polygons = _read_segmentation(where, said, size)
    if runs:
        inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        return inside.reshape(size[::-1]).T
    mask = np.zeros(size, dtype=bool)
    for points in polygons:
        mask |= fill_polygon(points, size)
    return mask


def _read_segmentation(
    where: str, said: Any, size: tuple[int, int]
) -> tuple[list[int], list[tuple[tuple[float, float], ...]]]:
    """Return an annotation's run lengths, or the points of its polygons, checked."""
    if isinstance(said, dict):
        if said.get("size") != list(size):
            msg = f"{where}: run lengths of size {said.get('size')}, its image has {list(size)}"
            raise DatasetError(msg)
        counts: Any = said.get("counts")
        counts = decode_counts(counts) if isinstance(counts, str) else counts
        whole = isinstance(counts, list) and all(isinstance(n, int) and n >= 0 for n in counts)
        if not whole or sum(counts) != size[0] * size[1]:
            msg = (
                f"{where}: its counts are no run lengths of {size[0] * size[1]} pixels; export "
                "the file again"
            )
            raise DatasetError(msg)
        return counts, []
    if not isinstance(said, list) or not said:
        msg = f"{where}: no segmentation, but {str(said)[:40]!r}; boxes alone cannot be imported"
        raise DatasetError(msg)
    polygons = []
    for polygon in said:
        if not isinstance(polygon, list) or len(polygon) % 2:
            msg = (
                f"{where}: a polygon is {str(polygon)[:40]}, expected an even list of numbers "
                "([[x, y, x, y, …], …]); export the file again"
            )
            raise DatasetError(msg)
        pairs = [list(pair) for pair in zip(polygon[::2], polygon[1::2], strict=True)]
        points = read_points(where, pairs, 3)
        xs, ys = zip(*points, strict=True)
        if max(xs) < 0 or max(ys) < 0 or min(xs) > size[1] or min(ys) > size[0]:
            msg = (
                f"{where}: a polygon lies outside of its image of {format_size(size)} pixels "
                "(height × width); drop it, or take the image it was drawn on"
            )
            raise DatasetError(msg)
        polygons.append(points)
    return [], polygons


def decode_counts(text: str) -> list[int]:
    """Return the run lengths in COCO's compressed text (``rleFrString`` of its ``maskApi.c``).

    Each is written in characters of 5 bits from the lowest on, 0x20 saying that more follow; from
    the fourth on as difference to the last but one.

    Examples
    --------
    >>> decode_counts("52203")
    [5, 2, 2, 2, 5]
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (1 << shift) if bits & 0x10 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


def fill_polygon(
    points: Sequence[tuple[float, float]], size: tuple[int, int]
) -> Bool[np.ndarray, "y x"]:
    """Return the pixels whose centre lies within a polygon; what juts out is cut off.

    Parameters
    ----------
    points
        x, y in pixels, 0 being the left or upper edge of the first: its centre is at 0.5.
    size
        Height and width, in pixels.

    Examples
    --------
    >>> fill_polygon([(1.0, 0.0), (3.0, 0.0), (3.0, 1.0), (1.0, 1.0)], (2, 4)).astype(int)
    array([[0, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    height, width = size
    crossed = np.zeros((height, width + 1), dtype=np.int64)
    for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
        top, bottom = np.clip(np.ceil(np.array(sorted((y0, y1))) - 0.5), 0, height).astype(int)
        rows = np.arange(top, bottom)
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)] += 1
    # Within is where an odd number of edges lies to the left.
    return np.asarray(np.cumsum(crossed, axis=1)[:, :width] % 2 == 1)
