"""What a network no longer gets right without a unit: by class, and what of it is chance.

Right or wrong is said of each image and each class that it has, so that before and after are
compared image by image: those lost beside those gained, as McNemar does (Psychometrika 12, 1947).
"""

from typing import NamedTuple

import numpy as np
import scipy.stats
import torch
from jaxtyping import Bool, Float, Int

from dissect_embed.mathematics.controls import control_of
from dissect_embed.mathematics.neighbours import nearest_units


def right_classes(
    best: Int[np.ndarray, " image"],
    present: Bool[np.ndarray, "image class"],
    outputs: Int[np.ndarray, " class"],
) -> Bool[np.ndarray, "image class"]:
    """Return where the highest of a network's scores is that of the image's class.

    Parameters
    ----------
    best
        The output of the highest score.
    present
        The class of each image.
    outputs
        The output of each class.

    Examples
    --------
    >>> right_classes(np.array([4, 2]), np.array([[True, False], [False, True]]), np.array([4, 3]))
    array([[ True, False],
           [False, False]])
    """
    return np.asarray(present & (best[:, None] == outputs))


def right_concepts(
    scores: Float[np.ndarray, "image class"], present: Bool[np.ndarray, "image class"]
) -> Bool[np.ndarray, "image class"]:
    """Return which images of a concept are among as many of its highest scores as it has images.

    Their share is the R-precision: precision and recall where both are equal. An image that ties
    with one beyond that number is wrong.

    Parameters
    ----------
    present
        The concepts of each image, any number of them.

    Examples
    --------
    >>> scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    >>> right_concepts(scores, np.array([[True], [False], [True], [False]]))[:, 0].tolist()
    [True, False, False, False]
    """
    n_images = len(scores)
    n_present = present.sum(axis=0)
    # The highest score that is no longer among them; where all images have a concept, none is.
    order = np.sort(scores, axis=0)
    beyond = order[np.maximum(n_images - 1 - n_present, 0), np.arange(scores.shape[1])]
    return np.asarray(present & ((scores > beyond) | (n_present == n_images)))


class Changes(NamedTuple):
    """What is right without some units, beside what was right with them."""

    images: Int[np.ndarray, " class"]  # that have each class
    before: Int[np.ndarray, " class"]  # of these, how many are right
    lost: Int[np.ndarray, " class"]  # right before, wrong after
    gained: Int[np.ndarray, " class"]  # wrong before, right after
    worse: int  # images that lose more classes than they gain
    better: int  # images that gain more than they lose

    @property
    def drop(self) -> Float[np.ndarray, " class"]:
        """By how much the share of right images falls, in points; NaN without an image."""
        return points(self.lost - self.gained, self.images)

    @property
    def total_drop(self) -> float:
        """The same over all classes of all images, of which there is one at least."""
        return float(100 * (self.lost - self.gained).sum() / self.images.sum())


def points(part: Int[np.ndarray, "*of"], whole: Int[np.ndarray, "*of"]) -> Float[np.ndarray, "*of"]:
    """Return parts in per cent of wholes; NaN where there is no whole.

    Examples
    --------
    >>> points(np.array([1, 0]), np.array([4, 0])).tolist()
    [25.0, nan]
    """
    return np.where(whole > 0, 100 * part / np.maximum(whole, 1), np.nan)


def count_changes(
    before: Bool[np.ndarray, "image class"],
    after: Bool[np.ndarray, "image class"],
    present: Bool[np.ndarray, "image class"],
) -> Changes:
    """Count what is lost and what is gained."""
    lost, gained = before & ~after, after & ~before
    net = lost.sum(axis=1) - gained.sum(axis=1)
    return Changes(
        present.sum(axis=0), before.sum(axis=0), lost.sum(axis=0), gained.sum(axis=0),
        int((net > 0).sum()), int((net < 0).sum()),
    )  # fmt: skip


def change_p(
    lost: Int[np.ndarray, "*of"], gained: Int[np.ndarray, "*of"]
) -> Float[np.ndarray, "*of"]:
    """Return how often as uneven a split comes about where losing and gaining are as likely.

    The exact test of McNemar, of both sides; 1 where nothing changes.

    Examples
    --------
    >>> change_p(np.array([6, 0, 3]), np.array([0, 0, 3])).tolist()
    [0.03125, 1.0, 1.0]
    """
    fewer = np.minimum(lost, gained)
    return np.asarray(np.minimum(1.0, 2 * scipy.stats.binom.cdf(fewer, lost + gained, 0.5)))


class Agreement(NamedTuple):
    """How alike units are that lie near by their vectors, in what is lost without them."""

    units: int  # without which something changes: those that are compared
    value: float  # mean correlation of a unit's drops by class with those of its nearest
    null: Float[np.ndarray, " draw"]  # the same where drops are dealt out anew among the units

    @property
    def p(self) -> float:
        """The share of draws that reach the value, itself counted in."""
        return control_of(self.value, self.null).p


def compare_nearest(
    drops: Float[np.ndarray, "unit class"],
    vectors: Float[np.ndarray, "unit dim"],
    n_draws: int,
    seed: int,
) -> Agreement | None:
    """Compare the drops of units with those of their nearest by vector.

    Units without which nothing changes, or all classes alike, correlate with none: they are left
    out, as their own nearest too. None where fewer than three are left.
    """
    living = np.flatnonzero(drops.std(axis=1) > 0)
    if len(living) < 3:
        return None
    correlation = np.corrcoef(drops[living])
    near = nearest_units(torch.from_numpy(vectors[living]), 1)[0][:, 0].numpy()
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(living)) for _ in range(n_draws)]
    null = np.array([correlation[order, order[near]].mean() for order in orders])
    value = correlation[np.arange(len(living)), near].mean()
    return Agreement(len(living), float(value), null)
