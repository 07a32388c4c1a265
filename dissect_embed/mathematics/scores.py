"""The score of vectors against profiles, KL(T, S), and what could refute that it means anything.

Softmax over cosines is nearly flat, so a KL is small, and falls in training, whatever the profiles
are: also where they are those of other images. So vectors are compared with the profiles in three
ways, and each beside the same with profiles of *wrong labels*, T' (``null``): the same masks laid
on labels of other images. Units permuted are a weaker control: it tests that vectors belong to
these units, not that the labels do.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from dissect_embed.mathematics.controls import Control
from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax
from dissect_embed.mathematics.iou import find_best
from dissect_embed.mathematics.vectors import profile_target


def kl_divergence(
    t: Float[Tensor, "*batch unit unit"], q: Float[Tensor, "*batch unit unit"]
) -> Float[Tensor, "*batch"]:
    """Return ``(1/C) Σ_ij t_ij log(t_ij / q_ij)`` in nats; all entries must be positive.

    Examples
    --------
    >>> t = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    >>> kl_divergence(t, torch.full((2, 2), 0.5))  # (0.75 log 1.5 + 0.25 log 0.5) / 2
    tensor(0.0654)
    """
    return (t * (t / q).log()).sum(dim=(-2, -1)) / t.shape[-1]


def uniform_score(t: Float[Tensor, "unit unit"]) -> float:
    """Return KL(T, uniform), nats: the score of "all units are alike", q = 1/C.

    Examples
    --------
    >>> round(uniform_score(torch.tensor([[0.75, 0.25], [0.5, 0.5]])), 4)
    0.0654
    """
    return float((t * (t * len(t)).log()).sum()) / len(t)


def score_vectors(
    t: Float[Tensor, "unit unit"], vectors: Float[Tensor, "*batch unit dim"]
) -> Float[Tensor, "*batch"]:
    """Return KL(T, S) for each set of vectors, in float64."""
    scores = [
        kl_divergence(t, row_softmax(cosine_similarity(s.double())))
        for s in vectors.reshape(-1, *vectors.shape[-2:])
    ]
    return torch.stack(scores).reshape(vectors.shape[:-2])


class Likeness(NamedTuple):
    """How alike units are by some sets of vectors, made ready to be compared."""

    log_q: Float[Tensor, "seed unit unit"]  # log of C · h(d(S, S)): small numbers lose nothing
    ranks: Float[Tensor, "seed unit unit"]
    nearest: Int[np.ndarray, "seed unit"]


class Meaning(NamedTuple):
    """What profiles say of a layer's units, made ready to be compared."""

    t: Float[Tensor, "unit unit"]  # h(d(T, T))
    ranks: Float[Tensor, "unit unit"]
    best: Int[np.ndarray, " unit"]  # each unit's best concept; -1 where it overlaps none
    uniform: float  # KL(T, uniform)


def likeness_of(vectors: Float[Tensor, "seed unit dim"]) -> Likeness:
    """Return how alike units are by sets of vectors."""
    cosines = cosine_similarity(vectors.double())
    log_q = torch.log_softmax(cosines, dim=-1) + np.log(vectors.shape[1])
    ranks = torch.stack([_standard_ranks(c) for c in cosines])
    cosines.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return Likeness(log_q, ranks, cosines.argmax(dim=2).numpy())


def meaning_of(iou: Float[np.ndarray, "unit concept"]) -> Meaning:
    """Return what profiles say of units."""
    t = profile_target(iou)
    ranks = _standard_ranks(cosine_similarity(torch.from_numpy(iou)))
    return Meaning(t, ranks, find_best(iou).concept, uniform_score(t))


