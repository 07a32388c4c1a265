"""What chance gives: whose labels masks are laid on instead, and what follows for each unit.

A unit that fires where pictures are bright overlaps with sky, also in pictures it never saw. So
each draw deals the labels out anew among the images, over the whole data set at once; a unit's best
IoU over all concepts is then what the search for a maximum finds by chance, and the draws of a unit
are its own null distribution. (One draw's units share one permutation: pooled over units, a null is
as wide as a draw is lucky.)

Every permutation is as likely, those that leave an image its own labels too: only then are the
true labels one draw among others, and p is right also where images are few. (Were every image to
get another's, p would be too small: at most 0.05 for 18 % of units that know nothing, in strata of
three images.) In a stratum of n images one in n keeps its own.

Partners come from one *stratum*: images with label maps of one size in which the same categories
are labelled. In Broden a category is labelled in some sources only; laid on the labels of another
source, every unit that knows its source would overlap more than chance.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dissect_embed.mathematics.iou import compute_iou

# Above this share of images without a partner, chance is not what the draws tell.
MAX_ALONE = 0.01
LEVEL = 0.05
# Pixels in common are counted in so many parts of one, of which each share of a cell has a whole
# number (``cells``), and expected ones in so many: sums of whole numbers are exact.
PARTS = 144
FRACTIONS = 1 << 20


class Drawn(NamedTuple):
    """What some draws count of a layer; it adds up over images."""

    intersection: Int[np.ndarray, "unit draw concept"]  # PARTS of a pixel
    activation: Int[np.ndarray, "unit draw category"]  # pixels, where the category is labelled
    expected: Int[np.ndarray, "unit concept"]  # FRACTIONS of a pixel in common, over all draws
    pixels: Int[np.ndarray, " unit"]  # of the masks

    def iou(
        self, label_pixels: Int[np.ndarray, " concept"], category: Int[np.ndarray, " concept"]
    ) -> Float[np.ndarray, "draw unit concept"]:
        """Return the IoU of each draw; concepts have the same pixels in every one."""
        intersection, activation = (np.swapaxes(counts, 0, 1) for counts in self[:2])
        return compute_iou(intersection, PARTS * activation, PARTS * label_pixels, category)


class AgainstChance(NamedTuple):
    """A layer's units beside their own nulls; NaN, and no concept, for a unit that never fires."""

    p: Float[np.ndarray, " unit"]
    q: Float[np.ndarray, " unit"]
    null_mean: Float[np.ndarray, " unit"]  # of the best IoU by chance
    excess: Float[np.ndarray, " unit"]  # the best IoU less that
    n_concepts: Int[np.ndarray, " unit"]  # that exceed what one in twenty of the draws exceeds

    def detectors(self) -> Bool[np.ndarray, " unit"]:
        """Return which units are detectors above chance: q at most 0.05."""
        return self.q <= LEVEL


def find_strata(
    size: Int[np.ndarray, "image 2"], presence: Bool[np.ndarray, "image category"]
) -> Int[np.ndarray, " image"]:
    """Return the stratum of each image: label maps of one size, and the same categories labelled.

    A stratum of one image joins that of its size whose categories differ least, of equals the
    larger. So only an image whose size no other has stays alone.

    Examples
    --------
    >>> presence = np.array([[1, 1], [1, 1], [1, 0], [0, 1]], dtype=bool)
    >>> find_strata(np.full((4, 2), 112), presence).tolist()
    [0, 0, 0, 0]
    >>> find_strata(np.array([[112, 112]] * 3 + [[90, 90]]), presence).tolist()
    [1, 1, 1, 0]
    """
    stratum = np.empty(len(size), dtype=np.int64)
    n_strata = 0
    for of_size in _groups(size):
        kinds, index, count = np.unique(
            presence[of_size], axis=0, return_inverse=True, return_counts=True
        )
        into = _join_singles(kinds, count)
        joined = np.unique(into[index.ravel()], return_inverse=True)[1].ravel()
        stratum[of_size] = n_strata + joined
        n_strata += int(joined.max()) + 1
    return stratum


def _groups(size: Int[np.ndarray, "image 2"]) -> list[Int[np.ndarray, " chosen"]]:
    """Return the images of each size."""
    _, index = np.unique(size, axis=0, return_inverse=True)
    order = np.argsort(index.ravel(), kind="stable")
    return np.split(order, np.flatnonzero(np.diff(index.ravel()[order])) + 1)


