"""How well a unit's peak tells the images of a concept from others: AUC, which needs no mask.

The AUC of unit k for concept c is the probability that its peak is higher on an image with c than
on one without, equal peaks counted half: Mann-Whitney's U over its largest value. That is how
INVERT labels units (Bykov, Kopf, Nakajima, Kloft, Höhne, Labeling Neural Representations with
Inverse Recognition, NeurIPS 2023, arXiv 2311.13594), of single concepts here. It asks whether the
unit knows *in which images* a concept is, where IoU asks whether it knows where.

Only among the images in which a concept's category is labelled is its absence known, so only these
are compared. A concept that is in few images, or lacks in few, reaches 1 by chance: it must do both
in ``FEWEST``.

Sums of doubled ranks are whole numbers below 2^53: float64 adds them exactly, in any order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.stats import rankdata

# Images that a concept must be in, and lack in, at least.
FEWEST = 20


class Labelled(NamedTuple):
    """The images in which one category is labelled, and its concepts that can be told apart."""

    images: Int[np.ndarray, " labelled"]
    concepts: Int[np.ndarray, " some"]
    present: csr_array  # (some, labelled) of 0 and 1: an image has few of all concepts

    def ranks(self, peak: Float[np.ndarray, "image unit"]) -> Float[np.ndarray, "labelled unit"]:
        """Return twice each of these images' rank by peak, from 2 on; equal peaks share theirs."""
        return np.asarray(2 * rankdata(peak[self.images], axis=0), dtype=np.float64)

    def auc(self, ranks: Float[np.ndarray, "labelled unit"]) -> Float[np.ndarray, "unit some"]:
        """Return the AUC of each unit and concept."""
        with_it = np.diff(self.present.indptr).astype(np.int64)
        least = with_it * (with_it + 1)
        pairs = with_it * (len(self.images) - with_it)
        return np.asarray(((self.present @ ranks).T - least) / (2 * pairs))

    def deal(self, partner: Int[np.ndarray, " image"]) -> "Labelled":
        """Return the same with each image having the labels of another one of them."""
        whose = np.searchsorted(self.images, partner[self.images])
        to = np.empty_like(whose)
        to[whose] = np.arange(len(whose))
        old = self.present
        dealt = csr_array((old.data, to[old.indices], old.indptr), shape=old.shape)
        return self._replace(present=dealt)


def find_labelled(
    concept_presence: Bool[np.ndarray, "image concept"],
    presence: Bool[np.ndarray, "image category"],
    category: Int[np.ndarray, " concept"],
) -> list[Labelled]:
    """Return of each category the images to compare and the concepts to compare them by.

    Parameters
    ----------
    concept_presence, presence
        Which concepts, and which categories, are labelled in each image.
    category
        That of each concept.
    """
    found = []
    for g in range(presence.shape[1]):
        images = np.flatnonzero(presence[:, g])
        members = np.flatnonzero(category == g)
        present = concept_presence[np.ix_(images, members)]
        with_it = present.sum(axis=0)
        enough = (with_it >= FEWEST) & (len(images) - with_it >= FEWEST)
        if enough.any():
            has = csr_array(present[:, enough].T.astype(np.float64))
            found.append(Labelled(images, members[enough], has))
    return found


def compute_auc(
    ranks: Sequence[Float[np.ndarray, "_ unit"]], labelled: Sequence[Labelled], n_concepts: int
) -> Float[np.ndarray, "unit concept"]:
    """Return the AUC of every unit and concept; NaN for concepts that cannot be told apart.

    Parameters
    ----------
    ranks
        By each of ``labelled``.

    Examples
    --------
    A unit that is higher on the twenty images with a concept than on the twenty without, and one
    that is always the same.

    >>> has = np.arange(40)[:, None] < 20
    >>> labelled = find_labelled(has, np.ones((40, 1), dtype=bool), np.array([0]))
    >>> peak = np.stack([1.0 * has[:, 0], np.zeros(40)], axis=1)
    >>> compute_auc([of.ranks(peak) for of in labelled], labelled, 1).tolist()
    [[1.0], [0.5]]
    """
    auc = np.full((ranks[0].shape[1], n_concepts), np.nan)
    for of, rank in zip(labelled, ranks, strict=True):
        auc[:, of.concepts] = of.auc(rank)
    return auc


def find_alike(presence: Bool[np.ndarray, "image category"]) -> Int[np.ndarray, " image"]:
    """Return the stratum of each image: those in which the same categories are labelled.

    Labels dealt out within strata leave each category labelled in the same images, so that ranks
    stay. An image whose categories no other has keeps its labels in every draw, which makes p
    larger, never smaller. (How large a label map is does not matter here, as it does where masks
    are laid on it: ``null.find_strata``.)
    """
    return np.unique(presence, axis=0, return_inverse=True)[1].reshape(len(presence))


def draw_best(
    ranks: Sequence[Float[np.ndarray, "_ unit"]],
    labelled: Sequence[Labelled],
    partner: Int[np.ndarray, " image"],
) -> Float[np.ndarray, " unit"]:
    """Return each unit's best AUC over all concepts, with the labels of other images.

    Parameters
    ----------
    partner
        Whose labels each image gets, within strata of ``find_alike`` (``null.draw_partners``).
    """
    dealt = [
        of.deal(partner).auc(rank).max(axis=1) for of, rank in zip(labelled, ranks, strict=True)
    ]
    return np.asarray(np.max(dealt, axis=0))
