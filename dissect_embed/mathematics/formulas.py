"""Formulas of concepts: AND, OR, AND NOT, of up to three; what they say, and what they gain.

A formula is decided only where all categories of its concepts are labelled, and only in those
images are mask and formula counted: for a single concept that is the IoU of [BAU17] (Bau et al.,
CVPR 2017). ([MU20], Mu and Andreas, NeurIPS 2020, take what is not labelled for absent.) A formula
of two categories is therefore looked at on fewer images, where single concepts may have a higher
IoU as well. So what counts is its *gain*: its IoU less the best that a single concept has, on these
images or on all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from dissect_embed.mathematics.formula_counts import AND, OR, TotalCounts
from dissect_embed.mathematics.iou import divide

OPERATORS = ("AND", "OR", "AND NOT")


class Formulas(NamedTuple):
    """The formula of highest gain of each unit, a single concept where none gains.

    ``(concept 0, operator 0, concept 1), operator 1, concept 2``; -1 where it is shorter.
    """

    concepts: Int[np.ndarray, "unit 3"]
    operators: Int[np.ndarray, "unit 2"]
    iou: Float[np.ndarray, " unit"]
    gain: Float[np.ndarray, " unit"]
    single: Int[np.ndarray, " unit"]  # the concept of highest IoU

    def text(self, unit: int, names: Sequence[str]) -> str:
        """Return a formula in words; empty for a unit that overlaps no concept."""
        found, operators = self.concepts[unit].tolist(), self.operators[unit].tolist()
        if found[0] < 0:
            return ""
        words = str(names[found[0]])
        for n, (operator, concept) in enumerate(zip(operators, found[1:], strict=True)):
            if concept >= 0:
                words = f"({words})" if n else words
                words = f"{words} {OPERATORS[operator]} {names[concept]}"
        return words

    @property
    def length(self) -> Int[np.ndarray, " unit"]:
        """How many concepts each has."""
        return np.asarray((self.concepts >= 0).sum(axis=1))


def gain_elsewhere(
    total: TotalCounts, masks: csr_array, found: Formulas
) -> Float[np.ndarray, " unit"]:
    """Return what formulas gain on other images than those on which they were found.

    Over the single concept that was best there, where the formula is decided or on all images,
    whichever is higher.
    """
    gain = np.zeros(len(found.single))
    kinds, category = total.sets.labelled, total.category
    for unit in np.flatnonzero(found.concepts[:, 0] >= 0).tolist():
        row = slice(masks.indptr[unit], masks.indptr[unit + 1])
        mask = np.zeros(masks.shape[1], dtype=np.int64)
        mask[masks.indices[row]] = masks.data[row]
        concepts = found.concepts[unit, : found.length[unit]]
        single = found.single[[unit]]
        both = np.concatenate([single, concepts])
        decided, shown, everywhere = (
            np.asarray(kinds[:, category[some]].all(axis=1)) for some in (concepts, single, both)
        )
        value = _hold_in(total, single, found.operators[unit, :0])
        base = (_iou_in(total, mask, value, there) for there in (shown, everywhere))
        formula = _hold_in(total, concepts, found.operators[unit])
        gain[unit] = _iou_in(total, mask, formula, decided) - max(base)
    return gain


def measure_gains(total: TotalCounts, masks: csr_array, found: Formulas) -> Formulas:
    """Return formulas with their gain over all single concepts, where the search knew some.

    One that gains nothing gives way to the best single concept.
    """
    category, sets = total.category, total.sets
    labelled = sets.labelled[:, category].astype(np.int64)
    # What each formula's images have labelled: all its concepts' categories.
    shown = np.ones((len(found.single), len(sets.labelled)), dtype=bool)
    everywhere = shown[:1].copy()
    for column in found.concepts.T:
        shown &= sets.labelled[:, category[column]].T | (column[:, None] < 0)
    best = np.stack([_best_there(total, masks, labelled, of) for of in (everywhere, shown)])
    gain = found.iou - best.max(axis=0)
    single = gain <= 0
    concepts, operators = found.concepts.copy(), found.operators.copy()
    concepts[single, 0] = np.where(best[0][single] > 0, found.single[single], -1)
    concepts[single, 1:] = operators[single] = -1
    iou = np.where(single, best[0], found.iou)
    return Formulas(concepts, operators, iou, np.maximum(gain, 0.0), found.single)


def _best_there(
    total: TotalCounts,
    masks: csr_array,
    labelled: Int[np.ndarray, "kind concept"],
    shown: Bool[np.ndarray, "rows kind"],
) -> Float[np.ndarray, " unit"]:
    """Return the best IoU of a single concept in some kinds of images, the same or each unit's."""
    kinds, which = np.unique(shown, axis=0, return_inverse=True)
    which = np.broadcast_to(which.ravel(), masks.shape[0])
    best = np.zeros(masks.shape[0])
    for n, inside in enumerate(kinds):
        some = np.flatnonzero(which == n)
        there = inside[total.sets.kind].astype(np.int64)
        of_some = csr_array(masks[some].multiply(there[None]))
        both = (of_some @ total.sets.concepts).toarray()
        mask = (of_some @ total.kinds).toarray() @ labelled
        union = mask + (total.pixels * there) @ total.sets.concepts - both
        best[some] = divide(both, union).max(axis=1)
    return best


def _hold_in(
    total: TotalCounts, concepts: Int[np.ndarray, " length"], operators: Int[np.ndarray, " most"]
) -> Bool[np.ndarray, " set"]:
    """Return in which label sets a formula holds."""
    value, *others = (np.zeros(len(total.sets.kind), dtype=bool) for _ in concepts)
    for concept, holds in zip(concepts.tolist(), (value, *others), strict=True):
        holds[total.sets_of(concept)] = True
    for operator, other in zip(operators.tolist(), others, strict=False):
        value = {AND: value & other, OR: value | other}.get(operator, value & ~other)
    return value


def _iou_in(
    total: TotalCounts,
    mask: Int[np.ndarray, " set"],
    value: Bool[np.ndarray, " set"],
    kinds: Bool[np.ndarray, " kind"],
) -> float:
    inside = kinds[total.sets.kind]
    both = mask[value & inside].sum()
    union = mask[inside].sum() + total.pixels[value & inside].sum() - both
    return float(both / union) if union else 0.0
