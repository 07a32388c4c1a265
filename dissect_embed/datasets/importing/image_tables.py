"""Read tables of images and their labels: which column is the image, which are labels."""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.importing.rows import read_rows
from dissect_embed.errors import DatasetError, first_of

Rows: TypeAlias = Sequence[tuple[int, list[str]]]  # line and cells
# Settle which column is the image where the cells of several could be.
IMAGE_COLUMNS = (
    "image", "img", "filename", "file_name", "file", "filepath", "file_path", "image_path",
    "img_path", "path", "image_name", "img_name", "image_file", "image_id", "imageid", "id",
)  # fmt: skip
NEARLY_ALL = 0.9  # of the rows name an image where a column is that of the images
# As label, labels, label_2, class, classes, category, tags, class_name.
LABEL_COLUMN = re.compile(r"(label|class|category|tag)(s|es)?[ _]?(\d*|names?)|categories")
NAME_COLUMN = re.compile(r"(.*[ _])?names?")  # where labels are numbers, perhaps their names
ROW_COLUMNS = ("", "unnamed: 0", "id", "index")  # number the rows, as pandas does

YES, NO = ("1", "1.0"), ("0", "0.0", "-1")
# What programs write of what they do not know; 'none' may be a class.
MISSING = ("nan", "NaN", "NAN", "<NA>", "NaT", "null", "NULL", "None")


class _Columns(NamedTuple):
    """Where a table has what."""

    image: int
    labels: Sequence[int]
    marked: bool = False  # the header has the labels, below which is 1 or 0


def read_image_table(table: Path, found: Mapping[str, Path], images: Path) -> dict[str, list[str]]:
    """Return the labels of each image that a table has, by the image's name.

    A row has an image and its labels: in one cell or several, several in a cell with ``;`` between
    them, or as 0 and 1 below the labels' names. Rows of one image add up. Images are named with
    their path below the folder, or without its folders, its ending, or both, where that can be
    meant of one image alone. The column of the images is the one whose cells name some;
    ``IMAGE_COLUMNS`` settle between several. Labels are in ``LABEL_COLUMN``, else in what is left
    if it is one column, or 0 and 1. Where the first row has an image already, all others are
    labels. It is logged what was taken for what.

    Parameters
    ----------
    found
        The files of the images, by their path below the folder without its ending.
    images
        The folder.

    Raises
    ------
    DatasetError
        If the table cannot be read, it cannot be told what a column means, or a row's image is not
        there or may be several.
    """
    rows = read_rows(table)
    header = [cell.strip() for cell in rows[0][1]]
    for line, cells in rows:
        if len(cells) != len(header) or len(cells) < 2:
            msg = (
                f"{table}:{line}: {len(cells)} cells, the first row has {len(header)}, expected an "
                "image and its labels; a name with a comma must be in double quotes"
            )
            raise DatasetError(msg)
    names = _index_names(found, images.resolve().name)
    image = _find_image_column(table, header, rows[1:] or rows, names)
    if _look_up(names, header[image]) or header[image].lower().endswith(SUFFIXES):
        labels = [n for n in range(len(header)) if n != image]  # there is no header
        columns = _Columns(image, labels)
        if len(labels) > 1 and all(_is_marked(rows, n) for n in labels):
            msg = (
                f"{table}:1: 0 and 1, and no header that says of what; write a row above it with "
                "the names of the columns"
            )
            raise DatasetError(msg)
    else:
        rows = rows[1:]
        columns = _find_labels(table, header, rows, image)
        _tell_columns(table, header, rows, columns)
    said: dict[str, dict[str, None]] = {}
    lost = []
    for line, cells in rows:
        where = f"{table}:{line}: {cells[columns.image]!r}"
        meant = _look_up(names, cells[columns.image])
        if len(meant) > 1:
            msg = (
                f"{where} may be any of {len(meant)} images ({meant[0]}, {meant[1]} …); name it "
                "with its folder and its ending"
            )
            raise DatasetError(msg)
        if meant:
            labels_of = said.setdefault(meant[0], {})
            labels_of.update(dict.fromkeys(_read_labels(f"{table}:{line}", columns, header, cells)))
        else:
            lost.append(where)
    if lost:
        msg = (
            f"{lost[0]}: no such image below {images}, as of {len(lost)} of {len(rows)} rows; "
            "name the folder that holds them, or take the rows out"
        )
        raise DatasetError(msg)
    _tell_labels(table, said)
    return {name: list(labels_of) for name, labels_of in said.items()}


def _find_image_column(
    table: Path, header: list[str], rows: Rows, names: Sequence[Mapping[str, list[str]]]
) -> int:
    """Return the column of the images: by what its cells name, then by what it is called."""
    meant = [[_look_up(names, cells[n]) for _, cells in rows] for n in range(len(header))]
    named = [sum(map(bool, column)) for column in meant]
    able = [n for n, hits in enumerate(named) if hits >= NEARLY_ALL * len(rows)]
    called = [n for n, name in enumerate(header) if name.lower() in IMAGE_COLUMNS]
    if not able:  # of which rows it is told, for what they name is not there
        if called:
            return min(called, key=lambda n: IMAGE_COLUMNS.index(header[n].lower()))
        return max(range(len(header)), key=lambda n: named[n])
    # A number may be that of a row or a class; what ends as a file does is a file.
    ended = [n for n in able if all(c[n].strip().lower().endswith(SUFFIXES) for _, c in rows)]
    able = ended or able
    able = [n for n in able if n in called] or able
    able = [n for n in able if not LABEL_COLUMN.fullmatch(header[n].lower())] or able
    able = [n for n in able if header[n].lower() not in ROW_COLUMNS] or able
    if any(meant[n] != meant[able[0]] for n in able):
        which = " or ".join(repr(header[n]) for n in able)
        msg = (
            f"{table}:1: the images may be those of column {which}, which differ; take out the one "
            "that does not name them, or call the other 'image'"
        )
        raise DatasetError(msg)
    return able[0]


