"""How much meaning the vectors hold: KL divergence and its controls: ``scores.csv, controls.csv``.

The score of [HAN22] (Han et al., arXiv 2211.07647, section 3.4) compares the similarities of units
by their vectors with those by their IoU profiles: ``KL(T, S) = (1/C) Σ_ij t_ij log(t_ij / q_ij)``,
``t = h(d(T, T))``, ``q = h(d(S, S))``, in nats. It falls for anything, also for profiles of labels
that belong to other images, and random vectors, with which it is compared there, are no "knowing
nothing": they assert similarities that are not there. So it stands beside ``uniform``, all units
alike, and what it gains over that beside the gain with wrong labels (``chance.h5``).
"""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.embedding import SUPERVISED, Embedding
from dissect_embed.artefacts.files import check_expected
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.similarity import Similarity
from dissect_embed.artefacts.tables import control_cells, score_curve, write_artefact_table
from dissect_embed.mathematics.controls import Control
from dissect_embed.mathematics.scores import (
    kl_divergence,
    likeness_of,
    meaning_of,
    permutation_controls,
    score_vectors,
    wrong_label_controls,
)
from dissect_embed.parallel import map_in_threads, one_torch_thread

# Of a score: similarity, method, seed and epoch; empty where a line belongs to none.
Key = tuple[str, str, int | str, int | str]
# A band of two standard deviations about the mean over permutations.
BAND = 2


class Scored(NamedTuple):
    """The scores of a layer, and the controls by similarity and null, one entry a seed."""

    kl: dict[Key, float]
    controls: dict[tuple[str, str], list[dict[str, Control]]]


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
    Methods of each similarity: ``ours``; at the last epoch ``shuffled`` (the mean over 1,000
    permutations of T's units), ``shuffled_low`` and ``shuffled_high`` (two standard deviations from
    it) and ``wrong_labels`` (the mean of KL(T', S) over draws); ``limit`` (KL(T, P), no seed and no
    epoch: where training ends if S can represent P). Of none: ``supervised``, ``random`` (the
    vectors as drawn, epoch 0) and ``uniform`` (KL(T, 1/C), no seed and no epoch). Layer ``mean`` is
    the mean over layers.

    ``controls.csv`` has each control of ``scores.permutation_controls`` (null ``shuffled``) and of
    ``scores.wrong_label_controls`` (null ``wrong_labels``), a row a layer, similarity, statistic
    and seed. Where the data set allows no draws (``Chance.no_p``) the latter have a value alone.

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, or was not made as ``expected`` says.
    """
    with (
        run.open_profiles() as profiles,
        run.open_chance() as chance,
        run.open_similarity() as similarity,
        run.open_embedding() as embedding,
    ):
        check_expected(profiles.file, expected or {})
        layers, seeds = profiles.layers, embedding.seeds
        config = embedding.config | {"chance": chance.config["chance"]}
        made_from = {
            "profiles": profiles.fingerprint,
            "chance": chance.fingerprint,
            "similarity": similarity.fingerprint,
            "embedding": embedding.fingerprint,
        }

        def score(layer: str) -> Scored:
            return _score_layer(layer, profiles, chance, similarity, embedding)

        with one_torch_thread():
            scored = dict(
                zip(layers, map_in_threads(score, layers, n_threads=n_threads), strict=True)
            )
    control_rows = [
        (layer, name, statistic, null, seed, *control_cells(control))
        for layer, found in scored.items()
        for (name, null), by_seed in found.controls.items()
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
    layer: str,
    profiles: Profiles,
    chance: Chance,
    similarity: Similarity,
    embedding: Embedding,
) -> Scored:
    meaning = meaning_of(profiles[layer].iou)
    wrong = [] if chance.no_p else list(chance.profiles(layer).astype(np.float64))
    kl: dict[Key, float] = {}
    controls: dict[tuple[str, str], list[dict[str, Control]]] = {}

    def add_curves(
        name: str, method: str, trajectory: Float[np.ndarray, "seed epoch unit dim"]
    ) -> None:
        scores = score_vectors(meaning.t, torch.from_numpy(trajectory)).tolist()
        for seed, curve in zip(embedding.seeds, scores, strict=True):
            kl.update({(name, method, seed, epoch): value for epoch, value in enumerate(curve)})

    for name in embedding.similarities:
        of_layer = embedding.of(layer, name)
        trajectory = of_layer.trajectory
        add_curves(name, "ours", trajectory)
        likeness = likeness_of(torch.from_numpy(of_layer.vectors))
        shuffled = permutation_controls(meaning, likeness)
        wrong_labels = wrong_label_controls(meaning, wrong, likeness)
        controls[name, "shuffled"], controls[name, "wrong_labels"] = shuffled, wrong_labels
        last = trajectory.shape[1] - 1
        for seed, by_unit, by_label in zip(embedding.seeds, shuffled, wrong_labels, strict=True):
            mean, sd = by_unit["kl"].null_mean, by_unit["kl"].null_sd
            kl[name, "shuffled", seed, last] = mean
            kl[name, "shuffled_low", seed, last] = mean - BAND * sd
            kl[name, "shuffled_high", seed, last] = mean + BAND * sd
            if wrong:
                kl[name, "wrong_labels", seed, last] = by_label["kl"].null_mean
    add_curves("", SUPERVISED, embedding.of(layer, SUPERVISED).trajectory)
    for seed in embedding.seeds:
        kl["", "random", seed, 0] = kl["", SUPERVISED, seed, 0]
    for name in embedding.similarities:
        p = torch.from_numpy(similarity.target(layer, name))
        kl[name, "limit", "", ""] = float(kl_divergence(meaning.t, p))
    kl["", "uniform", "", ""] = meaning.uniform
    return Scored(kl, controls)


def summarise(run: RunFolder) -> str:
    """Return a line a layer and similarity: its scores, and its gain beside that of wrong labels.

    Over seeds the mean, but for p the largest.
    """
    rows = run.read_table("scores").rows
    controls = [row for row in run.read_table("controls").rows if row["null"] == "wrong_labels"]
    layers = dict.fromkeys(row["layer"] for row in rows)
    similarities = dict.fromkeys(row["similarity"] for row in rows if row["similarity"])
    heads = ("start", "end", "supervised", "limit", "uniform", "gain", "wrong", "p")
    lines = ["".join([f"{'KL (nats)':<12}{'similarity':<12}", *(f"{head:>11}" for head in heads)])]
    for layer in layers:
        bound = score_curve(rows, layer, SUPERVISED).mean(axis=0)[-1]
        uniform = score_curve(rows, layer, "uniform")[0, 0]
        for name in similarities:
            ours = score_curve(rows, layer, "ours", name).mean(axis=0)
            limit = score_curve(rows, layer, "limit", name)[0, 0]
            gains = [
                row
                for row in controls
                if (row["layer"], row["similarity"], row["statistic"]) == (layer, name, "gain")
            ]
            tested = [row for row in gains if row["p"]]
            wrong = np.mean([float(row["null_mean"]) for row in tested]) if tested else np.nan
            p = max((float(row["p"]) for row in tested), default=np.nan)
            values = (ours[0], ours[-1], bound, limit, uniform, uniform - ours[-1], wrong)
            told = "".join(f"{value:11.4f}" if isfinite(value) else f"{'':11}" for value in values)
            lines.append(f"{layer:<12}{name:<12}{told}" + (f"{p:11.3f}" if tested else ""))
    lines.append(
        "gain: uniform - end; wrong: the gain with labels of other images; p: of those that gain "
        "as much"
    )
    return "\n".join(lines)
