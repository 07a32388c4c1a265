"""Masks laid on labels, and counted: exact integers, on any device, that add up over images."""

import threading
from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dissect_embed.mathematics.iou import LayerCounts
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.regions import (
    LabelBatch,
    Regions,
    add_fired,
    add_overlaps,
    count_labels,
    count_overlaps,
)
from dissect_embed.mathematics.running import Maps, Running


@runtime_checkable
class LabelledImages(Protocol):
    """The labels of all images of a data set."""

    @property
    def size(self) -> Int[np.ndarray, "image 2"]:
        """Height and width of each label map, in pixels."""

    @property
    def names(self) -> list[str]:
        """The concepts."""

    @property
    def categories(self) -> list[str]:
        """The categories of concepts."""

    @property
    def concept_category(self) -> Int[np.ndarray, " concept"]:
        """The index of each concept's category."""

    def regions(self, image: int) -> Regions:
        """Return the labels of one image."""


def batch_labels(
    labels: LabelledImages, images: Int[np.ndarray, " image"], device: str
) -> Iterator[tuple[Int[np.ndarray, " chosen"], tuple[int, int], LabelBatch]]:
    """Yield the labels of some images, those of one size together: almost always all of them.

    With their places among the images, and the height and width of their label maps.
    """
    sizes = labels.size[images]
    for height, width in np.unique(sizes, axis=0).tolist():
        chosen = np.flatnonzero((sizes == (height, width)).all(axis=1))
        regions = [labels.regions(image) for image in images[chosen].tolist()]
        of_size = LabelBatch(regions, labels.concept_category, len(labels.categories), device)
        yield chosen, (height, width), of_size


class Pairings(Running):
    """The pixels that masks share with the labels of their images.

    Parameters
    ----------
    labels
        Of all images of the data set.
    thresholds
        Those of each layer's units.
    first_image
        The index in the data set of the first image that is gone through.
    """

    def __init__(
        self,
        labels: LabelledImages,
        thresholds: Mapping[str, Float[np.ndarray, " unit"]],
        first_image: int,
        device: str,
    ) -> None:
        n_concepts, n_categories = len(labels.names), len(labels.categories)

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        self._labels, self._first, self._device = labels, first_image, device
        self._limits = {k: torch.from_numpy(t).to(device) for k, t in thresholds.items()}
        self._pixels = zeros(n_concepts)
        self._totals = {
            layer: (zeros(n_concepts, len(t)), zeros(len(t), n_categories))
            for layer, t in thresholds.items()
        }
        self._lock = threading.Lock()

    @property
    def pixels(self) -> Int[np.ndarray, " concept"]:
        """The pixels of each concept over the images."""
        return self._pixels.cpu().numpy()

    @property
    def counts(self) -> dict[str, LayerCounts]:
        """The counts of each layer."""
        return {
            layer: LayerCounts(both.T.contiguous().cpu().numpy(), fired.cpu().numpy())
            for layer, (both, fired) in self._totals.items()
        }

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Count a batch of images; several threads may call it at once."""
        n = len(next(iter(batch.values())).peak)
        images = self._first + np.arange(start, start + n)
        for chosen, size, labels in batch_labels(self._labels, images, self._device):
            counted = []
            for layer, limit in self._limits.items():
                maps, peak = (t if len(chosen) == n else t[chosen] for t in batch[layer])
                for firing in firing_pixels(maps, peak, limit, size):
                    counted.append((layer, *count_overlaps(firing, labels, len(limit))))
            labelled = count_labels(labels, len(self._pixels))
            with self._lock:
                self._pixels.add_(labelled)
                for layer, overlap, fired in counted:
                    both, by_category = self._totals[layer]
                    add_overlaps(both, *overlap)
                    add_fired(by_category, fired, labels)
