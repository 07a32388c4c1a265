"""The score of vectors against profiles, KL(T, S), and its controls by permutation."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax


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


def score_vectors(
    t: Float[Tensor, "unit unit"], vectors: Float[Tensor, "*batch unit dim"]
) -> Float[Tensor, "*batch"]:
    """Return KL(T, S) for each set of vectors, in float64."""
    scores = [
        kl_divergence(t, row_softmax(cosine_similarity(s.double())))
        for s in vectors.reshape(-1, *vectors.shape[-2:])
    ]
    return torch.stack(scores).reshape(vectors.shape[:-2])


class Control(NamedTuple):
    """A statistic beside what chance gives: its mean, standard deviation and one-sided p-value."""

    value: float
    null_mean: float
    null_sd: float
    p: float


def permutation_controls(
    t: Float[Tensor, "unit unit"],
    profile_cosines: Float[Tensor, "unit unit"],
    vectors: Float[Tensor, "seed unit dim"],
    best_concept: Int[np.ndarray, " unit"],
    *,
    n_permutations: int = 1000,
    random_seed: int = 0,
) -> list[dict[str, Control]]:
    """Compare sets of vectors with the profiles, and with the profiles' units permuted.

    Parameters
    ----------
    t, profile_cosines
        h(d(T, T)) and d(T, T).
    best_concept
        The concept of each unit's best IoU; -1 for a unit that overlaps none.

    Returns
    -------
    For each set of vectors:

    ``kl_shuffled``
        KL(T, S); p is the share of permutations with as low a value.
    ``rank_correlation``
        Spearman's over the pairs of units, d(T, T) against d(S, S): Mantel's test.
    ``neighbours``
        The share of units whose nearest unit by S has the same best concept.
    """
    n_units = len(t)
    cosines = cosine_similarity(vectors.double())
    # Set off against uniform rows, whose sum is known: small numbers lose nothing in float32.
    log_q = torch.log_softmax(cosines, dim=-1) + np.log(n_units)
    ranks = torch.stack([_standard_ranks(c) for c in cosines])
    cosines.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    nearest = cosines.argmax(dim=2).numpy()
    negative_entropy = float((t * (t * n_units).log()).sum()) / n_units
    # All matrices in one lookup a permutation; the sums are over all pairs of units.
    left = torch.stack([t, _standard_ranks(profile_cosines)]).float()
    right = torch.stack([log_q, ranks], dim=1).float().flatten(2)  # (seed, 2, pair)

    def statistics(permutation: Int[np.ndarray, " unit"]) -> Float[np.ndarray, "seed 3"]:
        chosen = torch.from_numpy(permutation)
        pairs = left[:, chosen[:, None], chosen].flatten(1)
        cross, correlation = torch.einsum("mp,smp->ms", pairs, right).double().numpy()
        concept = best_concept[permutation]
        shared = (concept == concept[nearest]) & (concept >= 0)
        return np.stack(
            [negative_entropy - cross / n_units, correlation, shared.mean(axis=1)], axis=1
        )

    rng = np.random.default_rng(random_seed)
    value = statistics(np.arange(n_units))
    null = np.stack([statistics(rng.permutation(n_units)) for _ in range(n_permutations)])
    extreme = np.stack(
        [null[..., 0] <= value[:, 0], null[..., 1] >= value[:, 1], null[..., 2] >= value[:, 2]], 2
    )
    p = (1 + extreme.sum(axis=0)) / (1 + n_permutations)
    mean, sd = null.mean(axis=0), null.std(axis=0, ddof=1)
    return [
        {
            name: Control(*(float(table[s, i]) for table in (value, mean, sd, p)))
            for i, name in enumerate(("kl_shuffled", "rank_correlation", "neighbours"))
        }
        for s in range(len(vectors))
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
