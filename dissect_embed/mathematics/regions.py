"""Count where units fire together with concepts: exact integers, on any device.

A pixel's labels are looked up once, as the region it belongs to (``Regions``), and
the regions in which a map fires, a dozen of a hundred, are added up to concepts afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Integer
from torch import Tensor

from dissect_embed.mathematics.indexing import flat_nonzero, repeated, split_index, take
from dissect_embed.mathematics.masks import FiringPixels


@dataclass(frozen=True)
class Regions:
    """The labels of one image, as regions of pixels that carry the same set of concepts.

    ``region[y, x]`` is the region of a pixel; the pairs ``(member_region[i], member_concept[i])``
    say which concept holds in which region. A picture with six categories has a hundred regions or
    so, so counting a mask's pixels a region and then adding regions up to concepts costs one look
    at each pixel, however many labels it carries; and a concept that two label maps give to the
    same pixel counts once.
    """

    region: Integer[np.ndarray, "y x"]
    member_region: Int[np.ndarray, " pair"]
    member_concept: Int[np.ndarray, " pair"]
    n_regions: int

    @property
    def region_pixels(self) -> Int[np.ndarray, " region"]:
        """The number of pixels of each region."""
        return np.bincount(self.region.ravel(), minlength=self.n_regions)


class LabelBatch:
    """The regions of a batch of images with label maps of one size, as tensors on a device.

    Attributes
    ----------
    region
        ``(B·H·W,)`` int32: each pixel's region, counted within its image.
    n_regions
        The most of any image.
    first_region
        ``(B,)`` int64: the index of each image's region 0 among those of all.
    n_members, first_member
        ``(region,)`` int64: how many concepts hold in each region, and the index of the first.
    member
        ``(pair,)`` int64: those concepts, region by region.
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
        first = np.cumsum(counts) - counts
        maps = np.empty((len(regions), *regions[0].region.shape), dtype=np.int32)
        for n, r in enumerate(regions):
            maps[n] = r.region
        member_region = np.concatenate(
            [r.member_region + o for r, o in zip(regions, first, strict=True)]
        )
        member = np.concatenate([r.member_concept for r in regions]).astype(np.int64)
        image = np.repeat(np.arange(len(regions)), [len(r.member_region) for r in regions])
        presence = np.zeros((len(regions), n_categories))
        presence[image, concept_category[member]] = 1
        n_members = np.bincount(member_region, minlength=counts.sum())
        # Region by region, as ``read_regions`` gives them, whoever made them.
        member = member[np.argsort(member_region, kind="stable")]
        self.n_regions = int(counts.max())
        self.region = torch.from_numpy(maps.ravel()).to(device)
        self.first_region = torch.from_numpy(first).to(device)
        self.n_members = torch.from_numpy(n_members).to(device)
        self.first_member = torch.from_numpy(np.cumsum(n_members) - n_members).to(device)
        self.member = torch.from_numpy(member).to(device)
        self.presence = torch.from_numpy(presence).to(device)


def count_regions(
    firing: FiringPixels, labels: LabelBatch
) -> tuple[Int[Tensor, " found"], Int[Tensor, " found"], Int[Tensor, " found"]]:
    """Count the pixels of masks in each region, for a batch of images.

    Returns
    -------
    The map (an index of ``firing.unit``), the region, counted through the regions of the whole
    batch, and the pixels, of each pair that has any.
    """
    n_regions = labels.n_regions
    row = firing.map * n_regions
    pixels = torch.bincount(
        take(labels.region, firing.pixel) + row, minlength=len(firing.image) * n_regions
    )
    found = flat_nonzero(pixels)
    which, region = split_index(found, n_regions)
    return which, region + take(labels.first_region, take(firing.image, which)), take(pixels, found)


def count_overlaps(
    firing: FiringPixels, labels: LabelBatch, n_units: int
) -> tuple[tuple[Int[Tensor, " found"], Int[Tensor, " found"]], Int[Tensor, "image unit"]]:
    """Count the pixels of masks that carry each concept, for a batch of images.

    Returns
    -------
    Indices in a matrix (concept, unit), flattened, and the pixels to add there; one index may come
    several times. And the pixels of each mask.
    """
    image, unit, map_, pixel = firing
    which, region, pixels = count_regions(firing, labels)
    n_members = take(labels.n_members, region)
    # Behind each other, the members of every region that was found.
    ahead = take(labels.first_member, region) - n_members.cumsum(0) + n_members
    origin = repeated(n_members)
    index = take(ahead, origin) + torch.arange(len(origin), device=origin.device)
    at = take(labels.member, index) * n_units + take(take(unit, which), origin)
    fired = torch.zeros((len(labels.presence), n_units), dtype=torch.int64, device=pixel.device)
    fired[image, unit] = torch.bincount(map_, minlength=len(image))
    return (at, take(pixels, origin)), fired


def add_overlaps(
    total: Int[Tensor, "concept unit"], at: Int[Tensor, " found"], pixels: Int[Tensor, " found"]
) -> None:
    """Add what ``count_overlaps`` found to a matrix, in place."""
    total.view(-1).index_add_(0, at, pixels)


def add_fired(
    total: Int[Tensor, "unit category"], fired: Int[Tensor, "image unit"], labels: LabelBatch
) -> None:
    """Add the pixels of masks over the images in which any concept of a category is labelled."""
    # Whole numbers below 2^53: exact in float64, which every device multiplies.
    total += (fired.double().T @ labels.presence).long()


def count_labels(labels: LabelBatch, n_concepts: int) -> Int[Tensor, " concept"]:
    """Count the pixels of each concept in a batch of images."""
    by_image = labels.region.view(len(labels.first_region), -1)
    region = (by_image + labels.first_region[:, None]).flatten()
    pixels = torch.bincount(region, minlength=len(labels.n_members))
    total = torch.zeros(n_concepts, dtype=torch.int64, device=pixels.device)
    return total.index_add_(0, labels.member, take(pixels, repeated(labels.n_members)))
