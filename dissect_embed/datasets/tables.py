"""Read the CSV tables of a data set; what is wrong is named by file and line."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from dissect_embed.errors import DatasetError

# Takes what is wrong.
Fail = Callable[[str], None]


def refuse(fault: str) -> None:
    """Raise ``DatasetError``: what happens to a fault where nobody collects them."""
    raise DatasetError(fault)


def read_table(
    path: Path, required: tuple[str, ...], fail: Fail = refuse
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, row) of a CSV file whose header must have the required columns."""
    if not path.is_file():
        fail(f"{path}: missing; a data set in Broden's format has this table")
        return
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            lacking = [name for name in required if name not in header]
            for name in lacking:
                fail(f"{path}:1: no column {name!r}; the header is {','.join(header)!r}")
            if lacking:
                return
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    fail(
                        f"{path}:{reader.line_num}: {len(cells)} cells, the header has "
                        f"{len(header)}; a name with a comma must be in double quotes"
                    )
                    continue
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            fail(
                f"{path}: cannot be read after line {reader.line_num} ({error}); "
                "save it as CSV in UTF-8, with every double quote closed"
            )


def read_number(
    path: Path,
    line: int,
    row: dict[str, str],
    column: str,
    fail: Fail = refuse,
    kind: type = int,
) -> float | None:
    """Return the number in a cell, of at least 0; None where it is none and ``fail`` returns."""
    try:
        value = kind(row[column])
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        fail(f"{path}:{line}: {column} is {row[column]!r}, expected {what} of at least 0")
        return None
    return float(value)
