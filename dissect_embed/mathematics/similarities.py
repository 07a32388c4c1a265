"""The two similarities of a layer's units, as sums over images that are exact in any order.

``image``
    P = mean over n of h(d(A_n, A_n)), as in [HAN22] eq. 1 (``cosines.similarity_sum``).
``dataset``
    P = h(d(A, A)) with A (C, N·h·w), the maps of all images laid end to end. With
    G = Σ_n A_n A_nᵀ it is h(G_ij / sqrt(G_ii G_jj)).

G adds up in whole numbers. Cosines do not change when a unit's maps are divided by a number: here
by a power of two near the unit's usual strength (``guess_magnitude``), the same for all images.
What an image adds is then rounded once, to a whole multiple of 2^-40.

[HAN22] Han, Wang, Böhm, Shao, An Interpretable Neuron Embedding for Static Knowledge Distillation,
arXiv 2211.07647.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dissect_embed.mathematics.cosines import add_images, cosines_by_image, row_softmax
from dissect_embed.mathematics.running import Maps, RunningSum

# The two, by the names they have in files and settings.
SIMILARITIES = ("image", "dataset")
# What an image adds to G is rounded to multiples of 2^-BITS.
BITS = 40
# Bits of the lower of the two numbers that make up an entry of G.
LOW = 50
# Up to here whole numbers add up exactly in float64.
EXACT = 2.0**52
# What one image may add to an entry: two million such images fit.
LARGEST = 2.0**92


@dataclass(frozen=True)
class Sums:
    """What some images add up to in a layer; ``+`` adds other images, exactly."""

    image: Float[Tensor, "unit unit"]  # float64: Σ_n h(d(A_n, A_n))
    # int64: G · 2^40 is the first times 2^50, plus the second, which lies from 0 to 2^50
    products: Int[Tensor, "2 unit unit"]

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums over both ones' images."""
        return Sums(self.image + other.image, _carry(self.products + other.products))

    def targets(self, n_images: int) -> dict[str, Float[np.ndarray, "unit unit"]]:
        """Return P by each similarity, float64."""
        # On the processor, where sums of shards are put together: one exponential, the same bits.
        of_dataset = row_softmax(product_cosines(self.products.cpu()))
        values = (self.image.cpu() / n_images, of_dataset)
        return {name: p.numpy() for name, p in zip(SIMILARITIES, values, strict=True)}


def guess_magnitude(sample: Float[Tensor, "image unit y x"]) -> Float[np.ndarray, " unit"]:
    """Return a power of two near the usual length of each unit's map, from some images.

    The next below the root mean square over these images; of a unit that is silent on all of them
    the largest of the layer.

    Examples
    --------
    >>> maps = torch.tensor([[[[3.0, 4.0]], [[0.0, 0.0]], [[0.2, 0.0]]]])
    >>> guess_magnitude(maps)
    array([4.   , 4.   , 0.125], dtype=float32)
    """
    squares = [image.double().square().sum(dim=(1, 2)) for image in sample]
    length = torch.stack(squares).mean(dim=0).sqrt().cpu().numpy()
    length[length == 0] = length.max() or 1
    _, exponent = np.frexp(length)
    magnitude: Float[np.ndarray, " unit"] = np.exp2((exponent - 1).clip(-100, 100))
    return magnitude.astype(np.float32)


def similarity_sums(
    maps: Float[Tensor, "image unit y x"], magnitude: Float[Tensor, " unit"]
) -> Sums:
    """Return what some images add up to, by both similarities.

    Parameters
    ----------
    magnitude
        What each unit's maps are divided by, a power of two: the same for all images of a data set.

    Raises
    ------
    FloatingPointError
        If a unit is so much stronger on one image than its magnitude that the sum might not hold
        it; the unit is named.
    """
    n_units = maps.shape[1]
    image = torch.zeros((n_units, n_units), dtype=torch.float64, device=maps.device)
    products = torch.zeros((2, n_units, n_units), dtype=torch.int64, device=maps.device)
    # Added to in float64 as long as that is exact.
    part, bound = torch.zeros_like(image), 0.0
    factor = 2.0 ** (BITS / 2) / magnitude.to(maps.device)
    for d, length in cosines_by_image(maps):
        add_images(image, row_softmax(d))
        scaled = length * factor
        # In place: a fresh matrix costs more than what is done to it.
        value = d.mul_(scaled.unsqueeze(-1)).mul_(scaled.unsqueeze(-2)).round_()
        strongest = _square_of_largest(scaled)
        several = value.ndim == 3 and strongest * len(value) > EXACT
        for one in value if several else (value,):
            n_images = len(one) if one.ndim == 3 else 1
            bound += strongest * n_images
            if bound > EXACT:
                products = products + _split(part)
                bound = strongest * n_images
                part.zero_()
            add_images(part, one)
    return Sums(image, _carry(products + _split(part)))


def product_cosines(products: Int[Tensor, "2 unit unit"]) -> Float[Tensor, "unit unit"]:
    """Return G_ij / sqrt(G_ii G_jj), float64; 0 where a unit never fires.

    Examples
    --------
    >>> product_cosines(torch.tensor([[[0, 0], [0, 0]], [[4, 3], [3, 9]]]))
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]], dtype=torch.float64)
    """
    g = products[0].double() * 2.0**LOW + products[1].double()
    length = g.diagonal().sqrt()
    both = length[:, None] * length
    return torch.where(both > 0, g / both.where(both > 0, 1), 0)


def _square_of_largest(scaled: Float[Tensor, "*images unit"]) -> float:
    """Return what the strongest unit adds to its own entry; raise if it is too much."""
    largest = float(scaled.max()) ** 2
    if largest < LARGEST:
        return largest
    unit = int(scaled.reshape(-1, scaled.shape[-1]).amax(dim=0).argmax())
    msg = (
        f"unit {unit} is over fifty million times as strong on one image as on those from "
        "which its scale was guessed, so that its products cannot be added up; leave the layer out "
        "(model.layers), or bound the unit's output"
    )
    raise FloatingPointError(msg)


def _split(whole: Float[Tensor, "unit unit"]) -> Int[Tensor, "2 unit unit"]:
    """Return whole numbers as a higher and a lower part; exact."""
    high = (whole * 2.0**-LOW).floor()
    return torch.stack([high, whole - high * 2.0**LOW]).long()


def _carry(products: Int[Tensor, "2 unit unit"]) -> Int[Tensor, "two unit unit"]:
    """Return the same numbers with lower parts from 0 to 2^50: so each number has one form."""
    high, low = products
    return torch.stack([high + (low >> LOW), low & ((1 << LOW) - 1)])


class SimilaritySums(RunningSum[Sums]):
    """The sums of each layer over images, by both similarities: ``similarity_sums``."""

    def __init__(self, magnitudes: Mapping[str, Float[np.ndarray, " unit"]]) -> None:
        """Take what each layer's units are divided by."""
        super().__init__()
        self._magnitudes = {k: torch.from_numpy(v) for k, v in magnitudes.items()}

    def measure(self, layer: str, maps: Maps) -> Sums:
        """Return the sums over a batch."""
        try:
            return similarity_sums(maps.maps, self._magnitudes[layer])
        except FloatingPointError as error:
            msg = f"{layer}: {error}"
            raise FloatingPointError(msg) from error