def permutation_controls(
    meaning: Meaning, likeness: Likeness, *, n_permutations: int = 1000, random_seed: int = 0
) -> list[dict[str, Control]]:
    """Compare sets of vectors with the profiles, and with the profiles' units permuted.

    Returns
    -------
    For each set of vectors:

    ``kl``
        KL(T, S), nats; p is the share of permutations with as low a value.
    ``rank_correlation``
        Spearman's over the pairs of units, d(T, T) against d(S, S): Mantel's test.
    ``neighbours``
        The share of units whose nearest unit by S has the same best concept.
    """
    n_units = len(meaning.t)
    # All matrices in one lookup a permutation; the sums are over all pairs of units.
    left = torch.stack([meaning.t, meaning.ranks]).float()
    right = torch.stack([likeness.log_q, likeness.ranks], dim=1).float().flatten(2)

    def statistics(permutation: Int[np.ndarray, " unit"]) -> Float[np.ndarray, "seed 3"]:
        chosen = torch.from_numpy(permutation)
        pairs = left[:, chosen[:, None], chosen].flatten(1)
        gain, correlation = torch.einsum("mp,smp->ms", pairs, right).double().numpy()
        kl = meaning.uniform - gain / n_units
        shared = _share_of_neighbours(meaning.best[permutation], likeness.nearest)
        return np.stack([kl, correlation, shared], axis=1)

    rng = np.random.default_rng(random_seed)
    value = statistics(np.arange(n_units))
    null = np.stack([statistics(rng.permutation(n_units)) for _ in range(n_permutations)])
    names = ("kl", "rank_correlation", "neighbours")
    return _as_controls(names, value, null, np.array([-1, 1, 1]))


def wrong_label_controls(
    meaning: Meaning, wrong: Sequence[Float[np.ndarray, "unit concept"]], likeness: Likeness
) -> list[dict[str, Control]]:
    """Compare sets of vectors with the profiles, and with those of wrong labels.

    Parameters
    ----------
    wrong
        T' of each draw; none where the data set allows no draws: then the controls are NaN.

    Returns
    -------
    For each set of vectors ``gain``, KL(T, uniform) - KL(T, S) in nats, and ``kl``,
    ``rank_correlation``, ``neighbours`` as by ``permutation_controls``; p is the share of draws
    that do as well, the true labels counted in.
    """

    def statistics(meaning: Meaning) -> Float[np.ndarray, "seed 4"]:
        gain, correlation = (
            torch.einsum("ij,sij->s", of_labels, of_vectors).numpy()
            for of_labels, of_vectors in (
                (meaning.t, likeness.log_q),
                (meaning.ranks, likeness.ranks),
            )
        )
        shared = _share_of_neighbours(meaning.best, likeness.nearest)
        gain = gain / len(meaning.t)
        return np.stack([meaning.uniform - gain, gain, correlation, shared], axis=1)

    value = statistics(meaning)
    null = np.array([statistics(meaning_of(iou)) for iou in wrong]).reshape(-1, *value.shape)
    names = ("kl", "gain", "rank_correlation", "neighbours")
    return _as_controls(names, value, null, np.array([-1, 1, 1, 1]))


def _share_of_neighbours(
    best: Int[np.ndarray, " unit"], nearest: Int[np.ndarray, "seed unit"]
) -> Float[np.ndarray, " seed"]:
    return np.asarray(((best == best[nearest]) & (best >= 0)).mean(axis=1))


def _as_controls(
    names: tuple[str, ...],
    value: Float[np.ndarray, "seed statistic"],
    null: Float[np.ndarray, "draw seed statistic"],
    sign: Int[np.ndarray, " statistic"],
) -> list[dict[str, Control]]:
    """Return the controls of each seed; p counts draws as good: as high, or low where -1 is."""
    none = np.full(value.shape, np.nan)
    numbers = [value, none, none, none]
    if len(null):
        p = (1 + (sign * null >= sign * value).sum(axis=0)) / (1 + len(null))
        numbers = [value, null.mean(axis=0), null.std(axis=0, ddof=1), p]
    return [
        {
            name: Control(*(float(table[seed, i]) for table in numbers))
            for i, name in enumerate(names)
        }
        for seed in range(len(value))
    ]


def _standard_ranks(cosines: Float[Tensor, "unit unit"]) -> Float[Tensor, "unit unit"]:
    """Return ranks over the pairs of different units, so that products sum to a correlation.

    The diagonal is 0, and so is everything where all pairs are alike.
    """
    n_units = len(cosines)
    ranks = np.zeros((n_units, n_units))
    pair = ~np.eye(n_units, dtype=bool)
    values = rankdata(cosines.numpy()[pair])
    values -= values.mean() if len(values) else 0
    norm = np.linalg.norm(values)
    ranks[pair] = values / norm if norm > 0 else 0
    return torch.from_numpy(ranks)
