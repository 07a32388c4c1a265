"""Masks: an image file of labels beside each image, whose pixels are numbers or colours of classes.

Numbers as of ADE20K's challenge, Cityscapes (labelIds), Pascal VOC and CamVid, or of MATLAB's
files; colours as others have them. Image and mask have the same path below their folders, but for
how their names end.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from dissect_embed.datasets.decoding import LARGEST, decode_colours, decode_numbers
from dissect_embed.datasets.folders import check_replaceable
from dissect_embed.datasets.importing.classes import read_colours, read_numbers
from dissect_embed.datasets.importing.files import Pairs, decode_picture, pair_files
from dissect_embed.datasets.importing.matlab import read_label_map
from dissect_embed.datasets.importing.writing import (
    NAME_REST,
    UNKNOWN,
    Labelled,
    Source,
    check_size,
    write_dataset,
)
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError
from dissect_embed.parallel import map_in_threads

IGNORED = (0, 255)  # mean unlabelled wherever a class list does not name them
LOST = -2  # a value without a meaning


def import_masks(
    root: Path,
    pairs: Pairs,
    classes: Path,
    settings: Import = Import(),
    *,
    first: int | None = None,
    number_column: str = "",
    ignore: Sequence[int] = (),
    variable: str = "",
    n_threads: int | None = None,
) -> int:
    """Make a data set in Broden's format of images and masks of numbers; return its images.

    Parameters
    ----------
    root
        The folder to make.
    classes
        The class list (``classes.read_numbers``).
    first
        The number of its first line, where it has names alone.
    number_column
        Its column of numbers, where several could be that.
    ignore
        Numbers that mean unlabelled, whatever the class list says.
    variable
        In masks whose names end in ``.mat``: what holds the numbers, where it is not clear.

    Raises
    ------
    DatasetError
        If the class list or a file cannot be read, an image has no mask or a mask no image, a mask
        has another size than its image, or masks have numbers that nothing names.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    if outside := [number for number in ignore if not 0 <= number <= LARGEST]:
        msg = f"--ignore {outside[0]}: masks hold numbers of 0 to {LARGEST}; leave it out"
        raise DatasetError(msg)
    names, synonyms = read_numbers(classes, first, number_column)
    has_rest = 0 not in {*names, *ignore}
    if settings.rest and not has_rest:
        msg = f"{classes}: 0 means something else already; leave out '--rest {settings.rest}'"
        raise DatasetError(msg)
    # Counted from 1 in place of 0, every class would be another.
    last = max(names, default=None) if first and has_rest and not settings.rest else None
    ignored = {*ignore, *(number for number in IGNORED if number not in names)}
    names |= dict.fromkeys(ignored, "")
    decode: Callable[[Path], Int[np.ndarray, "y x"]] = _decode_mask
    if pairs.mask_ending.lower().endswith(".mat"):
        decode = functools.partial(read_label_map, variable=variable)
    elif variable:
        msg = f"--variable {variable}: goes with masks of MATLAB (--mask-ending .mat); leave it out"
        raise DatasetError(msg)
    code = _Code(
        classes, names, synonyms, decode, "number {}", "--ignore {}", lambda number: number,
        {
            "format": "masks", "first": first, "number_column": number_column,
            "ignore": sorted(ignore), "variable": variable,
        },
        f"{NAME_REST}, or the number 0 in the class list ('0,background')",
        has_rest, last,
    )  # fmt: skip
    return _import(root, pairs, code, settings, n_threads)


