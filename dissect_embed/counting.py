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

from collections.abc import Iterator, Sequence
from math import gcd

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dissect_embed.datasets.pixels import Regions

# Cells enlarged at once: bounds memory at some 100 MB for any map.
MAX_PIXELS = 4_000_000


class LabelBatch:
    """The regions of a batch of images with label maps of one size, as tensors on a device.

    Attributes
    ----------
    region
        ``(B, H, W)`` int64: each pixel's region, counted through all images of the batch.
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
        maps = np.stack([r.region + o for r, o in zip(regions, offsets[:-1], strict=True)])
        image = np.repeat(np.arange(len(regions)), counts)
        member_region = np.concatenate(
            [r.member_region + o for r, o in zip(regions, offsets[:-1], strict=True)]
        )
        member_concept = np.concatenate([r.member_concept for r in regions])
        presence = np.zeros((len(regions), n_categories))
        presence[image[member_region], concept_category[member_concept]] = 1
        self.n_regions = int(offsets[-1])
        self.region = torch.from_numpy(maps).to(device)
        self.region_image = torch.from_numpy(image).to(device)
        self.member_region = torch.from_numpy(member_region).to(device)
        self.member_concept = torch.from_numpy(member_concept).to(device)
        self.presence = torch.from_numpy(presence).to(device)


def count_overlaps(
    maps: Float[Tensor, "image unit y x"],
    thresholds: Float[Tensor, " unit"],
    labels: LabelBatch,
    n_concepts: int,
) -> tuple[Int[Tensor, "concept unit"], Int[Tensor, "unit category"]]:
    """Count the pixels in which masks and labels hold together, for a batch of images.

    Returns
    -------
    intersection
        ``(D, C)`` pixels where unit and concept both hold.
    activation
        ``(C, G)`` pixels of a unit's mask over the images in which any concept of a category is
        labelled.
    """
    n_units = maps.shape[1]
    by_region = torch.zeros(labels.n_regions * n_units, dtype=torch.int64, device=maps.device)
    for unit, region in _masked_pixels(maps, thresholds, labels.region):
        # Unit-minor, so that one region's counts for all units lie side by side.
        by_region += torch.bincount(region * n_units + unit, minlength=len(by_region))
    by_region = by_region.view(labels.n_regions, n_units)
    intersection = torch.zeros((n_concepts, n_units), dtype=torch.int64, device=maps.device)
    intersection.index_add_(0, labels.member_concept, by_region[labels.member_region])
    by_image = torch.zeros((len(maps), n_units), dtype=torch.int64, device=maps.device)
    by_image.index_add_(0, labels.region_image, by_region)
    # Whole numbers below 2^53: exact in float64, which every device multiplies.
    activation = (by_image.double().T @ labels.presence).long()
    return intersection, activation


def count_labels(labels: LabelBatch, n_concepts: int) -> Int[Tensor, " concept"]:
    """Count the pixels of each concept in a batch of images."""
    pixels = torch.bincount(labels.region.flatten(), minlength=labels.n_regions)
    total = torch.zeros(n_concepts, dtype=torch.int64, device=pixels.device)
    return total.index_add_(0, labels.member_concept, pixels[labels.member_region])


def _masked_pixels(
    maps: Float[Tensor, "image unit y x"],
    thresholds: Float[Tensor, " unit"],
    region: Int[Tensor, "image label_y label_x"],
) -> Iterator[tuple[Int[Tensor, " pixel"], Int[Tensor, " pixel"]]]:
    """Yield (unit, region) of every pixel of every mask, in pieces."""
    n_units, height, width = maps.shape[1:]
    label_height, label_width = region.shape[1:]
    rows = _enlarge(height, label_height, maps.device)
    columns = _enlarge(width, label_width, maps.device)
    flat, flat_region = maps.flatten(), region.flatten()
    cells = _active_cells(maps, thresholds)
    step = max(1, MAX_PIXELS // (rows.weight.shape[1] * columns.weight.shape[1]))
    for piece in cells.split(step):
        image, unit, y, x = piece.unbind(1)
        above = ((image * n_units + unit) * height + (y - 1).clamp_min(0)) * width
        below = ((image * n_units + unit) * height + y.clamp_max(height - 1)) * width
        x0, x1 = (x - 1).clamp_min(0), x.clamp_max(width - 1)
        right = columns.weight[x]  # of the corner on the right; columns.whole in all
        left = columns.whole - right
        top = flat[above + x0].double()[:, None] * left + flat[above + x1].double()[:, None] * right
        bottom = flat[below + x0].double()[:, None] * left
        bottom += flat[below + x1].double()[:, None] * right
        limit = thresholds[unit].double() * (rows.whole * columns.whole)
        # (whole - down)·top + down·bottom > limit, with one product a pixel.
        needed = limit[:, None] - rows.whole * top
        fires = rows.weight[y][:, :, None] * (bottom - top)[:, None, :] > needed[:, None, :]
        fires &= (rows.inside[y][:, :, None]) & (columns.inside[x][:, None, :])
        cell, r, c = fires.nonzero().unbind(1)
        corner = (image * label_height + rows.first[y]) * label_width + columns.first[x]
        yield unit[cell], flat_region[corner[cell] + r * label_width + c]


def _active_cells(
    maps: Float[Tensor, "image unit y x"], thresholds: Float[Tensor, " unit"]
) -> Int[Tensor, "cell 4"]:
    """Return (image, unit, y, x) of the cells in which an interpolated value can exceed.

    Cell (y, x) lies between positions y-1 and y, x-1 and x; those at the border lie half outside,
    where the nearest position's value holds.
    """
    n_images, n_units, height, width = maps.shape
    limit = thresholds.to(maps.dtype)[:, None, None]
    if maps.dtype == torch.float16 and bool((limit >= 0).all()):
        # Above a number that is not negative, float16 is ordered as its bits are, and processors
        # compare those much faster. Adding zero turns -0.0 into 0.0.
        fires = maps.view(torch.int16) > (limit + 0).view(torch.int16)
    else:
        fires = maps > limit
    shape = (n_images, n_units, height + 1, width + 1)
    active = torch.zeros(shape, dtype=torch.bool, device=maps.device)
    for dy in (0, 1):
        for dx in (0, 1):
            active[:, :, dy : dy + height, dx : dx + width] |= fires
    return active.nonzero()


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
