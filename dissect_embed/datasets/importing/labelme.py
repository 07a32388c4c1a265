"""The JSON files of labelme, one an image: polygons, rectangles and circles with names."""

import base64
import binascii
import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from PIL import Image, ImageDraw
from tqdm import tqdm

from dissect_embed.datasets.decoding import decode_image
from dissect_embed.datasets.folders import check_replaceable, list_files
from dissect_embed.datasets.importing.documents import read_document, read_field, read_points
from dissect_embed.datasets.importing.writing import Labelled, Source, check_size, write_dataset
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError
from dissect_embed.parallel import map_in_threads

SHAPES = {"polygon": 3, "rectangle": 2, "circle": 2}  # the points of each, a polygon's or more


class _Shape(NamedTuple):
    label: str
    kind: str
    points: tuple[tuple[float, float], ...]
    where: str  # for people


class _Annotation(NamedTuple):
    """One JSON file."""

    path: Path
    image: Path | None  # None: within the JSON file
    size: tuple[int, int] | None  # height, width, if it says so
    shapes: tuple[_Shape, ...]


def import_labelme(
    root: Path, folder: Path, settings: Import = Import(), *, n_threads: int | None = None
) -> int:
    """Make a data set in Broden's format of the JSON files that labelme saved; return its images.

    Later shapes lie above earlier ones, as in labelme, and the pixels of a shape are those that
    labelme's own conversion gives it. What juts out of the image is cut off. Images that are stored
    turned are turned back, as labelme does.

    Parameters
    ----------
    root
        The folder to make.
    folder
        Of JSON files, with the images (``imagePath``) or with these within (``imageData``).

    Raises
    ------
    DatasetError
        If a JSON file is broken or not labelme's, its image is missing or has another size, or a
        shape has no area or lies outside of its image.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    check_replaceable(root, folder)
    files = [f for f in sorted(list_files(folder)) if f.lower().endswith(".json")]
    if not files:
        msg = f"{folder}: no .json file in it; name the folder in which labelme saved"
        raise DatasetError(msg)
    work = map_in_threads(_read_file, [folder / f for f in files], n_threads=n_threads)
    found = list(tqdm(work, "read JSON", len(files), unit=" files", disable=None))
    labels = sorted({shape.label for annotation in found for shape in annotation.shapes})
    number = {label: n for n, label in enumerate(labels, start=1)}

    def read(n: int) -> Labelled:
        annotation = found[n]
        where = annotation.image or f"{annotation.path}: imageData"
        # labelme turns pictures upright before it shows them.
        pixels = decode_image(
            annotation.image or _embedded(annotation.path), where,
            background=settings.background, orientation="apply",
        )  # fmt: skip
        if annotation.size:
            check_size(pixels, annotation.size, where, annotation.path)
        cut.append(sum(_juts_out(shape, pixels.shape[:2]) for shape in annotation.shapes))
        return Labelled(pixels, [_draw(annotation.shapes, pixels.shape[:2], number)])

    names = [file[: -len(".json")] for file in files]
    note = {"source": str(folder)}
    cut: list[int] = []
    read_from = [path for a in found for path in (a.path, a.image) if path is not None]
    data = Source(names, dict.fromkeys(labels, ""), read, note, read_from)
    write_dataset(root, data, settings, n_threads)
    if sum(cut):
        logging.info("%s: %d shapes jut out of their image and were cut off", folder, sum(cut))
    return len(names)


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
        shapes.append(_Shape(label, kind, points, f"{where} ({label!r})"))
    height, width = (document.get(key) for key in ("imageHeight", "imageWidth"))
    size = None if height is None or width is None else (height, width)
    return _Annotation(path, _find_image(path, document), size, tuple(shapes))


def _find_image(path: Path, document: Mapping[str, Any]) -> Path | None:
    """Return where the image lies; None if it is within the JSON file."""
    said = str(document.get("imagePath") or "")
    # Written on Windows, it has backslashes.
    image = path.parent / said.replace("\\", "/")
    if said and image.is_file():
        return image
    if not document.get("imageData"):
        msg = (
            f"{path}: its image {said!r} is not there, and none is within (imageData); put it "
            f"at {image}"
        )
        raise DatasetError(msg)
    return None


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
        if shape.kind == "polygon":
            pen.polygon(shape.points, fill=fill, outline=fill)
        elif shape.kind == "rectangle":
            pen.rectangle((left, top, right, bottom), fill=fill, outline=fill)
        else:
            pen.ellipse((left, top, right, bottom), fill=fill, outline=fill)
    return np.asarray(canvas).astype(np.int64)
