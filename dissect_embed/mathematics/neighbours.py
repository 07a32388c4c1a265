"""Which units lie nearest by their vectors, and which fire together."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dissect_embed.mathematics.cosines import cosine_similarity
from dissect_embed.mathematics.running import Maps, RunningSum


def nearest_units(
    vectors: Float[Tensor, "unit dim"], n: int
) -> tuple[Int[Tensor, "unit near"], Float[Tensor, "unit near"]]:
    """Return each unit's nearest others by cosine, nearest first, and the cosines.

    Of equals the one of the lower number comes first. A layer with fewer units gives fewer.

    Examples
    --------
    >>> units, cosines = nearest_units(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]]), 1)
    >>> units.tolist(), cosines[0, 0].item()
    ([[1], [2], [1]], 0.6000000238418579)
    """
    cosine = cosine_similarity(vectors)
    cosine.fill_diagonal_(-torch.inf)
    order = cosine.sort(dim=1, descending=True, stable=True)
    n = min(n, len(vectors) - 1)
    return order.indices[:, :n], order.values[:, :n]


def count_coactivation(
    maps: Float[Tensor, "image unit y x"], thresholds: Float[Tensor, " unit"]
) -> Int[Tensor, "unit unit"]:
    """Count the positions of the activation maps at which two units fire both; adds up over images.

    Examples
    --------
    >>> count_coactivation(torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]]), torch.tensor([0.5, 0.5]))
    tensor([[1, 1],
            [1, 2]])
    """
    fires = maps.float() > thresholds[:, None, None]
    # A batch has fewer than 2^24 positions, which float32 counts exactly.
    fires = fires.movedim(1, 0).flatten(1).float()
    return (fires @ fires.T).long()


class Coactivations(RunningSum[Tensor]):
    """How often two units of a layer fire both, over images: ``count_coactivation``."""

    def __init__(self, thresholds: Mapping[str, Float[Tensor, " unit"]]) -> None:
        """Take the thresholds of each layer, on the device of its maps."""
        super().__init__()
        self._thresholds = thresholds

    def measure(self, layer: str, maps: Maps) -> Int[Tensor, "unit unit"]:
        """Return the counts of a batch."""
        return count_coactivation(maps.maps, self._thresholds[layer])


def overlap_of(coactivation: Int[Tensor, "unit unit"]) -> Float[Tensor, "unit unit"]:
    """Return the IoU of every two units' masks over the data set; 0 where neither ever fires."""
    size = coactivation.diagonal()
    union = size[:, None] + size - coactivation
    return torch.where(union > 0, coactivation / union.clamp_min(1), 0.0).double()
