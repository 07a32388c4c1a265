"""Read class lists: which number, or which colour, is which class."""

import csv
from pathlib import Path

from dissect_embed.errors import DatasetError

NUMBER_COLUMNS = ("number", "idx", "index", "id", "label")
NAME_COLUMNS = ("name", "names", "class")


def read_numbers(path: Path, first: int | None = None) -> tuple[dict[int, str], dict[str, str]]:
    """Return the class of each number, and of each class its other names, joined by ``;``.

    The file is a CSV or TSV table with a header (number and name; also ADE20K's objectInfo150.txt,
    whose names have synonyms), lines of number and name, or names line by line. Numbers of the same
    name are one class.

    Parameters
    ----------
    first
        The number of the first line, where there are names alone.

    Raises
    ------
    DatasetError
        If it cannot be read, or it cannot be told what a line means.
    """
    rows = read_rows(path)
    header = [cell.strip().lower() for cell in rows[0][1]]
    number = next((header.index(c) for c in NUMBER_COLUMNS if c in header), None)
    name = next((header.index(c) for c in NAME_COLUMNS if c in header), None)
    if number is not None and name is not None:
        rows, n_cells = rows[1:], len(header)
    elif all(len(cells) == 1 for _, cells in rows):
        if first is None:
            msg = (
                f"{path}: names without numbers, and the first may have 0 or 1; say which "
                "(--first 0 or --first 1)"
            )
            raise DatasetError(msg)
        rows = rows[1:] if header[0] in NAME_COLUMNS else rows
        rows = [(line, [str(n), *cells]) for n, (line, cells) in enumerate(rows, start=first)]
        number, name, n_cells = 0, 1, 2
    else:
        number, name, n_cells = 0, 1, 2
    synonyms = {"idx", "ratio"} <= set(header)  # ADE20K's own
    classes: dict[int, str] = {}
    others: dict[str, str] = {}
    for line, cells in rows:
        if len(cells) != n_cells:
            msg = (
                f"{path}:{line}: {len(cells)} cells, expected {n_cells}, a number and a name among "
                "them; a name with a comma must be in double quotes, or the table have tabs"
            )
            raise DatasetError(msg)
        value = _read_whole(path, line, cells[number], 0xFFFF)
        if value in classes:
            msg = f"{path}:{line}: number {value} stands here twice; give each class its own"
            raise DatasetError(msg)
        names = [cells[name].strip()]
        if synonyms:
            names = [n.strip() for n in names[0].replace(";", ",").split(",")]
        classes[value] = names[0]
        others.setdefault(names[0], ";".join(names[1:]))
    return classes, others


def read_colours(path: Path) -> dict[tuple[int, int, int], str]:
    """Return the class of each colour; several colours may have the same.

    The file is a CSV or TSV table whose header has ``red,green,blue,name``, or ``r,g,b,name``.

    Raises
    ------
    DatasetError
        If it cannot be read or lacks a column, or a colour is none or stands there twice.
    """
    (_, header), *rows = read_rows(path)
    known = [cell.strip().lower() for cell in header]
    places = [known.index(c) if c in known else -1 for c in ("red", "green", "blue")]
    if -1 in places:
        places = [known.index(c) if c in known else -1 for c in "rgb"]
    name = next((known.index(c) for c in NAME_COLUMNS if c in known), -1)
    if -1 in (*places, name):
        msg = f"{path}:1: the header is {','.join(header)!r}, expected red,green,blue,name"
        raise DatasetError(msg)
    classes: dict[tuple[int, int, int], str] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            msg = f"{path}:{line}: {len(cells)} cells, the header has {len(header)}"
            raise DatasetError(msg)
        red, green, blue = (_read_whole(path, line, cells[p], 255) for p in places)
        if (red, green, blue) in classes:
            msg = f"{path}:{line}: colour {red}, {green}, {blue} stands here twice; keep one"
            raise DatasetError(msg)
        classes[red, green, blue] = cells[name].strip()
    return classes


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return line and cells of each row of a table that is not empty.

    Cells are split at tabs, or else at commas, or at semicolons where the first line has no comma.

    Raises
    ------
    DatasetError
        If it cannot be read, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); name a table, a text file in UTF-8"
        raise DatasetError(msg) from error
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        msg = (
            f"{path}:{line}: not in UTF-8 (byte {content[error.start]:#04x}); save the table as "
            "CSV in UTF-8"
        )
        raise DatasetError(msg) from error
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        msg = f"{path}: empty; expected a row for each class, or each image"
        raise DatasetError(msg)
    tabs = any("\t" in line for _, line in filled)
    delimiter = "\t" if tabs else ";" if ";" in filled[0][1] and "," not in filled[0][1] else ","
    return [(number, next(csv.reader([line], delimiter=delimiter))) for number, line in filled]


def _read_whole(path: Path, line: int, text: str, largest: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and int(text) <= largest):
        msg = f"{path}:{line}: {text!r}, expected a whole number of 0 to {largest}"
        raise DatasetError(msg)
    return int(text)
