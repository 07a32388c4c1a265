"""Where units fire: the pixels of their masks, exact on any device.

A unit's mask is its activation map, enlarged bilinearly to the label's size (half-pixel centres,
``align_corners=False``), where it exceeds the unit's threshold. An interpolated value never exceeds
the largest of the four it lies between, and units fire at 0.5 % of their positions: only the cells
beside such a position are enlarged at all.

On a grid of h → H pixels the weights are whole multiples of 1/2H. They are kept as whole numbers,
and the sums of float16 values they weigh fit the 53 bits of float64 without rounding. So the masks
are the same on every device and in any order. (For float32 activations the comparison may round in
the last bit of float64.)
"""

import functools
from collections.abc import Iterator
from math import gcd
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dissect_embed.mathematics.indexing import flat_greater, flat_nonzero, split_index, take

# Pixels yielded together: bounds memory at some 100 MB for any map.
MAX_PIXELS = 4_000_000
# Rows of pixels enlarged together: so many stay in the processor's cache.
CACHED_ROWS = 65536
# On other devices small operations cost more to ask for than to do: few large ones.
DEVICE_ROWS = 64 * CACHED_ROWS


class FiringPixels(NamedTuple):
    """Pixels of a batch's label maps at which units fire.

    ``image`` and ``unit`` say whose a map is; ``map`` and ``pixel`` pair each map with the pixels
    of its mask, counted through all label maps of the batch.
    """

    image: Int[Tensor, " map"]
    unit: Int[Tensor, " map"]
    map: Int[Tensor, " pair"]
    pixel: Int[Tensor, " pair"]


