"""Network Dissection: score every unit by its IoU with every concept: ``profiles.h5``.

[BAU17] Bau, Zhou, Khosla, Oliva, Torralba, Network Dissection, CVPR 2017, with exact thresholds and
exact counts. A unit's row of ``iou`` is its profile, the target semantic vector of [HAN22] (Han et
al., arXiv 2211.07647, section 3.4).
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations, open_activations
from dissect_embed.artefacts.files import check_expected, check_made_from, create_artefact
from dissect_embed.artefacts.labels import Labels, open_labels
from dissect_embed.artefacts.profiles import ConceptTable, LayerCounts, write_profile_file
from dissect_embed.artefacts.thresholds import open_thresholds, write_threshold_file
from dissect_embed.config import Dissection
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device, count_threads
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.regions import (
    LabelBatch,
    add_fired,
    add_overlaps,
    count_labels,
    count_overlaps,
)
from dissect_embed.mathematics.thresholds import compute_thresholds
from dissect_embed.networks.forward import DTYPES, Maps
from dissect_embed.networks.replay import Replay, map_batches, prepare_replay
from dissect_embed.parallel import one_torch_thread


def write_profiles(
    path: Path,
    activations_path: Path,
    labels_path: Path,
    settings: Dissection = Dissection(),
    *,
    thresholds_path: Path | None = None,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Dissect every layer of ``activations.h5`` and write ``profiles.h5``.

    Parameters
    ----------
    thresholds_path
        From ``write_thresholds``: needed where the activations are those of a shard.
    model, dataset
        Needed for layers that are not cached: the network runs once more.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If the activations are damaged or made from something else.
    """
    device = choose_device(device)
    with open_activations(activations_path) as source, open_labels(labels_path) as labels:
        check_expected(source.file, expected or {})
        check_made_from(source.file, "dataset", labels.dataset, str(labels_path))
        config = {**source.config, "dissection": {"quantile": settings.quantile}}
        made_from = {"activations": source.fingerprint, "labels": labels.fingerprint}
        replay = prepare_replay(source, model, dataset, device)
        if thresholds_path:
            thresholds = _read_thresholds(thresholds_path, source, settings.quantile)
        elif source.shard:
            msg = f"{activations_path}: a shard; name the thresholds of all (--thresholds)"
            raise ArtefactError(msg)
        else:
            thresholds = _find_thresholds(source, settings.quantile, replay, n_threads)
        # Every image with its own labels, and no other pairing.
        partners = {layer: np.arange(len(labels.size))[None] for layer in thresholds}
        pixels, counts = count_pairings(
            source, labels, thresholds, partners, replay, device, n_threads
        )
        concepts = ConceptTable(
            labels.names, labels.numbers, labels.categories, labels.concept_category, pixels
        )
        true = {
            layer: LayerCounts(c.intersection[0], c.activation[0]) for layer, c in counts.items()
        }
        with create_artefact(path, "profiles", config, made_from) as file:
            write_profile_file(file, concepts, thresholds, true)


