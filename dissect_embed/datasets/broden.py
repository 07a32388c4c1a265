"""The tables of a data set in Broden's format: which images, which labels, which concepts.

The format is Network Dissection's ([BAU17], Bau et al., CVPR 2017). A folder holds

- ``index.csv``: a row an image: ``image,split,ih,iw,sh,sw`` and one column a category. A cell is
  empty (not labelled in this category) or holds entries joined by ``;``: the name of a label PNG
  below ``images/``, or a number that labels the whole image. All entries hold at once.
- ``label.csv``: ``number,name,category,frequency,coverage,syns``, a row a concept.
- ``category.csv`` and ``c_<category>.csv``: how often and how widely each concept occurs in each
  category. A concept's category is the one in which it covers most.
- ``images/``: JPEGs of ih × iw pixels, label PNGs of sh × sw pixels, ``red + 256·green`` a number.

Number 0 means unlabelled everywhere.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int

from dissect_embed.config import Subset
from dissect_embed.datasets.folders import list_files
from dissect_embed.datasets.subsets import choose_concepts, choose_images
from dissect_embed.datasets.tables import read_number, read_table
from dissect_embed.errors import DatasetError

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


@dataclass(frozen=True)
class Broden:
    """The rows of one split of a data set, and all its concepts.

    ``concept_index`` maps a label number to the concept's index in ``concepts``, ``UNKNOWN`` where
    ``label.csv`` has no such number, ``LEFT_OUT`` where the concept is left out.
    """

    root: Path
    split: str
    rows: tuple[ImageRow, ...]
    concepts: tuple[Concept, ...]
    categories: tuple[str, ...]
    concept_index: Int[np.ndarray, " number"]
    fingerprint: str
    subset: Subset = field(default_factory=Subset)

    @property
    def concept_category(self) -> Int[np.ndarray, " concept"]:
        """The index of each concept's category in ``categories``."""
        index = {name: g for g, name in enumerate(self.categories)}
        return np.array([index[c.category] for c in self.concepts], dtype=np.int64)

    def settings(self, name: str = "") -> dict[str, Any]:
        """Return what is recorded of the data set; ``name`` is by default that of its folder."""
        return {
            "name": name or self.root.resolve().name,
            "root": str(self.root),
            "split": self.split,
            "images": len(self.rows),
            **self.subset.model_dump(mode="json", exclude_defaults=True),
        }

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels, the same for all images."""
        return self.rows[0].size


def load_broden(root: Path, split: str = "all", subset: Subset = Subset()) -> Broden:
    """Read and check the tables of the data set under ``root``.

    Parameters
    ----------
    root
        Folder with ``index.csv``.
    split
        A value of the index's ``split`` column, or ``all``.
    subset
        Which images, categories and concepts of it, and how images are read.

    Raises
    ------
    DatasetError
        If a table is missing or malformed (file and line are named), a file named in the index is
        missing or leaves the data set, the split has no image, or the subset names what is not
        there or leaves nothing.
    """
    root = Path(root)
    if not (root / "index.csv").is_file():
        msg = (
            f"{root}: no index.csv here, so it is no data set in Broden's format; "
            "check dataset.root, or make it with 'snakemake --cores all' (rules mini, fetch)"
        )
        raise DatasetError(msg)
    categories = tuple(row["name"] for _, row in read_table(root / "category.csv", ("name",)))
    if not categories:
        msg = f"{root / 'category.csv'}: no category is listed; add a row for each column of labels"
        raise DatasetError(msg)
    doubled = [name for n, name in enumerate(categories) if name in categories[:n]]
    if doubled:
        msg = f"{root / 'category.csv'}: category {doubled[0]!r} stands here twice; drop one row"
        raise DatasetError(msg)
    concepts = _read_concepts(root, categories)
    concept_index = np.full(max(c.number for c in concepts) + 1, UNKNOWN, dtype=np.int64)
    concept_index[[c.number for c in concepts]] = LEFT_OUT
    concepts, categories = choose_concepts(root, concepts, categories, subset)
    concept_index[[c.number for c in concepts]] = np.arange(len(concepts))
    rows = _read_index(root, categories)
    sizes = list_files(root / "images")
    _check_index(root, rows, sizes, concept_index)
    chosen = tuple(r for r in rows.values() if split in ("all", r.split))
    if not chosen:
        known = ", ".join(sorted({r.split for r in rows.values()})) or "none"
        msg = (
            f"{root / 'index.csv'}: no image in split {split!r}; the splits are: {known} "
            "(or 'all'); change dataset.split"
        )
        raise DatasetError(msg)
    _check_one_size(root, chosen)
    return Broden(
        root, split, choose_images(chosen, subset), concepts, categories, concept_index,
        _fingerprint(root, split, sizes, subset), subset,
    )  # fmt: skip


def load_recorded(root: Path, settings: Mapping[str, Any]) -> Broden:
    """Return the data set that a file's ``config.dataset`` tells of, as ``Broden.settings`` did.

    Raises
    ------
    DatasetError
        As ``load_broden`` does.
    """
    subset = Subset(**{k: v for k, v in settings.items() if k in Subset.model_fields})
    return load_broden(root, str(settings["split"]), subset)


def _read_concepts(root: Path, categories: tuple[str, ...]) -> tuple[Concept, ...]:
    coverage: dict[int, list[float]] = {}
    for g, category in enumerate(categories):
        path = root / f"c_{category}.csv"
        for line, row in read_table(path, ("number", "coverage")):
            number = int(read_number(path, line, row, "number"))
            covered = coverage.setdefault(number, [-1.0] * len(categories))
            if covered[g] >= 0:
                msg = f"{path}:{line}: number {number} stands here twice; drop one row"
                raise DatasetError(msg)
            covered[g] = read_number(path, line, row, "coverage", float)
    path = root / "label.csv"
    concepts: dict[int, Concept] = {}
    for line, row in read_table(path, LABEL_COLUMNS):
        number = int(read_number(path, line, row, "number"))
        if number == 0:
            continue  # some copies list "unlabelled"; it is no concept
        if number > MAX_NUMBER:
            msg = f"{path}:{line}: number is {number}, a label map holds at most {MAX_NUMBER}"
            raise DatasetError(msg)
        if number in concepts:
            msg = f"{path}:{line}: number {number} stands here twice; give each concept its own"
            raise DatasetError(msg)
        if number not in coverage:
            msg = (
                f"{path}:{line}: concept {row['name']!r} (number {number}) is in no c_*.csv table; "
                "add it to that of its category"
            )
            raise DatasetError(msg)
        widest = int(np.argmax(coverage[number]))
        frequency = int(read_number(path, line, row, "frequency", float))
        concepts[number] = Concept(number, row["name"], categories[widest], frequency)
    if not concepts:
        msg = f"{path}: no concept is listed"
        raise DatasetError(msg)
    return tuple(concepts.values())


def _read_index(root: Path, categories: tuple[str, ...]) -> dict[int, ImageRow]:
    """Return the rows by their line in ``index.csv``."""
    path = root / "index.csv"
    rows = {}
    for line, row in read_table(path, INDEX_COLUMNS + categories):
        ih, iw, sh, sw = (int(read_number(path, line, row, c)) for c in ("ih", "iw", "sh", "sw"))
        if 0 in (ih, iw, sh, sw):
            msg = f"{path}:{line}: a size of 0 pixels (ih, iw, sh, sw = {ih}, {iw}, {sh}, {sw})"
            raise DatasetError(msg)
        if not row["image"]:
            msg = f"{path}:{line}: image is empty; name a file below images/"
            raise DatasetError(msg)
        cells = [e.strip() for c in categories for e in row[c].split(";") if e.strip()]
        entries = tuple(int(e) if e.isascii() and e.isdigit() else e for e in cells)
        # 0 is unlabelled, here as in the label maps.
        entries = tuple(e for e in entries if e != 0)
        rows[line] = ImageRow(row["image"], row["split"], (ih, iw), (sh, sw), entries)
    return rows


def _check_index(
    root: Path,
    rows: dict[int, ImageRow],
    sizes: dict[str, int],
    concept_index: Int[np.ndarray, " number"],
) -> None:
    path = root / "index.csv"
    for line, row in rows.items():
        for entry in (row.image, *row.entries):
            if isinstance(entry, int):
                if entry >= len(concept_index) or concept_index[entry] == UNKNOWN:
                    msg = f"{path}:{line}: label number {entry} is not in {root / 'label.csv'}"
                    raise DatasetError(msg)
            elif entry not in sizes:
                parts = PurePosixPath(entry)
                if parts.is_absolute() or ".." in parts.parts or "\\" in entry:
                    msg = f"{path}:{line}: {entry!r} leaves the data set; name files below images/"
                else:
                    msg = (
                        f"{path}:{line}: {root / 'images' / entry} is missing; "
                        "fetch or render the data set again, or drop the row"
                    )
                raise DatasetError(msg)


def _check_one_size(root: Path, rows: tuple[ImageRow, ...]) -> None:
    for row in rows:
        if row.size != rows[0].size:
            msg = (
                f"{root / 'index.csv'}: {row.image} is {format_size(row.size)} pixels, "
                f"{rows[0].image} is {format_size(rows[0].size)}; all images of a data set must "
                "have one size: resize them"
            )
            raise DatasetError(msg)


def _fingerprint(root: Path, split: str, sizes: dict[str, int], subset: Subset) -> str:
    """Return a hash of the tables, what is chosen, and the name and size of every image file."""
    digest = hashlib.sha256(split.encode())
    if chosen := subset.model_dump(mode="json", exclude_defaults=True):
        digest.update(json.dumps(chosen, sort_keys=True).encode())
    for path in sorted(root.glob("*.csv")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for name, size in sorted(sizes.items()):
        digest.update(f"{name}\0{size}\n".encode())
    return digest.hexdigest()


def format_size(size: tuple[int, ...]) -> str:
    """Return height and width for people: 112 × 224."""
    return f"{size[0]} × {size[1]}"
