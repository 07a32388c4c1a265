"""Masks laid on the labels of other images, many times over: whole numbers that add up over images.

On a coarse grid (``cells``), with the units of an image that fire there: of a hundred draws one
image costs a few sparse products. The expectation over all draws needs none of them: a mask meets
each image of its stratum equally often, so the sum of their labels, divided by their number, is
what it meets on average. Draws whose mean lies elsewhere were not drawn so.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dissect_embed.mathematics.cells import Cover, FiringCells, firing_cells
from dissect_embed.mathematics.null import FRACTIONS, PARTS, Drawn
from dissect_embed.mathematics.running import Maps, Running

# Draws counted in one product: their labels stay in a processor's cache.
BLOCK = 25
# Below so many parts of pixels float32 counts exactly.
EXACT = 1 << 24


class Stratum(NamedTuple):
    """All labels of a stratum's images, added up."""

    n_images: int
    concept: Int[Tensor, " found"]
    share: Float[Tensor, "cell found"]  # PARTS of cells


def add_strata(
    covers: Sequence[Cover], stratum: Int[np.ndarray, " image"], device: str
) -> list[Stratum]:
    """Return the sum of the covers of each stratum."""
    found = []
    order = np.argsort(stratum, kind="stable")
    for images in np.split(order, np.cumsum(np.bincount(stratum))[:-1]):
        members = [covers[image] for image in images.tolist()]
        concept = torch.cat([cover.concept for cover in members]).unique()
        total = torch.zeros((len(members[0].share), len(concept)), dtype=torch.float64)
        for cover in members:
            total[:, torch.searchsorted(concept, cover.concept)] += cover.share
        found.append(Stratum(len(members), concept, total.to(device)))
    return found


class Draws(Running):
    """The pixels that masks share with the labels of other images, for several draws.

    Parameters
    ----------
    covers
        The labels of all images of the data set.
    presence
        Which categories are labelled in each.
    stratum, strata
        Whose labels each image's masks may be laid on (``null.find_strata``, ``add_strata``).
    partners
        For each draw and image of the data set the image whose labels its masks are laid on.
    thresholds
        Those of each layer's units.
    first_image
        The index in the data set of the first image that is gone through.
    """

    def __init__(
        self,
        covers: Sequence[Cover],
        presence: Bool[np.ndarray, "image category"],
        size: Int[np.ndarray, "image 2"],
        stratum: Int[np.ndarray, " image"],
        strata: Sequence[Stratum],
        partners: Int[np.ndarray, "draw image"],
        thresholds: Mapping[str, Float[np.ndarray, " unit"]],
        n_concepts: int,
        first_image: int,
        device: str,
    ) -> None:
        self._covers, self._size, self._stratum, self._strata = covers, size, stratum, strata
        self._presence = torch.from_numpy(presence).double()
        self._partners, self._first, self._device = partners, first_image, device
        self._n_concepts = n_concepts
        self._limits = {k: torch.from_numpy(t).to(device) for k, t in thresholds.items()}
        n_units = sum(map(len, thresholds.values()))
        n_draws, n_categories = len(partners), presence.shape[1]

        def zeros(*shape: int) -> Tensor:
            # Whole numbers below 2^53, which float64 holds.
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._blocks = [range(i, min(i + BLOCK, n_draws)) for i in range(0, n_draws, BLOCK)]
        self._intersection = [zeros(n_units, len(block) * n_concepts) for block in self._blocks]
        self._activation = zeros(n_draws, n_units, n_categories)
        self._expected, self._pixels = zeros(n_units, n_concepts), zeros(n_units)
        self._locks = [threading.Lock() for _ in self._blocks]
        self._lock = threading.Lock()

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Count a batch of images; several threads may call it at once."""
        layers = list(self._limits)
        limits = [self._limits[layer] for layer in layers]
        n = len(batch[layers[0]].peak)
        images = self._first + np.arange(start, start + n)
        sizes = self._size[images]
        fired = torch.zeros((n, len(self._pixels)), dtype=torch.float64, device=self._device)
        # Label maps of one size go together; almost always that is the whole batch.
        for size in np.unique(sizes, axis=0):
            chosen = np.flatnonzero((sizes == size).all(axis=1))
            # All of a batch are no copy.
            some = slice(None) if len(chosen) == n else chosen
            maps = [batch[layer].maps[some] for layer in layers]
            peaks = [batch[layer].peak[some] for layer in layers]
            shape = int(size[0]), int(size[1])
            for index, firing in zip(
                chosen.tolist(), firing_cells(maps, peaks, limits, shape), strict=True
            ):
                if not len(firing.unit):
                    continue
                whole = torch.ones((int(size.prod()), 1), dtype=torch.float64, device=self._device)
                fired[index].index_add_(0, firing.unit, _lay(firing, whole).squeeze(1))
                self._add_image(int(images[index]), firing, PARTS * int(size.prod()))
        labelled = self._presence[self._partners[:, images]].to(self._device)  # (draw, image, G)
        with self._lock:
            self._pixels += fired.sum(dim=0)
            # Exact in float64, which every device multiplies.
            self._activation += fired.T @ labelled

    def _add_image(self, image: int, firing: FiringCells, most: int) -> None:
        dtype = torch.float32 if most <= EXACT else torch.float64
        # Each begins at another block, so that no thread waits for another's.
        for index in np.roll(range(len(self._blocks)), -image).tolist():
            covers = [self._covers[i] for i in self._partners[list(self._blocks[index]), image]]
            column = torch.cat([c.concept + d * self._n_concepts for d, c in enumerate(covers)])
            share = torch.cat([c.share for c in covers], dim=1).to(self._device).to(dtype)
            both = _lay(firing, share)
            self._add_to(self._intersection[index], firing.unit, column, both, self._locks[index])
        stratum = self._strata[self._stratum[image]]
        both = _lay(firing, stratum.share).mul_(FRACTIONS).div_(PARTS * stratum.n_images).round_()
        self._add_to(self._expected, firing.unit, stratum.concept, both, self._lock)

    def _add_to(
        self,
        total: Float[Tensor, "unit column"],
        unit: Int[Tensor, " map"],
        column: Int[Tensor, " found"],
        values: Float[Tensor, "map found"],
        lock: threading.Lock,
    ) -> None:
        at = unit[:, None] * total.shape[1] + column.to(self._device)
        values = values.double()
        with lock:
            total.view(-1).index_add_(0, at.flatten(), values.flatten())

    def blocks(self) -> Iterator[tuple[int, dict[str, Drawn]]]:
        """Yield the counts of each layer, some draws at a time, with the index of the first."""
        expected, pixels = (t.long().cpu().numpy() for t in (self._expected, self._pixels))
        for block, total in zip(self._blocks, self._intersection, strict=True):
            both = total.view(len(total), len(block), -1).long().cpu().numpy()
            fired = self._activation[block.start : block.stop].movedim(0, 1).long().cpu().numpy()
            found, first = {}, 0
            for layer, limit in self._limits.items():
                of_layer = slice(first, first + len(limit))
                counts = (values[of_layer] for values in (both, fired, expected, pixels))
                found[layer] = Drawn(*counts)
                first += len(limit)
            yield block.start, found


def _lay(firing: FiringCells, share: Float[Tensor, "cell found"]) -> Float[Tensor, "map found"]:
    """Return what each unit's mask shares with each column of labels."""
    return torch.nn.functional.embedding_bag(
        firing.cell, share, firing.start, mode="sum",
        per_sample_weights=firing.pixels.to(share.dtype),
    )  # fmt: skip
