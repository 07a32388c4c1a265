"""How well a unit's peak tells the images of a concept from others: AUC, which needs no mask.

The AUC of unit k for concept c is the probability that its peak is higher on an image with c than
on one without, equal peaks counted half: Mann-Whitney's U over its largest value. That is how
INVERT labels units (Bykov, Kopf, Nakajima, Kloft, Höhne, Labeling Neural Representations with
Inverse Recognition, NeurIPS 2023, arXiv 2311.13594), of single concepts here. It asks whether the
unit knows *in which images* a concept is, where IoU asks whether it knows where.

Images are compared within a *stratum*: those in which the same categories are labelled. Only where
a concept's category is labelled is its absence known. And in Broden a category is labelled in some
sources only: among all images with objects, a unit that knows its source would tell walls from no
walls (on rendered images such a unit's best concept was *wall*, AUC 0.92 with the right labels and
with wrong ones). Where all images have all categories this is the published AUC. An image whose
categories no other has is compared with none.

A concept that is in few images, or lacks in few, reaches 1 by chance: it must do both in
``FEWEST`` of those that are compared.

Chance: labels dealt out anew within the strata (``null.draw_partners``) leave ranks and numbers of
images as they are, and give each unit's best AUC of each draw.

Sums of doubled ranks are whole numbers below 2^53: float64 adds them exactly, in any order.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.stats import rankdata

# Images that a concept must be in, and lack in, at least.
FEWEST = 20


class Presence(NamedTuple):
    """Which concepts are in which images, of those concepts that can be told apart."""

    concepts: Int[np.ndarray, " some"]  # ascending
    present: csr_array  # (some, image) of 0 and 1: an image has few of all concepts
    least: Int[np.ndarray, " some"]  # what doubled ranks add up to at an AUC of 0
    pairs: Int[np.ndarray, " some"]  # of an image with the concept and one without

    def auc(self, ranks: Float[np.ndarray, "image unit"]) -> Float[np.ndarray, "unit some"]:
        """Return the AUC of each unit and concept, from ``double_ranks``."""
        return np.asarray(((self.present @ ranks).T - self.least) / (2 * self.pairs))

    def deal(self, partner: Int[np.ndarray, " image"]) -> "Presence":
        """Return the same with each image having the labels of another one of its stratum."""
        old, to = self.present, np.argsort(partner)
        dealt = csr_array((old.data, to[old.indices], old.indptr), shape=old.shape)
        return self._replace(present=dealt)


def find_alike(presence: Bool[np.ndarray, "image category"]) -> Int[np.ndarray, " image"]:
    """Return the stratum of each image: those in which the same categories are labelled.

    How large a label map is does not matter here, as it does where masks are laid on it
    (``null.find_strata``).

    Examples
    --------
    >>> find_alike(np.array([[1, 1], [1, 0], [1, 1]], dtype=bool)).tolist()
    [1, 0, 1]
    """
    return np.unique(presence, axis=0, return_inverse=True)[1].reshape(len(presence))


def find_presence(
    present: Bool[np.ndarray, "image concept"], stratum: Int[np.ndarray, " image"]
) -> Presence:
    """Return which concepts can be told apart, and where they are.

    Parameters
    ----------
    present
        Which concepts are labelled in each image.
    stratum
        Of each image, from 0 (``find_alike``).
    """
    where = csr_array(present.T.astype(np.float64))
    image = np.arange(len(stratum))
    of_stratum = csr_array((np.ones(len(stratum)), (image, stratum)))
    has = (where @ of_stratum).toarray().astype(np.int64)
    lacks = np.bincount(stratum) - has
    enough = (has * (lacks > 0)).sum(axis=1) >= FEWEST
    enough &= (lacks * (has > 0)).sum(axis=1) >= FEWEST
    has, lacks = has[enough], lacks[enough]
    least, pairs = (has * (has + 1)).sum(axis=1), (has * lacks).sum(axis=1)
    return Presence(np.flatnonzero(enough), where[enough], least, pairs)


def double_ranks(
    peak: Float[np.ndarray, "image unit"], stratum: Int[np.ndarray, " image"]
) -> Float[np.ndarray, "image unit"]:
    """Return twice each image's rank by peak within its stratum; equal peaks share theirs.

    Examples
    --------
    >>> peak = np.array([[0.0], [3.0], [0.0], [9.0]])
    >>> double_ranks(peak, np.array([0, 0, 0, 1])).ravel().tolist()
    [3.0, 6.0, 3.0, 2.0]
    """
    ranks = np.empty(peak.shape)
    for images in np.split(
        np.argsort(stratum, kind="stable"), np.cumsum(np.bincount(stratum))[:-1]
    ):
        ranks[images] = 2 * rankdata(peak[images], axis=0)
    return ranks
