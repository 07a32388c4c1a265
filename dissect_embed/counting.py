"""Count where units fire together with concepts: exact integers, on any device.

A unit's mask is its activation map, enlarged bilinearly to the label's size (half-pixel centres,
``align_corners=False``), where it exceeds the unit's threshold. Two observations make this cheap:

- An interpolated value never exceeds the largest of the four it lies between. Units fire at 0.5 %
  of their positions, so only the cells beside such a position are enlarged at all.
- A pixel's labels are looked up once, as the region it belongs to (``datasets.broden.Regions``);
  regions are added up to concepts afterwards.

And one makes it exact: on a grid of h → H pixels the weights are whole multiples of 1/2H. So they
are kept as whole numbers, and the sums of float16 values they weigh fit the 53 bits of float64
without rounding. The integers are therefore the same on every device and in any order. (For
float32 activations the comparison may round in the last bit of float64.)
"""

from collections.abc import Iterable, Iterator, Sequence
from math import gcd
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dissect_embed.datasets.pixels import Regions
from dissect_embed.indexing import add_rows, flat_nonzero, split_index, take

# Pixels yielded together: bounds memory at some 100 MB for any map.
MAX_PIXELS = 4_000_000
# Pixels enlarged together: more are no faster, fewer cost calls.
CACHED_PIXELS = 524288


class FiringPixels(NamedTuple):
    """Pixels of a batch's label maps at which units fire, a pair a unit and pixel."""

    unit: Int[Tensor, " pair"]
    place: Int[Tensor, " pair"]  # in the batch's label maps, flattened


class LabelBatch:
    """The regions of a batch of images with label maps of one size, as tensors on a device.

    Attributes
    ----------
    region
        ``(B·H·W,)`` int64: each pixel's region, counted through all images of the batch.
    member_region, member_concept
        ``(pair,)`` int64: concept holds in region.
    presence
        ``(B, G)`` float64: 1 where an image has any concept of a category.
    """

    def __init__(
        self,
        regions: Sequence[Regions],
        concept_category: Int[np.ndarray, " concept"],
        n_categories: int,
        device: str | torch.device = "cpu",
    ) -> None:
        counts = np.array([r.n_regions for r in regions])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        maps = np.stack(
            [r.region.astype(np.int64) + o for r, o in zip(regions, offsets[:-1], strict=True)]
        )
        image = np.repeat(np.arange(len(regions)), counts)
        member_region = np.concatenate(
            [
                r.member_region.astype(np.int64) + o
                for r, o in zip(regions, offsets[:-1], strict=True)
            ]
        )
        member_concept = np.concatenate([r.member_concept for r in regions]).astype(np.int64)
        presence = np.zeros((len(regions), n_categories))
        presence[image[member_region], concept_category[member_concept]] = 1
        self.n_regions = int(offsets[-1])
        self.region = torch.from_numpy(maps.ravel()).to(device)
        self.region_image = torch.from_numpy(image).to(device)
        self.member_region = torch.from_numpy(member_region).to(device)
        self.member_concept = torch.from_numpy(member_concept).to(device)
        self.presence = torch.from_numpy(presence).to(device)


def count_regions(
    firing: Iterable[FiringPixels], labels: Sequence[LabelBatch], n_units: int
) -> list[Int[Tensor, "region unit"]]:
    """Count the pixels of every unit's masks in every region, for a batch of images.

    Parameters
    ----------
    firing
        The masks, from ``firing_pixels``.
    labels
        The labels of the same images, and of any others of equal size that the masks are to be
        laid on as well.
    """
    totals = [
        torch.zeros(batch.n_regions * n_units, dtype=torch.int64, device=batch.region.device)
        for batch in labels
    ]
    for n_pieces, (unit, place) in enumerate(firing):
        for n, batch in enumerate(labels):
            # Unit-minor, so that one region's counts for all units lie side by side.
            index = take(batch.region, place).mul_(n_units).add_(unit)
            fresh = torch.bincount(index, minlength=len(totals[n]))
            totals[n] = totals[n].add_(fresh) if n_pieces else fresh
    return [total.view(-1, n_units) for total in totals]


def add_overlaps(
    labels: LabelBatch,
    by_region: Int[Tensor, "region unit"],
    intersection: Int[Tensor, "concept unit"],
    activation: Int[Tensor, "unit category"],
) -> None:
    """Add the counts of regions, in place, to those of concepts and categories.

    Parameters
    ----------
    by_region
        From ``count_regions``.
    intersection
        ``(D, C)`` pixels where unit and concept both hold.
    activation
        ``(C, G)`` pixels of a unit's mask over the images in which any concept of a category is
        labelled.
    """
    add_rows(intersection, labels.member_concept, by_region, labels.member_region)
    n_images, n_units = len(labels.presence), by_region.shape[1]
    by_image = torch.zeros((n_images, n_units), dtype=torch.int64, device=by_region.device)
    regions = torch.arange(labels.n_regions, device=by_region.device)
    add_rows(by_image, labels.region_image, by_region, regions)
    # Whole numbers below 2^53: exact in float64, which every device multiplies.
    activation += (by_image.double().T @ labels.presence).long()


