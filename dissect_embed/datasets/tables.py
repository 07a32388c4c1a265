"""Read and write the CSV tables of a data set; what is wrong is named by file and line."""

import csv
import io
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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
    text = _read_text(path, fail)
    if text is None:
        return
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        lacking = [name for name in required if name not in header]
        parted = next((mark for mark in ";\t" if mark in "".join(header)), "")
        if lacking and parted:
            fail(f"{path}:1: its cells are parted by {parted!r}; save it as CSV with commas")
            return
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
    except csv.Error as error:
        fail(
            f"{path}: cannot be read after line {reader.line_num} ({error}); "
            "save it as CSV in UTF-8, with every double quote closed"
        )


def _read_text(path: Path, fail: Fail) -> str | None:
    content = path.read_bytes()
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        fail(f"{path}: is in UTF-16; save it as CSV in UTF-8")
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before, after = error.object[: error.start], error.object[error.start :]
        start, *_ = after.splitlines()
        line = (before.rpartition(b"\n")[2] + start).decode("latin-1")
        fail(
            f"{path}:{before.count(10) + 1}: is not in UTF-8 (read as Latin-1: {line[:60]!r}); "
            "save it as CSV in UTF-8"
        )
        return None


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


class Entry(NamedTuple):
    """A row of the index, and how many pixels each (category, number) has in its image."""

    row: dict[str, str | int]
    pixels: dict[tuple[str, int], int]


def write_tables(
    root: Path,
    entries: Sequence[Entry],
    concepts: Mapping[str, Mapping[str, int]],
    synonyms: Mapping[str, str] | None = None,
) -> None:
    """Write index.csv, label.csv, category.csv and a c_*.csv for each category.

    `frequency` is in images; `coverage` is in whole images, the sum of the shares of pixels.

    Parameters
    ----------
    concepts
        Of each category the numbers by name. A name has one number, whatever its categories.
    synonyms
        Other names of concepts, joined by ``;``.
    """
    frequency: Counter[tuple[str, int]] = Counter()
    # By the pixels of a label map, so that shares are divided once.
    covered: dict[int, Counter[tuple[str, int]]] = {}
    images_with: Counter[int] = Counter()
    for entry in entries:
        frequency.update(entry.pixels.keys())
        area = int(entry.row["sh"]) * int(entry.row["sw"])
        covered.setdefault(area, Counter()).update(entry.pixels)
        images_with.update({number for _, number in entry.pixels})

    def coverage(keys: Sequence[tuple[str, int]]) -> str:
        counted = {area: sum(pixels[key] for key in keys) for area, pixels in covered.items()}
        # Fixed notation: Broden's readers do not take exponents for numbers.
        return f"{sum(n / area for area, n in sorted(counted.items())):.6f}"

    header = list(entries[0].row)
    _write_table(root / "index.csv", header, ([e.row[key] for key in header] for e in entries))

    rows = []
    for name, number in {n: k for names in concepts.values() for n, k in names.items()}.items():
        categories = [category for category, names in concepts.items() if name in names]
        share = ";".join(f"{c}({frequency[c, number]})" for c in categories)
        total = coverage([(c, number) for c in categories])
        syns = (synonyms or {}).get(name, "")
        rows.append((number, name, share, images_with[number], total, syns))
    label_header = ("number", "name", "category", "frequency", "coverage", "syns")
    _write_table(root / "label.csv", label_header, rows)

    summary = []
    for category, names in concepts.items():
        numbers = names.values()
        total_frequency = sum(frequency[category, n] for n in numbers)
        summary.append((category, min(numbers), max(numbers), len(numbers), total_frequency))
        _write_table(
            root / f"c_{category}.csv",
            ("code", "number", "name", "frequency", "coverage"),
            (
                (code, n, name, frequency[category, n], coverage([(category, n)]))
                for code, (name, n) in enumerate(names.items(), start=1)
            ),
        )
    _write_table(root / "category.csv", ("name", "first", "last", "count", "frequency"), summary)


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
