"""Read class lists: which number, or which colour, is which class."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from dissect_embed.datasets.importing.rows import read_lines, read_rows
from dissect_embed.errors import DatasetError, first_of

# What columns are called, but for capitals, spaces, '-' and '_'.
NUMBER_COLUMNS = (
    "number", "idx", "index", "id", "labelid", "classid", "categoryid", "catid", "trainid",
)  # fmt: skip
NAME_COLUMNS = ("name", "names", "classname", "labelname", "categoryname")
EITHER = ("class", "label", "category")  # whichever is in their cells
# A number and a name with a space or a colon between.
NUMBERED = re.compile(r"\s*(\d+)(?:\s*[:=]\s*|\s+)([^\W\d].*)")
# Red, green, blue and a name, or none.
COLOURED = re.compile(r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)(?:[\s,;]+(.*))?")
NO_CLASS = 255  # the number that several classes may share: masks have it for none


def read_numbers(
    path: Path, first: int | None = None, column: str = ""
) -> tuple[dict[int, str], dict[str, str]]:
    """Return the class of each number, and of each class its other names, joined by ``;``.

    The file is a table with a header (number and name; also ADE20K's objectInfo150.txt, whose names
    have synonyms), lines of number and name, or names line by line. Numbers of the same name are
    one class. As in Cityscapes' table, rows of -1, and of 255 where several have it, are of no
    class: they are passed over, and it is said so.

    Parameters
    ----------
    first
        The number of the first line, where there are names alone.
    column
        Which column has the numbers, where several could.

    Raises
    ------
    DatasetError
        If it cannot be read, or it cannot be told what a column or a line means.
    """
    rows = _read_list(path, first)
    header = [cell.strip() for cell in rows[0][1]]
    headed = not any(_is_whole(cell) for cell in header)
    for line, cells in rows:
        if len(cells) != (n_cells := len(header) if headed else 2):
            msg = (
                f"{path}:{line}: {len(cells)} cells, expected {n_cells}, a number and a name among "
                "them; a name with a comma must be in double quotes, or the table have tabs"
            )
            raise DatasetError(msg)
    if headed:
        rows = rows[1:]
        number, name = _find_columns(path, header, [cells for _, cells in rows], column)
    elif column:
        msg = f"{path}:1: no header, so no column {column!r} (--number-column); write one, or none"
        raise DatasetError(msg)
    else:
        whole = [all(_is_whole(cells[n]) for _, cells in rows) for n in (0, 1)]
        number, name = (1, 0) if whole == [False, True] else (0, 1)
    values = [
        -1 if cells[number].strip() == "-1" else _read_whole(path, line, cells[number], 0xFFFF)
        for line, cells in rows
    ]
    synonyms = {"idx", "ratio"} <= {_fold(cell) for cell in header}  # ADE20K's own
    classes: dict[int, str] = {}
    others: dict[str, str] = {}
    of_none = {-1, NO_CLASS} if values.count(NO_CLASS) > 1 else {-1}
    for (line, cells), value in zip(rows, values, strict=True):
        if value in of_none:
            continue
        if value in classes:
            msg = f"{path}:{line}: number {value} stands here twice; give each class its own"
            raise DatasetError(msg)
        names = [cells[name].strip()]
        if synonyms:
            names = [n.strip() for n in names[0].replace(";", ",").split(",")]
        classes[value] = names[0]
        others.setdefault(names[0], ";".join(names[1:]))
    if passed := [c[name].strip() for (_, c), v in zip(rows, values, strict=True) if v in of_none]:
        logging.info(
            "%s: passed over, being -1, or 255 as others are: %d rows (%s)", path, len(passed),
            first_of(passed),
        )  # fmt: skip
    return classes, others


def _read_list(path: Path, first: int | None) -> list[tuple[int, list[str]]]:
    """Return line and cells of each row; of names alone with their numbers."""
    rows = read_rows(path)
    if len({len(cells) for _, cells in rows}) == 1 and len(rows[0][1]) > 1:
        return rows
    parted = [(line, NUMBERED.fullmatch(text)) for line, text in read_lines(path)]
    numbered = [(line, [found[1], found[2]]) for line, found in parted if found]
    if len(numbered) == len(parted):
        return numbered
    if any(len(cells) > 1 for _, cells in rows):
        return rows
    if first is None:
        msg = (
            f"{path}: names without numbers, and the first may have 0 or 1; say which "
            "(--first 0 or --first 1)"
        )
        raise DatasetError(msg)
    if _fold(rows[0][1][0]) in (*NAME_COLUMNS, *EITHER):
        rows = rows[1:]
    return [(line, [str(n), *cells]) for n, (line, cells) in enumerate(rows, start=first)]


def _find_columns(
    path: Path, header: list[str], cells: Sequence[list[str]], column: str
) -> tuple[int, int]:
    """Return the places of the column of numbers and of that of names."""
    keys = [_fold(name) for name in header]
    whole = [all(_is_whole(row[n]) for row in cells) for n in range(len(header))]
    numbers = [
        n for n, key in enumerate(keys) if key in NUMBER_COLUMNS or (key in EITHER and whole[n])
    ]
    if column:
        numbers = [n for n, key in enumerate(keys) if key == _fold(column)]
    known = (*NAME_COLUMNS, *EITHER)
    names = [n for n, key in enumerate(keys) if key in known and not (key in EITHER and whole[n])]
    if not numbers or not names:
        if column and not numbers:
            what = f"no column {column!r} (--number-column)"
        else:
            what = f"none of it is known for {'that of names' if numbers else 'that of numbers'}"
        msg = (
            f"{path}:1: the header is {','.join(header)!r}, {what}; call one {', '.join(EITHER)} "
            f"or {NAME_COLUMNS[0]}, and one {', '.join(NUMBER_COLUMNS[:5])} …"
        )
        raise DatasetError(msg)
    if len({tuple(row[n].strip() for row in cells) for n in numbers}) > 1:
        several = " and ".join(repr(header[n]) for n in numbers)
        msg = (
            f"{path}:1: {several} are columns of other numbers; say which the masks hold "
            f"(--number-column {header[numbers[0]]})"
        )
        raise DatasetError(msg)
    return numbers[0], min(names, key=lambda n: known.index(keys[n]))


def read_colours(path: Path) -> dict[tuple[int, int, int], str]:
    """Return the class of each colour; several colours may have the same.

    The file is a table whose header has ``red,green,blue,name``, or ``r,g,b,name``, or it has lines
    of red, green, blue and a name, such as ``64 128 64 Animal``.

    Raises
    ------
    DatasetError
        If it cannot be read or lacks a column, or a colour is none or stands there twice.
    """
    classes: dict[tuple[int, int, int], str] = {}
    for line, cells, name in _read_colour_rows(path):
        red, green, blue = (_read_whole(path, line, cell, 255) for cell in cells)
        if (red, green, blue) in classes:
            msg = f"{path}:{line}: colour {red}, {green}, {blue} stands here twice; keep one"
            raise DatasetError(msg)
        classes[red, green, blue] = name.strip()
    return classes


def _read_colour_rows(path: Path) -> list[tuple[int, Sequence[str], str]]:
    """Return line, red, green and blue, and name."""
    parted = [(line, COLOURED.fullmatch(text.strip())) for line, text in read_lines(path)]
    if parted[0][1]:
        for line, found in parted:
            if not found:
                msg = f"{path}:{line}: expected red, green, blue and a name, as the first line has"
                raise DatasetError(msg)
        return [
            (line, found.groups()[:3], (found[4] or "").strip('"'))
            for line, found in parted
            if found
        ]
    (_, header), *rows = read_rows(path)
    known = [_fold(cell) for cell in header]
    places = [known.index(c) if c in known else -1 for c in ("red", "green", "blue")]
    if -1 in places:
        places = [known.index(c) if c in known else -1 for c in "rgb"]
    name = next((known.index(c) for c in (*NAME_COLUMNS, *EITHER) if c in known), -1)
    if -1 in (*places, name):
        msg = f"{path}:1: the header is {','.join(header)!r}, expected red,green,blue,name"
        raise DatasetError(msg)
    for line, cells in rows:
        if len(cells) != len(header):
            msg = f"{path}:{line}: {len(cells)} cells, the header has {len(header)}"
            raise DatasetError(msg)
    return [(line, [cells[p] for p in places], cells[name]) for line, cells in rows]


def _read_whole(path: Path, line: int, text: str, largest: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and int(text) <= largest):
        msg = f"{path}:{line}: {text!r}, expected a whole number of 0 to {largest}"
        raise DatasetError(msg)
    return int(text)


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+", text.strip()) is not None


def _fold(name: str) -> str:
    return re.sub("[ _-]", "", name.strip().lower())