def count_labels(labels: LabelBatch, n_concepts: int) -> Int[Tensor, " concept"]:
    """Count the pixels of each concept in a batch of images."""
    pixels = torch.bincount(labels.region, minlength=labels.n_regions)
    total = torch.zeros(n_concepts, dtype=torch.int64, device=pixels.device)
    return total.index_add_(0, labels.member_concept, pixels[labels.member_region])


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
    kept = maps.flatten(0, 1)[chosen]
    which, y, x = _active_cells(kept, take(thresholds, unit))
    values = kept.flatten()
    # Weights outside a cell are NaN: what they weigh exceeds nothing.
    down = rows.weight.where(rows.inside, torch.nan)
    n_down, n_right = rows.weight.shape[1], columns.weight.shape[1]
    offset = torch.arange(n_down, device=maps.device)[:, None] * size[1]
    offset = (offset + torch.arange(n_right, device=maps.device)).flatten()
    limit = take(thresholds, unit).double() * (rows.whole * columns.whole)
    step = max(1, CACHED_PIXELS // (n_down * n_right))
    found: list[FiringPixels] = []
    n_found = 0
    for start in range(0, len(which), step):
        map_, cy, cx = (t[start : start + step] for t in (which, y, x))
        above = (map_ * height + (cy - 1).clamp_min(0)) * width
        below = (map_ * height + cy.clamp_max(height - 1)) * width
        x0, x1 = (cx - 1).clamp_min(0), cx.clamp_max(width - 1)
        a, b, c, d = (
            take(values, at).double() for at in (above + x0, above + x1, below + x0, below + x1)
        )
        right = columns.weight[cx]  # of the corner on the right; columns.whole in all
        top = (a * columns.whole)[:, None] + right * (b - a)[:, None]
        bottom = (c * columns.whole)[:, None] + right * (d - c)[:, None]
        # (whole - down)·top + down·bottom > limit, with one product a pixel.
        needed = take(limit, map_)[:, None] - rows.whole * top
        needed = needed.where(columns.inside[cx], torch.inf)
        fires = down[cy][:, :, None] * (bottom - top)[:, None, :] > needed[:, None, :]
        cell, pixel = split_index(flat_nonzero(fires), n_down * n_right)
        corner = take(image, map_) * size[0] + take(rows.first, cy)
        corner = corner * size[1] + take(columns.first, cx)
        place = take(corner, cell) + take(offset, pixel)
        found.append(FiringPixels(take(take(unit, map_), cell), place))
        n_found += len(place)
        if n_found > MAX_PIXELS or start + step >= len(which):
            yield FiringPixels(*(torch.cat(parts) for parts in zip(*found, strict=True)))
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
        bits = (limit.half() + 0).view(torch.int16)
        fires = maps.view(torch.int16) > bits[:, None, None]
    else:
        fires = maps > limit.to(maps.dtype)[:, None, None]
    n_cells = (height + 1) * (width + 1)
    which, position = split_index(flat_nonzero(fires), height * width)
    y, x = split_index(position, width)
    corner = which * n_cells + y * (width + 1) + x
    active = torch.zeros(n_maps * n_cells, dtype=torch.bool, device=maps.device)
    for neighbour in (0, 1, width + 1, width + 2):
        active[corner + neighbour] = True
    which, cell = split_index(flat_nonzero(active), n_cells)
    return (which, *split_index(cell, width + 1))


class _Axis:
    """How the cells of one axis are enlarged: for each cell its pixels and their weights.

    Attributes
    ----------
    first
        ``(n + 1,)``: each cell's first pixel.
    weight
        ``(n + 1, m)``: the weight of the far position at the cell's pixels, a whole number of at
        most ``whole``, as float64.
    inside
        ``(n + 1, m)``: whether the cell has so many pixels.
    """

    def __init__(
        self,
        first: Int[Tensor, " cell"],
        weight: Float[Tensor, "cell pixel"],
        inside: Bool[Tensor, "cell pixel"],
        whole: int,
    ) -> None:
        self.first, self.weight, self.inside, self.whole = first, weight, inside, whole


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
    offset = np.arange(max(count.max(), 1))
    inside = offset < count[:, None]
    pixel = np.minimum(first[:, None] + offset, n_pixels - 1)
    return _Axis(
        torch.from_numpy(first).to(device),
        torch.from_numpy((weight // common)[pixel].astype(np.float64)).to(device),
        torch.from_numpy(inside).to(device),
        2 * n_pixels // common,
    )
