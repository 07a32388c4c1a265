"""The JSON files of labelme, and of AnyLabeling, one an image: shapes with names.

The pixels of a shape are those that labelme's own conversion gives it.
"""

import base64
import binascii
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from dissect_embed.datasets.decoding import decode_image, decode_numbers
from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.folders import check_replaceable, list_files
from dissect_embed.datasets.importing.documents import (
    look_at_all,
    read_document,
    read_field,
    read_points,
)
from dissect_embed.datasets.importing.drawing import (
    SHAPES,
    Shape,
    check_inside,
    draw_shapes,
    juts_out,
)
from dissect_embed.datasets.importing.files import find_files
from dissect_embed.datasets.importing.writing import (
    UNKNOWN,
    Labelled,
    Source,
    check_size,
    write_dataset,
)
from dissect_embed.datasets.index import format_size
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import ConfigError, DatasetError

UNLABELLED = ("__ignore__", "_background_")  # by labelme's own convention


class _Annotation(NamedTuple):
    """One JSON file."""

    path: Path
    image: Path | None  # None: within the JSON file
    size: tuple[int, int] | None  # height, width, if it says so
    shapes: tuple[Shape, ...]
    flags: tuple[str, ...]  # that are set
    key: tuple[object, ...]  # the same as another's: both are of one image


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
        Of JSON files, with the images within (``imageData``), where these say (``imagePath``), or
        beside them.

    Raises
    ------
    DatasetError
        If a JSON file is broken or not labelme's, its image is missing, another's as well or has
        another size, or a shape has no name or no area or lies outside of its image.
    ConfigError
        If pictures are to be left as they are stored.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    if settings.orientation == "ignore":
        msg = (
            "import labelme: --orientation ignore has no effect, for labelme turns images; drop it"
        )
        raise ConfigError(msg)
    check_replaceable(root, folder)
    files = find_files(folder, (".json",), "take one of them out")
    names = sorted(files)
    paths = [files[name] for name in names]

    def look(path: Path) -> tuple[set[str], set[str], Path | None, object]:
        """Return labels of shapes, flags, image and how to tell it from others."""
        # The rest is read again when it is needed.
        annotation = _read_file(path)
        labels = {shape.label for shape in annotation.shapes}
        return labels, set(annotation.flags), annotation.image, annotation.key

    found = look_at_all(look, paths, "JSON files", n_threads)
    _check_once(paths, [key for *_, key in found])
    drawn = set[str]().union(*(labels for labels, *_ in found))
    labels = (drawn or set[str]().union(*(flags for _, flags, *_ in found))).difference(UNLABELLED)
    classes = dict.fromkeys(sorted(labels), "")
    number = {label: n for n, label in enumerate(classes, start=1)}
    number |= {"__ignore__": UNKNOWN, "_background_": 0}

    def read(n: int) -> Labelled:
        annotation = _read_file(paths[n])
        where = annotation.image or f"{annotation.path}: imageData"
        # labelme turns pictures upright before it shows them.
        pixels = decode_image(
            annotation.image or _embedded(annotation.path), where,
            background=settings.background, orientation="apply", setting="--{}",
        )  # fmt: skip
        if annotation.size:
            check_size(pixels.shape[:2], annotation.size, where, annotation.path)
        if not drawn:
            return Labelled(pixels, [number[flag] for flag in annotation.flags if number[flag] > 0])
        cut.append(sum(juts_out(shape, pixels.shape[:2]) for shape in annotation.shapes))
        return Labelled(pixels, [draw_shapes(annotation.shapes, pixels.shape[:2], number)])

    _tell_unlabelled(folder, paths, [image for _, _, image, _ in found if image])
    note = {"format": "labelme", "source": str(folder)}
    cut: list[int] = []
    read_from = [
        [path, image] if image else [path]
        for path, (_, _, image, _) in zip(paths, found, strict=True)
    ]
    data = Source(names, classes, read, note, read_from, has_rest=True)
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


def _check_once(paths: Sequence[Path], keys: Sequence[object]) -> None:
    """Check that no two JSON files are of one image, of which each would have its labels alone."""
    first: dict[object, Path] = {}
    for path, key in zip(paths, keys, strict=True):
        if first.setdefault(key, path) != path:
            msg = (
                f"{path}: of the same image as {first[key]} (imagePath); put the shapes of both "
                "into one of them"
            )
            raise DatasetError(msg)


def _read_file(path: Path) -> _Annotation:
    document = read_document(path)
    if "shapes" not in document:
        msg = f"{path}: 'shapes' is missing, so this is no file of labelme; move it out of here"
        raise DatasetError(msg)
    shapes = []
    for n, shape in enumerate(read_field(str(path), document, "shapes", list), start=1):
        where = f"{path}: shape {n}"
        label = read_field(where, shape, "label", str).strip()
        if not label:
            msg = f"{where}: a label without a name; name it in labelme, or delete the shape"
            raise DatasetError(msg)
        where = f"{where} ({label!r})"
        kind = shape.get("shape_type") or "polygon"  # which old files do not name
        if kind not in SHAPES:
            msg = (
                f"{where}: a {kind}; what can be read are {', '.join(SHAPES)}: redraw "
                "it as one, or delete it"
            )
            raise DatasetError(msg)
        points = read_points(where, shape.get("points"), SHAPES[kind])
        mask = _read_mask(where, shape, points) if kind == "mask" else None
        shapes.append(Shape(label, kind, points, where, mask))
    size = None
    if document.get("imageHeight") is not None and document.get("imageWidth") is not None:
        size = (
            read_field(str(path), document, "imageHeight", int),
            read_field(str(path), document, "imageWidth", int),
        )
        for drawn in shapes:
            check_inside(drawn, size)
    flags = document.get("flags") or {}
    set_flags = tuple(flag for flag, on in flags.items() if on) if isinstance(flags, dict) else ()
    image = _find_image(path, document)
    key: tuple[object, ...] = (image.resolve(),) if image else (
        path.parent, document.get("imagePath"), hash(str(document["imageData"]))
    )  # fmt: skip
    return _Annotation(path, image, size, tuple(shapes), set_flags, key)


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
    # Written on Windows, it has backslashes; written elsewhere, it may be of another disk.
    image = path.parent / said.replace("\\", "/")
    beside = path.parent / PureWindowsPath(said).name
    for place in (image, beside):
        if said and place.is_file():
            return place
    alike = [file for file in path.parent.iterdir() if file.name.lower() == beside.name.lower()]
    if len(alike) == 1 and alike[0].is_file():
        return alike[0]
    msg = (
        f"{path}: its image {said!r} is not there, and none is within (imageData); put it beside "
        "the JSON file"
    )
    raise DatasetError(msg)


def _embedded(path: Path) -> io.BytesIO:
    try:
        return io.BytesIO(base64.b64decode(read_document(path)["imageData"], validate=True))
    except (binascii.Error, TypeError, ValueError) as error:
        msg = f"{path}: imageData is no image in base64 ({error}); save it again in labelme"
        raise DatasetError(msg) from error
