"""How much meaning the vectors hold: KL divergence and its controls: ``scores.csv, controls.csv``.

The score of [HAN22] (Han et al., arXiv 2211.07647, section 3.4) compares the similarities of units
by their vectors with those by their IoU profiles: ``KL(T, S) = (1/C) Σ_ij t_ij log(t_ij / q_ij)``,
``t = h(d(T, T))``, ``q = h(d(S, S))``, in nats. Softmax over cosines is nearly flat, so a KL can
fall although no concept was learned. Hence the controls: the same score with the units of T
permuted, a rank correlation with its permutation test, and how often nearest units share a concept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from dissect_embed.artefacts.embedding import METHODS, Embedding
from dissect_embed.artefacts.files import check_expected
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.similarity import Similarity
from dissect_embed.artefacts.tables import read_table, score_curve, write_artefact_table
from dissect_embed.mathematics.cosines import cosine_similarity
from dissect_embed.mathematics.scores import (
    Control,
    kl_divergence,
    permutation_controls,
    score_vectors,
)
from dissect_embed.mathematics.vectors import profile_target
from dissect_embed.parallel import map_in_threads, one_torch_thread

# Of a score: method, seed and epoch, which lines without a seed or an epoch leave empty.
Key = tuple[str, int | str, int | str]


class Scored(NamedTuple):
    """The scores of a layer, and the controls of its vectors, a dictionary a seed."""

    kl: dict[Key, float]
    controls: list[dict[str, Control]]


def write_scores(
    run: RunFolder,
    path: Path,
    controls_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``scores.csv`` and ``controls.csv``.

    ``scores.csv`` has KL(T, S) along training, a row a layer, method, seed and epoch. Methods:
    ``ours``, ``supervised``, ``random`` (the vectors as drawn, epoch 0), ``shuffled`` (the mean
    over 1,000 permutations of T's units, last epoch) and ``limit`` (KL(T, P), no seed and no epoch:
    where training ends if S can represent P). Layer ``mean`` is the mean over layers.
    ``controls.csv`` has each control of ``scores.permutation_controls``, a row a layer and seed.

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, or was not made as ``expected`` says.
    """
    with (
        run.open_profiles() as profiles,
        run.open_similarity() as similarity,
        run.open_embedding() as embedding,
    ):
        check_expected(profiles.file, expected or {})
        layers, seeds = profiles.layers, embedding.seeds
        config = embedding.config
        made_from = {
            "profiles": profiles.fingerprint,
            "similarity": similarity.fingerprint,
            "embedding": embedding.fingerprint,
        }

        def score(layer: str) -> Scored:
            return _score_layer(layer, profiles, similarity, embedding)

        with one_torch_thread():
            scored = dict(
                zip(layers, map_in_threads(score, layers, n_threads=n_threads), strict=True)
            )
    control_rows = [
        (layer, statistic, seed, *(repr(value) for value in control))
        for layer, (_, by_seed) in scored.items()
        for seed, controls in zip(seeds, by_seed, strict=True)
        for statistic, control in controls.items()
    ]
    write_artefact_table(controls_path, "controls", control_rows, config, made_from)
    tables = {layer: found.kl for layer, found in scored.items()}
    keys = tables[layers[0]]
    tables["mean"] = {key: float(np.mean([tables[layer][key] for layer in layers])) for key in keys}
    rows = [(layer, *key, repr(kl)) for layer, table in tables.items() for key, kl in table.items()]
    write_artefact_table(path, "scores", rows, config, made_from)


def _score_layer(
    layer: str, profiles: Profiles, similarity: Similarity, embedding: Embedding
) -> Scored:
    iou = profiles[layer].iou
    t = profile_target(iou)
    seeds = embedding.seeds
    kl: dict[Key, float] = {}
    for method in METHODS:
        trajectory = embedding.of(layer, method).trajectory
        scores = score_vectors(t, torch.from_numpy(trajectory)).tolist()
        for seed, curve in zip(seeds, scores, strict=True):
            kl |= {(method, seed, epoch): value for epoch, value in enumerate(curve)}
    controls = permutation_controls(
        t, cosine_similarity(torch.from_numpy(iou)), torch.from_numpy(embedding[layer].vectors),
        profiles[layer].best.concept,
    )  # fmt: skip
    last = trajectory.shape[1] - 1
    for seed, control in zip(seeds, controls, strict=True):
        kl["random", seed, 0] = kl["ours", seed, 0]
        kl["shuffled", seed, last] = control["kl_shuffled"].null_mean
    kl["limit", "", ""] = float(kl_divergence(t, torch.from_numpy(similarity.target(layer))))
    return Scored(kl, controls)


def summarise(scores_path: Path) -> str:
    """Return a line a layer: KL at the start, at the end, of the supervised bound, of the limit."""
    rows = read_table(scores_path, "scores").rows
    lines = [f"{'KL (nats)':<12}{'start':>9}{'end':>9}{'supervised':>12}{'limit':>9}"]
    for layer in dict.fromkeys(row["layer"] for row in rows):
        ours = score_curve(rows, layer, "ours").mean(axis=0)
        bound = score_curve(rows, layer, "supervised").mean(axis=0)
        limit = score_curve(rows, layer, "limit")[0, 0]
        lines.append(f"{layer:<12}{ours[0]:9.4f}{ours[-1]:9.4f}{bound[-1]:12.4f}{limit:9.4f}")
    return "\n".join(lines)
