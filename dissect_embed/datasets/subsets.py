"""Choose of a data set: images by number, concepts by category, frequency and name."""

import difflib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from dissect_embed.datasets.settings import Subset
from dissect_embed.errors import DatasetError

if TYPE_CHECKING:
    from dissect_embed.datasets.index import Concept, ImageRow


def choose_concepts(
    root: Path, concepts: Sequence["Concept"], categories: tuple[str, ...], subset: Subset
) -> tuple[tuple["Concept", ...], tuple[str, ...]]:
    """Return the concepts and the categories that are used, in their order.

    Raises
    ------
    DatasetError
        If a category or a concept is not there, or nothing is left.
    """
    _check_names("dataset.categories", subset.categories, categories, root / "category.csv")
    names = {concept.name for concept in concepts}
    _check_names("dataset.exclude", subset.exclude, sorted(names), root / "label.csv")
    used = tuple(name for name in categories if name in (subset.categories or categories))
    kept = tuple(
        concept
        for concept in concepts
        if concept.category in used
        and concept.frequency >= subset.min_frequency
        and concept.name not in subset.exclude
    )
    if not kept:
        msg = (
            f"{root / 'label.csv'}: of its {len(concepts)} concepts none is left by "
            f"dataset.categories, min_frequency {subset.min_frequency} and exclude; choose less"
        )
        raise DatasetError(msg)
    return kept, used


def _check_names(setting: str, wanted: Sequence[str], known: Sequence[str], where: Path) -> None:
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
            shown = ", ".join(near or list(known)[:8])
            hint = f"did you mean {shown}?" if near else f"there are {shown}"
            msg = f"{setting}: {where} has no {name!r}; {hint}"
            raise DatasetError(msg)


def choose_images(rows: Sequence["ImageRow"], subset: Subset) -> tuple["ImageRow", ...]:
    """Return as many images as the limit allows, in their order, drawn by the seed.

    Of each source (the folder of an image) as large a share as of all, by largest remainders.
    """
    if subset.limit is None or subset.limit >= len(rows):
        return tuple(rows)
    sources: dict[str, list[int]] = {}
    for n, row in enumerate(rows):
        sources.setdefault(str(PurePosixPath(row.image).parent), []).append(n)
    shares = {name: len(members) * subset.limit / len(rows) for name, members in sources.items()}
    counts = {name: int(share) for name, share in shares.items()}
    for name in sorted(shares, key=lambda name: counts[name] - shares[name]):
        if sum(counts.values()) < subset.limit:
            counts[name] += 1
    generator = np.random.default_rng(subset.seed)
    chosen = [
        n
        for name, members in sources.items()
        for n in generator.choice(members, counts[name], replace=False).tolist()
    ]
    return tuple(rows[n] for n in sorted(chosen))
