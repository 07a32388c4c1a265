"""Pixels of formulas of one or two concepts, over all images and within masks: whole numbers."""

import numpy as np
from jaxtyping import Bool, Int, UInt8
from scipy.sparse import coo_array, csc_array, csr_array, hstack

from dissect_embed.mathematics.labelsets import LabelSets

# In common with each concept, and in each kind of image.
Counts = tuple[Int[np.ndarray, "*row concept"], Int[np.ndarray, "*row kind"]]
# Places in ``formulas.OPERATORS``.
AND, OR = 0, 1


class Domains:
    """Sets of images in which one, two or three categories are labelled.

    Attributes
    ----------
    kinds
        The kinds of images of each; no two are the same.
    of_category
        Which has the images in which a category is labelled.
    narrow
        Which has those of a domain in which a category is labelled as well.
    """

    def __init__(self, labelled: Bool[np.ndarray, "kind category"]) -> None:
        """Take what is labelled in each kind of image."""
        number: dict[bytes, int] = {}
        found: list[Bool[np.ndarray, " kind"]] = []

        def add(kinds: Bool[np.ndarray, " kind"]) -> int:
            if kinds.tobytes() not in number:
                number[kinds.tobytes()] = len(found)
                found.append(kinds)
            return number[kinds.tobytes()]

        columns = list(labelled.T)
        self.of_category = np.array([add(column) for column in columns])
        for _ in range(2):
            self.narrow = np.array([[add(k & column) for column in columns] for k in list(found)])
        self.kinds = np.array(found)


class TotalCounts:
    """The pixels of formulas over all images."""

    def __init__(
        self,
        sets: LabelSets,
        category: Int[np.ndarray, " concept"],
        pixels: Int[np.ndarray, " set"],
    ) -> None:
        """Take the pixels of all label sets."""
        self.sets, self.category, self.pixels = sets, category, pixels
        self.domains = Domains(sets.labelled)
        n_sets, n_kinds = len(sets.kind), len(sets.labelled)
        one = np.ones(n_sets, dtype=np.int64)
        self.kinds = csr_array((one, (np.arange(n_sets), sets.kind)), (n_sets, n_kinds))
        self._wide = hstack([sets.concepts, self.kinds], format="csr")
        self._bits = _pack(sets.concepts)
        self._columns = sets.concepts.tocsc()
        weighted = csr_array(sets.concepts.multiply(pixels[:, None])).T
        self._together, self.kind = self.count(weighted.tocsr())
        self._within: dict[int, Int[np.ndarray, " concept"]] = {}

    def count(self, table: csr_array) -> Counts:
        """Return what rows of pixels a label set have in common with concepts, and by kind."""
        dense = (table @ self._wide).toarray()
        return dense[:, : len(self.category)], dense[:, len(self.category) :]

    def within(self, domain: int) -> Int[np.ndarray, " concept"]:
        """Return the pixels of each concept in a domain."""
        if domain not in self._within:
            inside = self.domains.kinds[domain][self.sets.kind]
            self._within[domain] = (self.pixels * inside) @ self.sets.concepts
        return self._within[domain]

    def holds(
        self, sets: Int[np.ndarray, " entry"], concept: Int[np.ndarray, " entry"]
    ) -> Bool[np.ndarray, " entry"]:
        """Return whether a concept holds in a label set, for many pairs of them."""
        return np.asarray((self._bits[sets, concept >> 3] >> (concept & 7)) & 1 != 0)

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
            return self._together[concepts[..., 0]], self.kind[concepts[..., 0]]
        a, b = (concepts[..., n].ravel() for n in (0, 1))
        rows: list[Int[np.ndarray, " set"]] = []
        indices = []
        for one, other, sets_of in (
            (a, domain.ravel(), self._sets_in),
            (b, domain.ravel(), self._sets_in),
            (a, b, self._sets_of_both),
        ):
            distinct, index = np.unique(np.stack([one, other]), axis=1, return_inverse=True)
            indices.append(index.ravel() + len(rows))
            rows += [sets_of(*pair) for pair in distinct.T.tolist()]
        sets = np.concatenate(rows)
        start = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        shape = len(rows), len(self.sets.kind)
        counts = self.count(csr_array((self.pixels[sets], sets, start), shape))
        of_a, of_b = operator.ravel() != AND, operator.ravel() == OR
        signs = of_a.astype(np.int64), of_b.astype(np.int64), np.where(of_a, -1, 1)
        both, kind = (
            sum(s[:, None] * values[i] for s, i in zip(signs, indices, strict=True))
            for values in counts
        )
        return both.reshape(*domain.shape, -1), kind.reshape(*domain.shape, -1)

    def sets_of(self, concept: int) -> Int[np.ndarray, " set"]:
        """Return the label sets in which a concept holds."""
        columns: csc_array = self._columns
        return np.asarray(columns.indices[columns.indptr[concept] : columns.indptr[concept + 1]])

    def _sets_in(self, concept: int, domain: int) -> Int[np.ndarray, " set"]:
        sets = self.sets_of(concept)
        return np.asarray(sets[self.domains.kinds[domain, self.sets.kind[sets]]])

    def _sets_of_both(self, a: int, b: int) -> Int[np.ndarray, " set"]:
        sets = self.sets_of(a)
        return np.asarray(sets[self.holds(sets, np.full(len(sets), b))])


