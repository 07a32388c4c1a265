"""Which units lie nearest by their vectors, which add up to a third, and which fire together."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from dissect_embed.mathematics.cosines import cosine_similarity
from dissect_embed.mathematics.running import Maps, RunningSum

# A target among so many nearest units of either part is trivial: the part alone is near it.
TRIVIAL = 10
# Pairs that are reported of each layer.
TOP_PAIRS = 100


class AdditivePair(NamedTuple):
    """Two units whose vectors add up to a direction near a third's."""

    first: int
    second: int
    target: int
    cosine: float  # of the sum with the target
    first_cosine: float  # of each part alone
    second_cosine: float


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


def additive_pairs(
    vectors: Float[Tensor, "unit dim"], top: int = TOP_PAIRS, trivial: int = TRIVIAL
) -> list[AdditivePair]:
    """Return the pairs of units whose summed vector lies nearest to a third unit, best first.

    Vectors count by their direction, as in d(S, S): the sum is that of unit vectors, and with the
    cosines c its cosine with k is ``(c_ik + c_jk) / sqrt(2 + 2 c_ij)``. All pairs and targets are
    compared, one first unit at a time, so memory is C². A target among the ``trivial`` nearest
    units of either part is left out; each pair counts once, with its best target.

    Examples
    --------
    >>> units = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> best = additive_pairs(units, top=1, trivial=0)[0]
    >>> (best.first, best.second, best.target), round(best.cosine, 3), round(best.first_cosine, 3)
    ((0, 1, 2), 0.998, 0.705)
    """
    found = []
    cosine = cosine_similarity(vectors.double())
    for i, score in _score_sums(vectors, cosine, trivial):
        best = score.max(dim=1)
        kept = best.values.topk(min(top, len(best.values))).indices
        found += [
            (float(best.values[j]), i, i + 1 + int(j), int(best.indices[j]))
            for j in kept
            if best.values[j] > -torch.inf
        ]
    found.sort(key=lambda pair: (-pair[0], pair[1:]))
    return [
        AdditivePair(i, j, k, score, float(cosine[i, k]), float(cosine[j, k]))
        for score, i, j, k in found[:top]
    ]


def completing_pairs(
    vectors: Float[Tensor, "unit dim"], n: int, trivial: int = TRIVIAL
) -> list[list[AdditivePair]]:
    """Return for each unit the pairs whose summed vectors lie nearest to it, best first.

    Sums, and what is left out, are those of ``additive_pairs``.

    Examples
    --------
    >>> units = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.1], [0.0, 0.0, 1.0]])
    >>> [(pair.first, pair.second) for pair in completing_pairs(units, n=2, trivial=0)[2]]
    [(0, 1), (0, 3)]
    """
    cosine = cosine_similarity(vectors.double())
    found: list[list[tuple[float, int, int]]] = [[] for _ in vectors]
    for i, score in _score_sums(vectors, cosine, trivial):
        best = score.topk(min(n, len(score)), dim=0)
        for k, (values, indices) in enumerate(
            zip(best.values.T.tolist(), best.indices.T.tolist(), strict=True)
        ):
            reported = zip(values, indices, strict=True)
            found[k] += [(-value, i, i + 1 + j) for value, j in reported if value > -torch.inf]
            found[k] = sorted(found[k])[:n]
    return [
        [
            AdditivePair(i, j, k, -score, float(cosine[i, k]), float(cosine[j, k]))
            for score, i, j in pairs
        ]
        for k, pairs in enumerate(found)
    ]


def _score_sums(
    vectors: Float[Tensor, "unit dim"], cosine: Float[Tensor, "unit unit"], trivial: int
) -> Iterator[tuple[int, Float[Tensor, "later unit"]]]:
    """Yield i and the cosines of its sum with each later unit with each unit; -inf if trivial."""
    n_units = len(vectors)
    excluded = torch.eye(n_units, dtype=torch.bool)
    near, _ = nearest_units(vectors, trivial)
    excluded.scatter_(1, near, True)
    first = range(n_units - 1 if n_units > 2 else 0)
    for i in tqdm(first, "pairs of units", unit=" units", leave=False, disable=None):
        later = slice(i + 1, n_units)
        length = (2 + 2 * cosine[i, later]).clamp_min(1e-12).sqrt()
        score = (cosine[i] + cosine[later]) / length[:, None]
        score[excluded[i] | excluded[later]] = -torch.inf
        yield i, score


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
