"""The formula of concepts that each unit overlaps best: AND, OR, AND NOT, of up to three concepts.

A beam search as in [MU20] (Mu and Andreas, Compositional Explanations of Neurons, NeurIPS 2020):
the best single concepts of a unit are each joined with every concept by every operator, the best of
these again. Masks were counted a label set before (``labelsets``), so a step is a product of sparse
matrices of whole numbers (``formula_counts``).

A formula is decided only where all categories of its concepts are labelled, and only in those
images are mask and formula counted: for a single concept that is the IoU of [BAU17]. ([MU20] take
what is not labelled for absent.) A formula of two categories is therefore looked at on fewer
images, where single concepts may have a higher IoU as well. So what counts is its *gain*: its IoU
less the best that a single concept has, on these images or on all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dissect_embed.mathematics.formula_counts import Counts, MaskCounts, TotalCounts
from dissect_embed.mathematics.masksets import Pixels

OPERATORS = ("AND", "OR", "AND NOT")
# Formulas of each length that are kept and extended. With twice as many ([MU20]) formulas gain 3 %
# more, and 10 % more with labels of other images (benchmarks/README.md).
BEAM = 5
# Candidates of the units that are gone through together: tables of 130 MB, some of them at a time.
CANDIDATES = 16_000_000
# And of those that are compared at once: so many stay in a processor's cache.
CACHED = 100_000


class Formulas(NamedTuple):
    """The formula of highest gain of each unit, a single concept where none gains.

    ``(concept 0, operator 0, concept 1), operator 1, concept 2``; -1 where it is shorter.
    """

    concepts: Int[np.ndarray, "unit 3"]
    operators: Int[np.ndarray, "unit 2"]
    iou: Float[np.ndarray, " unit"]
    gain: Float[np.ndarray, " unit"]

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


class _Beam(NamedTuple):
    """The best formulas of one length of some units."""

    concepts: Int[np.ndarray, "unit beam 3"]
    operators: Int[np.ndarray, "unit beam 2"]
    domain: Int[np.ndarray, "unit beam"]  # where they are decided
    iou: Float[np.ndarray, "unit beam"]
    gain: Float[np.ndarray, "unit beam"]


class _Candidates(NamedTuple):
    """Formulas, each extended by each concept by each operator."""

    both: Int[np.ndarray, "unit beam concept operator"]  # pixels within masks
    union: Int[np.ndarray, "unit beam concept operator"]
    iou: Float[np.ndarray, "unit beam concept operator"]
    gain: Float[np.ndarray, "unit beam concept operator"]


def search_formulas(pixels: Pixels, beam: int = BEAM) -> Formulas:
    """Return the formula of up to three concepts that gains most, for each unit.

    Parameters
    ----------
    pixels
        Counted a label set (``masksets``).
    beam
        How many formulas of each length are kept and extended.
    """
    total = TotalCounts(pixels)
    n_units = pixels.masks.shape[0]
    step = max(1, CANDIDATES // (beam * pixels.more.shape[1]))
    parts = []
    for start in range(0, n_units, step):
        masks = MaskCounts(pixels, total, pixels.masks[start : start + step])
        singles = _find_singles(pixels, total, masks, beam)
        pairs = _extend(pixels, total, masks, singles, singles, beam)
        triples = _extend(pixels, total, masks, pairs, singles, beam)
        parts.append(_highest([singles, pairs, triples]))
    return Formulas(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _highest(beams: Sequence[_Beam]) -> Formulas:
    """Return the formula of highest gain of each unit; of equals the shorter."""
    joined = _Beam(*(np.concatenate(arrays, axis=1) for arrays in zip(*beams, strict=True)))
    top = joined.gain.argmax(axis=1)
    at = np.arange(len(top)), top
    iou = joined.iou[at]
    # A unit that overlaps no concept has none.
    concepts = np.where(iou[:, None] > 0, joined.concepts[at], -1)
    return Formulas(concepts, joined.operators[at], iou, joined.gain[at])


def _find_singles(pixels: Pixels, total: TotalCounts, masks: MaskCounts, beam: int) -> _Beam:
    """Return each unit's best single concepts."""
    labelled = pixels.labelled[:, pixels.first_category].astype(np.int64)
    both = masks.first
    iou = _divide(both, masks.kind @ labelled + total.first_kind.sum(axis=1) - both)
    concept = np.argsort(-iou, axis=1, kind="stable")[:, :beam]
    iou = np.take_along_axis(iou, concept, axis=1)
    none = np.full((*concept.shape, 2), -1)
    concepts = np.concatenate([concept[..., None], none], axis=2)
    domain = total.domains.of_category[pixels.first_category[concept]]
    return _Beam(concepts, none, domain, iou, iou - iou[:, :1])


