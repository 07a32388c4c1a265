"""The JSON files of labelme, and of AnyLabeling, one an image: shapes with names.

The pixels of a shape are those that labelme's own conversion gives it.
"""

import base64
import binascii
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw
from tqdm import tqdm

from dissect_embed.datasets.decoding import decode_image, decode_numbers
from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.folders import check_replaceable, list_files
from dissect_embed.datasets.importing.documents import read_document, read_field, read_points
from dissect_embed.datasets.importing.files import find_files
from dissect_embed.datasets.importing.writing import Labelled, Source, check_size, write_dataset
from dissect_embed.datasets.index import format_size
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError
from dissect_embed.parallel import map_in_threads

# The points of each, or the least.
SHAPES = {
    "polygon": 3, "rectangle": 2, "oriented_rectangle": 4, "rotation": 4, "circle": 2, "line": 2,
    "linestrip": 2, "point": 1, "mask": 2,
}  # fmt: skip
LINE_WIDTH, POINT_RADIUS = 10, 5  # in pixels
UNLABELLED = ("__ignore__", "_background_")  # by labelme's own convention


class _Shape(NamedTuple):
    label: str
    kind: str
    points: tuple[tuple[float, float], ...]
    where: str  # for people
    mask: Bool[np.ndarray, "y x"] | None = None  # of the kind 'mask': the pixels in its box


class _Annotation(NamedTuple):
    """One JSON file."""

    path: Path
    image: Path | None  # None: within the JSON file
    size: tuple[int, int] | None  # height, width, if it says so
    shapes: tuple[_Shape, ...]
    flags: tuple[str, ...]  # that are set


