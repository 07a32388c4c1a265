"""Network Dissection: score every unit by its IoU with every concept: ``profiles.h5``.

[BAU17] Bau, Zhou, Khosla, Oliva, Torralba, Network Dissection, CVPR 2017, with exact thresholds and
exact counts. A unit's row of ``iou`` is its profile, the target semantic vector of [HAN22] (Han et
al., arXiv 2211.07647, section 3.4).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from dissect_embed.cache import (
    check_expected,
    check_made_from,
    create_artefact,
    label_axes,
    layer_names,
    open_artefact,
    read_config,
    write_scale,
)
from dissect_embed.counting import LabelBatch, count_labels, count_overlaps
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.parallel import keep_freed_memory, map_in_threads, one_torch_thread
from dissect_embed.thresholds import compute_thresholds, read_top

# Images read at once: some 25 MB of ResNet18's activations in float16.
BATCH = 32


def compute_iou(
    intersection: Int[np.ndarray, "unit concept"],
    activation: Int[np.ndarray, "unit category"],
    label_pixels: Int[np.ndarray, " concept"],
    concept_category: Int[np.ndarray, " concept"],
) -> Float[np.ndarray, "unit concept"]:
    """Return the intersection over union of every unit's mask with every concept.

    The union counts a unit's mask only over the images in which the concept's category is labelled
    at all ([BAU17] section 2.3). Where there is nothing to unite, the IoU is 0.

    Examples
    --------
    Two pixels in common, a mask of 3 and a label of 5 pixels: 2 / (3 + 5 - 2).

    >>> compute_iou(np.array([[2]]), np.array([[3]]), np.array([5]), np.array([0]))
    array([[0.33333333]])
    """
    union = activation[:, concept_category] + label_pixels - intersection
    return np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)


def write_profiles(
    path: Path,
    activations_path: Path,
    dataset: Broden,
    *,
    quantile: float = 0.005,
    detector_iou: float = 0.04,
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
    expected
        Settings that the activations must have been made with (``cache.check_expected``).

    Raises
    ------
    ArtefactError
        If the activations are damaged or made from something else.
    DatasetError
        If a label map is damaged.
    """
    keep_freed_memory()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with open_artefact(activations_path, "activations") as source:
        check_expected(source, expected or {})
        check_made_from(source, "dataset", dataset.fingerprint, str(dataset.root))
        config = read_config(source)
        config["dissection"] = {"quantile": quantile, "detector_iou": detector_iou}
        made_from = {
            "activations": str(source.attrs["fingerprint"]),
            "dataset": dataset.fingerprint,
        }
        layers = layer_names(source)
        thresholds = {
            layer: _thresholds_of(source[f"layers/{layer}"], layer, quantile) for layer in layers
        }
        label_pixels, counts = _count(source, dataset, thresholds, device, n_threads)
    with create_artefact(path, "profiles", config, made_from) as file:
        scales = _write_labels(file, dataset, label_pixels)
        for layer in layers:
            intersection, activation = counts[layer]
            iou = compute_iou(intersection, activation, label_pixels, dataset.concept_category)
            group = file.create_group(f"layers/{layer}")
            unit = write_scale(group, "unit", np.arange(len(iou)))
            for name, values, axes in (
                ("threshold", thresholds[layer], ("unit",)),
                ("intersection", intersection, ("unit", "concept")),
                ("activation", activation, ("unit", "category")),
                ("iou", iou, ("unit", "concept")),
            ):
                label_axes(group.create_dataset(name, data=values), axes, scales | {"unit": unit})


def _thresholds_of(group: h5py.Group, layer: str, quantile: float) -> Float[np.ndarray, " unit"]:
    maps = group["activations"]
    n_images, _, height, width = maps.shape

    def batches() -> Iterator[np.ndarray]:
        starts = range(0, n_images, BATCH)
        for start in tqdm(starts, desc=f"{layer} thresholds", unit=" batches", disable=None):
            yield maps[start : start + BATCH]

    n_values = n_images * height * width
    return compute_thresholds(batches, n_values, quantile, read_top(group), maps.dtype)


def _count(
    source: h5py.File,
    dataset: Broden,
    thresholds: Mapping[str, Float[np.ndarray, " unit"]],
    device: str,
    n_threads: int | None,
) -> tuple[Int[np.ndarray, " concept"], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return the pixels of each concept, and (intersection, activation) of each layer."""
    n_images, n_concepts, n_categories = (
        len(dataset.rows),
        len(dataset.concepts),
        len(dataset.categories),
    )
    limits = {layer: torch.from_numpy(t).to(device) for layer, t in thresholds.items()}
    label_pixels = torch.zeros(n_concepts, dtype=torch.int64, device=device)
    totals = {
        layer: (
            torch.zeros((n_concepts, len(t)), dtype=torch.int64, device=device),
            torch.zeros((len(t), n_categories), dtype=torch.int64, device=device),
        )
        for layer, t in thresholds.items()
    }

    def count_batch(start: int) -> list[tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]]:
        rows = dataset.rows[start : start + BATCH]
        maps = {
            layer: torch.from_numpy(source[f"layers/{layer}/activations"][start : start + BATCH])
            for layer in thresholds
        }
        counts = []
        # Label maps of one size go together; almost always that is the whole batch.
        for size in dict.fromkeys(row.label_size for row in rows):
            chosen = [i for i, row in enumerate(rows) if row.label_size == size]
            regions = [read_regions(dataset, rows[i]) for i in chosen]
            labels = LabelBatch(regions, dataset.concept_category, n_categories, device)
            overlaps = {
                layer: count_overlaps(maps[layer][chosen].to(device), limit, labels, n_concepts)
                for layer, limit in limits.items()
            }
            counts.append((count_labels(labels, n_concepts), overlaps))
        return counts

    with (
        one_torch_thread(),
        tqdm(total=n_images, desc="dissection", unit=" images", disable=None) as bar,
    ):
        starts = range(0, n_images, BATCH)
        for counts in map_in_threads(count_batch, starts, n_threads=n_threads, ahead=n_threads):
            for pixels, overlaps in counts:
                label_pixels += pixels
                for layer, (intersection, activation) in overlaps.items():
                    totals[layer][0].add_(intersection)
                    totals[layer][1].add_(activation)
            bar.update(min(BATCH, n_images - bar.n))
    return label_pixels.cpu().numpy(), {
        layer: (both.T.contiguous().cpu().numpy(), fired.cpu().numpy())
        for layer, (both, fired) in totals.items()
    }


def _write_labels(
    file: h5py.File, dataset: Broden, label_pixels: Int[np.ndarray, " concept"]
) -> dict[str, h5py.Dataset]:
    category = write_scale(file, "categories", dataset.categories)
    labels = file.create_group("labels")
    name = write_scale(labels, "name", [c.name for c in dataset.concepts])
    scales = {"concept": name, "category": category}
    labels["number"] = np.array([c.number for c in dataset.concepts], dtype=np.int64)
    labels.create_dataset(
        "category", data=[c.category for c in dataset.concepts], dtype=h5py.string_dtype()
    )
    labels["pixels"] = label_pixels
    for column in ("number", "category", "pixels"):
        label_axes(labels[column], ("concept",), scales)
    return scales
