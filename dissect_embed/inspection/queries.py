"""Ask an artefact about one unit or one concept."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Num
from tqdm import tqdm

from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.datasets.broden import Broden, ImageRow
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.parallel import map_in_threads


class UnitOverlap(NamedTuple):
    """How a unit overlaps a concept, beside the concept it overlaps best."""

    layer: str
    unit: int
    iou: float
    intersection: int  # pixels
    best_concept: int
    best_iou: float

    def has(self, concept: int, detector_iou: float) -> bool:
        """Say whether the unit has a concept: as its best, or with a detector's IoU."""
        return self.best_concept == concept or self.iou >= detector_iou


def rank_units(profiles: Profiles, concept: int) -> list[UnitOverlap]:
    """Return all units that overlap a concept at all, best first."""
    found = []
    for layer in profiles.layers:
        of_layer = profiles[layer]
        for unit in np.flatnonzero(of_layer.iou[:, concept] > 0).tolist():
            found.append(
                UnitOverlap(
                    layer, unit,
                    float(of_layer.iou[unit, concept]), int(of_layer.intersection[unit, concept]),
                    int(of_layer.best.concept[unit]), float(of_layer.best.iou[unit]),
                )
            )  # fmt: skip
    return sorted(found, key=lambda u: -u.iou)


def top_images(peak: Num[np.ndarray, " image"], n: int) -> list[int]:
    """Return the indices of the images with the highest peaks (or most pixels), highest first.

    Examples
    --------
    >>> top_images(np.array([1.0, 3.0, 2.0, 3.0]), 3)
    [1, 3, 2]
    """
    return [int(i) for i in np.argsort(-peak, kind="stable")[:n]]


def count_concept_pixels(
    dataset: Broden, concepts: Sequence[int], *, n_threads: int | None = None
) -> Int[np.ndarray, "image concept"]:
    """Count the pixels of some concepts in every image's labels: decodes all of them.

    Raises
    ------
    DatasetError
        If a label PNG is damaged.
    """
    count = functools.partial(_count_pixels, dataset, concepts)
    with tqdm(total=len(dataset.rows), desc="labels", unit=" images", disable=None) as bar:
        counts = []
        for pixels in map_in_threads(count, dataset.rows, n_threads=n_threads):
            counts.append(pixels)
            bar.update()
    return np.array(counts, dtype=np.int64)


def _count_pixels(dataset: Broden, concepts: Sequence[int], row: ImageRow) -> list[int]:
    regions = read_regions(dataset, row)
    pixels = regions.region_pixels
    return [
        int(pixels[regions.member_region[regions.member_concept == concept]].sum())
        for concept in concepts
    ]