def import_labelme(
    root: Path, folder: Path, settings: Import = Import(), *, n_threads: int | None = None
) -> int:
    """Make a data set in Broden's format of the JSON files that labelme saved; return its images.

    Later shapes lie above earlier ones, as in labelme; a line is ten pixels wide, a point eleven
    across. What is called ``__ignore__`` or ``_background_`` is unlabelled, what juts out of the
    image cut off. Where no file has a shape, the flags that are set
    are labels of the whole image. Images that are stored turned are turned back, as labelme does.

    Parameters
    ----------
    root
        The folder to make.
    folder
        Of JSON files, with the images within (``imageData``) or where these say (``imagePath``).

    Raises
    ------
    DatasetError
        If a JSON file is broken or not labelme's, its image is missing or has another size, or a
        shape has no area or lies outside of its image.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    check_replaceable(root, folder)
    files = find_files(folder, (".json",), "take one of them out")
    names = sorted(files)
    paths = [files[name] for name in names]

    def look(path: Path) -> tuple[set[str], set[str], Path | None]:
        """Return labels of shapes, flags and image; the rest is read again when it is needed."""
        annotation = _read_file(path)
        return {s.label for s in annotation.shapes}, set(annotation.flags), annotation.image

    work = map_in_threads(look, paths, n_threads=n_threads)
    found = list(tqdm(work, "read JSON", len(paths), unit=" files", disable=None))
    drawn = set[str]().union(*(labels for labels, _, _ in found))
    labels = (drawn or set[str]().union(*(flags for _, flags, _ in found))).difference(UNLABELLED)
    classes = dict.fromkeys(sorted(labels), "")
    number = {label: n for n, label in enumerate(classes, start=1)}
    number |= dict.fromkeys(UNLABELLED, 0)

    def read(n: int) -> Labelled:
        annotation = _read_file(paths[n])
        where = annotation.image or f"{annotation.path}: imageData"
        # labelme turns pictures upright before it shows them.
        pixels = decode_image(
            annotation.image or _embedded(annotation.path), where,
            background=settings.background, orientation="apply", setting="--{}",
        )  # fmt: skip
        if annotation.size:
            check_size(pixels, annotation.size, where, annotation.path)
        if not drawn:
            return Labelled(pixels, [number[flag] for flag in annotation.flags if number[flag]])
        cut.append(sum(_juts_out(shape, pixels.shape[:2]) for shape in annotation.shapes))
        return Labelled(pixels, [_draw(annotation.shapes, pixels.shape[:2], number)])

    _tell_unlabelled(folder, paths, [image for _, _, image in found if image])
    note = {"format": "labelme", "source": str(folder)}
    cut: list[int] = []
    read_from = [
        [path, image] if image else [path] for path, (_, _, image) in zip(paths, found, strict=True)
    ]
    data = Source(names, classes, read, note, read_from)
    write_dataset(root, data, settings, n_threads)
    if sum(cut):
        logging.info("%s: %d shapes jut out of their image and were cut off", folder, sum(cut))
    return len(names)


def _tell_unlabelled(folder: Path, paths: list[Path], images: list[Path]) -> None:
    """Say how many images have no JSON file: they are not imported."""
    known = {path.with_suffix("").resolve() for path in (*paths, *images)}
    there = [folder / file for file in list_files(folder) if file.lower().endswith(SUFFIXES)]
    if without := [image for image in there if image.with_suffix("").resolve() not in known]:
        logging.info("%s: %d images have no JSON file and are left out", folder, len(without))


def _read_file(path: Path) -> _Annotation:
    document = read_document(path)
    shapes = []
    for n, shape in enumerate(read_field(str(path), document, "shapes", list), start=1):
        where = f"{path}: shape {n}"
        label = read_field(where, shape, "label", str).strip()
        kind = shape.get("shape_type") or "polygon"  # which old files do not name
        if kind not in SHAPES:
            msg = (
                f"{where} ({label!r}): a {kind}; what can be read are {', '.join(SHAPES)}: redraw "
                "it as one, or delete it"
            )
            raise DatasetError(msg)
        points = read_points(where, shape.get("points"), SHAPES[kind])
        where = f"{where} ({label!r})"
        mask = _read_mask(where, shape, points) if kind == "mask" else None
        shapes.append(_Shape(label, kind, points, where, mask))
    height, width = (document.get(key) for key in ("imageHeight", "imageWidth"))
    size = None if height is None or width is None else (height, width)
    flags = document.get("flags") or {}
    set_flags = tuple(flag for flag, on in flags.items() if on) if isinstance(flags, dict) else ()
    return _Annotation(path, _find_image(path, document), size, tuple(shapes), set_flags)


def _read_mask(
    where: str, shape: Mapping[str, Any], points: tuple[tuple[float, float], ...]
) -> Bool[np.ndarray, "y x"]:
    """Return which pixels of its box a mask has."""
    said = read_field(where, shape, "mask", str)
    try:
        content = io.BytesIO(base64.b64decode(said, validate=True))
    except (binascii.Error, ValueError) as error:
        msg = f"{where}: its mask is no image in base64 ({error}); save it again in labelme"
        raise DatasetError(msg) from error
    mask = decode_numbers(content, f"{where}: its mask") > 0
    (left, top), (right, bottom) = (np.trunc(point).astype(int).tolist() for point in points[:2])
    if mask.shape != (bottom - top + 1, right - left + 1):
        msg = (
            f"{where}: a mask of {format_size(mask.shape)} pixels, in a box of "
            f"{bottom - top + 1} × {right - left + 1} (points); save it again in labelme"
        )
        raise DatasetError(msg)
    return mask


def _find_image(path: Path, document: Mapping[str, Any]) -> Path | None:
    """Return where the image lies; None if it is within the JSON file."""
    if document.get("imageData"):
        return None
    said = str(document.get("imagePath") or "")
    # Written on Windows, it has backslashes.
    image = path.parent / said.replace("\\", "/")
    if not said or not image.is_file():
        msg = (
            f"{path}: its image {said!r} is not there, and none is within (imageData); put it "
            f"at {image}"
        )
        raise DatasetError(msg)
    return image


def _embedded(path: Path) -> io.BytesIO:
    try:
        return io.BytesIO(base64.b64decode(read_document(path)["imageData"], validate=True))
    except (binascii.Error, TypeError, ValueError) as error:
        msg = f"{path}: imageData is no image in base64 ({error}); save it again in labelme"
        raise DatasetError(msg) from error


def _juts_out(shape: _Shape, size: tuple[int, int]) -> bool:
    left, top, right, bottom = _box(shape)
    return left < 0 or top < 0 or right > size[1] or bottom > size[0]


def _box(shape: _Shape) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom."""
    if shape.kind == "circle":
        (x, y), (edge_x, edge_y) = shape.points[:2]
        radius = float(np.hypot(edge_x - x, edge_y - y))
        return x - radius, y - radius, x + radius, y + radius
    if shape.kind == "point":
        x, y = shape.points[0]
        return x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS
    xs, ys = zip(*shape.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _draw(
    shapes: tuple[_Shape, ...], size: tuple[int, int], number: Mapping[str, int]
) -> Int[np.ndarray, "y x"]:
    """Return the number of the uppermost shape at every pixel; 0 where there is none."""
    canvas = Image.new("I", size[::-1])
    pen = ImageDraw.Draw(canvas)
    for shape in shapes:
        fill = number[shape.label]
        left, top, right, bottom = _box(shape)
        if left >= size[1] or top >= size[0] or right < 0 or bottom < 0:
            msg = (
                f"{shape.where}: lies outside of its image of {size[0]} × {size[1]} pixels; delete "
                "it, or take the image it was drawn on"
            )
            raise DatasetError(msg)
        if shape.mask is not None:
            stamp = Image.fromarray(shape.mask)
            canvas.paste(fill, (int(left), int(top)), stamp)
        elif shape.kind == "rectangle":
            pen.rectangle((left, top, right, bottom), fill=fill, outline=fill)
        elif shape.kind in ("circle", "point"):
            pen.ellipse((left, top, right, bottom), fill=fill, outline=fill)
        elif shape.kind in ("line", "linestrip"):
            pen.line(shape.points, fill=fill, width=LINE_WIDTH)
        else:
            pen.polygon(shape.points, fill=fill, outline=fill)
    return np.asarray(canvas).astype(np.int64)
