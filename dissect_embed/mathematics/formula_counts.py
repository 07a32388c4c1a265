"""Pixels of formulas of one or two concepts, over all images and within masks: whole numbers."""

from functools import partial

import numpy as np
from jaxtyping import Bool, Int, UInt8
from scipy.sparse import coo_array, csc_array, csr_array, hstack

from dissect_embed.mathematics.masksets import Pixels

# In common with each concept, and in each kind of image.
Counts = tuple[Int[np.ndarray, "*row concept"], Int[np.ndarray, "*row kind"]]
# Places in ``formulas.OPERATORS``.
AND, OR = 0, 1


class Domains:
    """Sets of images, by what is labelled there; equal ones have one number."""

    def __init__(self, labelled: Bool[np.ndarray, "kind category"]) -> None:
        """Take what is labelled in each kind of image."""
        self._labelled = labelled
        self._number: dict[bytes, int] = {}
        self.kinds: list[Bool[np.ndarray, " kind"]] = []
        self.of_category = np.array([self._add(column) for column in labelled.T])

    def _add(self, kinds: Bool[np.ndarray, " kind"]) -> int:
        number = self._number.setdefault(kinds.tobytes(), len(self.kinds))
        if number == len(self.kinds):
            self.kinds.append(kinds)
        return number

    def narrow(self) -> Int[np.ndarray, "domain category"]:
        """Return of each domain the one in which a category is labelled as well."""
        columns, known = self._labelled.T, list(self.kinds)
        return np.array([[self._add(kinds & column) for column in columns] for kinds in known])


class TotalCounts:
    """The pixels of formulas over all images."""

    def __init__(self, pixels: Pixels) -> None:
        """Take the pixels of all label sets."""
        self._pixels = pixels
        self.domains = Domains(pixels.labelled)
        n_sets, n_kinds = len(pixels.kind), len(pixels.labelled)
        one = np.ones(n_sets, dtype=np.int64)
        self.kinds = csr_array((one, (np.arange(n_sets), pixels.kind)), (n_sets, n_kinds))
        self._wide = hstack([pixels.more, self.kinds], format="csr")
        self.first_bits, self.more_bits = _pack(pixels.first), _pack(pixels.more)
        self._first, self._more = pixels.first.tocsc(), pixels.more.tocsc()
        weighted = csr_array(pixels.first.multiply(pixels.all[:, None])).T
        self._first_more, self.first_kind = self.count(weighted.tocsr())
        self._within: dict[int, Int[np.ndarray, " concept"]] = {}

    def count(self, table: csr_array) -> Counts:
        """Return what rows of pixels a label set have in common with concepts, and by kind."""
        dense = (table @ self._wide).toarray()
        n_concepts = self._pixels.more.shape[1]
        return dense[:, :n_concepts], dense[:, n_concepts:]

    def within(self, domain: int) -> Int[np.ndarray, " concept"]:
        """Return the pixels of each concept in a domain."""
        if domain not in self._within:
            inside = self.domains.kinds[domain][self._pixels.kind]
            self._within[domain] = (self._pixels.all * inside) @ self._pixels.more
        return self._within[domain]

    def of_formulas(
        self,
        concepts: Int[np.ndarray, "unit beam 3"],
        operator: Int[np.ndarray, "unit beam"],
        domain: Int[np.ndarray, "unit beam"],
    ) -> Counts:
        """Return the pixels of formulas of one concept, or of two, in a domain.

        ``a OR b`` has those of a and of b less those of both; ``a AND NOT b`` those of a less those
        of both. Few label sets have both, so that these are counted, once a pair.
        """
        if operator[0, 0] < 0:
            concept = concepts[..., 0]
            return self._first_more[concept], self.first_kind[concept]
        a, b = (concepts[..., n].ravel() for n in (0, 1))
        rows: list[Int[np.ndarray, " set"]] = []
        indices = []
        for one, other, sets_of in (
            (a, domain.ravel(), partial(self._sets_in, self._first)),
            (b, domain.ravel(), partial(self._sets_in, self._more)),
            (a, b, self._sets_of_both),
        ):
            distinct, index = np.unique(np.stack([one, other]), axis=1, return_inverse=True)
            indices.append(index.ravel() + len(rows))
            rows += [sets_of(*pair) for pair in distinct.T.tolist()]
        sets = np.concatenate(rows)
        start = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        shape = len(rows), len(self._pixels.kind)
        counts = self.count(csr_array((self._pixels.all[sets], sets, start), shape))
        of_a, of_b = operator.ravel() != AND, operator.ravel() == OR
        signs = of_a.astype(np.int64), of_b.astype(np.int64), np.where(of_a, -1, 1)
        both, kind = (
            sum(s[:, None] * values[i] for s, i in zip(signs, indices, strict=True))
            for values in counts
        )
        return both.reshape(*domain.shape, -1), kind.reshape(*domain.shape, -1)

    def _sets_in(self, columns: csc_array, concept: int, domain: int) -> Int[np.ndarray, " set"]:
        sets = _sets_of(columns, concept)
        return np.asarray(sets[self.domains.kinds[domain][self._pixels.kind[sets]]])

    def _sets_of_both(self, first: int, more: int) -> Int[np.ndarray, " set"]:
        sets = _sets_of(self._first, first)
        return np.asarray(sets[holds(self.more_bits, sets, np.full(len(sets), more))])