def import_colours(
    root: Path,
    pairs: Pairs,
    classes: Path,
    settings: Import = Import(),
    *,
    n_threads: int | None = None,
) -> int:
    """Make a data set in Broden's format of images and masks of colours; return its images.

    Parameters
    ----------
    root
        The folder to make.
    classes
        The table of colours (``classes.read_colours``). A colour without a name is unlabelled.

    Raises
    ------
    DatasetError
        As ``import_masks``; if masks have colours that are not in the table.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    names = {_join(colour): name for colour, name in read_colours(classes).items()}
    code = _Code(
        classes, names, {}, _decode_colours, "colour {}", "a row of it without a name",
        lambda n: f"{n >> 16}, {n >> 8 & 255}, {n & 255}", {"format": "colours"},
        "name their colour in the table",
    )  # fmt: skip
    return _import(root, pairs, code, settings, n_threads)


class _Code(NamedTuple):
    """What the values in masks mean."""

    path: Path  # the class list
    names: dict[int, str]  # the class of each value; empty: unlabelled
    synonyms: dict[str, str]
    decode: Callable[[Path], Int[np.ndarray, "y x"]]
    what: str  # a value is, for people
    ignoring: str  # how a value is said to mean unlabelled
    show: Callable[[int], object]  # a value, for people
    said: Mapping[str, object]  # what else was said of the class list
    remedy: str  # where images have no label
    has_rest: bool = False  # 0 means none of the classes
    last: int | None = None  # of numbers that were counted, where they may begin too high


def _decode_mask(mask: Path) -> Int[np.ndarray, "y x"]:
    return decode_numbers(mask, mask, refuse_gray=True)


def _decode_colours(mask: Path) -> Int[np.ndarray, "y x"]:
    red, green, blue = decode_colours(mask).transpose(2, 0, 1)
    return np.asarray(red << 16 | green << 8 | blue)


def _join(colour: tuple[int, int, int]) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _import(root: Path, pairs: Pairs, code: _Code, settings: Import, n_threads: int | None) -> int:
    check_replaceable(root, pairs.images, pairs.masks)
    images, masks = pair_files(pairs)
    names = sorted(images)
    classes = {name: code.synonyms.get(name, "") for name in code.names.values() if name}
    place = {"": UNKNOWN} | {name: n for n, name in enumerate(classes, start=1)}
    # The class of each value, with all that are above the last at the end.
    said = np.full(max(code.names) + 2, LOST, dtype=np.int32)
    said[list(code.names)] = [place[name] for name in code.names.values()]
    said[0] = 0 if code.has_rest else said[0]

    def classify(label: Int[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
        return np.asarray(said[np.minimum(label, len(said) - 1)])

    def read(n: int) -> Labelled:
        image, mask = images[names[n]], masks[names[n]]
        pixels = decode_picture(image, settings)
        label = classify(code.decode(mask))
        check_size(pixels.shape[:2], label.shape, image, mask)
        return Labelled(pixels, [label])

    def check(places: Sequence[int]) -> None:
        # Of the last masks of an interrupted import nothing is told about all.
        told = code if len(places) == len(names) else code._replace(last=None)
        in_order = [masks[names[n]] for n in places]
        _check_masks(in_order, len(names), pairs.masks, told, classify, n_threads)

    note = {
        "source": str(pairs.images), "labels": str(pairs.masks), "classes": str(code.path),
        "endings": [pairs.image_ending, pairs.mask_ending], **code.said,
    }  # fmt: skip
    files = [(images[name], masks[name]) for name in names]
    source = Source(
        names, classes, read, note, files, [code.path],
        check, has_rest=code.has_rest, remedy=code.remedy,
    )  # fmt: skip
    write_dataset(root, source, settings, n_threads)
    return len(names)


class _Looked(NamedTuple):
    """What was seen in a mask."""

    # Each value without a meaning, of how many pixels, and the first of them.
    unknown: list[tuple[int, int, str]]
    unlabelled: dict[int, int] | None  # of a mask without a class, the pixels of each value
    zero: bool  # whether 0 and the list's last number are there
    last: bool


def _check_masks(
    masks: Sequence[Path],
    n_images: int,
    folder: Path,
    code: _Code,
    classify: Callable[[Int[np.ndarray, "y x"]], Int[np.ndarray, "y x"]],
    n_threads: int | None,
) -> None:
    """Check that masks have no value without a meaning, before anything is made of them.

    Raises
    ------
    DatasetError
        If they have: the one that most of them have, and where it is first. If no mask of all
        images has a class.
    """

    def look(mask: Path) -> _Looked:
        label = code.decode(mask)
        said = classify(label)
        lost = said == LOST
        unknown = []
        for value in np.unique(label[lost]).tolist():
            y, x = np.argwhere(label == value)[0].tolist()
            unknown.append((value, int((label == value).sum()), f"{mask}: pixel {x}, {y}"))
        counts: dict[int, int] | None = None
        if not (said > 0).any():
            values, n_pixels = np.unique(label, return_counts=True)
            counts = dict(zip(values.tolist(), n_pixels.tolist(), strict=True))
        if code.last is None:
            return _Looked(unknown, counts, False, False)
        return _Looked(unknown, counts, bool((label == 0).any()), bool((label == code.last).any()))

    unlabelled: Counter[int] = Counter()
    n_unlabelled = 0
    files: Counter[int] = Counter()
    pixels: Counter[int] = Counter()
    first: dict[int, str] = {}
    looked = map_in_threads(look, masks, n_threads=n_threads)
    with_zero = with_last = 0
    bar = tqdm(looked, "look at masks", len(masks), unit=" masks", disable=None)
    for unknown, of_none, zero, last in bar:
        with_zero, with_last = with_zero + zero, with_last + last
        for value, n, where in unknown:
            files[value] += 1
            pixels[value] += n
            first.setdefault(value, where)
        if of_none is not None:
            n_unlabelled += 1
            unlabelled.update(of_none)
    if files:
        value, n = files.most_common(1)[0]
        others = f"; so are {len(files) - 1} further values" if len(files) > 1 else ""
        msg = (
            f"{first[value]} (column, row): {code.what.format(code.show(value))} is not in "
            f"{code.path}; {n} of {len(masks)} masks have it, {pixels[value]} pixels in all"
            f"{others}; add it there, or let it mean unlabelled "
            f"({code.ignoring.format(code.show(value))})"
        )
        raise DatasetError(msg)
    if n_unlabelled == n_images:
        found = "; ".join(f"{code.show(v)}: {n} pixels" for v, n in unlabelled.most_common(5))
        msg = (
            f"{folder}: none of the {len(set(filter(None, code.names.values())))} classes of "
            f"{code.path} is in any of {n_images} masks, but {code.what.split()[0]}s that "
            f"mean unlabelled ({found}); add them to the list, if they are a class"
        )
        raise DatasetError(msg)
    if with_zero and not with_last and code.last is not None:
        logging.info(
            "%s: %d of %d masks have 0, which is not in it, and none has its last number, %d (%s): "
            "does it begin at 0 (--first 0)?", code.path, with_zero, len(masks), code.last,
            code.names[code.last],
        )  # fmt: skip