def _extend(
    pixels: Pixels,
    total: TotalCounts,
    masks: MaskCounts,
    best: _Beam,
    singles: _Beam,
    beam: int,
) -> _Beam:
    """Return the best formulas that are one concept longer."""
    formulas = best.concepts, best.operators[..., 0], best.domain
    mine, whole = masks.of_formulas(*formulas), total.of_formulas(*formulas)
    into = total.domains.narrow()[best.domain]  # (unit, beam, category)
    base = _best_single(pixels, total, masks, singles)
    base = base[np.arange(len(into))[:, None, None], into]
    parts = []
    step = max(1, CACHED // mine[0][0].size)
    for start in range(0, len(into), step):
        some = slice(start, start + step)
        part = _Beam(*(array[some] for array in best))
        found = _compare(
            pixels, total, masks, some, part.domain, into[some], base[some],
            (mine[0][some], mine[1][some]), (whole[0][some], whole[1][some]),
        )  # fmt: skip
        parts.append(_choose(part, found, into[some][..., pixels.more_category], beam))
    return _Beam(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _compare(
    pixels: Pixels,
    total: TotalCounts,
    masks: MaskCounts,
    some: slice,
    domain: Int[np.ndarray, "unit beam"],
    into: Int[np.ndarray, "unit beam category"],
    base: Float[np.ndarray, "unit beam category"],
    mine: Counts,
    whole: Counts,
) -> _Candidates:
    """Return what formulas come to when they are extended by each concept.

    ``f OR c`` has the pixels of both, each where the other is decided, less those in common;
    ``f AND NOT c`` those of f where c is decided, less those in common.

    Parameters
    ----------
    some
        Which units.
    domain, into
        Where formulas are decided, and where they are when a category is added.
    base
        The best IoU of a single concept there.
    mine, whole
        The pixels of formulas in common with each concept, and in each kind of image: within masks,
        and over all images.
    """
    kinds = np.array(total.domains.kinds).astype(np.int64)
    inside = kinds[into]  # (unit, beam, category, kind)
    mask, mine_there, whole_there, base = (
        values[..., pixels.more_category]
        for values in (
            np.einsum("uk,ubgk->ubg", masks.kind[some], inside),
            np.einsum("ubk,ubgk->ubg", mine[1], inside),
            np.einsum("ubk,ubgk->ubg", whole[1], inside),
            base,
        )
    )
    mine_of, whole_of = np.empty_like(mine[0]), np.empty_like(whole[0])
    for number in np.unique(domain).tolist():
        chosen = domain == number
        mine_of[chosen] = masks.within(number)[some][np.nonzero(chosen)[0]]
        whole_of[chosen] = total.within(number)
    shape = (*mine[0].shape, len(OPERATORS))
    both, union = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    for n, (of_mask, of_all) in enumerate(
        (
            (mine[0], whole[0]),
            (mine_there + mine_of - mine[0], whole_there + whole_of - whole[0]),
            (mine_there - mine[0], whole_there - whole[0]),
        )
    ):
        both[..., n] = of_mask
        union[..., n] = mask + of_all - of_mask
    iou = _divide(both, union)
    return _Candidates(both, union, iou, iou - base[..., None])


def _best_single(
    pixels: Pixels, total: TotalCounts, masks: MaskCounts, singles: _Beam
) -> Float[np.ndarray, "unit domain"]:
    """Return the best IoU of a unit's single concepts, on all images or in a domain."""
    concept = singles.concepts[..., 0]
    _, kind = masks.of_formulas(singles.concepts, singles.operators[..., 0], singles.domain)
    labelled = pixels.labelled.T[pixels.first_category[concept]]  # (unit, beam, kind)
    found = []
    for domain in total.domains.kinds:
        inside = (labelled & domain).astype(np.int64)
        both = (kind * inside).sum(axis=2)
        mask = (masks.kind[:, None] * inside).sum(axis=2)
        whole = (total.first_kind[concept] * inside).sum(axis=2)
        found.append(_divide(both, mask + whole - both).max(axis=1))
    return np.asarray(np.maximum(np.stack(found, axis=1), singles.iou[:, :1]))


def _choose(
    best: _Beam, found: _Candidates, domain: Int[np.ndarray, "unit beam concept"], n_beam: int
) -> _Beam:
    """Return the candidates of highest gain, of those that count alike one."""
    n_units = len(best.domain)
    flat = found.gain.reshape(n_units, -1)
    few = min(flat.shape[1], 6 * n_beam)
    order = np.sort(np.argpartition(-flat, few - 1, axis=1)[:, :few], axis=1)
    value = np.take_along_axis(flat, order, axis=1)
    order = np.take_along_axis(order, np.argsort(-value, axis=1, kind="stable"), axis=1)
    # Formulas that mean the same lie side by side: a AND b, b AND a.
    alike = np.zeros(order.shape, dtype=bool)
    alike[:, 1:] = True
    for counts in (found.both, found.union):
        of_order = np.take_along_axis(counts.reshape(n_units, -1), order, axis=1)
        alike[:, 1:] &= of_order[:, 1:] == of_order[:, :-1]
    kept = np.take_along_axis(order, np.argsort(alike, axis=1, kind="stable")[:, :n_beam], axis=1)
    slot, concept, operator = np.unravel_index(kept, found.gain.shape[1:])
    unit = np.arange(n_units)[:, None]
    concepts, operators = best.concepts[unit, slot], best.operators[unit, slot]
    length = 1 + (best.operators[0, 0] >= 0).sum()  # the same of all
    concepts[..., length], operators[..., length - 1] = concept, operator
    at = unit, slot, concept, operator
    return _Beam(concepts, operators, domain[at[:3]], found.iou[at], found.gain[at])


def _divide(
    both: Int[np.ndarray, "*any"], union: Int[np.ndarray, "*any"]
) -> Float[np.ndarray, "*any"]:
    return np.asarray(np.divide(both, union, out=np.zeros(both.shape), where=union > 0))
