"""Centred kernel alignment and matched units: by hand, and beside references by their words."""

from itertools import permutations

import numpy as np
import pytest

from dissect_embed.mathematics.alignment import (
    features_of,
    kernel_alignment,
    linear_alignment,
    match_units,
    share_alike,
    u_centre,
)
from dissect_embed.mathematics.controls import Control, control_of


def slow_hsic(a, b):
    """Return the estimate of [SON12] by its definition: over all four different things."""
    n = len(a)
    total = sum(
        a[i, j] * b[i, j] + a[i, j] * b[q, r] - 2 * a[i, j] * b[i, q]
        for i, j, q, r in permutations(range(n), 4)
    )
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def slow_alignment(a, b):
    return slow_hsic(a, b) / np.sqrt(slow_hsic(a, a) * slow_hsic(b, b))


def symmetric(rng, n):
    kernel = rng.normal(size=(n, n))
    return kernel + kernel.T


def test_kernels_align_as_by_the_definition():
    rng = np.random.default_rng(0)
    for n in (4, 5, 7):
        one, other = symmetric(rng, n), symmetric(rng, n)
        product = (u_centre(one) * u_centre(other)).sum() / (n * (n - 3))
        assert product == pytest.approx(slow_hsic(one, other), rel=1e-9)
        assert kernel_alignment(one, other).value == pytest.approx(
            slow_alignment(one, other), rel=1e-9
        )


def test_layers_of_unlike_sizes_align_as_their_kernels_do():
    rng = np.random.default_rng(1)
    x, y = rng.normal(2, 3, size=(8, 5)), rng.random((8, 11)).astype(np.float32)
    found = linear_alignment(features_of(x), features_of(y), 12, random_seed=4)
    kernels = [z @ z.T for z in (x, y.astype(float))]
    assert found.value == pytest.approx(slow_alignment(*kernels), rel=1e-9)
    assert found == pytest.approx(kernel_alignment(*kernels, 12, random_seed=4), rel=1e-9)


def test_rotation_scale_and_shift_change_nothing_and_all_else_does():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(30, 6))
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    same = linear_alignment(features_of(x), features_of(1e6 * x @ rotation + 5))
    assert same.value == pytest.approx(1, abs=1e-9)
    assert same.p == pytest.approx(1 / 101)
    stretched = linear_alignment(features_of(x), features_of(x * [9, 1, 1, 1, 1, 1]))
    assert 0.1 < stretched.value < 0.9


def test_noise_is_not_alike_however_many_units_there_are():
    """The biased estimate calls 80 units of noise on 13 images alike."""
    rng = np.random.default_rng(3)
    n = 13
    centring = np.eye(n) - 1 / n

    def biased(x, y):
        a, b = (centring @ z @ z.T @ centring for z in (x, y))
        return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())

    pairs = [rng.normal(size=(2, n, 80)) for _ in range(200)]
    found = [linear_alignment(*map(features_of, pair), n_draws=2).value for pair in pairs]
    assert np.mean([biased(*pair) for pair in pairs]) > 0.8
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found)) + 0.002


def test_p_of_noise_is_even():
    rng = np.random.default_rng(4)
    p = [
        linear_alignment(
            features_of(rng.normal(size=(10, 3))), features_of(rng.normal(size=(10, 4))), 19, seed
        ).p
        for seed in range(300)
    ]
    assert np.histogram(p, bins=[0, 0.2501, 0.5001, 0.7501, 1.01])[0] == pytest.approx(75, abs=30)


def test_what_says_the_same_of_everything_aligns_with_nothing():
    x = np.random.default_rng(5).normal(size=(6, 3))
    for constant in (np.zeros((6, 2)), np.full((6, 2), 0.1), np.full((6, 1), 3e30)):
        for pair in ((x, constant), (constant, x), (constant, constant)):
            assert np.isnan(linear_alignment(*map(features_of, pair))).all()
    assert np.isnan(kernel_alignment(x @ x.T, np.full((6, 6), 0.1))).all()
    # The same to everything else: a sum of what rows and columns have.
    alike = np.add.outer(np.arange(6.0), np.arange(6.0))
    assert np.isnan(kernel_alignment(alike, x @ x.T)).all()


def test_units_find_themselves_again():
    rng = np.random.default_rng(6)
    x = rng.random((20, 7))
    order = rng.permutation(7)
    noise = rng.random((20, 3))
    matching = match_units(x, np.hstack([noise, 3 * x[:, order] + 1]))
    assert matching.one.tolist() == list(range(7))
    assert (matching.other - 3).tolist() == np.argsort(order).tolist()
    np.testing.assert_allclose(matching.correlation, 1)
    shuffled, drawn = matching.mean
    assert shuffled.value == drawn.value == pytest.approx(1)
    assert shuffled.p == drawn.p == pytest.approx(1 / 21)
    assert abs(drawn.null_mean) < 0.2 < shuffled.null_mean < 0.7


def test_the_matching_is_the_best_of_all():
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(9, 4)), rng.normal(size=(9, 5))
    correlation = np.corrcoef(x.T, y.T)[:4, 4:]
    best = max(correlation[range(4), order].mean() for order in permutations(range(5), 4))
    assert match_units(x, y).mean[0].value == pytest.approx(best)


def test_units_that_never_change_have_no_partner():
    rng = np.random.default_rng(8)
    # So many images that a mean of equal numbers is not quite that number.
    x, y = rng.random((1001, 3)), rng.random((1001, 4))
    x[:, 1], y[:, 0] = 0.3, 0
    matching = match_units(x, y)
    assert 1 not in matching.one
    assert 0 not in matching.other
    assert len(matching.one) == 2
    none = match_units(x, np.ones((1001, 2)))
    assert len(none.one) == 0
    assert np.isnan(none.mean[0].value)
    assert np.isnan(share_alike(np.zeros(3, int), np.zeros(2, int), none).value)


def test_noise_matches_as_shuffled_images_do():
    """The best matching of noise is high; its control knows."""
    rng = np.random.default_rng(9)
    found = match_units(rng.normal(size=(12, 30)), rng.normal(size=(12, 30))).mean[0]
    assert found.value > 0.4
    assert abs(found.excess) < 3 * found.null_sd


def test_concepts_of_partners_are_counted():
    x = np.random.default_rng(10).random((9, 4))
    matching = match_units(x, x)
    one, other = np.array([3, 5, -1, 2]), np.array([3, 5, -1, 7])
    found = share_alike(one, other, matching)
    assert found.value == 0.5  # of two without a concept nothing is alike
    # At random: two of four units have one in four as a partner of their concept.
    assert found.null_mean == pytest.approx(2 / 16, abs=0.05)


def test_a_control_counts_the_value_itself():
    found = control_of(2.0, np.array([1.0, 2.0, 3.0]))
    assert found == Control(2.0, 2.0, 1.0, 0.75)
    assert found.excess == 0
    assert np.isnan(control_of(2.0)[1:]).all()
    assert np.isnan(control_of(np.nan, np.ones(3))[1:]).all()
