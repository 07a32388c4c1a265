"""How units relate: which lie nearest, which add up to a third, and whether they fire together.

Figures 2 and 3 of [HAN22] (Han et al., arXiv 2211.07647) show such units; here every unit is told,
with numbers beside: ``relations.csv`` and ``pairs.csv``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.files import (
    check_expected,
    check_made_from,
    layer_names,
    open_artefact,
)
from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.artefacts.tables import write_table
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device
from dissect_embed.mathematics.neighbours import (
    additive_pairs,
    count_coactivation,
    nearest_units,
    overlap_of,
)
from dissect_embed.networks.forward import Maps
from dissect_embed.networks.replay import Replay, map_batches, prepare_replay
from dissect_embed.parallel import keep_freed_memory

# Nearest units that are told of each unit.
NEAREST = 3
RELATION_COLUMNS = (
    "layer", "unit", "rank", "neighbour", "cosine", "overlap", "chance",
    "label", "score", "neighbour_label", "neighbour_score",
)  # fmt: skip


def write_relations(
    path: Path,
    pairs_path: Path,
    activations_path: Path,
    profiles_path: Path,
    embedding_path: Path,
    *,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
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

    Parameters and errors are those of ``dissection.write_profiles``.
    """
    keep_freed_memory()
    device = choose_device(device)
    nearest_rows: list[list[object]] = []
    pair_rows: list[list[object]] = []
    with (
        open_artefact(activations_path, "activations") as source,
        open_profiles(profiles_path) as profiles,
        open_artefact(embedding_path, "embedding") as embedding,
    ):
        check_expected(source, expected or {})
        origin = str(source.attrs["fingerprint"])
        check_made_from(profiles.file, "activations", origin, str(activations_path))
        check_made_from(embedding, "profiles", profiles.fingerprint, str(profiles_path))
        replay = prepare_replay(source, model, dataset, device)
        overlaps = _overlaps(source, profiles, replay, device, n_threads)
        for layer in layer_names(source):
            vectors = torch.from_numpy(embedding[f"layers/{layer}/vectors"][0])
            concepts = best_concepts(profiles, layer)
            overlap = overlaps[layer].numpy()
            n_units = len(overlap)
            chance = (overlap.sum(axis=1) - overlap.diagonal()) / max(1, n_units - 1)
            units, cosines = nearest_units(vectors, NEAREST)
            for unit in range(n_units):
                for rank, (other, cosine) in enumerate(
                    zip(units[unit].tolist(), cosines[unit].tolist(), strict=True), start=1
                ):
                    row = [layer, unit, rank, other, f"{cosine:.4f}", f"{overlap[unit, other]:.4f}"]
                    row += [f"{chance[unit]:.4f}", *concepts[unit], *concepts[other]]
                    nearest_rows.append(row)
            for rank, pair in enumerate(additive_pairs(vectors), start=1):
                row = [layer, rank, *pair[:3], *(f"{c:.4f}" for c in pair[3:])]
                pair_rows.append([*row, *(concepts[unit][0] for unit in pair[:3])])
    write_table(path, RELATION_COLUMNS, nearest_rows)
    header = ["layer", "rank", "first", "second", "target", "cosine"]
    header += ["first_cosine", "second_cosine", "first_label", "second_label", "target_label"]
    write_table(pairs_path, header, pair_rows)


def best_concepts(profiles: Profiles, layer: str) -> list[tuple[str, str]]:
    """Return each unit's best concept and its IoU; an empty name where it overlaps none."""
    scores = (f"{iou:.4f}" for iou in profiles[layer].best.iou)
    return list(zip(profiles.best_names(layer), scores, strict=True))


def _overlaps(
    source: h5py.File,
    profiles: Profiles,
    replay: Replay | None,
    device: str,
    n_threads: int | None,
) -> dict[str, Float[Tensor, "unit unit"]]:
    """Return the overlap of every two units of each layer, over all images."""
    layers = layer_names(source)
    thresholds = {k: torch.from_numpy(profiles[k].threshold).to(device) for k in layers}

    def count(_: int, kept: dict[str, Maps]) -> tuple[int, dict[str, Tensor]]:
        counts = {k: count_coactivation(m.maps.to(device), thresholds[k]) for k, m in kept.items()}
        return len(next(iter(kept.values())).peak), counts

    totals: dict[str, Tensor] = {}
    n_images = len(source["images"])
    with tqdm(total=n_images, desc="relations", unit=" images", disable=None) as bar:
        for n, counts in map_batches(source, layers, replay, count, n_threads):
            for layer, part in counts.items():
                totals[layer] = totals[layer] + part if layer in totals else part
            bar.update(n)
    return {layer: overlap_of(total.cpu()) for layer, total in totals.items()}
