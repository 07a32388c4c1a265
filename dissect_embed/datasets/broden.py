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
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from dissect_embed.datasets.folders import list_files
from dissect_embed.datasets.index import (
    LEFT_OUT,
    UNKNOWN,
    Concept,
    ImageRow,
    check_entries,
    check_one_size,
    read_categories,
    read_concepts,
    read_index,
)
from dissect_embed.datasets.settings import Subset
from dissect_embed.datasets.subsets import choose_concepts, choose_images
from dissect_embed.errors import DatasetError


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
    categories = read_categories(root)
    concepts = read_concepts(root, categories)
    concept_index = np.full(max(c.number for c in concepts) + 1, UNKNOWN, dtype=np.int64)
    concept_index[[c.number for c in concepts]] = LEFT_OUT
    concepts, categories = choose_concepts(root, concepts, categories, subset)
    concept_index[[c.number for c in concepts]] = np.arange(len(concepts))
    rows = read_index(root, categories)
    sizes = list_files(root / "images")
    check_entries(root, rows, sizes, concept_index)
    chosen = tuple(r for r in rows.values() if split in ("all", r.split))
    if not chosen:
        known = ", ".join(sorted({r.split for r in rows.values()})) or "none"
        msg = (
            f"{root / 'index.csv'}: no image in split {split!r}; the splits are: {known} "
            "(or 'all'); change dataset.split"
        )
        raise DatasetError(msg)
    check_one_size(root, chosen)
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
