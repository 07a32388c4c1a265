"""Whose labels masks are laid on, and what follows for each unit: by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from dissect_embed.mathematics.null import (
    FRACTIONS,
    PARTS,
    Drawn,
    compare_units,
    count_alone,
    draw_partners,
    find_strata,
    null_bound,
    p_values,
    q_values,
    untested,
)


def strata(presence, size=None):
    presence = np.array(presence, dtype=bool)
    return find_strata(np.array(size or [[8, 8]] * len(presence)), presence).tolist()


def test_strata_by_hand():
    # Alike in size and categories; a single one joins the set that differs least from its own.
    assert strata([[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 1]]) == [1, 0, 1, 0]
    assert strata([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 1], [0, 1, 0]]) == [1, 1, 0, 0, 0]
    # Of equals the larger: (1, 1, 0) differs by one from both.
    rows = [[1, 0, 0]] * 3 + [[0, 1, 0]] * 2 + [[1, 1, 0]]
    assert strata(rows) == [1, 1, 1, 0, 0, 1]
    # Two single ones go together, and are single no more.
    assert strata([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]) == [1, 1, 0, 0]


def test_only_an_image_of_a_size_of_its_own_is_alone():
    size = [[8, 8], [4, 4], [8, 8], [2, 9], [4, 4], [9, 2]]
    found = find_strata(np.array(size), np.eye(6, 3, dtype=bool))
    assert len(set(found.tolist())) == 4
    assert found[0] == found[2]
    assert found[1] == found[4]
    assert count_alone(found) == 2
    assert count_alone(find_strata(np.array([[8, 8]]), np.ones((1, 1), dtype=bool))) == 1


def test_labels_are_dealt_out_within_strata():
    stratum = np.array([0, 1, 0, 1, 0, 2, 0])
    partners = draw_partners(stratum, 200, seed=3)
    for row in partners:
        assert sorted(row.tolist()) == list(range(7))
        assert (stratum[row] == stratum).all()
        assert row[5] == 5  # alone
    assert (draw_partners(stratum, 2, seed=3) == partners[:2]).all()
    assert (draw_partners(stratum, 2, seed=4) != partners[:2]).any()
    # Each of the four as often: 50 with a deviation of 6.1.
    for image in (0, 2, 4, 6):
        counts = np.bincount(partners[:, image], minlength=7)[[0, 2, 4, 6]]
        assert (abs(counts - 50) < 5 * 6.1).all()


@pytest.mark.parametrize("sizes", [[3] * 10, [2] * 20, [12], [20, *[2] * 10]])
def test_p_is_right_however_small_the_strata(sizes):
    """A sum over images of what two images make of one another, for units that know nothing."""
    rng = np.random.default_rng(0)
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    n, draws = len(stratum), draw_partners(stratum, 99, seed=0)
    p = []
    for _ in range(1500):
        mask, label = rng.random(n), rng.random(n)
        null = (mask * label[draws]).sum(axis=1)
        p.append(float(p_values(np.array([mask @ label]), null[:, None])[0]))
    for level in (0.05, 0.1, 0.3):
        share = np.mean(np.array(p) <= level)
        assert share < level + 4 * np.sqrt(level * (1 - level) / len(p))


def test_p_values_are_of_a_units_own_draws():
    null = np.array([[0.1, 0.9], [0.2, 0.9], [0.2, 0.9], [0.3, 0.0]])
    assert p_values(np.array([0.2, 0.2]), null).tolist() == [0.8, 0.8]
    assert p_values(np.array([0.31, 1.0]), null).tolist() == [0.2, 0.2]
    assert np.isnan(p_values(np.array([np.nan, 1.0]), null)).tolist() == [True, False]


def test_q_values_equal_scipys():
    rng = np.random.default_rng(0)
    p = rng.integers(1, 102, 300) / 101
    p[:40] = 1 / 101
    np.testing.assert_allclose(q_values(p), false_discovery_control(p), rtol=1e-12)
    with_dead = np.insert(p, [0, 100, 300], np.nan)
    assert np.isnan(q_values(with_dead)).sum() == 3
    np.testing.assert_array_equal(q_values(with_dead)[~np.isnan(with_dead)], q_values(p))
    assert np.isnan(q_values(np.array([np.nan]))).all()
    assert len(q_values(np.zeros(0))) == 0


def test_units_beside_their_nulls_by_hand():
    null = np.linspace(0.01, 1, 100)[:, None] * np.array([0.1, 0.1, 0.1, 1.0])
    assert null_bound(null) == pytest.approx([0.095, 0.095, 0.095, 0.95])
    iou = np.array([[0.3, 0.2, 0.0], [0.09, 0.096, 0.1], [0, 0, 0], [0.3, 0.2, 0.1]])
    found = compare_units(iou, null, np.array([5, 5, 0, 5]))
    np.testing.assert_allclose(found.p, [1 / 101, 2 / 101, np.nan, 72 / 101])
    np.testing.assert_allclose(found.q, [3 / 101, 3 / 101, np.nan, 72 / 101])
    np.testing.assert_allclose(found.null_mean, [0.0505, 0.0505, np.nan, 0.505])
    np.testing.assert_allclose(found.excess, [0.2495, 0.0495, np.nan, -0.205])
    assert found.n_concepts.tolist() == [2, 2, 0, 0]  # two meanings, two barely, dead, none
    assert found.detectors().tolist() == [True, True, False, False]
    assert np.isnan(untested(2).p).all()
    assert not untested(2).detectors().any()


def test_the_dead_change_nothing_for_the_living():
    rng = np.random.default_rng(1)
    iou, null = rng.random((40, 7)), rng.random((100, 40))
    pixels = np.arange(40) % 2
    found, alone = (
        compare_units(iou, null, pixels),
        compare_units(iou[1::2], null[:, 1::2], pixels[1::2]),
    )
    for of_all, of_living in zip(found, alone, strict=True):
        np.testing.assert_array_equal(of_all[1::2], of_living)
        assert not np.nan_to_num(of_all[::2]).any()


def test_iou_of_draws_by_hand():
    # 10 of 50 + 100 - 10 pixels; in the second draw half a pixel more.
    both = PARTS * np.array([[[10, 0], [10, 2]]]) + np.array([[[0, 0], [PARTS // 2, 0]]])
    fired = np.array([[[60, 50], [60, 50]]])
    drawn = Drawn(both, fired, np.array([[5 * FRACTIONS, 0]]), np.array([60]))
    iou = drawn.iou(np.array([100, 50]), np.array([1, 0]))
    assert iou.shape == (2, 1, 2)
    np.testing.assert_allclose(iou[:, 0, 0], [10 / 140, 10.5 / 139.5])
    np.testing.assert_allclose(iou[:, 0, 1], [0, 2 / 108])


def test_every_permutation_is_as_likely():
    partners = draw_partners(np.zeros(3, dtype=int), 1200, seed=0)
    kinds, counts = np.unique(partners, axis=0, return_counts=True)
    assert {tuple(row) for row in kinds.tolist()} == set(itertools.permutations(range(3)))
    assert (abs(counts - 200) < 5 * 13).all()
