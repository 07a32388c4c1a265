"""How much meaning the vectors hold: KL divergence and its controls: ``scores.csv, controls.csv``.

The score of [HAN22] (Han et al., arXiv 2211.07647, section 3.4) compares the similarities of units
by their vectors with those by their IoU profiles: ``KL(T, S) = (1/C) Σ_ij t_ij log(t_ij / q_ij)``,
``t = h(d(T, T))``, ``q = h(d(S, S))``, in nats. Softmax over cosines is nearly flat, so a KL can
fall although no concept was learned. Hence the controls: the same score with the units of T
permuted, a rank correlation with its permutation test, and how often nearest units share a concept.

Vectors of each similarity that they were learned from are scored side by side.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from dissect_embed.artefacts.embedding import SUPERVISED, Embedding
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

# Of a score: similarity, method, seed and epoch; empty where a line belongs to none.
Key = tuple[str, str, int | str, int | str]


class Scored(NamedTuple):
    """The scores of a layer, and by similarity the controls of its vectors, one entry a seed."""

    kl: dict[Key, float]
    controls: dict[str, list[dict[str, Control]]]


def write_scores(
    run: RunFolder,
    path: Path,
    controls_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``scores.csv`` and ``controls.csv``.

    ``scores.csv`` has KL(T, S) along training, a row a layer, similarity, method, seed and epoch.
    Methods of each similarity: ``ours``, ``shuffled`` (the mean over 1,000 permutations of T's
    units, last epoch) and ``limit`` (KL(T, P), no seed and no epoch: where training ends if S can
    represent P). Of none: ``supervised``, ``random`` (the vectors as drawn, epoch 0). Layer
    ``mean`` is the mean over layers. ``controls.csv`` has each control of
    ``scores.permutation_controls``, a row a layer, similarity and seed.

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
        (layer, similarity, statistic, seed, *(repr(value) for value in control))
        for layer, found in scored.items()
        for similarity, by_seed in found.controls.items()
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
    iou, best = profiles[layer].iou, profiles[layer].best.concept
    t, cosines = profile_target(iou), cosine_similarity(torch.from_numpy(iou))
    kl: dict[Key, float] = {}
    controls: dict[str, list[dict[str, Control]]] = {}

    def add_curves(
        name: str, method: str, trajectory: Float[np.ndarray, "seed epoch unit dim"]
    ) -> None:
        scores = score_vectors(t, torch.from_numpy(trajectory)).tolist()
        for seed, curve in zip(embedding.seeds, scores, strict=True):
            kl.update({(name, method, seed, epoch): value for epoch, value in enumerate(curve)})

    for name in embedding.similarities:
        of_layer = embedding.of(layer, name)
        trajectory = of_layer.trajectory
        add_curves(name, "ours", trajectory)
        vectors = torch.from_numpy(of_layer.vectors)
        controls[name] = permutation_controls(t, cosines, vectors, best)
        last = trajectory.shape[1] - 1
        for seed, control in zip(embedding.seeds, controls[name], strict=True):
            kl[name, "shuffled", seed, last] = control["kl_shuffled"].null_mean
    add_curves("", SUPERVISED, embedding.of(layer, SUPERVISED).trajectory)
    for seed in embedding.seeds:
        kl["", "random", seed, 0] = kl["", SUPERVISED, seed, 0]
    for name in embedding.similarities:
        p = torch.from_numpy(similarity.target(layer, name))
        kl[name, "limit", "", ""] = float(kl_divergence(t, p))
    return Scored(kl, controls)


def summarise(scores_path: Path) -> str:
    """Return a line a layer and similarity: KL at the start, at the end, of bound and limit."""
    rows = read_table(scores_path, "scores").rows
    layers = dict.fromkeys(row["layer"] for row in rows)
    similarities = dict.fromkeys(row["similarity"] for row in rows if row["similarity"])
    heads = ("start", "end", "supervised", "limit")
    lines = ["".join([f"{'KL (nats)':<12}{'similarity':<12}", *(f"{head:>11}" for head in heads)])]
    for layer in layers:
        bound = score_curve(rows, layer, SUPERVISED).mean(axis=0)
        for similarity in similarities:
            ours = score_curve(rows, layer, "ours", similarity).mean(axis=0)
            limit = score_curve(rows, layer, "limit", similarity)[0, 0]
            values = (ours[0], ours[-1], bound[-1], limit)
            told = "".join(f"{value:11.4f}" for value in values)
            lines.append(f"{layer:<12}{similarity:<12}{told}")
    return "\n".join(lines)
