"""The formula of concepts that each unit overlaps best, by a beam search.

As in [MU20] (Mu and Andreas, Compositional Explanations of Neurons, NeurIPS 2020): the best single
concepts of a unit are each joined with every concept by every operator, the best of these again.
Masks were counted a label set before (``labelsets``), so a step is a product of sparse matrices of
whole numbers (``formula_counts``). The best are those of highest gain (``formulas``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from dissect_embed.mathematics.formula_counts import Counts, MaskCounts, TotalCounts
from dissect_embed.mathematics.formulas import OPERATORS, Formulas
from dissect_embed.mathematics.iou import divide

# Formulas of each length that are kept and extended. With ten, as in [MU20], their IoU is higher,
# and more so by chance; on other images they gain less (benchmarks/README.md).
BEAM = 5
# Formulas and concepts of the units that are gone through together: tables of 32 MB, some a thread.
CANDIDATES = 4_000_000
# And of those that are compared at once: so many stay in a processor's cache.
CACHED = 100_000


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


def search_formulas(total: TotalCounts, masks: csr_array, beam: int = BEAM) -> Formulas:
    """Return the formula of up to three concepts that gains most, for each unit.

    Parameters
    ----------
    total
        The pixels of all images.
    masks
        Those of masks, (unit, set) (``masksets``).
    beam
        How many formulas of each length are kept and extended.
    """
    step = max(1, CANDIDATES // (beam * len(total.category)))
    parts = []
    for start in range(0, masks.shape[0], step):
        of_some = MaskCounts(total, masks[start : start + step])
        singles = _find_singles(total, of_some, beam)
        of_singles = _by_kind(total, of_some, singles)
        pairs = _extend(total, of_some, singles, of_singles, beam)
        triples = _extend(total, of_some, pairs, of_singles, beam)
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
    single = beams[0].concepts[:, 0, 0]
    return Formulas(concepts, joined.operators[at], iou, joined.gain[at], single)


def _find_singles(total: TotalCounts, masks: MaskCounts, beam: int) -> _Beam:
    """Return each unit's best single concepts."""
    both = masks.concept
    labelled = total.sets.labelled[:, total.category].astype(np.int64)
    iou = divide(both, masks.kind @ labelled + total.kind.sum(axis=1) - both)
    concept = np.argsort(-iou, axis=1, kind="stable")[:, :beam]
    iou = np.take_along_axis(iou, concept, axis=1)
    none = np.full((*concept.shape, 2), -1)
    concepts = np.concatenate([concept[..., None], none], axis=2)
    domain = total.domains.of_category[total.category[concept]]
    return _Beam(concepts, none, domain, iou, iou - iou[:, :1])


def _extend(
    total: TotalCounts, masks: MaskCounts, best: _Beam, singles: "_Singles", beam: int
) -> _Beam:
    """Return the best formulas that are one concept longer."""
    formulas = best.concepts, best.operators[..., 0], best.domain
    mine, whole = masks.of_formulas(*formulas), total.of_formulas(*formulas)
    into = total.domains.narrow[best.domain]  # (unit, beam, category)
    last = best.concepts[..., 1]
    # A single concept is its own last one.
    alone = best.operators[0, 0, 0] < 0
    member = (mine[1], whole[1]) if alone else (masks.kind_of(last), total.kind[last])
    parts = []
    step = max(1, CACHED // max(mine[0][0].size, into[0].size * mine[1].shape[2]))
    for start in range(0, len(into), step):
        some = slice(start, start + step)
        part = _Beam(*(array[some] for array in best))
        found = _compare(
            total, masks, some, part.domain, into[some], _Singles(*(a[some] for a in singles)),
            (mine[0][some], mine[1][some]), (whole[0][some], whole[1][some]),
            (member[0][some], member[1][some]),
        )  # fmt: skip
        parts.append(_choose(part, found, into[some][..., total.category], beam))
    return _Beam(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _compare(
    total: TotalCounts,
    masks: MaskCounts,
    some: slice,
    domain: Int[np.ndarray, "unit beam"],
    into: Int[np.ndarray, "unit beam category"],
    singles: "_Singles",
    mine: Counts,
    whole: Counts,
    member: tuple[Int[np.ndarray, "unit beam kind"], Int[np.ndarray, "unit beam kind"]],
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
    singles
        With what formulas are compared there.
    mine, whole
        The pixels of formulas in common with each concept, and in each kind of image: within masks,
        and over all images.
    member
        The pixels of each kind of image of the formula's last concept, within masks and over all:
        it is compared with as well, as is the concept that is added. (The first is one of the
        unit's single concepts.)
    """
    inside = total.domains.kinds[into].astype(np.int64)  # (unit, beam, category, kind)
    mask = np.einsum("uk,ubgk->ubg", masks.kind[some], inside)
    mine_there, whole_there, both_last, all_last = (
        np.einsum("ubk,ubgk->ubg", counts, inside) for counts in (mine[1], whole[1], *member)
    )
    last_iou = divide(both_last, mask + all_last - both_last)
    base = np.maximum(singles.iou_in(inside), last_iou)
    mask, mine_there, whole_there, base = (
        values[..., total.category] for values in (mask, mine_there, whole_there, base)
    )
    mine_of, whole_of = np.empty_like(mine[0]), np.empty_like(whole[0])
    for number in np.unique(domain).tolist():
        chosen = domain == number
        mine_of[chosen] = masks.within(number)[some][np.nonzero(chosen)[0]]
        whole_of[chosen] = total.within(number)
    base = np.maximum(base, divide(mine_of, mask + whole_of - mine_of))
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
    iou = divide(both, union)
    return _Candidates(both, union, iou, iou - base[..., None])


class _Singles(NamedTuple):
    """A unit's best single concepts, by kinds of images; float64, of whole numbers."""

    mask: Float[np.ndarray, "unit single kind"]  # where the concept's category is labelled
    mine: Float[np.ndarray, "unit single kind"]
    whole: Float[np.ndarray, "unit single kind"]
    best: Float[np.ndarray, "unit 1 1"]  # the highest IoU over all images

    def iou_in(
        self, inside: Int[np.ndarray, "unit beam category kind"]
    ) -> Float[np.ndarray, "unit beam category"]:
        """Return the highest IoU of each unit, on all images or in a domain."""
        shape = inside.shape
        kinds = inside.reshape(len(inside), -1, shape[-1]).transpose(0, 2, 1).astype(np.float64)
        mask, mine, whole = (counts @ kinds for counts in self[:3])
        union = mask + whole - mine
        iou = divide(mine, union)
        return np.asarray(np.maximum(iou.max(axis=1).reshape(shape[:3]), self.best))


def _by_kind(total: TotalCounts, masks: MaskCounts, singles: _Beam) -> _Singles:
    concept = singles.concepts[..., 0]
    labelled = total.sets.labelled.T[total.category[concept]]
    return _Singles(
        (masks.kind[:, None] * labelled).astype(np.float64),
        masks.kind_of(concept).astype(np.float64),
        total.kind[concept].astype(np.float64),
        singles.iou[:, :1, None],
    )


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
