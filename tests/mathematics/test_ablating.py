"""What is right, lost and gained: by hand and beside slow references."""

import math

import numpy as np
import pytest

from dissect_embed.mathematics.ablation import (
    change_p,
    compare_nearest,
    count_changes,
    points,
    right_classes,
    right_concepts,
)


def test_an_image_of_a_concept_is_right_where_too_few_others_score_as_high():
    rng = np.random.default_rng(0)
    for n_images in (1, 2, 9, 30):
        # Few values, so that many tie.
        scores = rng.integers(0, 5, (n_images, 6)) / 4
        present = rng.random((n_images, 6)) < rng.random(6)
        present[:, 0], present[:, 1] = True, False
        found = right_concepts(scores, present)
        for c in range(6):
            n = present[:, c].sum()
            for i in range(n_images):
                others = sum(scores[j, c] >= scores[i, c] for j in range(n_images) if j != i)
                assert found[i, c] == (present[i, c] and others < n)


def test_all_alike_is_right_of_no_concept_but_of_one_that_every_image_has():
    present = np.array([[True, True], [False, True]])
    assert right_concepts(np.zeros((2, 2)), present).tolist() == [[False, True], [False, True]]


def test_the_class_of_the_highest_output():
    present = np.array([[True, False], [False, True], [True, False]])
    found = right_classes(np.array([7, 2, 2]), present, np.array([7, 2]))
    assert found.tolist() == [[True, False], [False, True], [False, False]]


def test_changes_are_counted_by_class_and_by_image():
    present = np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
    before = np.array([[1, 1], [1, 0], [0, 0], [0, 1]], dtype=bool)
    after = np.array([[0, 0], [1, 0], [0, 1], [1, 0]], dtype=bool)
    changes = count_changes(before, after, present)
    assert changes.images.tolist() == [3, 3]
    assert changes.before.tolist() == [2, 2]
    assert (changes.lost.tolist(), changes.gained.tolist()) == ([1, 2], [1, 1])
    # The first image loses twice, the third gains, the last does both.
    assert (changes.worse, changes.better) == (1, 1)
    np.testing.assert_allclose(changes.drop, [0, 100 / 3])
    assert changes.total_drop == pytest.approx(100 / 6)
    assert np.isnan(points(np.array([0]), np.array([0]))).all()


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 0), (0, 6), (7, 2), (4, 4)])
def test_p_is_that_of_a_coin(lost, gained):
    n, fewer = lost + gained, min(lost, gained)
    tail = sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n
    assert change_p(np.array([lost]), np.array([gained]))[0] == pytest.approx(min(1, 2 * tail))


def test_units_that_lie_near_and_lose_the_same_stand_out():
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.eye(8), 4, axis=0)
    vectors = kinds @ rng.normal(size=(8, 5)) + 0.01 * rng.normal(size=(32, 5))
    drops = kinds @ rng.normal(size=(8, 20)) + 0.1 * rng.normal(size=(32, 20))
    found = compare_nearest(drops, vectors.astype(np.float32), 199, 0)
    assert found.value > 0.9
    assert found.p == 1 / 200
    assert abs(found.null.mean()) < 0.3
    # The mean over any two, for each order is as likely.
    pairs = np.corrcoef(drops)[~np.eye(32, dtype=bool)]
    assert found.null.mean() == pytest.approx(pairs.mean(), abs=0.02)
    unlike = compare_nearest(rng.permutation(drops), vectors.astype(np.float32), 199, 0)
    assert unlike.p > 0.05


def test_units_without_which_nothing_changes_are_left_out():
    rng = np.random.default_rng(0)
    drops, vectors = rng.normal(size=(6, 9)), rng.normal(size=(6, 4)).astype(np.float32)
    drops[1], drops[4] = 0, 2.5
    kept = [0, 2, 3, 5]
    found, alone = (compare_nearest(d, v, 99, 0) for d, v in
                    ((drops, vectors), (drops[kept], vectors[kept])))  # fmt: skip
    assert found.units == 4
    assert found.value == alone.value
    assert compare_nearest(drops[[0, 1, 2]], vectors[:3], 99, 0) is None
