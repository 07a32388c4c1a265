"""How much meaning the vectors hold: KL divergence and its controls: ``scores.csv, controls.csv``.

The score of [HAN22] (Han et al., arXiv 2211.07647, section 3.4) compares the similarities of units
by their vectors with those by their IoU profiles: ``KL(T, S) = (1/C) Σ_ij t_ij log(t_ij / q_ij)``,
``t = h(d(T, T))``, ``q = h(d(S, S))``, in nats. Softmax over cosines is nearly flat, so a KL can
fall although no concept was learned. Hence the controls: the same score with the units of T
permuted, a rank correlation with its permutation test, and how often nearest units share a concept.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from dissect_embed.artefacts.files import check_expected, check_made_from, open_artefact
from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.artefacts.tables import (
    CONTROL_COLUMNS,
    SCORE_COLUMNS,
    read_table,
    score_curve,
    write_table,
)
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.cosines import cosine_similarity
from dissect_embed.mathematics.scores import (
    Control,
    kl_divergence,
    permutation_controls,
    score_vectors,
)
from dissect_embed.mathematics.vectors import profile_target
from dissect_embed.parallel import map_in_threads, one_torch_thread


def write_controls(
    path: Path,
    profiles_path: Path,
    similarity_path: Path,
    embedding_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``controls.csv``: each control of ``permutation_controls``, a row a layer and seed.

    Raises
    ------
    ArtefactError
        If a file is damaged, or the files do not belong together.
    """
    with _open_all(profiles_path, similarity_path, embedding_path, expected) as files:
        profiles, _, embedding = files
        layers = profiles.layers
        seeds = [int(seed) for seed in embedding["seeds"][:]]

        def compare(layer: str) -> list[dict[str, Control]]:
            iou = profiles[layer].iou
            return permutation_controls(
                profile_target(iou),
                cosine_similarity(torch.from_numpy(iou)),
                torch.from_numpy(embedding[f"layers/{layer}/vectors"][:]),
                profiles[layer].best.concept,
            )

        with one_torch_thread():
            results = list(map_in_threads(compare, layers, n_threads=n_threads))
    rows = [
        (layer, statistic, seed, *(repr(value) for value in control))
        for layer, by_seed in zip(layers, results, strict=True)
        for seed, controls in zip(seeds, by_seed, strict=True)
        for statistic, control in controls.items()
    ]
    write_table(path, CONTROL_COLUMNS, rows)


def write_scores(
    path: Path,
    profiles_path: Path,
    similarity_path: Path,
    embedding_path: Path,
    controls_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``scores.csv``: KL(T, S) along training, a row a layer, method, seed and epoch.

    Methods: ``ours``, ``supervised``, ``random`` (the vectors as drawn, epoch 0), ``shuffled`` (the
    mean over 1,000 permutations of T's units, last epoch) and ``limit`` (KL(T, P), no seed and no
    epoch: where training ends if S can represent P). Layer ``mean`` is the mean over layers.

    Raises
    ------
    ArtefactError
        If a file is damaged, or the files do not belong together.
    """
    with _open_all(profiles_path, similarity_path, embedding_path, expected) as files:
        profiles, similarity, embedding = files
        layers = profiles.layers
        seeds = [int(s) for s in embedding["seeds"][:]]
        shuffled = _read_shuffled(controls_path)

        def score(layer: str) -> dict[tuple[str, int | str, int | str], float]:
            t = profile_target(profiles[layer].iou)
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
                value, null_mean = shuffled.get((layer, seed), (np.nan, np.nan))
                # The table bears no fingerprint, but it must know this very number (in float32).
                if not np.isclose(value, found["ours", seed, last], rtol=1e-3, atol=1e-5):
                    msg = (
                        f"{controls_path}: made from another embedding than {embedding_path} "
                        f"({layer}, seed {seed}); run 'snakemake --forcerun controls'"
                    )
                    raise ArtefactError(msg)
                found["shuffled", seed, last] = null_mean
            found["limit", "", ""] = float(kl_divergence(t, target))
            return found

        with one_torch_thread():
            tables = dict(
                zip(layers, map_in_threads(score, layers, n_threads=n_threads), strict=True)
            )
    keys = tables[layers[0]]
    tables["mean"] = {key: float(np.mean([tables[layer][key] for layer in layers])) for key in keys}
    rows = [(layer, *key, repr(kl)) for layer, table in tables.items() for key, kl in table.items()]
    write_table(path, SCORE_COLUMNS, rows)


def summarise(scores_path: Path) -> str:
    """Return a line a layer: KL at the start, at the end, of the supervised bound, of the limit."""
    rows = read_table(scores_path, SCORE_COLUMNS, "score")
    lines = [f"{'KL (nats)':<12}{'start':>9}{'end':>9}{'supervised':>12}{'limit':>9}"]
    for layer in dict.fromkeys(row["layer"] for row in rows):
        ours = score_curve(rows, layer, "ours").mean(axis=0)
        bound = score_curve(rows, layer, "supervised").mean(axis=0)
        limit = score_curve(rows, layer, "limit")[0, 0]
        lines.append(f"{layer:<12}{ours[0]:9.4f}{ours[-1]:9.4f}{bound[-1]:12.4f}{limit:9.4f}")
    return "\n".join(lines)


def _read_shuffled(path: Path) -> dict[tuple[str, int], tuple[float, float]]:
    """Return (KL, mean KL with the units permuted) by layer and seed."""
    return {
        (row["layer"], int(row["seed"])): (float(row["value"]), float(row["null_mean"]))
        for row in read_table(path, CONTROL_COLUMNS, "controls")
        if row["statistic"] == "kl_shuffled"
    }


@contextmanager
def _open_all(
    profiles_path: Path,
    similarity_path: Path,
    embedding_path: Path,
    expected: Mapping[str, Any] | None,
) -> Iterator[tuple[Profiles, h5py.File, h5py.File]]:
    with (
        open_profiles(profiles_path) as profiles,
        open_artefact(similarity_path, "similarity") as similarity,
        open_artefact(embedding_path, "embedding") as embedding,
    ):
        check_expected(profiles.file, expected or {})
        for name, file, source in (
            ("profiles", profiles.file, profiles_path),
            ("similarity", similarity, similarity_path),
        ):
            check_made_from(embedding, name, str(file.attrs["fingerprint"]), str(source))
        yield profiles, similarity, embedding
