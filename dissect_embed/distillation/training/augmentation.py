"""Crops and flips of CIFAR's protocol, a batch at once, where the images are.

Images stay bytes; what is drawn is drawn on the CPU, an epoch at once, from the seed and the
epoch's number alone: the same on every device, and known again after an interruption.
"""

import hashlib
from typing import Final

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

# Zeros around an image before it is cropped, in pixels.
PADDING: Final = 4


def draw_epoch(n_images: int, seed: int, stage: str, epoch: int) -> Int64[Tensor, "image 4"]:
    """Return an epoch's images in random order, each with its crop and flip.

    Columns are the image, the crop's first row and column in the padded image (0 to 8) and whether
    it is flipped.
    """
    key = hashlib.sha256(f"{seed} {stage} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8]) >> 1)
    order = torch.randperm(n_images, generator=generator)[:, None]
    offsets = torch.randint(2 * PADDING + 1, (n_images, 2), generator=generator)
    flips = torch.randint(2, (n_images, 1), generator=generator)
    return torch.cat([order, offsets, flips], dim=1)


def crop_and_flip(
    images: UInt8[Tensor, "n y x 3"], draws: Int64[Tensor, "image 4"]
) -> UInt8[Tensor, "image y x 3"]:
    """Return chosen images, padded with zeros, cropped to their size, and flipped or not.

    Parameters
    ----------
    images
        All images of the training set; they are not copied.
    draws
        Rows of ``draw_epoch``.
    """
    n, height, width, _ = images.shape
    chosen, top, left, flip = draws[:, :, None].unbind(1)
    rows = torch.arange(height, device=images.device) + top - PADDING
    columns = torch.arange(width, device=images.device)
    columns = torch.where(flip > 0, width - 1 - columns, columns) + left - PADDING
    places = (chosen * height + rows.clamp(0, height - 1))[:, :, None] * width
    places = places + columns.clamp(0, width - 1)[:, None]
    pixels = images.view(n * height * width, 3).index_select(0, places.flatten())
    inside = ((rows >= 0) & (rows < height))[:, :, None]
    inside = inside & ((columns >= 0) & (columns < width))[:, None]
    return pixels.view(-1, height, width, 3).mul_(inside[..., None])


def normalise(
    images: UInt8[Tensor, "image y x 3"], mean: Float[Tensor, "3"], std: Float[Tensor, "3"]
) -> Float[Tensor, "image 3 y x"]:
    """Return (image / 255 - mean) / std, channels last in memory."""
    return torch.addcmul(-mean / std, images.float(), 1 / (255 * std)).permute(0, 3, 1, 2)
