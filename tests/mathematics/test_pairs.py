"""Pairs that add up to a third: by hand and beside slow references."""

import itertools

import numpy as np
import pytest
import torch

from dissect_embed.mathematics.neighbours import count_coactivation
from dissect_embed.mathematics.pairs import (
    Triples,
    completing_pairs,
    count_triples,
    union_overlap,
)
from dissect_embed.mathematics.running import Maps


def test_the_pairs_of_every_unit_by_looking_at_all():
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(14, 4, generator=generator) * torch.rand(14, 1, generator=generator)
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    for k, found in enumerate(completing_pairs(vectors, 5)):
        slow = []
        for i, j in itertools.combinations(sorted(set(range(14)) - {k}), 2):
            total = unit[i] + unit[j]
            alone = max(float(unit[i] @ unit[k]), float(unit[j] @ unit[k]))
            slow.append((float(total @ unit[k] / total.norm()) - alone, i, j))
        slow.sort(reverse=True)
        assert [pair[:3] for pair in found] == [(i, j, k) for _, i, j in slow[:5]]
        np.testing.assert_allclose([pair.gain for pair in found], [gain for gain, *_ in slow[:5]])
        for pair in found:
            assert pair.first_cosine == pytest.approx(float(unit[pair.first] @ unit[k]))


def test_what_counts_is_what_the_sum_adds():
    """A sum that lies nearest because one part does already comes after one that both make."""
    e = torch.eye(4)
    target = e[0] + e[1]
    vectors = torch.stack(
        [target, target + 0.1 * e[2], target - 0.2 * e[2] + 0.1 * e[3], e[0], e[1]]
    )
    best, *others = completing_pairs(vectors, 6)[0]
    assert best[:2] == (3, 4)
    assert best.gain == pytest.approx(1 - 0.5**0.5)
    trivial = next(pair for pair in others if pair[:2] == (1, 2))
    assert trivial.cosine > 0.99
    assert trivial.gain < 0.01


def test_of_equal_pairs_the_first_comes_first():
    assert [p[:2] for p in completing_pairs(torch.ones(5, 3), 3)[4]] == [(0, 1), (0, 2), (0, 3)]


def test_layers_that_are_too_small_have_no_pairs():
    assert completing_pairs(torch.ones(1, 3), 3) == [[]]
    assert completing_pairs(torch.eye(2), 3) == [[], []]
    assert [len(pairs) for pairs in completing_pairs(torch.eye(3), 3)] == [1, 1, 1]


def test_opposite_units_add_up_to_nothing():
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    pairs = [pair for of in completing_pairs(vectors, 3) for pair in of]
    assert all(np.isfinite(pair.cosine) for pair in pairs)


@pytest.fixture
def maps() -> torch.Tensor:
    # 7 images of 3 × 3 positions: no multiple of 64, nor of 8.
    return torch.from_numpy(np.random.default_rng(0).random((7, 6, 3, 3)).astype(np.float16))


THRESHOLDS = torch.tensor([0.5, 0.2, 0.3, 0.6, 0.4, 2.0])


def test_triples_by_looking_at_each_position(maps):
    triples = np.array(list(itertools.product(range(6), repeat=3)))
    running = Triples({"a": THRESHOLDS}, {"a": triples})
    peak = maps.amax(dim=(2, 3)).float()
    running.add(0, {"a": Maps(maps[:2], peak[:2])})
    running.add(2, {"a": Maps(maps[2:], peak[2:])})
    fires = maps.float().numpy() > THRESHOLDS.numpy()[:, None, None]
    slow = [(fires[:, i] & fires[:, j] & fires[:, k]).sum() for i, j, k in triples]
    assert running.totals["a"].tolist() == slow
    assert slow[-1] == 0
    assert max(slow) > 0


def test_layers_without_triples_count_none(maps):
    assert count_triples(maps, THRESHOLDS, np.zeros((0, 3), dtype=np.int64)).shape == (0,)


def test_overlaps_of_unions_by_looking_at_each_position(maps):
    fires = maps.float().numpy() > THRESHOLDS.numpy()[:, None, None]
    coactivation = count_coactivation(maps, THRESHOLDS)

    def iou(one: np.ndarray, other: np.ndarray) -> float:
        return (one & other).sum() / max(1, (one | other).sum())

    for triple in itertools.permutations(range(6), 3):
        together = int(count_triples(maps, THRESHOLDS, np.array([triple]))[0])
        i, j, k = (fires[:, unit] for unit in triple)
        found = union_overlap(coactivation, triple, together)
        assert found.overlap == pytest.approx(iou(i | j, k))
        assert found.gain == pytest.approx(iou(i | j, k) - max(iou(i, k), iou(j, k)))


def test_units_that_never_fire_overlap_nothing():
    assert union_overlap(torch.zeros(3, 3, dtype=torch.int64), (0, 1, 2), 0) == (0, 0)
