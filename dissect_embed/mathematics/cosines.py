"""How alike units are: d and h of [HAN22], and what of them adds up over images.

[HAN22] Han, Wang, Böhm, Shao, An Interpretable Neuron Embedding for Static Knowledge Distillation,
arXiv 2211.07647.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

# Images whose similarities a device other than the processor computes at once.
TOGETHER = 16


def cosine_similarity(x: Float[Tensor, "*batch unit feature"]) -> Float[Tensor, "*batch unit unit"]:
    """Return d(x, x): the cosine of every two rows. A zero row has cosine 0, also with itself.

    Examples
    --------
    >>> cosine_similarity(torch.tensor([[3.0, 4.0], [4.0, 3.0], [0.0, 0.0]]))
    tensor([[1.0000, 0.9600, 0.0000],
            [0.9600, 1.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    return cosines_and_lengths(x)[0]


def cosines_and_lengths(
    x: Float[Tensor, "*batch unit feature"],
) -> tuple[Float[Tensor, "*batch unit unit"], Float[Tensor, "*batch unit"]]:
    """Return d(x, x), and the length of every row."""
    # Dividing by the largest value first keeps the squares of float16's extremes in range.
    scale = x.abs().amax(dim=-1, keepdim=True)
    x = x / scale.where(scale > 0, 1)
    norm = x.norm(dim=-1, keepdim=True)
    x = x / norm.where(norm > 0, 1)
    return x @ x.mT, (scale * norm).squeeze(-1)


def row_softmax(d: Float[Tensor, "*batch unit unit"]) -> Float[Tensor, "*batch unit unit"]:
    """Return h(d): softmax over each row at temperature 1, the diagonal included."""
    return torch.softmax(d, dim=-1)


def cosines_by_image(
    maps: Float[Tensor, "image unit y x"],
) -> Iterator[tuple[Float[Tensor, "*images unit unit"], Float[Tensor, "*images unit"]]]:
    """Yield d(A_n, A_n) and the lengths of the maps: on the processor of each image, else of some.

    No image's rounding depends on which others are in its batch.
    """
    if maps.device.type == "cpu":
        # Image by image: the matrices of one image fit the processor's cache.
        for image in maps.flatten(2).float():
            yield cosines_and_lengths(image)
        return
    for images in maps.flatten(2).float().split(TOGETHER):
        # Always so many images, some of them empty: which kernel computes depends on the number,
        # and an image's rounding on the kernel.
        full = torch.nn.functional.pad(images, (0, 0, 0, 0, 0, TOGETHER - len(images)))
        d, length = cosines_and_lengths(full)
        yield d[: len(images)], length[: len(images)]


def add_images(
    total: Float[Tensor, "unit unit"], values: Float[Tensor, "*images unit unit"]
) -> None:
    """Add what one image gives, or some, to a sum in float64."""
    total += values if values.ndim == 2 else values.double().sum(dim=0)


def similarity_sum(maps: Float[Tensor, "image unit y x"]) -> Float[Tensor, "unit unit"]:
    """Return the sum over images of h(d(A_n, A_n)), in float64.

    The sum is exact, so sums of parts of a data set add up to that of the whole, in any order:
    cosines lie in [-1, 1], so an entry of p lies between 1 / e²C and e² / C and is, in float32, a
    whole multiple of 2^-24 / 2e²C; up to 9 million such entries fit the 53 bits of float64.
    """
    total = torch.zeros((maps.shape[1], maps.shape[1]), dtype=torch.float64, device=maps.device)
    for d, _ in cosines_by_image(maps):
        add_images(total, row_softmax(d))
    return total
