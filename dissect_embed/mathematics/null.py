"""What IoU chance gives: masks laid on the labels of other images.

A unit that fires where pictures are bright overlaps with sky, also in pictures it never saw. So
each draw pairs every image's masks with the labels of another image, over the whole data set at
once, and counts as for the true pairs; a unit's best IoU over all concepts is then what the search
for a maximum finds by chance. The draws of all units of a layer make up its null distribution.
"""

from math import ceil

import numpy as np
from jaxtyping import Float, Int

# Draws times units of a layer: enough to tell a 99 % quantile.
POOL = 256
LEVEL = 0.01


def count_draws(n_units: int) -> int:
    """Return how many draws a layer needs.

    Examples
    --------
    >>> count_draws(64), count_draws(512)
    (4, 1)
    """
    return ceil(POOL / n_units)


def draw_partners(
    size: Int[np.ndarray, "image 2"], n_draws: int, seed: int
) -> Int[np.ndarray, "draw image"]:
    """Return for each draw the image whose labels each image's masks are laid on.

    Every draw is a permutation that leaves no image in its place, among images with label maps of
    one size: so every concept keeps its pixels. (An image whose size no other has keeps its own
    labels.) A draw does not depend on how many there are.

    Examples
    --------
    >>> partners = draw_partners(np.full((5, 2), 112), 2, seed=0)
    >>> np.sort(partners, axis=1)[0].tolist(), bool((partners == np.arange(5)).any())
    ([0, 1, 2, 3, 4], False)
    """
    partners = np.empty((n_draws, len(size)), dtype=np.int64)
    _, group = np.unique(size, axis=0, return_inverse=True)
    for draw in range(n_draws):
        rng = np.random.default_rng([seed, draw])
        order = rng.permutation(len(size))
        # Each goes to the next of its group in a random order.
        order = order[np.argsort(group.ravel()[order], kind="stable")]
        starts = np.flatnonzero(np.diff(group.ravel()[order], prepend=-1))
        for members in np.split(order, starts[1:]):
            partners[draw, members] = np.roll(members, -1)
    return partners


def null_bound(values: Float[np.ndarray, "draw *any"]) -> Float[np.ndarray, "*any"]:
    """Return the value that at most 1 % of the draws exceed.

    Examples
    --------
    >>> null_bound(np.arange(200.0)[:, None])
    array([197.])
    """
    return np.asarray(np.quantile(values, 1 - LEVEL, axis=0, method="inverted_cdf"))


def p_values(
    score: Float[np.ndarray, " unit"], null: Float[np.ndarray, " pool"]
) -> Float[np.ndarray, " unit"]:
    """Return the share of the null that reaches each score, the score itself counted in.

    Examples
    --------
    >>> p_values(np.array([0.5, 0.0]), np.array([0.1, 0.2, 0.3])).tolist()
    [0.25, 1.0]
    """
    below = np.searchsorted(np.sort(null), score, side="left")
    return (1 + len(null) - below) / (1 + len(null))
