"""Read the rows of a table of anyone's making, whatever stands between its cells."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from dissect_embed.errors import DatasetError

DELIMITERS = "\t,;"


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return number and text of each line that is not empty.

    Raises
    ------
    DatasetError
        If the file cannot be read, is not in UTF-8, or is empty.
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
    return filled


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return line and cells of each row of a table that is not empty.

    Between cells is what parts every row into as many: tabs, commas or semicolons, but for those in
    double quotes; or what a first line such as ``sep=;``, of Excel's, says.

    Raises
    ------
    DatasetError
        If it cannot be read, or is empty.
    """
    lines = read_lines(path)
    if said := re.fullmatch(r'"?sep=(.)"?', lines[0][1].strip("\r\n"), re.IGNORECASE):
        if not lines[1:]:
            msg = f"{path}: empty but for {lines[0][1]!r}; expected a row for each class, or image"
            raise DatasetError(msg)
        return _split(lines[1:], said[1])
    splits = {delimiter: _split(lines, delimiter) for delimiter in DELIMITERS}
    fitting = [d for d, rows in splits.items() if len(rows[0][1]) > 1 and _is_even(rows)]
    if fitting:
        return splits[min(fitting, key=lambda d: _count_torn(splits[d]))]
    # Whatever it is, some row of it will be refused.
    first = lines[0][1]
    if any("\t" in line for _, line in lines):
        return splits["\t"]
    return splits[";" if ";" in first and "," not in first else ","]


def _split(lines: Sequence[tuple[int, str]], delimiter: str) -> list[tuple[int, list[str]]]:
    return [(number, next(csv.reader([line], delimiter=delimiter))) for number, line in lines]


def _is_even(rows: Sequence[tuple[int, list[str]]]) -> bool:
    return len({len(cells) for _, cells in rows}) == 1


def _count_torn(rows: Sequence[tuple[int, list[str]]]) -> int:
    """Return how many cells have one of two quotes: they were split within."""
    return sum(cell.count('"') % 2 for _, cells in rows for cell in cells)
