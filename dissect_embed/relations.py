"""How units relate: which lie nearest, which add up to a third, and whether they fire together.

Figures 2 and 3 of [HAN22] (Han et al., arXiv 2211.07647) show such units; here every unit is
reported, with numbers beside: ``relations.csv`` and ``pairs.csv``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.files import check_expected
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_artefact_table
from dissect_embed.device import choose_device
from dissect_embed.mathematics.neighbours import (
    Coactivations,
    additive_pairs,
    nearest_units,
    overlap_of,
)
from dissect_embed.networks.replay import Replay, add_up, prepare_replay
from dissect_embed.run import Run

# Nearest units that are reported of each unit.
NEAREST = 3


def write_relations(
    run: Run,
    path: Path,
    pairs_path: Path,
    *,
    similarity: str | None = None,
    dataset: Path | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``relations.csv`` and ``pairs.csv``, for the vectors of the first seed.

    ``relations.csv`` has a row a unit and nearest unit: ``layer, unit, rank, neighbour, cosine,
    overlap`` (IoU of the two units' masks over the data set, at the resolution of the activation
    maps), ``chance`` (the mean overlap of the unit with all others), and both units' best concept
    and its IoU. ``pairs.csv`` has the additive pairs: ``layer, rank, first, second, target, cosine,
    first_cosine, second_cosine`` and the three best concepts.

    Parameters
    ----------
    similarity
        That the vectors were learned from, by default the run's first; the JSON of both tables
        says which.
    dataset
        For layers that are not cached: where the data set lies now.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If a file is missing or damaged, or was not made as ``expected`` says.
    """
    device = choose_device(device)
    with (
        run.open_activations() as source,
        run.open_profiles() as profiles,
        run.open_embedding() as embedding,
    ):
        check_expected(source.file, expected or {})
        replay = None
        if source.uncached:
            replay = prepare_replay(source, run.network(), run.dataset(dataset), device)
        similarity = embedding.check_similarity(similarity)
        vectors = {k: embedding.of(k, similarity).vectors[0] for k in source.layers}
        nearest, pairs = find_relations(source, profiles, vectors, replay, device, n_threads)
        config = embedding.config | {"similarity": similarity}
        made_from = {
            "activations": source.fingerprint,
            "profiles": profiles.fingerprint,
            "embedding": embedding.fingerprint,
        }
    write_artefact_table(path, "relations", nearest, config, made_from)
    write_artefact_table(pairs_path, "pairs", pairs, config, made_from)


def find_relations(
    source: Activations,
    profiles: Profiles,
    vectors: Mapping[str, Float[np.ndarray, "unit dim"]],
    replay: Replay | None,
    device: str,
    n_threads: int | None = None,
) -> tuple[list[list[object]], list[list[object]]]:
    """Return the rows of ``relations.csv`` and of ``pairs.csv``."""
    nearest_rows: list[list[object]] = []
    pair_rows: list[list[object]] = []
    thresholds = {k: torch.from_numpy(profiles[k].threshold).to(device) for k in source.layers}
    together = Coactivations(thresholds)
    add_up(together, source, source.layers, replay, device, n_threads, desc="relations")
    for layer in source.layers:
        of_layer = torch.from_numpy(vectors[layer])
        concepts = profiles.best_concepts(layer)
        overlap = overlap_of(together.totals[layer].cpu()).numpy()
        n_units = len(overlap)
        chance = (overlap.sum(axis=1) - overlap.diagonal()) / max(1, n_units - 1)
        units, cosines = nearest_units(of_layer, NEAREST)
        for unit in range(n_units):
            for rank, (other, cosine) in enumerate(
                zip(units[unit].tolist(), cosines[unit].tolist(), strict=True), start=1
            ):
                row = [layer, unit, rank, other, f"{cosine:.4f}", f"{overlap[unit, other]:.4f}"]
                row += [f"{chance[unit]:.4f}", *concepts[unit], *concepts[other]]
                nearest_rows.append(row)
        for rank, pair in enumerate(additive_pairs(of_layer), start=1):
            row = [layer, rank, *pair[:3], *(f"{c:.4f}" for c in pair[3:])]
            pair_rows.append([*row, *(concepts[unit][0] for unit in pair[:3])])
    return nearest_rows, pair_rows
