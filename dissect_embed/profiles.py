"""What dissection counts, and the file that keeps it: ``profiles.h5``."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import h5py
import numpy as np
from jaxtyping import Float, Int

from dissect_embed.cache import label_axes, write_scale
from dissect_embed.null import null_bound


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


def compute_iou(
    intersection: Int[np.ndarray, "*draw unit concept"],
    activation: Int[np.ndarray, "*draw unit category"],
    label_pixels: Int[np.ndarray, " concept"],
    concept_category: Int[np.ndarray, " concept"],
) -> Float[np.ndarray, "*draw unit concept"]:
    """Return the intersection over union of every unit's mask with every concept.

    The union counts a unit's mask only over the images in which the concept's category is labelled
    at all ([BAU17] Bau et al., CVPR 2017, section 2.3). Where there is nothing to unite, the IoU is
    0.

    Examples
    --------
    Two pixels in common, a mask of 3 and a label of 5 pixels: 2 / (3 + 5 - 2).

    >>> compute_iou(np.array([[2]]), np.array([[3]]), np.array([5]), np.array([0]))
    array([[0.33333333]])
    """
    union = activation[..., concept_category] + label_pixels - intersection
    return np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)


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
