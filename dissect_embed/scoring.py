"""How much meaning the vectors hold: KL divergence and its controls: ``scores.csv, controls.csv``.

The score of [HAN22] (Han et al., arXiv 2211.07647, section 3.4) compares the similarities of units
by their vectors with those by their IoU profiles: ``KL(T, S) = (1/C) Σ_ij t_ij log(t_ij / q_ij)``,
``t = h(d(T, T))``, ``q = h(d(S, S))``, in nats. Softmax over cosines is nearly flat, so a KL can
fall although no concept was learned. Hence the controls: the same score with the units of T
permuted, a rank correlation with its permutation test, and how often nearest units share a concept.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from dissect_embed.cache import (
    atomic_path,
    check_expected,
    check_made_from,
    layer_names,
    open_artefact,
)
from dissect_embed.embedding import profile_target
from dissect_embed.parallel import map_in_threads, one_torch_thread
from dissect_embed.similarity import cosine_similarity, row_softmax

SCORE_COLUMNS = ("layer", "method", "seed", "epoch", "kl")
CONTROL_COLUMNS = ("layer", "statistic", "seed", "value", "null_mean", "null_sd", "p")


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
    vectors: Float[Tensor, "unit dim"],
    best_concept: Int[np.ndarray, " unit"],
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> dict[str, Control]:
    """Compare one set of vectors with the profiles, and with the profiles' units permuted.

    Parameters
    ----------
    t, profile_cosines
        h(d(T, T)) and d(T, T).
    best_concept
        The concept of each unit's best IoU; -1 for a unit that overlaps none.

    Returns
    -------
    ``kl_shuffled``
        KL(T, S); p is the share of permutations with as low a value.
    ``rank_correlation``
        Spearman's over the pairs of units, d(T, T) against d(S, S): Mantel's test.
    ``neighbours``
        The share of units whose nearest unit by S has the same best concept.
    """
    n_units = len(t)
    cosines = cosine_similarity(vectors.double())
    log_q = torch.log_softmax(cosines, dim=-1)
    negative_entropy = float((t * t.log()).sum()) / n_units
    profile_ranks = _standard_ranks(profile_cosines)
    vector_ranks = _standard_ranks(cosines)
    # Both matrices in one lookup a permutation; the sums are over all pairs of units.
    left = torch.stack([t, profile_ranks]).float()
    right = torch.stack([log_q, vector_ranks]).float()
    nearest = cosines.fill_diagonal_(-torch.inf).argmax(dim=1).numpy()
    rng = np.random.default_rng(seed)
    null = np.empty((n_permutations, 3))
    for row, permutation in enumerate([np.arange(n_units), *_permutations(rng, n_units, null)]):
        chosen = torch.from_numpy(permutation)
        pairs = left[:, chosen[:, None], chosen]
        cross, correlation = (pairs * right).sum(dim=(1, 2), dtype=torch.float64).tolist()
        concept = best_concept[permutation]
        shared = np.mean((concept == concept[nearest]) & (concept >= 0)) if n_units > 1 else 0.0
        found = (negative_entropy - cross / n_units, correlation, float(shared))
        if row == 0:
            value = found
        else:
            null[row - 1] = found
    extreme = (null[:, 0] <= value[0], null[:, 1] >= value[1], null[:, 2] >= value[2])
    return {
        name: Control(
            value[i],
            float(null[:, i].mean()),
            float(null[:, i].std(ddof=1)),
            float((1 + extreme[i].sum()) / (1 + n_permutations)),
        )
        for i, name in enumerate(("kl_shuffled", "rank_correlation", "neighbours"))
    }


def _permutations(
    rng: np.random.Generator, n_units: int, null: Float[np.ndarray, "draw 3"]
) -> Iterator[Int[np.ndarray, " unit"]]:
    for _ in null:
        yield rng.permutation(n_units)


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


def write_scores(
    path: Path,
    profiles_path: Path,
    similarity_path: Path,
    embedding_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``scores.csv``: KL(T, S) along training, a row a layer, method, seed and epoch.

    Methods: ``ours``, ``supervised``, ``random`` (the vectors as drawn, epoch 0), ``shuffled`` (the
    mean over 1,000 permutations of T's units, last epoch) and ``limit`` (KL(T, P), no seed and no
    epoch: where training ends if S can represent P). Layer ``mean`` is the mean over layers.
    """
    with _open_all(profiles_path, similarity_path, embedding_path, expected) as files:
        profiles, similarity, embedding = files
        layers = layer_names(profiles)
        seeds = [int(s) for s in embedding["seeds"][:]]

        def score(layer: str) -> dict[tuple[str, int | str, int | str], float]:
            t = profile_target(profiles[f"layers/{layer}/iou"][:])
            target = torch.from_numpy(similarity[f"layers/{layer}/target"][:])
            found: dict[tuple[str, int | str, int | str], float] = {}
            for method, group in (("ours", ""), ("supervised", "supervised/")):
                trajectory = embedding[f"{group}layers/{layer}/trajectory"][:]
                scores = score_vectors(t, torch.from_numpy(trajectory)).tolist()
                for seed, curve in zip(seeds, scores, strict=True):
                    found |= {(method, seed, epoch): kl for epoch, kl in enumerate(curve)}
            last = trajectory.shape[1] - 1
            for seed in seeds:
                found["random", seed, 0] = found["ours", seed, 0]
            for seed, controls in _layer_controls(profiles, embedding, layer).items():
                found["shuffled", seed, last] = controls["kl_shuffled"].null_mean
            found["limit", "", ""] = float(kl_divergence(t, target))
            return found

        with one_torch_thread():
            tables = dict(
                zip(layers, map_in_threads(score, layers, n_threads=n_threads), strict=True)
            )
    keys = tables[layers[0]]
    tables["mean"] = {key: float(np.mean([tables[layer][key] for layer in layers])) for key in keys}
    rows = [(layer, *key, repr(kl)) for layer, table in tables.items() for key, kl in table.items()]
    _write_csv(path, SCORE_COLUMNS, rows)


