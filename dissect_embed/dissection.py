"""Network Dissection: score every unit by its IoU with every concept: ``profiles.h5``.

[BAU17] Bau, Zhou, Khosla, Oliva, Torralba, Network Dissection, CVPR 2017, with exact thresholds and
exact counts. A unit's row of ``iou`` is its profile, the target semantic vector of [HAN22] (Han et
al., arXiv 2211.07647, section 3.4).
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import read_top
from dissect_embed.artefacts.files import (
    check_expected,
    check_made_from,
    create_artefact,
    label_axes,
    layer_names,
    open_artefact,
    read_config,
    whole_fingerprint,
    write_scale,
)
from dissect_embed.artefacts.labels import Labels, open_labels
from dissect_embed.artefacts.profiles import ConceptTable, LayerCounts, write_profile_file
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device, count_threads
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.null import count_draws, draw_partners
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
from dissect_embed.parallel import keep_freed_memory, one_torch_thread


def write_profiles(
    path: Path,
    activations_path: Path,
    labels_path: Path,
    *,
    quantile: float = 0.005,
    detector_iou: float = 0.04,
    null_seed: int = 0,
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
    quantile
        The share of a unit's activations that exceed its threshold.
    detector_iou
        The least best-IoU of a unit that counts as a detector; recorded for what reads the file.
    null_seed
        Draws the pairs of images that tell what IoU chance gives (``null``).
    thresholds_path
        From ``write_thresholds``: needed where the activations are those of a shard.
    model, dataset
        Needed for layers that are not cached: the network runs once more.
    expected
        Settings that the activations must have been made with (``cache.check_expected``).

    Raises
    ------
    ArtefactError
        If the activations are damaged or made from something else.
    """
    keep_freed_memory()
    device = choose_device(device)
    with (
        open_artefact(activations_path, "activations") as source,
        open_labels(labels_path) as labels,
    ):
        check_expected(source, expected or {})
        check_made_from(source, "dataset", labels.dataset, str(labels_path))
        config = read_config(source)
        shard = "shard" in config
        config["dissection"] = {"quantile": quantile, "detector_iou": detector_iou}
        config["dissection"]["null_seed"] = null_seed
        made_from = {"activations": whole_fingerprint(source), "dataset": labels.dataset}
        replay = prepare_replay(source, model, dataset, device)
        if thresholds_path:
            thresholds = _read_thresholds(thresholds_path, source, quantile)
        elif shard:
            msg = f"{activations_path}: a shard; name the thresholds of all (--thresholds)"
            raise ArtefactError(msg)
        else:
            thresholds = _find_thresholds(source, quantile, replay, n_threads)
        pixels, counts = _count(source, labels, thresholds, null_seed, replay, device, n_threads)
        concepts = ConceptTable(
            labels.names, labels.numbers, labels.categories, labels.concept_category, pixels
        )
        with create_artefact(path, "profiles", config, made_from) as file:
            write_profile_file(file, concepts, thresholds, counts, shard=shard)


def write_thresholds(
    path: Path,
    activations_path: Path,
    *,
    quantile: float = 0.005,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
    device: str | None = None,
) -> None:
    """Write ``thresholds.h5``: what all shards are dissected with.

    Parameters and errors are those of ``write_profiles``.
    """
    device = choose_device(device)
    with open_artefact(activations_path, "activations") as source:
        config = read_config(source) | {"dissection": {"quantile": quantile}}
        made_from = {"activations": whole_fingerprint(source)}
        replay = prepare_replay(source, model, dataset, device)
        thresholds = _find_thresholds(source, quantile, replay, None)
    with create_artefact(path, "thresholds", config, made_from) as file:
        for layer, values in thresholds.items():
            group = file.create_group(f"layers/{layer}")
            unit = write_scale(group, "unit", np.arange(len(values)))
            label_axes(group.create_dataset("threshold", data=values), ("unit",), {"unit": unit})