def firing_pixels(
    maps: Float[Tensor, "image unit y x"],
    peak: Float[Tensor, "image unit"],
    thresholds: Float[Tensor, " unit"],
    size: tuple[int, int],
) -> Iterator[FiringPixels]:
    """Yield the pixels of every mask of a batch, in pieces.

    Parameters
    ----------
    maps
        float16 or float32.
    peak
        The largest value of each map: one at most at the threshold has no pixel that fires.
    size
        Height and width of the label maps, in pixels.
    """
    height, width = maps.shape[2:]
    rows, columns = _enlarge(height, size[0], maps.device), _enlarge(width, size[1], maps.device)
    chosen = flat_nonzero(peak > thresholds)
    if not len(chosen):
        return
    image, unit = split_index(chosen, maps.shape[1])
    kept = maps.flatten(0, 1).index_select(0, chosen)
    which, y, x = _active_cells(kept, take(thresholds, unit))
    values = kept.flatten()
    limit = take(thresholds, unit).double() * (rows.whole * columns.whole)
    together = CACHED_ROWS if maps.device.type == "cpu" else DEVICE_ROWS
    step = max(1, together // len(rows.weight))
    found: list[tuple[Tensor, Tensor]] = []
    n_found = 0
    for start in range(0, len(which), step):
        map_, cy, cx = (t[start : start + step] for t in (which, y, x))
        above = (map_ * height + (cy - 1).clamp_min(0)) * width
        below = (map_ * height + cy.clamp_max(height - 1)) * width
        x0, x1 = (cx - 1).clamp_min(0), cx.clamp_max(width - 1)
        a, b, c, d = (
            take(values, at).double() for at in (above + x0, above + x1, below + x0, below + x1)
        )
        # Of each cell's rows of pixels, (row, cell): cells last, for processors want long rows.
        down = take(rows.weight, cy)
        left = a * rows.whole + down * (c - a)
        rise = b * rows.whole + down * (d - b) - left
        # (whole - right)·left + right·(left + rise) > limit, with one product a pixel.
        needed = take(limit, map_) - columns.whole * left
        # A row is largest at an end, and few rows have a pixel that fires.
        first, last = (take(ends, cx) * rise for ends in columns.ends)
        row = flat_greater(torch.maximum(first, last), needed)
        line, cell = split_index(row, len(map_))
        right = take(columns.weight, take(cx, cell))
        reached = right * take(rise.flatten(), row)
        pixel, at = split_index(flat_greater(reached, take(needed.flatten(), row)), len(row))
        corner = (take(image, map_) * size[0] + take(rows.first, cy)) * size[1]
        corner = take(corner + take(columns.first, cx), cell) + line * size[1]
        found.append((take(take(map_, cell), at), take(corner, at) + pixel))
        n_found += len(at)
        if n_found > MAX_PIXELS or start + step >= len(which):
            pairs = (torch.cat(parts) for parts in zip(*found, strict=True))
            yield FiringPixels(image, unit, *pairs)
            found, n_found = [], 0


def _active_cells(
    maps: Float[Tensor, "map y x"], limit: Float[Tensor, " map"]
) -> tuple[Int[Tensor, " cell"], Int[Tensor, " cell"], Int[Tensor, " cell"]]:
    """Return (map, y, x) of the cells in which an interpolated value can exceed a map's limit.

    Cell (y, x) lies between positions y-1 and y, x-1 and x; those at the border lie half outside,
    where the nearest position's value holds.
    """
    n_maps, height, width = maps.shape
    if maps.dtype == torch.float16 and bool((limit >= 0).all()):
        # Above a number that is not negative, float16 is ordered as its bits are, and processors
        # compare those much faster. Adding zero turns -0.0 into 0.0.
        maps, limit = maps.view(torch.int16), (limit.half() + 0).view(torch.int16)
    found = flat_greater(maps, limit.to(maps.dtype)[:, None, None])
    n_cells = (height + 1) * (width + 1)
    which, position = split_index(found, height * width)
    y, x = split_index(position, width)
    corner = which * n_cells + y * (width + 1) + x
    active = torch.zeros(n_maps * n_cells, dtype=torch.bool, device=maps.device)
    for neighbour in (0, 1, width + 1, width + 2):
        active[corner + neighbour] = True
    which, cell = split_index(flat_nonzero(active), n_cells)
    return (which, *split_index(cell, width + 1))


class _Axis(NamedTuple):
    """How the cells of one axis are enlarged: for each cell its pixels and their weights.

    Attributes
    ----------
    first
        Each cell's first pixel.
    weight
        The weight of the far position at each of a cell's pixels, a whole number of at most
        ``whole``; NaN, with which nothing exceeds anything, where a cell has fewer pixels.
    ends
        The weights of each cell's first and last pixel.
    """

    first: Int[Tensor, " cell"]
    weight: Float[Tensor, "pixel cell"]  # float64
    ends: Float[Tensor, "2 cell"]
    whole: int


@functools.lru_cache(maxsize=64)  # the same few for every batch
def _enlarge(n: int, n_pixels: int, device: torch.device) -> _Axis:
    """Lay ``n_pixels`` pixels over ``n`` positions, half-pixel centres.

    Pixel Y lies at (Y + 1/2) n / n_pixels - 1/2 positions, which is ((2Y + 1) n - n_pixels) / 2
    n_pixels: a whole number of steps of 1 / 2 n_pixels.
    """
    steps = (2 * np.arange(n_pixels) + 1) * n - n_pixels + 2 * n_pixels  # cell 0 starts at -1
    cell, weight = np.divmod(steps, 2 * n_pixels)
    common = gcd(2 * n_pixels, *(int(w) for w in weight))
    first = np.searchsorted(cell, np.arange(n + 1))
    count = np.bincount(cell, minlength=n + 1)
    offset = np.arange(max(count.max(), 1))[:, None]
    pixel = np.minimum(first + offset, n_pixels - 1)
    weights = np.where(offset < count, (weight // common)[pixel], np.nan)
    last = np.take_along_axis(weights, np.maximum(count - 1, 0)[None], axis=0)[0]
    return _Axis(
        torch.from_numpy(first).to(device),
        torch.from_numpy(weights).to(device),
        torch.from_numpy(np.stack([weights[0], last])).to(device),
        2 * n_pixels // common,
    )
