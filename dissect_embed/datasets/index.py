"""Read and check the tables of a data set in Broden's format: one row at a time, or all faults.

Each function stops at the first fault, unless it is told by ``fail`` what else to do with one: then
it leaves out the row and goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import numpy as np
from jaxtyping import Int

from dissect_embed.datasets.tables import Fail, read_number, read_table, refuse

INDEX_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")
LABEL_COLUMNS = ("number", "name", "category", "frequency", "coverage")
# What label numbers mean that are no concept's.
UNKNOWN, LEFT_OUT = -1, -2
MAX_NUMBER = 255 + 256 * 255  # what a label PNG can hold


@dataclass(frozen=True)
class Concept:
    """One label: its number in the PNGs, its name, and the category in which it covers most."""

    number: int
    name: str
    category: str
    frequency: int = 0  # images of the whole data set in which it is, by label.csv


@dataclass(frozen=True)
class ImageRow:
    """One row of ``index.csv``."""

    image: str
    split: str
    size: tuple[int, int]  # height, width of the image in pixels
    label_size: tuple[int, int]  # height, width of its label maps in pixels
    entries: tuple[int | str, ...]  # whole-image numbers and names of label PNGs


def read_categories(root: Path, fail: Fail = refuse) -> tuple[str, ...]:
    """Return the categories of labels, in their order."""
    if not root.is_dir():
        fail(f"{root}: no such folder; name that of a data set, in which index.csv is")
        return ()
    if not (root / "index.csv").is_file():
        fail(
            f"{root}: no index.csv in it, so it is no data set in Broden's format; name the folder "
            "that has it, or make one ('dissect-embed import')"
        )
        return ()
    path = root / "category.csv"
    categories: list[str] = []
    for _, row in read_table(path, ("name",), fail):
        if row["name"] in categories:
            fail(f"{path}: category {row['name']!r} stands here twice; drop one row")
        else:
            categories.append(row["name"])
    if not categories and path.is_file():
        fail(f"{path}: no category is listed; add a row for each column of labels")
    return tuple(categories)


def read_concepts(
    root: Path, categories: tuple[str, ...], fail: Fail = refuse
) -> tuple[Concept, ...]:
    """Return the concepts, each with the category in which it covers most."""
    coverage = _read_coverage(root, categories, fail)
    path = root / "label.csv"
    concepts: dict[int, Concept] = {}
    for line, row in read_table(path, LABEL_COLUMNS, fail):
        number = read_number(path, line, row, "number", fail)
        frequency = read_number(path, line, row, "frequency", fail, float)
        if not number or frequency is None:
            continue  # some copies list 0, "unlabelled"; it is no concept
        if number > MAX_NUMBER:
            fail(f"{path}:{line}: number is {number:.0f}, a label map holds at most {MAX_NUMBER}")
        elif number in concepts:
            fail(f"{path}:{line}: number {number:.0f} stands here twice; give each concept its own")
        elif number not in coverage:
            fail(
                f"{path}:{line}: concept {row['name']!r} (number {number:.0f}) is in no c_*.csv "
                "table; add it to that of its category"
            )
        else:
            widest = int(np.argmax(coverage[int(number)]))
            concepts[int(number)] = Concept(
                int(number), row["name"], categories[widest], int(frequency)
            )
    if not concepts and path.is_file():
        fail(f"{path}: no concept is listed")
    return tuple(concepts.values())


def _read_coverage(root: Path, categories: tuple[str, ...], fail: Fail) -> dict[int, list[float]]:
    """Return how widely each concept covers in each category; -1 where it does not occur."""
    coverage: dict[int, list[float]] = {}
    for g, category in enumerate(categories):
        path = root / f"c_{category}.csv"
        for line, row in read_table(path, ("number", "coverage"), fail):
            number = read_number(path, line, row, "number", fail)
            covers = read_number(path, line, row, "coverage", fail, float)
            if number is None or covers is None:
                continue
            covered = coverage.setdefault(int(number), [-1.0] * len(categories))
            if covered[g] >= 0:
                fail(f"{path}:{line}: number {number:.0f} stands here twice; drop one row")
            else:
                covered[g] = covers
    return coverage


def read_index(root: Path, categories: tuple[str, ...], fail: Fail = refuse) -> dict[int, ImageRow]:
    """Return the rows by their line in ``index.csv``."""
    path = root / "index.csv"
    rows = {}
    for line, row in read_table(path, INDEX_COLUMNS + categories, fail):
        sizes = [read_number(path, line, row, c, fail) for c in ("ih", "iw", "sh", "sw")]
        if None in sizes:
            continue
        ih, iw, sh, sw = (int(n or 0) for n in sizes)
        if 0 in (ih, iw, sh, sw):
            fail(f"{path}:{line}: a size of 0 pixels (ih, iw, sh, sw = {ih}, {iw}, {sh}, {sw})")
            continue
        image = _name_file(row["image"])
        if not image:
            fail(f"{path}:{line}: image is empty; name a file below images/")
            continue
        entries = tuple(entry for c in categories for entry in split_cell(row[c]))
        rows[line] = ImageRow(image, row["split"], (ih, iw), (sh, sw), entries)
    return rows


def split_cell(cell: str) -> list[int | str]:
    """Return what a cell of a category holds: whole-image numbers, and names of label PNGs.

    Examples
    --------
    >>> split_cell("a/0_part_1.png; 7;0")
    ['a/0_part_1.png', 7]
    """
    entries = [_name_file(entry) for entry in cell.split(";")]
    numbered = [int(e) if e.isascii() and e.isdigit() else e for e in entries if e]
    # 0 is unlabelled, here as in the label maps.
    return [entry for entry in numbered if entry != 0]


def _name_file(cell: str) -> str:
    # Written on Windows, names have backslashes.
    return cell.strip().replace("\\", "/")


def check_entries(
    root: Path,
    rows: Mapping[int, ImageRow],
    sizes: Mapping[str, int],
    concept_index: Int[np.ndarray, " number"],
    fail: Fail = refuse,
) -> None:
    """Check that all files that an index names are there, and its numbers in ``label.csv``."""
    path = root / "index.csv"
    alike = {_fold(name): name for name in sizes}
    for line, row in rows.items():
        for entry in (row.image, *row.entries):
            if isinstance(entry, int):
                if entry >= len(concept_index) or concept_index[entry] == UNKNOWN:
                    fail(f"{path}:{line}: label number {entry} is not in {root / 'label.csv'}")
            elif entry not in sizes:
                parts = PurePosixPath(entry)
                if parts.is_absolute() or ".." in parts.parts:
                    fail(f"{path}:{line}: {entry!r} leaves the data set; name files below images/")
                elif near := alike.get(_fold(entry)):
                    same = normalize("NFC", near) == normalize("NFC", entry)
                    what = "how accents are stored (Unicode NFC, NFD)" if same else "capitals"
                    fail(
                        f"{path}:{line}: {root / 'images'} has no {entry!a}, but {near!a}, whose "
                        f"name differs in {what} alone; rename the file, or write its name here"
                    )
                else:
                    fail(
                        f"{path}:{line}: {root / 'images' / entry} is missing; "
                        "fetch or render the data set again, or drop the row"
                    )


def _fold(name: str) -> str:
    return normalize("NFC", name).casefold()


def check_one_size(root: Path, rows: Iterable[ImageRow], fail: Fail = refuse) -> None:
    """Check that all images have the size of the first."""
    first: ImageRow | None = None
    for row in rows:
        first = first or row
        if row.size != first.size:
            fail(
                f"{root / 'index.csv'}: {row.image} is {format_size(row.size)} pixels, "
                f"{first.image} is {format_size(first.size)}; all images of a data set must "
                "have one size: resize them"
            )


def format_size(size: tuple[int, ...]) -> str:
    """Return height and width for people: 112 × 224."""
    return f"{size[0]} × {size[1]}"