def write_thresholds(
    path: Path,
    activations_path: Path,
    settings: Dissection = Dissection(),
    *,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``thresholds.h5``: what all shards are dissected with.

    Parameters and errors are those of ``write_profiles``.
    """
    device = choose_device(device)
    with open_activations(activations_path) as source:
        config = {**source.config, "dissection": {"quantile": settings.quantile}}
        made_from = {"activations": source.fingerprint, **source.parts}
        replay = prepare_replay(source, model, dataset, device)
        thresholds = _find_thresholds(source, settings.quantile, replay, n_threads)
    with create_artefact(path, "thresholds", config, made_from) as file:
        write_threshold_file(file, thresholds)


def _read_thresholds(
    path: Path, source: Activations, quantile: float
) -> dict[str, Float[np.ndarray, " unit"]]:
    with open_thresholds(path) as thresholds:
        if source.fingerprint not in thresholds.made_from.values():
            msg = (
                f"{path}: made from other activations than {source.path}; delete it and run "
                "'snakemake --forcerun thresholds'"
            )
            raise ArtefactError(msg)
        check_expected(thresholds.file, {"dissection.quantile": quantile})
        return {layer: thresholds[layer] for layer in source.layers}


def _find_thresholds(
    source: Activations, quantile: float, replay: Replay | None, n_threads: int | None
) -> dict[str, Float[np.ndarray, " unit"]]:
    found = {}
    for layer in source.layers:
        _, height, width = source[layer].shape

        def take_maps(_: int, kept: dict[str, Maps], layer: str = layer) -> Tensor:
            return kept[layer].maps

        def batches(layer: str = layer) -> Iterator[Tensor]:
            with tqdm(
                total=len(source), desc=f"{layer} thresholds", unit=" images", disable=None
            ) as bar:
                for maps in map_batches(source, [layer], replay, take_maps, n_threads):
                    bar.update(len(maps))
                    yield maps

        n_values = len(source) * height * width
        dtype = DTYPES[source[layer].dtype]
        found[layer] = compute_thresholds(batches, n_values, quantile, source[layer].top, dtype)
    return found


def count_pairings(
    source: Activations,
    labels: Labels,
    thresholds: Mapping[str, Float[np.ndarray, " unit"]],
    partners: Mapping[str, Int[np.ndarray, "draw image"]],
    replay: Replay | None,
    device: str,
    n_threads: int | None,
    desc: str = "dissection",
) -> tuple[Int[np.ndarray, " concept"], dict[str, LayerCounts]]:
    """Lay the masks of every image on the labels of some image, and count, for several draws.

    Parameters
    ----------
    partners
        For each layer, draw and image of the data set the image whose labels its masks are laid on.
        A layer of fewer draws has the first of those of the others.

    Returns
    -------
    The pixels of each concept over the images, by the labels of the first draw, and the counts of
    each layer, a row a draw.
    """
    n_concepts, n_categories = len(labels.names), len(labels.categories)
    limits = {layer: torch.from_numpy(t).to(device) for layer, t in thresholds.items()}
    draws = {layer: len(rows) for layer, rows in partners.items()}
    most = max(partners.values(), key=len)

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=device)

    pixels = zeros(n_concepts)
    totals = {
        layer: (
            zeros(draws[layer], n_concepts, len(t)),
            zeros(draws[layer], len(t), n_categories),
        )
        for layer, t in thresholds.items()
    }

    one_at_a_time = threading.Lock()

    def count_batch(start: int, kept: dict[str, Maps]) -> int:
        n = len(next(iter(kept.values())).peak)
        images = source.first_image + np.arange(start, start + n)
        sizes = labels.size[images]
        # Label maps of one size go together; almost always that is the whole batch.
        for size in np.unique(sizes, axis=0):
            chosen = np.flatnonzero((sizes == size).all(axis=1))
            batches = [
                LabelBatch(
                    [labels.regions(i) for i in row[images[chosen]].tolist()],
                    labels.concept_category, n_categories, device,
                )
                for row in most
            ]  # fmt: skip
            counted = []
            for layer, limit in limits.items():
                maps, peak = (t if len(chosen) == n else t[chosen] for t in kept[layer])
                shape = (int(size[0]), int(size[1]))
                used = batches[: draws[layer]]
                for firing in firing_pixels(maps.to(device), peak.to(device), limit, shape):
                    counted.append((layer, *count_overlaps(firing, used, len(limit))))
            labelled = count_labels(batches[0], n_concepts)
            with one_at_a_time:
                pixels.add_(labelled)
                for layer, overlaps, fired in counted:
                    for both, by_category, overlap, batch in zip(
                        *totals[layer], overlaps, batches, strict=False
                    ):
                        add_overlaps(both, *overlap)
                        add_fired(by_category, fired, batch)
        return n

    with (
        one_torch_thread(),
        tqdm(total=len(source), desc=desc, unit=" images", disable=None) as bar,
    ):
        n_threads = count_threads(device, n_threads)
        for n in map_batches(source, list(thresholds), replay, count_batch, n_threads):
            bar.update(n)
    return pixels.cpu().numpy(), {
        layer: LayerCounts(both.mT.contiguous().cpu().numpy(), fired.cpu().numpy())
        for layer, (both, fired) in totals.items()
    }
