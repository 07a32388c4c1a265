"""The similarity over a whole data set: a slow reference, and the same bits in any order."""

import functools
import operator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.mathematics.running import Maps
from dissect_embed.mathematics.similarities import (
    LOW,
    SimilaritySums,
    Sums,
    guess_magnitude,
    product_cosines,
    similarity_sums,
)


def slow_target(maps: np.ndarray) -> np.ndarray:
    """Lay all maps end to end, and take each pair by itself."""
    ends = maps.astype(np.float64).swapaxes(0, 1).reshape(maps.shape[1], -1)
    d = np.zeros((len(ends), len(ends)))
    for i, one in enumerate(ends):
        for j, other in enumerate(ends):
            if one.any() and other.any():
                scale = np.abs(one).max(), np.abs(other).max()
                one_, other_ = one / scale[0], other / scale[1]
                d[i, j] = one_ @ other_ / np.sqrt((one_ @ one_) * (other_ @ other_))
    e = np.exp(d)
    return e / e.sum(axis=1, keepdims=True)


def target_of(maps: np.ndarray, n_sample: int = 4) -> np.ndarray:
    maps = torch.from_numpy(maps)
    sums = similarity_sums(maps, torch.from_numpy(guess_magnitude(maps[:n_sample])))
    return sums.targets(len(maps))["dataset"]


def same(one: Sums, other: Sums) -> bool:
    return torch.equal(one.image, other.image) and torch.equal(one.products, other.products)


def make_maps(seed: int, *, signed: bool = False, single: bool = False) -> np.ndarray:
    """Draw maps of nine units: of several strengths, one dead, one that fires on few images."""
    rng = np.random.default_rng(seed)
    strength = 10.0 ** rng.integers(-3, 3, size=9)
    strength[5] = strength.max() / 100
    maps = rng.normal(size=(23, 9, 3, 4)) * strength[:, None, None]
    maps *= np.exp(rng.normal(size=(23, 9, 1, 1)))
    maps[:, 4] = 0
    maps[rng.permutation(23)[2:], 5] = 0
    return (maps if signed else np.maximum(maps, 0)).astype(np.float32 if single else np.float16)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), single=st.booleans(), signed=st.booleans())
def test_the_target_of_the_data_set_is_that_of_the_slow_reference(seed, single, signed):
    maps = make_maps(seed, signed=signed, single=single)
    np.testing.assert_allclose(target_of(maps), slow_target(maps), rtol=2e-6, atol=0)


def test_the_target_of_the_data_set_by_hand():
    # Laid end to end (3, 0, 4, 0) and (0, 0, 4, 3): their cosine is 16/25; a third never fires.
    maps = np.array([[[[3, 0]], [[0, 0]], [[0, 0]]], [[[4, 0]], [[4, 3]], [[0, 0]]]], np.float16)
    e = np.exp([[1, 16 / 25, 0], [16 / 25, 1, 0], [0, 0, 0]])
    np.testing.assert_allclose(target_of(maps), e / e.sum(axis=1, keepdims=True), rtol=1e-6)


def test_an_image_counts_by_its_strength_and_not_as_in_the_mean_over_images():
    maps = np.zeros((40, 2, 1, 2), np.float16)
    maps[0] = [[[9, 9]], [[9, 9]]]
    maps[1:, 0, 0, 0] = maps[1:, 1, 0, 1] = 0.01  # weak, and apart
    sums = similarity_sums(torch.from_numpy(maps), torch.ones(2))
    p = sums.targets(40)
    assert p["dataset"][0, 1] == pytest.approx(0.5, abs=1e-4)
    assert p["image"][0, 1] < 0.28


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("guess", [1, 2**14, 2**-8])
def test_sums_are_the_same_bits_in_any_order_and_batches(signed, single, guess):
    """Too high a guess: what is added ends below the last bit. Too low: above float64's 53."""
    maps = torch.from_numpy(make_maps(3, signed=signed, single=single))
    maps[7] *= 1000
    maps[7].clamp_(-65504, 65504)
    magnitude = guess * torch.from_numpy(guess_magnitude(maps[:3]))
    whole = similarity_sums(maps, magnitude)
    assert torch.equal(whole.image, similarity_sum(maps))
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    assert same(similarity_sums(maps[order], magnitude), whole)
    for size in (1, 4, 22):
        parts = [similarity_sums(part, magnitude) for part in maps[order].split(size)]
        assert same(functools.reduce(operator.add, parts), whole)
        assert same(functools.reduce(operator.add, parts[::-1]), whole)


