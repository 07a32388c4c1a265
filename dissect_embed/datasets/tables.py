"""Read the CSV tables of a data set; what is wrong is named by file and line."""

import csv
from collections.abc import Iterator
from pathlib import Path

from dissect_embed.errors import DatasetError


def read_table(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, row) of a CSV file whose header must have the required columns."""
    if not path.is_file():
        msg = f"{path}: missing; a data set in Broden's format has this table"
        raise DatasetError(msg)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            lacking = [name for name in required if name not in header]
            if lacking:
                msg = f"{path}:1: no column {lacking[0]!r}; the header is {','.join(header)!r}"
                raise DatasetError(msg)
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    msg = (
                        f"{path}:{reader.line_num}: {len(cells)} cells, the header has "
                        f"{len(header)}; a name with a comma must be in double quotes"
                    )
                    raise DatasetError(msg)
                yield reader.line_num, dict(zip(header, cells, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            msg = (
                f"{path}: cannot be read after line {reader.line_num} ({error}); "
                "save it as CSV in UTF-8, with every double quote closed"
            )
            raise DatasetError(msg) from error


def read_number(path: Path, line: int, row: dict[str, str], column: str, kind: type = int) -> float:
    """Return the number in a cell, of at least 0.

    Raises
    ------
    DatasetError
        If it is none.
    """
    try:
        value = kind(row[column])
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        what = "a whole number" if kind is int else "a number"
        msg = f"{path}:{line}: {column} is {row[column]!r}, expected {what} of at least 0"
        raise DatasetError(msg) from None
    return float(value)