def _find_labels(table: Path, header: list[str], rows: Rows, image: int) -> _Columns:
    """Return what the columns are."""
    rest = [n for n in range(len(header)) if n != image]
    if labels := [n for n in rest if LABEL_COLUMN.fullmatch(header[n].lower())]:
        marked = [n for n in labels if _is_marked(rows, n)]
        if len(marked) < 2:
            return _Columns(image, _prefer_names(table, header, rows, labels, rest))
        if others := [n for n in labels if n not in marked]:
            msg = (
                f"{table}:1: {header[others[0]]!r} has labels, {header[marked[0]]!r} and "
                f"{header[marked[1]]!r} have 0 and 1; leave out the one or the others"
            )
            raise DatasetError(msg)
        return _Columns(image, labels, marked=True)
    rest = [n for n in rest if header[n].lower() not in ROW_COLUMNS] or rest
    if all(_is_marked(rows, n) for n in rest):
        return _Columns(image, rest, marked=True)
    if len(rest) > 1:
        msg = (
            f"{table}:1: the header is {','.join(header)!r}, and which columns are labels cannot "
            "be told; call them label, label_2 …, or leave the others out"
        )
        raise DatasetError(msg)
    return _Columns(image, rest)


def _prefer_names(
    table: Path, header: list[str], rows: Rows, labels: list[int], rest: list[int]
) -> list[int]:
    """Return the columns of labels, without one of numbers whose names are in another."""
    said = {n: [cells[n].strip() for _, cells in rows] for n in rest}
    numbers = [n for n in labels if all(re.fullmatch(r"\d+(\.0)?|", text) for text in said[n])]
    names = [n for n in labels if n not in numbers]
    if len(numbers) == len(labels) == 1:
        names = [n for n in rest if NAME_COLUMN.fullmatch(header[n].lower())]
    if not numbers or not names or not any(said[numbers[0]]):
        return labels
    pairs = set(zip(said[numbers[0]], said[names[0]], strict=True))
    both = len(numbers) == len(names) == 1
    if both and len({n for n, _ in pairs}) == len(pairs) == len({name for _, name in pairs}):
        return names
    if names[0] not in labels:
        return labels
    msg = (
        f"{table}:1: {header[numbers[0]]!r} has numbers, {header[names[0]]!r} has names, and they "
        "do not go together one to one; leave out one of them, or put both into one column, with "
        "';' between"
    )
    raise DatasetError(msg)


def _is_marked(rows: Rows, column: int) -> bool:
    """Tell whether a column has nothing but 0 and 1."""
    cells = {row[column].strip() for _, row in rows} - {"", *MISSING}
    return bool(cells) and cells <= {*YES, *NO}


def _read_labels(
    where: str, columns: _Columns, header: Sequence[str], cells: Sequence[str]
) -> list[str]:
    """Return the labels of a row."""
    for n in columns.labels:
        if cells[n].strip() in MISSING:
            msg = (
                f"{where}: {cells[n].strip()!r} in column {header[n]!r}; leave the cell empty if "
                "the image has no label there, or give the class another name"
            )
            raise DatasetError(msg)
    if columns.marked:
        return [header[n] for n in columns.labels if cells[n].strip() in YES]
    parts = [part.strip() for n in columns.labels for part in cells[n].split(";")]
    return [part for part in parts if part]


def _tell_columns(table: Path, header: list[str], rows: Rows, columns: _Columns) -> None:
    known = (columns.image, *columns.labels)
    labels = ", ".join(repr(header[n]) for n in columns.labels)
    passed = ", ".join(repr(name) for n, name in enumerate(header) if n not in known)
    logging.info(
        "%s: the image is column %r; labels are %s%s%s", table, header[columns.image], labels,
        ", by 0 and 1" if columns.marked else "", f"; passed over: {passed}" if passed else "",
    )  # fmt: skip


def _tell_labels(table: Path, said: Mapping[str, Mapping[str, None]]) -> None:
    labels = sorted({label for labels_of in said.values() for label in labels_of})
    if labels and {*labels} <= {*YES, *NO}:
        logging.info(
            "%s: 0 and 1 are taken for two classes of these names; call the column as what 1 is, "
            "where 0 is to be no label", table,
        )  # fmt: skip
    logging.info("%s: %d labels: %s", table, len(labels), first_of(labels))


def _index_names(found: Mapping[str, Path], folder: str) -> list[dict[str, list[str]]]:
    """Return the images' names by what a table may call them, what is most exact first."""
    levels: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(4)]
    for name, path in found.items():
        whole = name + path.suffix
        short = (path.name, path.name[: -len(path.suffix)])
        for level, keys in enumerate(((whole, f"{folder}/{whole}"), (name, f"{folder}/{name}"))):
            for key in keys:
                levels[level][_fold(key)].append(name)
        for level, key in enumerate(short, start=2):
            levels[level][_fold(key)].append(name)
    return levels


def _look_up(levels: Sequence[Mapping[str, list[str]]], text: str) -> list[str]:
    """Return the images that a text may mean."""
    return next((level[_fold(text)] for level in levels if _fold(text) in level), [])


def _fold(name: str) -> str:
    # Windows has other separators, macOS takes letters from their dots, neither minds capitals.
    name = unicodedata.normalize("NFC", name.strip().replace("\\", "/")).casefold()
    return name.removeprefix("./")
