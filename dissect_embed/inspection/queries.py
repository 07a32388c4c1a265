"""Ask an artefact about one unit or one concept."""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int, Num
from tqdm import tqdm

from dissect_embed.artefacts.files import layer_names
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.datasets.broden import Broden, ImageRow
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.iou import find_best
from dissect_embed.parallel import map_in_threads


class UnitOverlap(NamedTuple):
    """How a unit overlaps a concept, beside the concept it overlaps best."""

    layer: str
    unit: int
    iou: float
    intersection: int  # pixels
    best_concept: int
    best_iou: float


class ConceptOverlap(NamedTuple):
    """How a concept overlaps a unit."""

    concept: int
    iou: float
    intersection: int  # pixels


class UnitProfile(NamedTuple):
    """What ``profiles.h5`` says of a unit."""

    threshold: float
    overlaps: list[ConceptOverlap]  # all concepts it overlaps at all, best first
    # Category, pixels of the unit's mask where it is labelled, and its best concept if any.
    categories: list[tuple[str, int, ConceptOverlap | None]]


def parse_unit(text: str, n_units: Mapping[str, int], where: str) -> tuple[str, int]:
    """Read ``LAYER:UNIT`` and check that there is such a unit.

    Parameters
    ----------
    n_units
        The number of units of each layer.
    where
        The file, named in errors.

    Raises
    ------
    ArtefactError
        If it is malformed, or there is no such layer or unit.

    Examples
    --------
    >>> parse_unit("layer4:137", {"layer4": 512}, "profiles.h5")
    ('layer4', 137)
    """
    layer, _, number = text.rpartition(":")
    if not layer or not re.fullmatch("[0-9]+", number):
        example = f"{next(iter(n_units))}:0"
        msg = f"--unit {text}: expected LAYER:UNIT, for example {example}"
        raise ArtefactError(msg)
    if layer not in n_units:
        msg = f"{where}: no layer {layer!r}; it has {', '.join(n_units)}"
        raise ArtefactError(msg)
    if int(number) >= n_units[layer]:
        msg = f"{where}: {layer} has the units 0 to {n_units[layer] - 1}, not {number}"
        raise ArtefactError(msg)
    return layer, int(number)


def match_concepts(names: Sequence[str], wanted: str, where: str) -> list[int]:
    """Return the places of the concepts that a name means.

    The exact name comes first, then the name in any case, then without the ``-c`` and ``-s`` that
    Broden's colours and scenes end in. Several concepts can have one name.

    Raises
    ------
    ArtefactError
        If there is none; names that are near are listed.

    Examples
    --------
    >>> match_concepts(["red-c", "Dog", "dog"], "dog", "profiles.h5")
    [2]
    >>> match_concepts(["red-c", "Dog", "dog"], "RED", "profiles.h5")
    [0]
    """

    def bare(name: str) -> str:
        return re.sub("-[cs]$", "", name.lower())

    for key in (str, str.lower, bare):
        found = [i for i, name in enumerate(names) if key(name) == key(wanted)]
        if found:
            return found
    # Near as it is typed, and names that have it as a part ("table" in "pool table").
    spelled = {name.lower(): name for name in reversed(names)}
    near = [spelled[n] for n in difflib.get_close_matches(wanted.lower(), spelled, n=5)]
    near += [name for name in names if wanted.lower() in name.lower() and wanted]
    near = list(dict.fromkeys(near))[:8]
    hint = f"did you mean {', '.join(near)}?" if near else "no name is near"
    msg = f"{where}: none of its {len(names):,} concepts is {wanted!r}; {hint}"
    raise ArtefactError(msg)


def rank_units(
    layers: Mapping[str, tuple[Float[np.ndarray, "unit concept"], Int[np.ndarray, "unit concept"]]],
    concept: int,
) -> list[UnitOverlap]:
    """Return all units that overlap a concept at all, best first.

    Parameters
    ----------
    layers
        IoU and intersection of each layer.
    """
    found = []
    for layer, (iou, intersection) in layers.items():
        best, best_iou = find_best(iou)
        for unit in map(int, np.flatnonzero(iou[:, concept] > 0)):
            found.append(
                UnitOverlap(
                    layer, unit, float(iou[unit, concept]), int(intersection[unit, concept]),
                    int(best[unit]), float(best_iou[unit]),
                )
            )  # fmt: skip
    return sorted(found, key=lambda u: -u.iou)


def choose_units(
    ranked: Iterable[UnitOverlap], concept: int, detector_iou: float
) -> list[UnitOverlap]:
    """Return the units that have a concept: as their best, or with a detector's IoU."""
    return [u for u in ranked if u.best_concept == concept or u.iou >= detector_iou]


def profile_unit(
    threshold: float,
    iou: Float[np.ndarray, " concept"],
    intersection: Int[np.ndarray, " concept"],
    activation: Int[np.ndarray, " category"],
    concept_categories: Sequence[str],
    categories: Sequence[str],
) -> UnitProfile:
    """Put together what the arrays of a layer say of one unit."""
    overlaps = [
        ConceptOverlap(int(c), float(iou[c]), int(intersection[c]))
        for c in np.argsort(-iou, kind="stable")
        if iou[c] > 0
    ]
    by_category = [
        (
            category,
            int(pixels),
            next((o for o in overlaps if concept_categories[o.concept] == category), None),
        )
        for category, pixels in zip(categories, activation, strict=True)
    ]
    return UnitProfile(threshold, overlaps, by_category)


def top_images(peak: Num[np.ndarray, " image"], n: int) -> list[int]:
    """Return the places of the images with the highest peaks (or most pixels), highest first.

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


def read_overlaps(profiles: Profiles, concept: int) -> list[UnitOverlap]:
    """Return the units of ``profiles.h5`` that overlap a concept, best first."""
    layers = {
        layer: (profiles[layer].iou, profiles[layer].intersection) for layer in profiles.layers
    }
    return rank_units(layers, concept)


def read_unit_profile(profiles: Profiles, layer: str, unit: int) -> UnitProfile:
    """Return what ``profiles.h5`` says of a unit."""
    of_layer = profiles[layer]
    return profile_unit(
        float(of_layer.threshold[unit]),
        of_layer.iou[unit],
        of_layer.intersection[unit],
        of_layer.activation[unit],
        profiles.concept_categories,
        profiles.categories,
    )


def read_n_units(file: h5py.File) -> dict[str, int]:
    """Return the number of units of each layer, in the order of the layers."""
    return {layer: len(file[f"layers/{layer}/unit"]) for layer in layer_names(file)}
