"""Masks, counted a label set; and the places at which units fire, to lay other labels on them."""

import threading
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from dissect_embed.mathematics.indexing import take
from dissect_embed.mathematics.labelsets import LabelSets
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.pairings import LabelledImages, batch_labels
from dissect_embed.mathematics.regions import LabelBatch, count_regions
from dissect_embed.mathematics.running import Maps, Running

# Counts of batches that are kept before they are added up: some 64 MB.
ROOM = 4_000_000


class Fired(NamedTuple):
    """The places at which units fire."""

    unit: Int[np.ndarray, " fired"]  # counted through all layers
    image: Int[np.ndarray, " fired"]
    place: Int[np.ndarray, " fired"]


class MaskSets(Running):
    """The pixels of every unit's mask a label set, and the places at which it fires.

    Parameters
    ----------
    second
        Which images are of the second half.
    thresholds
        Those of each layer's units; units are counted through the layers, in this order.
    """

    def __init__(
        self,
        labels: LabelledImages,
        sets: LabelSets,
        places: Float[np.ndarray, "place 2"],
        second: Bool[np.ndarray, " image"],
        thresholds: Mapping[str, Float[np.ndarray, " unit"]],
        device: str,
    ) -> None:
        self._labels, self._sets, self._places, self._device = labels, sets, places, device
        self._second = torch.from_numpy(second.astype(np.int64)).to(device)
        self._limits = {k: torch.from_numpy(t).to(device) for k, t in thresholds.items()}
        self._of_region = torch.from_numpy(sets.of_region).to(device)
        self.n_units = sum(map(len, thresholds.values()))
        self._counts: list[tuple[Tensor, Tensor]] = []
        self._n_counts, self._room = 0, ROOM
        self._fired: list[tuple[Tensor, ...]] = []
        self._lock = threading.Lock()

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Count a batch of images; several threads may call it at once."""
        n = len(next(iter(batch.values())).peak)
        images = np.arange(start, start + n)
        counts, fired = [], []
        for chosen, size, labels in batch_labels(self._labels, images, self._device):
            set_of = self._sets_of(images[chosen], labels)
            place_of = self._places_of(size)
            image_of = torch.from_numpy(images[chosen]).to(self._device)
            first = 0
            for layer, limit in self._limits.items():
                maps, peak = (t if len(chosen) == n else t[chosen] for t in batch[layer])
                for firing in firing_pixels(maps, peak, limit, size):
                    which, region, pixels = count_regions(firing, labels)
                    half = take(self._second, take(image_of, take(firing.image, which)))
                    row = take(firing.unit, which) + first + half * self.n_units
                    counts.append((row * len(self._sets.kind) + take(set_of, region), pixels))
                    # A pixel may stand for several places, where label maps are small.
                    for place in place_of:
                        at = take(place, firing.pixel % len(place))
                        here = at >= 0
                        map_ = firing.map[here]
                        fired.append(
                            (
                                take(firing.unit, map_) + first,
                                take(image_of, take(firing.image, map_)),
                                at[here],
                            )
                        )
                first += len(limit)
        if counts:
            merged = _add_equal(*(torch.cat(parts) for parts in zip(*counts, strict=True)))
            places = tuple(torch.cat(parts).cpu() for parts in zip(*fired, strict=True))
            with self._lock:
                self._counts.append(merged)
                self._fired.append(places)
                self._n_counts += len(merged[0])
                if self._n_counts > self._room:
                    self._merge()

    def _merge(self) -> None:
        """Add up what was counted, so that memory grows with label sets, not with images."""
        counts = (torch.cat(parts) for parts in zip(*self._counts, strict=True))
        self._counts = [_add_equal(*counts)]
        self._n_counts = len(self._counts[0][0])
        self._room = ROOM + 2 * self._n_counts

    def _sets_of(
        self, images: Int[np.ndarray, " chosen"], labels: LabelBatch
    ) -> Int[Tensor, " region"]:
        """Return the label set of each region of a batch."""
        first = torch.from_numpy(self._sets.first_region[images]).to(self._device)
        n_regions = len(labels.n_members)
        index = torch.arange(n_regions, device=self._device)
        image = torch.searchsorted(labels.first_region, index, right=True) - 1
        return take(self._of_region, index - take(labels.first_region, image) + take(first, image))

    def _places_of(self, size: tuple[int, int]) -> list[Int[Tensor, " pixel"]]:
        """Return which place each pixel of a label map is, -1 for none.

        Several tables, where a pixel of a small label map is several places.
        """
        y, x = (self._places * size).astype(np.int64).T
        pixel = y * size[1] + x
        turn = np.zeros(len(pixel), dtype=np.int64)
        order = np.argsort(pixel, kind="stable")
        new = np.concatenate([[True], np.diff(pixel[order]) > 0])
        start = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
        turn[order] = np.arange(len(order)) - start
        found = np.full((int(turn.max()) + 1, size[0] * size[1]), -1, dtype=np.int64)
        found[turn, pixel] = np.arange(len(pixel))
        return [torch.from_numpy(row).to(self._device) for row in found]

    @property
    def halves(self) -> tuple[csr_array, csr_array]:
        """The pixels of masks on the images of either half, (unit, set)."""
        n_sets = len(self._sets.kind)
        masks = csr_array((2 * self.n_units, n_sets), dtype=np.int64)
        if self._counts:
            self._merge()
            key, pixels = (values.numpy() for values in self._counts[0])
            masks = coo_array((pixels, np.divmod(key, n_sets)), masks.shape).tocsr()
        return masks[: self.n_units], masks[self.n_units :]

    @property
    def fired(self) -> Fired:
        """The places at which units fire."""
        if not self._fired:
            return Fired(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
        unit, image, place = (torch.cat(p).numpy() for p in zip(*self._fired, strict=True))
        return Fired(unit, image, place)


def _add_equal(
    key: Int[Tensor, " found"], pixels: Int[Tensor, " found"]
) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " distinct"]]:
    distinct, index = key.unique(return_inverse=True)
    total = torch.zeros(len(distinct), dtype=torch.int64, device=key.device)
    return distinct.cpu(), total.index_add_(0, index, pixels).cpu()


def lay_on(
    at: Int[np.ndarray, "image place"],
    sets: LabelSets,
    fired: Fired,
    n_units: int,
    partner: Int[np.ndarray, " image"],
) -> csr_array:
    """Return the places of masks that are laid on the labels of other images, (unit, set).

    Parameters
    ----------
    at
        The label set of each image's places.
    fired
        The places at which units fire.
    partner
        The image whose labels each image's masks are laid on; each image's once.
    """
    held = at[partner[fired.image], fired.place]
    one = np.ones(len(held), dtype=np.int64)
    return coo_array((one, (fired.unit, held)), (n_units, len(sets.kind))).tocsr()
