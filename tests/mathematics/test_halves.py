"""Two halves of the images: which, and that each is counted alone."""

import numpy as np
import pytest
import torch

from dissect_embed.mathematics.halves import RUN, OfSome, Several, second_half
from dissect_embed.mathematics.neighbours import Coactivations, count_coactivation
from dissect_embed.mathematics.running import Maps


@pytest.mark.parametrize("n", [2, 3, 5, 9, 31, 32, 100, 1001])
def test_halves_are_halves(n):
    kept = second_half(n)
    assert kept.shape == (n,)
    assert 0 < kept.sum() < n
    assert abs(kept.mean() - 0.5) <= max(0.17, RUN / n)


def test_neighbours_lie_in_the_same_half():
    kept = second_half(1600)
    assert (kept[1:] != kept[:-1]).sum() == 1600 / RUN - 1


def test_one_image_has_no_second_half():
    assert not second_half(1).any()


def test_each_half_is_counted_alone():
    maps = torch.from_numpy(np.random.default_rng(0).random((50, 4, 3, 3)).astype(np.float16))
    peak, threshold = maps.amax(dim=(2, 3)).float(), torch.full((4,), 0.7)
    kept = second_half(50)
    first, second = (Coactivations({"a": threshold}) for _ in range(2))
    every = Several([OfSome(~kept, [first]), OfSome(kept, [second])])
    # In batches that are no multiples of a run, in any order.
    for start, stop in ((20, 41), (0, 5), (5, 20), (41, 50)):
        every.add(start, {"a": Maps(maps[start:stop], peak[start:stop])})
    for found, chosen in ((first, ~kept), (second, kept)):
        assert torch.equal(found.totals["a"], count_coactivation(maps[chosen], threshold))
