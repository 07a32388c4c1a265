"""``profiles.h5``, what dissection counts: how it is written and how it is read.

``/labels`` has the concepts: ``name``, ``number``, ``category``, ``pixels (D,)``; ``/categories``
their categories ``(G,)``. ``/layers/<layer>`` has of each unit its ``threshold (C,)``, the pixels
that its mask shares with each concept, ``intersection (C, D)``, those over the images in which a
category is labelled, ``activation (C, G)``, and its ``iou (C, D)``, which follows from these.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import mark_derived, read_array, read_strings
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.layered import LayeredFile
from dissect_embed.mathematics.iou import Best, LayerCounts, compute_iou, find_best


class LayerProfiles:
    """The profiles of a layer's units; each array is read when it is first asked for."""

    def __init__(self, group: h5py.Group) -> None:
        self._group = group

    def __len__(self) -> int:
        """Return the number of units."""
        return len(self._group["threshold"])

    @cached_property
    def threshold(self) -> Float[np.ndarray, " unit"]:
        """The activation above which a unit is active."""
        return read_array(self._group["threshold"])

    @cached_property
    def intersection(self) -> Int[np.ndarray, "unit concept"]:
        """Pixels where a unit's mask and a concept both hold."""
        return read_array(self._group["intersection"])

    @cached_property
    def activation(self) -> Int[np.ndarray, "unit category"]:
        """Pixels of a unit's mask over the images in which a category is labelled."""
        return read_array(self._group["activation"])

    @cached_property
    def iou(self) -> Float[np.ndarray, "unit concept"]:
        """The profiles T: IoU of each unit with each concept."""
        return read_array(self._group["iou"])

    def concepts_of(self, unit: int) -> list[int]:
        """Return all concepts that a unit overlaps at all, best first."""
        iou = self.iou[unit]
        return [c for c in np.argsort(-iou, kind="stable").tolist() if iou[c] > 0]

    @cached_property
    def best(self) -> Best:
        """Each unit's best concept."""
        return find_best(self.iou)


class Profiles(LayeredFile):
    """An open ``profiles.h5``."""

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``profiles``."""
        super().__init__(file)
        self._read: dict[str, LayerProfiles] = {}

    def __getitem__(self, layer: str) -> LayerProfiles:
        """Return a layer's profiles."""
        if layer not in self._read:
            self._read[layer] = LayerProfiles(self.file[f"layers/{layer}"])
        return self._read[layer]

    @cached_property
    def concepts(self) -> list[str]:
        """The names of the concepts."""
        return read_strings(self.file["labels/name"])

    @cached_property
    def concept_categories(self) -> list[str]:
        """The category of each concept."""
        return read_strings(self.file["labels/category"])

    @cached_property
    def categories(self) -> list[str]:
        """The names of the categories."""
        return read_strings(self.file["categories"])

    @cached_property
    def pixels(self) -> Int[np.ndarray, " concept"]:
        """The pixels of each concept."""
        return read_array(self.file["labels/pixels"])

    def best_concepts(self, layer: str) -> list[tuple[str, str]]:
        """Return each unit's best concept and its IoU in four digits; "" where it has none."""
        scores = (f"{iou:.4f}" for iou in self[layer].best.iou)
        return list(zip(self.best_names(layer), scores, strict=True))

    def units_of(self, concept: int) -> list[tuple[str, int, float]]:
        """Return layer, unit and IoU of all units that overlap a concept at all, best first."""
        found = [
            (layer, unit, iou)
            for layer in self.layers
            for unit, iou in enumerate(self[layer].iou[:, concept].tolist())
            if iou > 0
        ]
        return sorted(found, key=lambda row: -row[2])

    @cached_property
    def concept_category(self) -> Int[np.ndarray, " concept"]:
        """The index of each concept's category among ``categories``."""
        index = {name: g for g, name in enumerate(self.categories)}
        return np.array([index[name] for name in self.concept_categories], dtype=np.int64)

    @property
    def concept_table(self) -> "ConceptTable":
        """The concepts and how many pixels each has."""
        return ConceptTable(
            self.concepts, read_array(self.file["labels/number"]), self.categories,
            self.concept_category, self.pixels,
        )  # fmt: skip

    def best_names(self, layer: str) -> list[str]:
        """Return the name of each unit's best concept; empty where it overlaps none."""
        return [self.concepts[c] if c >= 0 else "" for c in self[layer].best.concept.tolist()]


@contextmanager
def open_profiles(path: Path) -> Iterator[Profiles]:
    """Open a ``profiles.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or of another version.
    """
    with open_artefact(path, "profiles") as file:
        yield Profiles(file)


class ConceptTable(NamedTuple):
    """The concepts of a data set and how many pixels each has."""

    names: Sequence[str]
    numbers: Int[np.ndarray, " concept"]
    categories: Sequence[str]
    category: Int[np.ndarray, " concept"]  # the index of each concept's among the categories
    pixels: Int[np.ndarray, " concept"]


def write_profile_file(
    file: h5py.File,
    concepts: ConceptTable,
    thresholds: Mapping[str, Float[np.ndarray, " unit"]],
    counts: Mapping[str, LayerCounts],
) -> None:
    """Fill an empty ``profiles.h5``."""
    scales = _write_concepts(file, concepts)
    for layer, (intersection, activation) in counts.items():
        iou = compute_iou(intersection, activation, concepts.pixels, concepts.category)
        group = file.create_group(f"layers/{layer}")
        scales["unit"] = write_scale(group, "unit", np.arange(len(iou)))
        for name, values, axes in (
            ("threshold", thresholds[layer], ("unit",)),
            ("intersection", intersection, ("unit", "concept")),
            ("activation", activation, ("unit", "category")),
            ("iou", iou, ("unit", "concept")),
        ):
            label_axes(group.create_dataset(name, data=values), axes, scales)
        mark_derived(group["iou"])


def sum_counts(parts: Sequence[LayerCounts]) -> LayerCounts:
    """Return the counts over the images of all parts."""
    return LayerCounts(*(np.sum(arrays, axis=0) for arrays in zip(*parts, strict=True)))


def _write_concepts(file: h5py.File, concepts: ConceptTable) -> dict[str, h5py.Dataset]:
    category = write_scale(file, "categories", concepts.categories)
    labels = file.create_group("labels")
    scales = {"concept": write_scale(labels, "name", concepts.names), "category": category}
    labels["number"], labels["pixels"] = concepts.numbers, concepts.pixels
    names = [concepts.categories[g] for g in concepts.category]
    labels.create_dataset("category", data=names, dtype=h5py.string_dtype())
    for column in ("number", "category", "pixels"):
        label_axes(labels[column], ("concept",), scales)
    return scales