class MaskCounts:
    """The pixels of formulas within the masks of some units."""

    def __init__(self, pixels: Pixels, total: TotalCounts, masks: csr_array) -> None:
        """Take the pixels of masks, (unit, set)."""
        self._pixels, self._total = pixels, total
        entries = masks.tocoo()
        self._unit, self._set = entries.coords
        self._count, self._shape = entries.data, masks.shape
        self.kind = (masks @ total.kinds).toarray()
        self.first = (masks @ pixels.first).toarray()
        self._within: dict[int, Int[np.ndarray, "unit concept"]] = {}

    def within(self, domain: int) -> Int[np.ndarray, "unit concept"]:
        """Return the pixels in common with each concept in a domain."""
        if domain not in self._within:
            inside = self._total.domains.kinds[domain][self._pixels.kind[self._set]]
            coords = self._unit, self._set
            table = coo_array((self._count * inside, coords), self._shape).tocsr()
            self._within[domain] = (table @ self._pixels.more).toarray()
        return self._within[domain]

    def of_formulas(
        self,
        concepts: Int[np.ndarray, "unit beam 3"],
        operator: Int[np.ndarray, "unit beam"],
        domain: Int[np.ndarray, "unit beam"],
    ) -> Counts:
        """Return the pixels of formulas of one concept, or of two, in a domain."""
        inside = np.array(self._total.domains.kinds)[:, self._pixels.kind]
        rows, found = [], []
        for slot in range(domain.shape[1]):
            first, second = (concepts[:, slot, n][self._unit] for n in (0, 1))
            held = holds(self._total.first_bits, self._set, first)
            of = operator[:, slot][self._unit]
            if operator[0, 0] >= 0:
                other = holds(self._total.more_bits, self._set, second)
                held = np.select([of == AND, of == OR], [held & other, held | other], held & ~other)
                held &= inside[domain[:, slot][self._unit], self._set]
            at = np.flatnonzero(held)
            found.append(at)
            rows.append(self._unit[at].astype(np.int64) * domain.shape[1] + slot)
        at = np.concatenate(found)
        shape = domain.size, self._shape[1]
        coords = np.concatenate(rows), self._set[at]
        both, kind = self._total.count(coo_array((self._count[at], coords), shape).tocsr())
        return both.reshape(*domain.shape, -1), kind.reshape(*domain.shape, -1)


def _sets_of(columns: csc_array, concept: int) -> Int[np.ndarray, " set"]:
    return np.asarray(columns.indices[columns.indptr[concept] : columns.indptr[concept + 1]])


def _pack(table: csr_array) -> UInt8[np.ndarray, "set byte"]:
    """Return a table of zeros and ones, eight columns a byte."""
    packed = np.zeros((table.shape[0], -(-table.shape[1] // 8)), dtype=np.uint8)
    rows, columns = table.nonzero()
    np.bitwise_or.at(packed, (rows, columns >> 3), (1 << (columns & 7)).astype(np.uint8))
    return packed


def holds(
    packed: UInt8[np.ndarray, "set byte"],
    sets: Int[np.ndarray, " entry"],
    concept: Int[np.ndarray, " entry"],
) -> Bool[np.ndarray, " entry"]:
    """Return whether a concept holds in a set, for many pairs of them."""
    return np.asarray((packed[sets, concept >> 3] >> (concept & 7)) & 1 != 0)
