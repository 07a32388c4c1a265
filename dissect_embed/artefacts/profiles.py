"""``profiles.h5``, what dissection counts: how it is written and how it is read.

``/labels`` has the concepts: ``name``, ``number``, ``category``, ``pixels (D,)``; ``/categories``
their categories ``(G,)``. ``/layers/<layer>`` has of each unit its ``threshold (C,)``, the pixels
that its mask shares with each concept, ``intersection (C, D)``, those over the images in which a
category is labelled, ``activation (C, G)``, its ``iou (C, D)``, and what chance gives: ``null/best
(draw, C)`` and ``null/bound (D,)``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int

from dissect_embed.artefacts.files import (
    label_axes,
    layer_names,
    open_artefact,
    read_config,
    read_strings,
    write_scale,
)
from dissect_embed.mathematics.iou import Best, compute_iou, find_best
from dissect_embed.mathematics.null import null_bound


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
        return np.asarray(self._group["threshold"][:])

    @cached_property
    def intersection(self) -> Int[np.ndarray, "unit concept"]:
        """Pixels where a unit's mask and a concept both hold."""
        return np.asarray(self._group["intersection"][:])

    @cached_property
    def activation(self) -> Int[np.ndarray, "unit category"]:
        """Pixels of a unit's mask over the images in which a category is labelled."""
        return np.asarray(self._group["activation"][:])

    @cached_property
    def iou(self) -> Float[np.ndarray, "unit concept"]:
        """The profiles T: IoU of each unit with each concept."""
        return np.asarray(self._group["iou"][:])

    @cached_property
    def null(self) -> Float[np.ndarray, " pool"]:
        """Best IoU by chance, of all draws and units (``null``)."""
        return np.asarray(self._group["null/best"][:]).ravel()

    @cached_property
    def best(self) -> Best:
        """Each unit's best concept."""
        return find_best(self.iou)


class Profiles:
    """An open ``profiles.h5``.

    Attributes
    ----------
    path, fingerprint, config
        Of the file.
    layers
        Their names, in the order in which they were asked for.
    least_iou
        The best IoU from which on a unit counts as a detector.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``profiles``."""
        self.file = file
        self.path = Path(file.filename)
        self.fingerprint = str(file.attrs["fingerprint"])
        self.config: dict[str, Any] = read_config(file)
        self.layers = layer_names(file)
        self.least_iou = float(self.config["dissection"]["detector_iou"])
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
        return np.asarray(self.file["labels/pixels"][:])

    def detectors(self, layer: str) -> Bool[np.ndarray, " unit"]:
        """Return which units of a layer are detectors."""
        return self[layer].best.detectors(self.least_iou)

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


class LayerCounts(NamedTuple):
    """Pixels of a layer's masks; index 0 of the draws is the true pairing, the rest is chance.

    All add up over images.
    """

    intersection: Int[np.ndarray, "draw unit concept"]  # where unit and concept both hold
    activation: Int[np.ndarray, "draw unit category"]  # where the category is labelled at all


class ConceptTable(NamedTuple):
    """The concepts of a data set and how many pixels each has."""

    names: Sequence[str]
    numbers: Int[np.ndarray, " concept"]
    categories: Sequence[str]
    category: Int[np.ndarray, " concept"]  # the place of each concept's among the categories
    pixels: Int[np.ndarray, " concept"]


def write_profile_file(
    file: h5py.File,
    concepts: ConceptTable,
    thresholds: Mapping[str, Float[np.ndarray, " unit"]],
    counts: Mapping[str, LayerCounts],
    *,
    shard: bool,
) -> None:
    """Fill an empty ``profiles.h5``; that of a shard keeps the counts of chance, to be added up."""
    scales = _write_concepts(file, concepts)
    for layer, (intersection, activation) in counts.items():
        iou = compute_iou(intersection, activation, concepts.pixels, concepts.category)
        group = file.create_group(f"layers/{layer}")
        scales["unit"] = write_scale(group, "unit", np.arange(iou.shape[1]))
        by_chance = iou[1:]
        arrays = {
            "threshold": (thresholds[layer], ("unit",)),
            "intersection": (intersection[0], ("unit", "concept")),
            "activation": (activation[0], ("unit", "category")),
            "iou": (iou[0], ("unit", "concept")),
            "null/best": (by_chance.max(axis=2), ("draw", "unit")),
            "null/bound": (null_bound(by_chance.reshape(-1, iou.shape[2])), ("concept",)),
        }
        if shard:
            arrays["null/intersection"] = intersection[1:], ("draw", "unit", "concept")
            arrays["null/activation"] = activation[1:], ("draw", "unit", "category")
        for name, (values, axes) in arrays.items():
            label_axes(group.create_dataset(name, data=values), axes, scales)


def read_counts(group: h5py.Group) -> LayerCounts:
    """Return the counts that the file of a shard keeps of a layer."""
    return LayerCounts(
        *(
            np.concatenate([group[name][:][None], group[f"null/{name}"][:]])
            for name in ("intersection", "activation")
        )
    )


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