def _join_singles(
    kinds: Bool[np.ndarray, "kind category"], count: Int[np.ndarray, " kind"]
) -> Int[np.ndarray, " kind"]:
    """Return for each set of categories that into which it goes."""
    into = np.arange(len(kinds))
    count = count.copy()
    for single in np.flatnonzero(count == 1).tolist():
        # An earlier one may have come here since.
        if count[single] != 1 or (count > 0).sum() == 1:
            continue
        others = np.flatnonzero((count > 0) & (np.arange(len(kinds)) != single))
        differ = (kinds[others] != kinds[single]).sum(axis=1)
        nearest = others[np.lexsort((-count[others], differ))[0]]
        into[into == single] = nearest
        count[nearest] += count[single]
        count[single] = 0
    return into


def count_alone(stratum: Int[np.ndarray, " image"]) -> int:
    """Return how many images have no other of their stratum."""
    return int((np.bincount(stratum) == 1).sum())


def draw_partners(
    stratum: Int[np.ndarray, " image"], n_draws: int, seed: int
) -> Int[np.ndarray, "draw image"]:
    """Return for each draw the image whose labels each image's masks are laid on.

    Every draw is a permutation within the strata, so every concept keeps its pixels. A draw does
    not depend on how many there are.

    Examples
    --------
    >>> partners = draw_partners(np.array([0, 1, 0, 1, 0]), 2, seed=0)
    >>> np.sort(partners, axis=1)[0].tolist(), np.sort(partners[0, [0, 2, 4]]).tolist()
    ([0, 1, 2, 3, 4], [0, 2, 4])
    """
    n_images = len(stratum)
    partners = np.empty((n_draws, n_images), dtype=np.int64)
    # The strata, one behind the other.
    place = np.argsort(stratum, kind="stable")
    for draw in range(n_draws):
        order = np.random.default_rng([seed, draw]).permutation(n_images)
        partners[draw, place] = order[np.argsort(stratum[order], kind="stable")]
    return partners


def p_values(
    score: Float[np.ndarray, " unit"], null: Float[np.ndarray, "draw unit"]
) -> Float[np.ndarray, " unit"]:
    """Return the share of each unit's own draws that reach its score, the score itself counted in.

    A unit whose score is NaN, because it never fires, has none.

    Examples
    --------
    >>> p_values(np.array([0.5, 0.1]), np.array([[0.1, 0.1], [0.2, 0.2], [0.3, 0.0]])).tolist()
    [0.25, 0.75]
    """
    p = (1 + (null >= score).sum(axis=0)) / (1 + len(null))
    return np.where(np.isnan(score), np.nan, p)


def q_values(p: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    """Return p adjusted for how many units a layer has; NaN where p is.

    Benjamini and Hochberg (J. R. Stat. Soc. B 57, 1995): among the units with q at most 0.05, at
    most one in twenty is expected to be there by chance.

    Examples
    --------
    >>> q_values(np.array([0.01, 0.5, np.nan, 0.03])).tolist()
    [0.03, 0.5, nan, 0.045]
    """
    q = np.full(len(p), np.nan)
    alive = np.flatnonzero(~np.isnan(p))
    order = alive[np.argsort(-p[alive], kind="stable")]
    rank = np.arange(len(order), 0, -1)
    q[order] = np.minimum.accumulate(np.minimum(p[order] * len(order) / rank, 1))
    return q


def null_bound(null: Float[np.ndarray, "draw unit"]) -> Float[np.ndarray, " unit"]:
    """Return the value that at most 5 % of each unit's draws exceed.

    Examples
    --------
    >>> null_bound(np.arange(100.0)[:, None])
    array([94.])
    """
    return np.asarray(np.quantile(null, 1 - LEVEL, axis=0, method="inverted_cdf"))


def compare_units(
    iou: Float[np.ndarray, "unit concept"],
    null: Float[np.ndarray, "draw unit"],
    pixels: Int[np.ndarray, " unit"],
) -> AgainstChance:
    """Compare a layer's profiles with the units' own nulls.

    Parameters
    ----------
    null
        The best IoU of each draw.
    pixels
        Of each unit's masks: without any, a unit is left out.
    """
    dead = pixels == 0
    score = np.where(dead, np.nan, iou.max(axis=1))
    p = p_values(score, null)
    mean = np.where(dead, np.nan, null.mean(axis=0))
    beyond = (iou > null_bound(null)[:, None]).sum(axis=1)
    return AgainstChance(p, q_values(p), mean, score - mean, np.where(dead, 0, beyond))


def untested(n_units: int) -> AgainstChance:
    """Return what is known of units where there is no null."""
    none = np.full(n_units, np.nan)
    return AgainstChance(none, none, none, none, np.zeros(n_units, dtype=np.int64))
