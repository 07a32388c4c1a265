"""Which two units add up to a third, by their vectors and by where they fire.

The best of millions of sums lies near some unit by chance. So what counts is what the sum adds:
how much nearer it lies than the better of its parts.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from dissect_embed.mathematics.cosines import cosine_similarity
from dissect_embed.mathematics.running import Maps, RunningSum


class AdditivePair(NamedTuple):
    """Two units whose vectors add up to a direction near a third's."""

    first: int
    second: int
    target: int
    cosine: float  # of the sum with the target
    first_cosine: float  # of each part alone
    second_cosine: float

    @property
    def gain(self) -> float:
        """What the sum adds to the better of its parts."""
        return self.cosine - max(self.first_cosine, self.second_cosine)


def completing_pairs(vectors: Float[Tensor, "unit dim"], n: int) -> list[list[AdditivePair]]:
    """Return for each unit the pairs of others whose sum adds most towards it, best first.

    Vectors count by their direction, as in d(S, S): the sum is that of unit vectors, and with the
    cosines c its cosine with k is ``(c_ik + c_jk) / sqrt(2 + 2 c_ij)``. What it adds is that less
    the larger of c_ik and c_jk. All pairs are compared, one first unit at a time, so memory is C².

    Examples
    --------
    >>> units = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> best = completing_pairs(units, n=2)[2][0]
    >>> (best.first, best.second), round(best.cosine, 3), round(best.gain, 3)
    ((0, 1), 0.998, 0.292)
    """
    cosine = cosine_similarity(vectors.double())
    n_units = len(vectors)
    gains = torch.full((n_units, n), -torch.inf, dtype=torch.float64)
    parts = torch.zeros((n_units, n, 2), dtype=torch.int64)
    first = range(n_units - 1 if n_units > 2 else 0)
    for i in tqdm(first, "pairs of units", unit=" units", leave=False, disable=None):
        later = torch.arange(i + 1, n_units)
        one, other = cosine[:, i, None], cosine[:, i + 1 :]
        length = (2 + 2 * cosine[i, i + 1 :]).clamp_min(1e-12).sqrt()
        gain = (one + other).div_(length).sub_(torch.maximum(one, other))
        gain[i] = -torch.inf
        gain[later, later - i - 1] = -torch.inf
        # Few targets find a better pair here than they have.
        k = (gain.amax(dim=1) > gains[:, -1]).nonzero().flatten()
        best = gain[k].sort(dim=1, descending=True, stable=True)
        others = later[best.indices[:, :n]]
        pairs = torch.stack([torch.full_like(others, i), others], dim=2)
        values = torch.cat([gains[k], best.values[:, :n]], dim=1)
        order = values.sort(dim=1, descending=True, stable=True).indices[:, :n]
        gains[k] = values.gather(1, order)
        both = torch.cat([parts[k], pairs], dim=1)
        parts[k] = both.gather(1, order[:, :, None].expand(-1, -1, 2))
    return [
        [
            _pair(cosine, i, j, k)
            for gain, (i, j) in zip(gains[k].tolist(), parts[k].tolist(), strict=True)
            if gain > -torch.inf
        ]
        for k in range(n_units)
    ]


def _pair(cosine: Float[Tensor, "unit unit"], i: int, j: int, k: int) -> AdditivePair:
    length = max(1e-12, float(2 + 2 * cosine[i, j])) ** 0.5
    of_sum = float(cosine[i, k] + cosine[j, k]) / length
    return AdditivePair(i, j, k, of_sum, float(cosine[i, k]), float(cosine[j, k]))


def count_triples(
    maps: Float[Tensor, "image unit y x"],
    thresholds: Float[Tensor, " unit"],
    triples: Int[np.ndarray, "triple 3"],
) -> Int[Tensor, " triple"]:
    """Count the positions of the activation maps at which three units fire; adds up over images.

    Examples
    --------
    >>> maps = torch.tensor([[[[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]]]])
    >>> count_triples(maps, torch.full((3,), 0.5), np.array([[0, 1, 2], [0, 0, 2]])).tolist()
    [1, 2]
    """
    fires = (maps.float() > thresholds[:, None, None]).movedim(1, 0).flatten(1).cpu().numpy()
    # Sixty-four positions a number: a layer has thousands of triples.
    packed = np.packbits(fires, axis=1)
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)
    together = packed[triples[:, 0]] & packed[triples[:, 1]] & packed[triples[:, 2]]
    return torch.from_numpy(np.bitwise_count(together).sum(axis=1, dtype=np.int64))


class Triples(RunningSum[Tensor]):
    """How often three units of a layer fire together, over images: ``count_triples``."""

    def __init__(
        self,
        thresholds: Mapping[str, Float[Tensor, " unit"]],
        triples: Mapping[str, Int[np.ndarray, "triple 3"]],
    ) -> None:
        """Take the thresholds of each layer, on the device of its maps, and which units."""
        super().__init__()
        self._thresholds = thresholds
        self._triples = triples

    def measure(self, layer: str, maps: Maps) -> Int[Tensor, " triple"]:
        """Return the counts of a batch."""
        return count_triples(maps.maps, self._thresholds[layer], self._triples[layer])


class UnionOverlap(NamedTuple):
    """How well two units' masks together match a third's."""

    overlap: float  # IoU of (mask_i or mask_j) with mask_k
    gain: float  # less the better part's


def union_overlap(
    coactivation: Int[Tensor, "unit unit"], triple: tuple[int, int, int], together: int
) -> UnionOverlap:
    """Return the IoU of two units' masks, laid together, with a third's, and what the better lacks.

    Parameters
    ----------
    coactivation
        How often every two units fire both (``neighbours.count_coactivation``).
    together
        How often the three of them fire.

    Examples
    --------
    Two units that each fire where half of the third does, and never both:

    >>> both = torch.tensor([[2, 0, 2], [0, 2, 2], [2, 2, 4]])
    >>> union_overlap(both, (0, 1, 2), together=0)
    UnionOverlap(overlap=1.0, gain=0.5)
    """
    i, j, k = triple

    def share(common: int, one: int, other: int) -> float:
        return common / (one + other - common) if one + other > common else 0.0

    size = [int(coactivation[u, u]) for u in triple]
    with_k = [int(coactivation[u, k]) for u in (i, j)]
    either = size[0] + size[1] - int(coactivation[i, j])
    overlap = share(sum(with_k) - together, either, size[2])
    better = max(share(common, own, size[2]) for common, own in zip(with_k, size[:2], strict=True))
    return UnionOverlap(overlap, overlap - better)