class MaskCounts:
    """The pixels of formulas within the masks of some units."""

    def __init__(self, total: TotalCounts, masks: csr_array) -> None:
        """Take the pixels of masks, (unit, set)."""
        self._total = total
        entries = masks.tocoo()
        self._unit, self._set = entries.coords
        self._count, self._shape = entries.data, masks.shape
        self.kind = (masks @ total.kinds).toarray()
        self.concept = (masks @ total.sets.concepts).toarray()
        self._within: dict[int, Int[np.ndarray, "unit concept"]] = {}

    def within(self, domain: int) -> Int[np.ndarray, "unit concept"]:
        """Return the pixels in common with each concept in a domain."""
        if domain not in self._within:
            total = self._total
            inside = total.domains.kinds[domain, total.sets.kind[self._set]]
            coords = self._unit, self._set
            table = coo_array((self._count * inside, coords), self._shape).tocsr()
            self._within[domain] = (table @ total.sets.concepts).toarray()
        return self._within[domain]

    def kind_of(self, concept: Int[np.ndarray, "unit beam"]) -> Int[np.ndarray, "unit beam kind"]:
        """Return the pixels in common with some concepts of each unit, in each kind of image."""
        n_beam = concept.shape[1]
        found = np.zeros((concept.size, self.kind.shape[1]), dtype=np.int64)
        kind = self._total.sets.kind
        for slot in range(n_beam):
            at = np.flatnonzero(self._total.holds(self._set, concept[:, slot][self._unit]))
            row = self._unit[at].astype(np.int64) * n_beam + slot
            np.add.at(found, (row, kind[self._set[at]]), self._count[at])
        return found.reshape(*concept.shape, -1)

    def of_formulas(
        self,
        concepts: Int[np.ndarray, "unit beam 3"],
        operator: Int[np.ndarray, "unit beam"],
        domain: Int[np.ndarray, "unit beam"],
    ) -> Counts:
        """Return the pixels of formulas of one concept, or of two, in a domain."""
        total = self._total
        kind = total.sets.kind[self._set]
        rows, found = [], []
        for slot in range(domain.shape[1]):
            first, second, of = (
                values[:, slot][self._unit]
                for values in (concepts[..., 0], concepts[..., 1], operator)
            )
            held = total.holds(self._set, first)
            if operator[0, 0] >= 0:
                other = total.holds(self._set, second)
                held = np.select([of == AND, of == OR], [held & other, held | other], held & ~other)
                held &= total.domains.kinds[domain[:, slot][self._unit], kind]
            at = np.flatnonzero(held)
            found.append(at)
            rows.append(self._unit[at].astype(np.int64) * domain.shape[1] + slot)
        at = np.concatenate(found)
        shape = domain.size, self._shape[1]
        coords = np.concatenate(rows), self._set[at]
        both, kind = total.count(coo_array((self._count[at], coords), shape).tocsr())
        return both.reshape(*domain.shape, -1), kind.reshape(*domain.shape, -1)


def _pack(table: csr_array) -> UInt8[np.ndarray, "set byte"]:
    """Return a table of zeros and ones, eight columns a byte."""
    packed = np.zeros((table.shape[0], -(-table.shape[1] // 8)), dtype=np.uint8)
    rows, columns = table.nonzero()
    np.bitwise_or.at(packed, (rows, columns >> 3), (1 << (columns & 7)).astype(np.uint8))
    return packed