def test_extremes_of_float16_side_by_side():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(12, 6, 4, 4)), 0)
    maps[:, :2] *= 65504 / maps[:, :2].max()
    maps[:, 2:4] = (maps[:, 2:4] > 0.5) * 6e-8  # the smallest float16 there is
    maps = maps.astype(np.float16)
    assert maps[:, :2].max() == 65504
    assert 0 < maps[:, 2:4].max() < 1e-7
    np.testing.assert_allclose(target_of(maps), slow_target(maps), rtol=2e-6, atol=0)


def test_a_sample_decides_nothing_but_rounding():
    """Units that are silent in it, or a million times weaker than elsewhere."""
    maps = make_maps(1)
    maps[0] = 0
    maps[0, 0] = 3e-5
    maps[1:, 0] = np.maximum(maps[1:, 0], 0.1)
    magnitude = guess_magnitude(torch.from_numpy(maps[:1]))
    assert len(set(magnitude.tolist())) == 1
    maps[0, 1:] = maps[1, 1:]
    found = target_of(maps, 1)
    np.testing.assert_allclose(found, slow_target(maps), rtol=2e-6, atol=0)
    # So strong that each image is added by itself, in whole numbers; in any order, too.
    whole, turned = (
        similarity_sums(torch.from_numpy(m.copy()), torch.from_numpy(magnitude))
        for m in (maps, maps[::-1])
    )
    assert whole.products[0, 0, 0] > 2**20
    assert same(whole, turned)


def test_magnitudes_are_powers_of_two_whatever_the_sample():
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.normal(size=(4, 5, 3, 3)).astype(np.float16))
    maps[:, 2] = 0
    found = guess_magnitude(maps)
    assert (np.frexp(found)[0] == 0.5).all()
    assert found[2] == found.max()
    length = maps.double().square().sum(dim=(2, 3)).mean(dim=0).sqrt().numpy()
    assert ((found <= length) & (length < 2 * found))[[0, 1, 3, 4]].all()
    assert guess_magnitude(torch.zeros(2, 3, 1, 1)).tolist() == [1, 1, 1]
    assert np.isfinite(1 / guess_magnitude(torch.full((1, 2, 1, 1), 1e-38))).all()


def test_numbers_have_one_form():
    products = torch.tensor([3, -1])[:, None, None]
    one, other = Sums(torch.zeros(1, 1), products), Sums(torch.zeros(1, 1), products)
    total = (one + other).products.flatten().tolist()
    assert total == [5, 2**LOW - 2]
    assert total[0] * 2**LOW + total[1] == 2 * (3 * 2**LOW - 1)


def test_a_unit_beyond_all_bounds_is_named():
    maps = torch.zeros(3, 4, 2, 2)
    maps[:, 1] = 1e-6
    maps[2, 1] = 1e6
    sums = SimilaritySums({"low": guess_magnitude(maps[:2])})
    with pytest.raises(FloatingPointError, match=r"low: unit 1 is over fifty million times"):
        sums.add(0, {"low": Maps(maps, maps.amax(dim=(2, 3)))})
    single = torch.full((1, 2, 1, 1), 3e38)
    with pytest.raises(FloatingPointError, match="unit 0 is over fifty million times"):
        similarity_sums(single, torch.ones(2))


def test_units_that_never_fire_are_like_none():
    d = product_cosines(torch.tensor([[[0, 0], [0, 0]], [[0, 1], [1, 4]]]))
    assert d.tolist() == [[0, 0], [0, 1]]
