"""Intersection over union of units and concepts, and the concept that each unit overlaps best."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Num


class Best(NamedTuple):
    """The concept that each unit overlaps best; of equals the first in ``label.csv``."""

    concept: Int[np.ndarray, " unit"]  # its index; -1 for a unit that overlaps none
    iou: Float[np.ndarray, " unit"]

    def detectors(self, least_iou: float) -> Bool[np.ndarray, " unit"]:
        """Return which units are detectors: their best IoU reaches a bound ([BAU17] section 2.2).

        A unit without any overlap detects nothing, also where the bound is 0.
        """
        return (self.concept >= 0) & (self.iou >= least_iou)


def find_best(iou: Float[np.ndarray, "unit concept"]) -> Best:
    """Return each unit's best concept and its IoU.

    Examples
    --------
    >>> find_best(np.array([[0.1, 0.3], [0.0, 0.0]]))
    Best(concept=array([ 1, -1]), iou=array([0.3, 0. ]))
    """
    highest = iou.max(axis=1)
    return Best(np.where(highest > 0, iou.argmax(axis=1), -1), highest)


def divide(
    intersection: Num[np.ndarray, "*any"], union: Num[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    """Return intersection over union; 0 where there is nothing to unite."""
    return np.asarray(np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0))


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
    return divide(intersection, union)


class LayerCounts(NamedTuple):
    """Pixels of a layer's masks; they add up over images."""

    intersection: Int[np.ndarray, "unit concept"]  # where unit and concept both hold
    activation: Int[np.ndarray, "unit category"]  # where the category is labelled at all
