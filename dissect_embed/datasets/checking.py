"""Everything that is wrong with a data set in Broden's format, not only the first fault."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.folders import NOTE, list_files
from dissect_embed.datasets.index import (
    UNKNOWN,
    ImageRow,
    check_entries,
    check_one_size,
    read_categories,
    read_concepts,
    read_index,
)
from dissect_embed.datasets.pixels import read_image, read_label_png
from dissect_embed.datasets.settings import Subset
from dissect_embed.errors import DatasetError, first_of
from dissect_embed.parallel import map_in_threads


def check_dataset(root: Path, subset: Subset = Subset(), n_threads: int | None = None) -> list[str]:
    """Return every fault of a data set, each a line that names the file; none if it is whole.

    Tables row by row, then every image and label map: whether it is there, can be read, has the
    size that the index says and only numbers of ``label.csv``. Also what does no harm but is seldom
    meant: concepts that no label map has, files that no row names, an image named twice.

    Parameters
    ----------
    subset
        How images are read; what it chooses is not looked at.
    """
    root = Path(root)
    faults: list[str] = []
    categories = read_categories(root, faults.append)
    concepts = read_concepts(root, categories, faults.append) if categories else ()
    rows = read_index(root, categories, faults.append) if categories else {}
    if not concepts or not rows:
        return faults
    numbers = [concept.number for concept in concepts]
    concept_index = np.full(max(numbers) + 1, UNKNOWN, dtype=np.int64)
    concept_index[numbers] = np.arange(len(concepts))
    sizes = list_files(root / "images")
    check_entries(root, rows, sizes, concept_index, faults.append)
    check_one_size(root, rows.values(), faults.append)
    dataset = Broden(
        root, "all", tuple(rows.values()), concepts, categories, concept_index, "",
        subset.model_copy(update={"limit": None}),
    )  # fmt: skip
    seen: set[int] = set()

    def look(row: ImageRow) -> tuple[list[str], set[int]]:
        found: list[str] = []
        present = {entry for entry in row.entries if isinstance(entry, int)}
        if row.image in sizes:
            try:
                read_image(dataset, row)
            except DatasetError as error:
                found.append(str(error))
        for entry in dict.fromkeys(row.entries):
            if isinstance(entry, str) and entry in sizes:
                try:
                    present.update(np.unique(read_label_png(dataset, row, entry)).tolist())
                except DatasetError as error:
                    found.append(str(error))
        return found, present

    looked = map_in_threads(look, rows.values(), n_threads=n_threads)
    for found, present in tqdm(looked, "check", len(rows), unit=" images", disable=None):
        faults += found
        seen |= present
    faults += _seldom_meant(root, dataset, sizes.keys(), seen)
    return list(dict.fromkeys(faults))


def _seldom_meant(root: Path, dataset: Broden, files: Iterable[str], seen: set[int]) -> list[str]:
    faults = []
    doubled = [name for name, n in Counter(row.image for row in dataset.rows).items() if n > 1]
    faults += [f"{root / 'index.csv'}: {name} stands in several rows; keep one" for name in doubled]
    absent = [concept.name for concept in dataset.concepts if concept.number not in seen]
    if absent:
        faults.append(
            f"{root / 'label.csv'}: {len(absent)} of its {len(dataset.concepts)} concepts are in "
            f"no label map ({first_of(absent)}); drop them, or add their images"
        )
    named = {entry for row in dataset.rows for entry in (row.image, *row.entries)}
    unnamed = sorted(set(files) - named - {NOTE})
    if unnamed:
        faults.append(
            f"{root / 'images'}: {len(unnamed)} files are in no row of index.csv "
            f"({first_of(unnamed)}); add rows for them, or take them out"
        )
    return faults
