"""Label maps and masks on a coarse grid of cells, on which many pairings are counted at once.

How many pixels a mask and a label have in common is counted as if, within each cell of the grid,
they lay independently of one another: (pixels of the mask) times (share of the cell that the label
covers). A cell has at most 4 × 4 pixels, and label maps of up to 28 pixels a side are counted pixel
by pixel. What is finer than a cell has no say in how far draws are apart.

Shares of cells of up to 4 × 4 pixels are whole parts of 144. So nothing is rounded and sums are
whole numbers: the same in any order, in parts, and on any device.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from dissect_embed.mathematics.indexing import flat_nonzero, split_index, take
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.null import PARTS
from dissect_embed.mathematics.regions import Regions

# Up to so many cells along a side; of larger label maps each has as many pixels as it may have.
SIDE, LARGEST = 28, 4
# Cells of maps counted together: bounds memory at some 64 MB.
MAX_CELLS = 8_000_000


class Cover(NamedTuple):
    """Which concepts cover an image's label map, and how much of each cell."""

    concept: Int[Tensor, " found"]
    share: UInt8[Tensor, "cell found"]  # in PARTS


class FiringCells(NamedTuple):
    """The cells in which the units of an image fire, unit by unit."""

    unit: Int[Tensor, " map"]
    start: Int[Tensor, " map"]  # the index of the first cell of each
    cell: Int[Tensor, " pair"]
    pixels: Float[Tensor, " pair"]  # of the mask, in the cell


def cell_of_pixels(size: tuple[int, int]) -> Int[np.ndarray, " pixel"]:
    """Return the cell of each pixel of a label map.

    Examples
    --------
    >>> cell_of_pixels((2, 56)).reshape(2, 56)[:, [0, 1, 2, 55]].tolist()
    [[0, 0, 1, 27], [28, 28, 29, 55]]
    """
    row, column = (np.arange(n) // min(LARGEST, -(-n // SIDE)) for n in size)
    return np.asarray((row[:, None] * (column[-1] + 1) + column).ravel())


def cover_of(labels: Regions) -> Cover:
    """Return how much of each cell the concepts of an image cover."""
    cell = cell_of_pixels(labels.region.shape)
    n_cells = int(cell[-1]) + 1
    by_region = np.bincount(
        cell * labels.n_regions + labels.region.ravel(), minlength=n_cells * labels.n_regions
    ).reshape(n_cells, labels.n_regions)
    concept, column = np.unique(labels.member_concept, return_inverse=True)
    holds = np.zeros((labels.n_regions, len(concept)))
    holds[labels.member_region, column.ravel()] = 1
    pixels = np.bincount(cell)[:, None]
    share = PARTS * (by_region @ holds) / pixels
    return Cover(
        torch.from_numpy(concept.astype(np.int64)), torch.from_numpy(share.astype(np.uint8))
    )


def firing_cells(
    maps: Sequence[Float[Tensor, "image _unit _y _x"]],
    peaks: Sequence[Float[Tensor, "image _unit"]],
    thresholds: Sequence[Float[Tensor, " _unit"]],
    size: tuple[int, int],
) -> Iterator[FiringCells]:
    """Yield for each image of a batch the cells in which the units of some layers fire.

    Parameters
    ----------
    maps, peaks, thresholds
        Of each layer; its units count on from those of the layer before.
    size
        Height and width of the label maps, in pixels.
    """
    device = peaks[0].device
    cells = torch.from_numpy(cell_of_pixels(size)).to(device)
    n_cells = int(cells[-1]) + 1
    found: list[tuple[Tensor, ...]] = []
    first_unit = n_maps = 0
    for of_layer, peak, limit in zip(maps, peaks, thresholds, strict=True):
        step = max(1, MAX_CELLS // (len(limit) * n_cells))
        for first in range(0, len(peak), step):
            chosen = slice(first, first + step)
            for image, unit, map_, pixel in firing_pixels(
                of_layer[chosen], peak[chosen], limit, size
            ):
                _, within = split_index(pixel, len(cells))
                at = map_ * n_cells + take(cells, within)
                pixels = torch.bincount(at, minlength=len(unit) * n_cells)
                index = flat_nonzero(pixels)
                which, cell = split_index(index, n_cells)
                found.append(
                    (take(image, which) + first, take(unit, which) + first_unit,
                     which + n_maps, cell, take(pixels, index))
                )  # fmt: skip
                n_maps += len(unit)
        first_unit += len(limit)
    image, unit, map_, cell, pixels = (
        torch.cat(parts) if found else torch.zeros(0, dtype=torch.int64, device=device)
        for parts in (zip(*found, strict=True) if found else [()] * 5)
    )
    order = image.argsort(stable=True)
    ends = torch.bincount(image, minlength=len(peaks[0])).cumsum(0).tolist()
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        chosen_pairs = order[begin:end]
        of_map = take(map_, chosen_pairs)
        new = torch.ones(len(of_map), dtype=torch.bool, device=device)
        new[1:] = of_map[1:] != of_map[:-1]
        start = flat_nonzero(new)
        yield FiringCells(
            take(unit, take(chosen_pairs, start)), start,
            take(cell, chosen_pairs), take(pixels, chosen_pairs).double(),
        )  # fmt: skip
