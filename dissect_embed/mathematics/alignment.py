"""How alike two layers are, of one network or of two: as wholes, and unit by unit.

As wholes: centred kernel alignment, CKA ([KOR19] Kornblith, Norouzi, Lee, Hinton, Similarity of
Neural Network Representations Revisited, ICML 2019), ``HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))``
of two kernels over the same things: 1 where they differ in scale and rotation alone.

Gretton's HSIC as [KOR19] takes it is biased: with as many units as images any two layers come out
alike (two of independent noise, 512 units each, at 0.5 over 512 images). So it is estimated without
bias here, by [SON12] (Song, Smola, Gretton, Bedo, Borgwardt, Feature Selection via Dependence
Maximization, JMLR 13, 2012, eq. 5), as [NGU21] (Nguyen, Raghu, Kornblith, Do Wide and Deep Networks
Learn the Same Things?, ICLR 2021) does: where two layers have nothing in common it is 0 in the
mean, and can fall below. That estimate is the product of U-centred kernels (Székely and Rizzo, Ann.
Statist. 42, 2014), which is how it is computed.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from dissect_embed.mathematics.controls import Control, control_of

# Fewer things, images or units, give no estimate without bias.
LEAST = 4
# Less than this share of what was summed is rounding: such a kernel is the same everywhere.
ROUNDING = 1e-10


def u_centre(kernel: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Return a symmetric kernel, U-centred: every row sums to 0, and so does the diagonal.

    The diagonal that was there does not enter. ``(A * B).sum() / (n (n - 3))`` of two is the
    estimate of HSIC by [SON12].

    Examples
    --------
    >>> float(abs(u_centre(np.arange(16.0).reshape(4, 4)).sum(axis=1)).max()) < 1e-12
    True
    """
    n = len(kernel)
    hollow = kernel - np.diag(np.diag(kernel))
    rows = hollow.sum(axis=1) / (n - 2)
    centred = hollow - rows[:, None] - rows + hollow.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0)
    return np.asarray(centred)


def kernel_alignment(
    one: Float[np.ndarray, "n n"],
    other: Float[np.ndarray, "n n"],
    n_draws: int = 100,
    random_seed: int = 0,
) -> Control:
    """Return the CKA of two symmetric kernels over the same n things, at least ``LEAST``.

    Beside it: the things of the other one shuffled, ``n_draws`` times. NaN where a kernel has the
    same value everywhere.

    Examples
    --------
    >>> points = np.array([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0], [1.0, 2.0], [5.0, 1.0]])
    >>> float(round(kernel_alignment(points @ points.T, 7 * points @ points.T).value, 6))
    1.0
    """
    first, second = u_centre(one), u_centre(other)
    norms = [float((centred**2).sum()) for centred in (first, second)]
    if any(
        norm <= ROUNDING * float((kernel**2).sum())
        for norm, kernel in zip(norms, (one, other), strict=True)
    ):
        return control_of(np.nan)
    first /= np.sqrt(norms[0] * norms[1])
    rng = np.random.default_rng(random_seed)
    null = np.empty(n_draws)
    for draw in range(n_draws):
        order = rng.permutation(len(second))
        null[draw] = (first * second[order[:, None], order]).sum()
    return control_of(float((first * second).sum()), null)


class Features(NamedTuple):
    """What a layer says of each image, made ready to be compared."""

    centred: Float[np.ndarray, "image unit"]
    lengths: Float[np.ndarray, " image"]  # squared, of its rows
    norm: float  # HSIC with itself times n (n - 3); 0 where all images look alike


def features_of(values: Float[np.ndarray, "image unit"]) -> Features:
    """Return the features of a layer; of at least ``LEAST`` images."""
    centred = _centre(values)
    lengths = (centred**2).sum(axis=1)
    gram = centred.T @ centred
    norm = _product(float((gram**2).sum()), lengths, lengths)
    return Features(centred, lengths, norm if norm > ROUNDING * float((gram**2).sum()) else 0.0)


def linear_alignment(
    one: Features, other: Features, n_draws: int = 100, random_seed: int = 0
) -> Control:
    """Return the linear CKA of two layers over the same images; numbers of units may differ.

    Beside it: the images of the other one shuffled, ``n_draws`` times. NaN where a layer says the
    same of every image. It is ``kernel_alignment`` of ``X Xᵀ`` and ``Y Yᵀ``, but of the (C, C')
    product of the features, so that it takes no matrix over images.
    """
    scale = float(np.sqrt(one.norm) * np.sqrt(other.norm))
    if not scale:
        return control_of(np.nan)

    def align(order: Int[np.ndarray, " image"] | slice) -> float:
        both = one.centred.T @ other.centred[order]
        return _product(float((both**2).sum()), one.lengths, other.lengths[order]) / scale

    rng = np.random.default_rng(random_seed)
    n_images = len(one.lengths)
    null = np.array([align(rng.permutation(n_images)) for _ in range(n_draws)])
    return control_of(align(slice(None)), null)