def _read_thresholds(
    path: Path, source: h5py.File, quantile: float
) -> dict[str, Float[np.ndarray, " unit"]]:
    with open_artefact(path, "thresholds") as file:
        check_made_from(file, "activations", whole_fingerprint(source), source.filename)
        check_expected(file, {"dissection.quantile": quantile})
        return {layer: file[f"layers/{layer}/threshold"][:] for layer in layer_names(source)}


def _find_thresholds(
    source: h5py.File, quantile: float, replay: Replay | None, n_threads: int | None
) -> dict[str, Float[np.ndarray, " unit"]]:
    found = {}
    for layer in layer_names(source):
        group = source[f"layers/{layer}"]
        _, height, width = group.attrs["shape"]
        n_images = len(group["peak"])

        def take_maps(_: int, kept: dict[str, Maps], layer: str = layer) -> Tensor:
            return kept[layer].maps

        def batches(layer: str = layer, n_images: int = n_images) -> Iterator[Tensor]:
            with tqdm(
                total=n_images, desc=f"{layer} thresholds", unit=" images", disable=None
            ) as bar:
                for maps in map_batches(source, [layer], replay, take_maps, n_threads):
                    bar.update(len(maps))
                    yield maps

        n_values = int(n_images * height * width)
        dtype = DTYPES[group.attrs["dtype"]]
        found[layer] = compute_thresholds(batches, n_values, quantile, read_top(group), dtype)
    return found


def _count(
    source: h5py.File,
    labels: Labels,
    thresholds: Mapping[str, Float[np.ndarray, " unit"]],
    null_seed: int,
    replay: Replay | None,
    device: str,
    n_threads: int | None,
) -> tuple[Int[np.ndarray, " concept"], dict[str, LayerCounts]]:
    """Return the pixels of each concept, and the counts of each layer."""
    first, n_images = int(source.attrs["first_image"]), len(source["images"])
    n_concepts, n_categories = len(labels.names), len(labels.categories)
    limits = {layer: torch.from_numpy(t).to(device) for layer, t in thresholds.items()}
    draws = {layer: count_draws(len(t)) for layer, t in thresholds.items()}
    # Row 0 pairs every image with itself.
    partners = draw_partners(labels.size, max(draws.values()), null_seed)
    partners = np.concatenate([np.arange(len(labels.size))[None], partners])

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=device)

    pixels = zeros(n_concepts)
    totals = {
        layer: (
            zeros(1 + draws[layer], n_concepts, len(t)),
            zeros(1 + draws[layer], len(t), n_categories),
        )
        for layer, t in thresholds.items()
    }

    one_at_a_time = threading.Lock()

    def count_batch(start: int, kept: dict[str, Maps]) -> int:
        n = len(next(iter(kept.values())).peak)
        images = np.arange(first + start, first + start + n)
        sizes = labels.size[images]
        # Label maps of one size go together; almost always that is the whole batch.
        for size in np.unique(sizes, axis=0):
            chosen = np.flatnonzero((sizes == size).all(axis=1))
            batches = [
                LabelBatch(
                    [labels.regions(i) for i in row[images[chosen]].tolist()],
                    labels.concept_category, n_categories, device,
                )
                for row in partners
            ]  # fmt: skip
            counted = []
            for layer, limit in limits.items():
                maps, peak = (t if len(chosen) == n else t[chosen] for t in kept[layer])
                shape = (int(size[0]), int(size[1]))
                used = batches[: 1 + draws[layer]]
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
        tqdm(total=n_images, desc="dissection", unit=" images", disable=None) as bar,
    ):
        n_threads = count_threads(device, n_threads)
        for n in map_batches(source, list(thresholds), replay, count_batch, n_threads):
            bar.update(n)
    return pixels.cpu().numpy(), {
        layer: LayerCounts(both.mT.contiguous().cpu().numpy(), fired.cpu().numpy())
        for layer, (both, fired) in totals.items()
    }