def write_controls(
    path: Path,
    profiles_path: Path,
    similarity_path: Path,
    embedding_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``controls.csv``: each control of ``permutation_controls``, a row a layer and seed."""
    with _open_all(profiles_path, similarity_path, embedding_path, expected) as files:
        profiles, _, embedding = files
        layers = layer_names(profiles)
        with one_torch_thread():
            results = map_in_threads(
                lambda layer: _layer_controls(profiles, embedding, layer),
                layers,
                n_threads=n_threads,
            )
            rows = [
                (layer, statistic, seed, *(repr(value) for value in control))
                for layer, by_seed in zip(layers, results, strict=True)
                for seed, controls in by_seed.items()
                for statistic, control in controls.items()
            ]
    _write_csv(path, CONTROL_COLUMNS, rows)


def _layer_controls(
    profiles: h5py.File, embedding: h5py.File, layer: str
) -> dict[int, dict[str, Control]]:
    iou = profiles[f"layers/{layer}/iou"][:]
    t = profile_target(iou)
    cosines = cosine_similarity(torch.from_numpy(iou))
    best = np.where(iou.max(axis=1) > 0, iou.argmax(axis=1), -1)
    vectors = torch.from_numpy(embedding[f"layers/{layer}/vectors"][:])
    return {
        int(seed): permutation_controls(t, cosines, s, best)
        for seed, s in zip(embedding["seeds"][:], vectors, strict=True)
    }


@contextmanager
def _open_all(
    profiles_path: Path,
    similarity_path: Path,
    embedding_path: Path,
    expected: Mapping[str, Any] | None,
) -> Iterator[tuple[h5py.File, h5py.File, h5py.File]]:
    with (
        open_artefact(profiles_path, "profiles") as profiles,
        open_artefact(similarity_path, "similarity") as similarity,
        open_artefact(embedding_path, "embedding") as embedding,
    ):
        check_expected(profiles, expected or {})
        for name, file, source in (
            ("profiles", profiles, profiles_path),
            ("similarity", similarity, similarity_path),
        ):
            check_made_from(embedding, name, str(file.attrs["fingerprint"]), str(source))
        yield profiles, similarity, embedding


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