def _product(
    total: float, one: Float[np.ndarray, " image"], other: Float[np.ndarray, " image"]
) -> float:
    """Return the product of two U-centred kernels of centred features: eq. 5 of [SON12].

    Their kernels' rows sum to 0, so without its diagonal each row sums to less its squared length.

    Parameters
    ----------
    total
        The product of the kernels, diagonals included: ``|XᵀY|²``.
    one, other
        Squared lengths, the diagonals.
    """
    n = len(one)
    diagonal = float(one @ other)
    means = float(one.sum() * other.sum()) / ((n - 1) * (n - 2))
    return total - diagonal + means - 2 / (n - 2) * diagonal


class Matched(NamedTuple):
    """The mean correlation of matched units beside either control."""

    images_shuffled: Control
    units_shuffled: Control


class Matching(NamedTuple):
    """Units of two layers, one to one; those that vary, and of the larger layer not all."""

    one: Int[np.ndarray, " pair"]
    other: Int[np.ndarray, " pair"]
    correlation: Float[np.ndarray, " pair"]
    mean: Matched


def standardise(values: Float[np.ndarray, "image unit"]) -> Float[np.ndarray, "image unit"]:
    """Return values of mean 0 and length 1, so that products are correlations; 0 of a constant.

    Examples
    --------
    >>> standardise(np.array([[1.0, 5.0], [3.0, 5.0]])).round(4).tolist()
    [[-0.7071, 0.0], [0.7071, 0.0]]
    """
    centred = _centre(values)
    length = np.linalg.norm(centred, axis=0)
    return np.asarray(centred / np.where(length > 0, length, 1))


def match_units(
    one: Float[np.ndarray, "image unit"],
    other: Float[np.ndarray, "image other"],
    n_draws: int = 20,
    random_seed: int = 0,
) -> Matching:
    """Match units of two layers one to one, so that their mean correlation is the highest there is.

    As [LI16] does (Li, Yosinski, Clune, Lipson, Hopcroft, Convergent Learning: Do Different Neural
    Networks Learn the Same Representations?, ICLR 2016). The best of many matchings is high for
    anything. So beside it stand the best ones where the images of the other layer are shuffled,
    ``n_draws`` times; and, over the same images, as many matchings at random, for peaks rise
    together on some images whatever the units are.

    Parameters
    ----------
    one, other
        A number for each unit on the same images. A unit that is the same on all of them has no
        partner.

    Examples
    --------
    >>> peaks = np.array([[0.0, 1.0, 3.0], [1.0, 0.0, 3.0], [2.0, 5.0, 3.0], [3.0, 1.0, 3.0]])
    >>> match_units(peaks, peaks[:, [2, 1, 0]]).other.tolist()  # the constant one has no partner
    [2, 1]
    """
    first, second = standardise(one), standardise(other)
    left, right = (np.flatnonzero(values.any(axis=0)) for values in (first, second))
    first, second = first[:, left], second[:, right]
    correlation = first.T @ second
    rows, columns = linear_sum_assignment(correlation, maximize=True)
    found = correlation[rows, columns]
    if not len(found):
        return Matching(left[rows], right[columns], found, Matched(*[control_of(np.nan)] * 2))
    rng = np.random.default_rng(random_seed)
    shuffled, drawn = np.empty(n_draws), np.empty(n_draws)
    for draw in range(n_draws):
        by_chance = first.T @ second[rng.permutation(len(second))]
        shuffled[draw] = by_chance[linear_sum_assignment(by_chance, maximize=True)].mean()
        drawn[draw] = correlation[_draw_pairs(rng, *correlation.shape)].mean()
    mean = float(found.mean())
    controls = Matched(control_of(mean, shuffled), control_of(mean, drawn))
    return Matching(left[rows], right[columns], found, controls)


def share_alike(
    one: Int[np.ndarray, " unit"],
    other: Int[np.ndarray, " other"],
    matching: Matching,
    n_draws: int = 100,
    random_seed: int = 0,
) -> Control:
    """Return the share of matched units that have the same best concept.

    Beside it the same units matched at random.

    Parameters
    ----------
    one, other
        Each unit's best concept; -1, which is like nothing, where it has none.
    """
    if not len(matching.one):
        return control_of(np.nan)
    first, second = one[matching.one], other[matching.other]
    rng = np.random.default_rng(random_seed)

    def share(order: Int[np.ndarray, " pair"] | slice) -> float:
        return float(((first == second[order]) & (first >= 0)).mean())

    null = np.array([share(rng.permutation(len(second))) for _ in range(n_draws)])
    return control_of(share(slice(None)), null)


def _centre(values: Float[np.ndarray, "image unit"]) -> Float[np.ndarray, "image unit"]:
    """Return values less each unit's mean, in units of the largest; exactly 0 of a constant."""
    values = values.astype(np.float64)
    values /= max(float(np.abs(values).max(initial=0)), np.finfo(np.float32).tiny)
    centred = values - values.mean(axis=0)
    centred[:, values.max(axis=0) == values.min(axis=0)] = 0
    return np.asarray(centred)


def _draw_pairs(
    rng: np.random.Generator, n_units: int, n_others: int
) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    least = min(n_units, n_others)
    return rng.permutation(n_units)[:least], rng.permutation(n_others)[:least]
