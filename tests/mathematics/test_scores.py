"""Scores and what could refute them: by hand, beside slow references, on units that are known."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax
from dissect_embed.mathematics.scores import (
    kl_divergence,
    likeness_of,
    meaning_of,
    permutation_controls,
    score_vectors,
    uniform_score,
    wrong_label_controls,
)
from dissect_embed.mathematics.vectors import initial_vectors, profile_target


def test_uniform_is_the_score_of_all_units_alike():
    t = profile_target(np.random.default_rng(0).random((6, 9)))
    expected = kl_divergence(t, torch.full((6, 6), 1 / 6, dtype=torch.float64))
    assert uniform_score(t) == pytest.approx(float(expected), rel=1e-12)
    # Vectors in one direction say the same.
    same = torch.ones(1, 6, 3)
    assert float(score_vectors(t, same)[0]) == pytest.approx(float(expected), rel=1e-12)


def slow(iou, vectors):
    """Return KL, gain, rank correlation and neighbours of one set of vectors, by their words."""
    n = len(iou)
    t = profile_target(iou).numpy()
    d = cosine_similarity(vectors.double())
    q = row_softmax(d).numpy()
    kl = sum(t[i, j] * np.log(t[i, j] / q[i, j]) for i in range(n) for j in range(n)) / n
    uniform = sum(t[i, j] * np.log(t[i, j] * n) for i in range(n) for j in range(n)) / n
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    of_t = cosine_similarity(torch.from_numpy(iou)).numpy()
    rank = spearmanr([of_t[p] for p in pairs], [d.numpy()[p] for p in pairs]).statistic
    best = [int(row.argmax()) if row.max() > 0 else -1 for row in iou]
    shared = 0
    for i in range(n):
        near = max((j for j in range(n) if j != i), key=lambda j: float(d[i, j]))
        shared += best[i] == best[near] and best[i] >= 0
    return {"kl": kl, "gain": uniform - kl, "rank_correlation": rank, "neighbours": shared / n}


def test_every_statistic_equals_the_slow_one():
    rng = np.random.default_rng(1)
    iou = rng.random((7, 5)) ** 3
    iou[2] = 0  # overlaps nothing
    wrong = [rng.random((7, 5)) ** 3 for _ in range(4)]
    vectors = initial_vectors(7, 3, [0, 1])
    meaning, likeness = meaning_of(iou), likeness_of(vectors)
    found = wrong_label_controls(meaning, wrong, likeness)
    shuffled = permutation_controls(meaning, likeness, n_permutations=10)
    for seed, of_seed in enumerate(found):
        value = slow(iou, vectors[seed])
        null = [slow(other, vectors[seed]) for other in wrong]
        for name, control in of_seed.items():
            of_null = np.array([one[name] for one in null])
            assert control.value == pytest.approx(value[name], abs=1e-9)
            assert control.null_mean == pytest.approx(of_null.mean(), abs=1e-9)
            assert control.null_sd == pytest.approx(of_null.std(ddof=1), abs=1e-9)
            assert control.excess == pytest.approx(value[name] - of_null.mean(), abs=1e-9)
            as_good = of_null <= value[name] if name == "kl" else of_null >= value[name]
            assert control.p == (1 + as_good.sum()) / 5
        for name, control in shuffled[seed].items():
            assert control.value == pytest.approx(value[name], abs=1e-6)


def test_without_draws_there_is_a_value_and_no_test():
    iou = np.random.default_rng(2).random((5, 4))
    likeness = likeness_of(initial_vectors(5, 3, [0]))
    (found,) = wrong_label_controls(meaning_of(iou), [], likeness)
    for control in found.values():
        assert np.isfinite(control.value)
        assert np.isnan([*control[1:], control.excess]).all()


def test_controls_find_perfect_vectors_and_not_random_ones():
    rng = np.random.default_rng(0)
    iou = rng.random((40, 6))
    # The square root of d(T, T): vectors whose cosines are those of the profiles.
    perfect = torch.from_numpy(iou)[None]
    other = initial_vectors(40, 8, [1]).double()
    meaning = meaning_of(iou)
    (ours,) = permutation_controls(meaning, likeness_of(perfect), n_permutations=99)
    (random,) = permutation_controls(meaning, likeness_of(other), n_permutations=99)
    assert ours["kl"].value == pytest.approx(0, abs=1e-6)
    assert ours["rank_correlation"].value == pytest.approx(1, abs=1e-5)
    assert ours["rank_correlation"].p == 0.01
    assert random["rank_correlation"].p > 0.02


def test_right_labels_are_told_from_wrong_ones_and_wrong_ones_from_none():
    """Vectors of the right profiles beat every draw; those of a draw are as good as a draw."""
    rng = np.random.default_rng(3)
    shared = rng.random((30, 8))  # what profiles of any labels have in common
    draws = [shared + 0.3 * rng.random((30, 8)) for _ in range(21)]
    p = []
    for n in range(21):
        likeness = likeness_of(torch.from_numpy(draws[n])[None])
        wrong = [draw for m, draw in enumerate(draws) if m != n]
        (right,) = wrong_label_controls(meaning_of(draws[n]), wrong, likeness)
        assert right["rank_correlation"].p == 1 / 21
        # The vectors of another draw, held to these labels.
        (held,) = wrong_label_controls(
            meaning_of(draws[n]), [d for m, d in enumerate(draws) if m not in (n, 0)],
            likeness_of(torch.from_numpy(draws[0])[None]),
        ) if n else ({},)  # fmt: skip
        if held:
            p.append(held["rank_correlation"].p)
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
