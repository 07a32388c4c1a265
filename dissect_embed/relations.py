"""How units relate: which lie nearest, which add up to a third, and whether they fire together.

Figures 2 and 3 of [HAN22] (Han et al., arXiv 2211.07647) show such units; here every unit is told,
with numbers beside: ``relations.csv`` and ``pairs.csv``.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.cache import (
    check_expected,
    check_made_from,
    layer_names,
    open_artefact,
)
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device
from dissect_embed.forward import Maps
from dissect_embed.parallel import keep_freed_memory
from dissect_embed.replay import Replay, map_batches, prepare_replay
from dissect_embed.similarity import cosine_similarity
from dissect_embed.tables import write_table

# Nearest units that are told of each unit.
NEAREST = 3
# A target among so many nearest units of either part is trivial: the part alone is near it.
TRIVIAL = 10
# Pairs that are told of each layer.
TOP_PAIRS = 100
RELATION_COLUMNS = (
    "layer", "unit", "rank", "neighbour", "cosine", "overlap", "chance",
    "label", "score", "neighbour_label", "neighbour_score",
)  # fmt: skip


class AdditivePair(NamedTuple):
    """Two units whose vectors add up to a direction near a third's."""

    first: int
    second: int
    target: int
    cosine: float  # of the sum with the target
    first_cosine: float  # of each part alone
    second_cosine: float


def nearest_units(
    vectors: Float[Tensor, "unit dim"], n: int
) -> tuple[Int[Tensor, "unit near"], Float[Tensor, "unit near"]]:
    """Return each unit's nearest others by cosine, nearest first, and the cosines.

    Of equals the one of the lower number comes first. A layer with fewer units gives fewer.

    Examples
    --------
    >>> units, cosines = nearest_units(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]]), 1)
    >>> units.tolist(), cosines[0, 0].item()
    ([[1], [2], [1]], 0.6000000238418579)
    """
    cosine = cosine_similarity(vectors)
    cosine.fill_diagonal_(-torch.inf)
    order = cosine.sort(dim=1, descending=True, stable=True)
    n = min(n, len(vectors) - 1)
    return order.indices[:, :n], order.values[:, :n]


def additive_pairs(
    vectors: Float[Tensor, "unit dim"], top: int = TOP_PAIRS, trivial: int = TRIVIAL
) -> list[AdditivePair]:
    """Return the pairs of units whose summed vector lies nearest to a third unit, best first.

    Vectors count by their direction, as in d(S, S): the sum is that of unit vectors, and with the
    cosines c its cosine with k is ``(c_ik + c_jk) / sqrt(2 + 2 c_ij)``. All pairs and targets are
    compared, one first unit at a time, so memory is C². A target among the ``trivial`` nearest
    units of either part is left out; each pair counts once, with its best target.

    Examples
    --------
    >>> units = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> best = additive_pairs(units, top=1, trivial=0)[0]
    >>> (best.first, best.second, best.target), round(best.cosine, 3), round(best.first_cosine, 3)
    ((0, 1, 2), 0.998, 0.705)
    """
    found = []
    cosine = cosine_similarity(vectors.double())
    for i, score in _score_sums(vectors, cosine, trivial):
        best = score.max(dim=1)
        kept = best.values.topk(min(top, len(best.values))).indices
        found += [
            (float(best.values[j]), i, i + 1 + int(j), int(best.indices[j]))
            for j in kept
            if best.values[j] > -torch.inf
        ]
    found.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [
        AdditivePair(i, j, k, score, float(cosine[i, k]), float(cosine[j, k]))
        for score, i, j, k in found[:top]
    ]


def completing_pairs(
    vectors: Float[Tensor, "unit dim"], n: int, trivial: int = TRIVIAL
) -> list[list[AdditivePair]]:
    """Return for each unit the pairs whose summed vectors lie nearest to it, best first.

    Sums, and what is left out, are those of ``additive_pairs``.

    Examples
    --------
    >>> units = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> [(pair.first, pair.second) for pair in completing_pairs(units, n=2, trivial=0)[2]]
    [(0, 1), (0, 3)]
    """
    cosine = cosine_similarity(vectors.double())
    found: list[list[tuple[float, int, int]]] = [[] for _ in vectors]
    for i, score in _score_sums(vectors, cosine, trivial):
        best = score.topk(min(n, len(score)), dim=0)
        for k, (values, places) in enumerate(
            zip(best.values.T.tolist(), best.indices.T.tolist(), strict=True)
        ):
            told = zip(values, places, strict=True)
            found[k] += [(-value, i, i + 1 + j) for value, j in told if value > -torch.inf]
            found[k] = sorted(found[k])[:n]
    return [
        [
            AdditivePair(i, j, k, -score, float(cosine[i, k]), float(cosine[j, k]))
            for score, i, j in pairs
        ]
        for k, pairs in enumerate(found)
    ]


def _score_sums(
    vectors: Float[Tensor, "unit dim"], cosine: Float[Tensor, "unit unit"], trivial: int
) -> Iterator[tuple[int, Float[Tensor, "later unit"]]]:
    """Yield i and the cosines of its sum with each later unit with each unit; -inf if trivial."""
    n_units = len(vectors)
    excluded = torch.eye(n_units, dtype=torch.bool)
    near, _ = nearest_units(vectors, trivial)
    excluded.scatter_(1, near, True)
    first = range(n_units - 1 if n_units > 2 else 0)
    for i in tqdm(first, "pairs of units", unit=" units", leave=False, disable=None):
        later = slice(i + 1, n_units)
        length = (2 + 2 * cosine[i, later]).clamp_min(1e-12).sqrt()
        score = (cosine[i] + cosine[later]) / length[:, None]
        score[excluded[i] | excluded[later]] = -torch.inf
        yield i, score


def count_coactivation(
    maps: Float[Tensor, "image unit y x"], thresholds: Float[Tensor, " unit"]
) -> Int[Tensor, "unit unit"]:
    """Count the positions of the activation maps at which two units fire both; adds up over images.

    Examples
    --------
    >>> count_coactivation(torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]]), torch.tensor([0.5, 0.5]))
    tensor([[1, 1],
            [1, 2]])
    """
    fires = maps.float() > thresholds[:, None, None]
    # A batch has fewer than 2^24 positions, which float32 counts exactly.
    fires = fires.movedim(1, 0).flatten(1).float()
    return (fires @ fires.T).long()


def overlap_of(coactivation: Int[Tensor, "unit unit"]) -> Float[Tensor, "unit unit"]:
    """Return the IoU of every two units' masks over the data set; 0 where neither ever fires."""
    size = coactivation.diagonal()
    union = size[:, None] + size - coactivation
    return torch.where(union > 0, coactivation / union.clamp_min(1), 0.0).double()


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
