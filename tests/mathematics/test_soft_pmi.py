"""Words for units: beside the definition in slow steps, and what chance gives."""

import math

import numpy as np
import pytest

from dissect_embed.mathematics.null import draw_partners, p_values
from dissect_embed.mathematics.words import (
    find_margins,
    find_probabilities,
    log_likelihood,
    others_likelihood,
    rank_images,
    score_of,
)


def slow(similarity, tops):
    """Score as the definition says: lists, one number after the other."""
    n_words = len(similarity[0])
    found = []
    for top in tops:
        total = [0.0] * n_words
        for rank, image in enumerate(top):
            powers = [math.exp(10 * x) for x in similarity[image]]
            sure = 0.998 - rank / len(top) * (0.998 - 0.97)
            for m in range(n_words):
                p = powers[m] / sum(powers)
                total[m] += math.log(1 + sure * (p - 1) + 1e-7)
        found.append(total)
    mean = [math.log(sum(math.exp(t[m]) for t in found) / len(found)) for m in range(n_words)]
    return np.array([[t[m] - mean[m] for m in range(n_words)] for t in found])


def cosines(rng, n_images, n_words, dim=6):
    a, b = (rng.normal(size=(n, dim)) for n in (n_images, n_words))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return (a @ b.T).astype(np.float32)


@pytest.mark.parametrize("n_units", [1, 2, 9])
def test_equals_the_definition(n_units):
    rng = np.random.default_rng(0)
    similarity, peak = cosines(rng, 60, 11), rng.random((60, n_units))
    top = rank_images(peak, 12, seed=0)
    assert (np.diff(np.take_along_axis(peak.T, top, axis=1), axis=1) < 0).all()
    margin = find_margins(find_probabilities(similarity), top)
    expected = slow(similarity.tolist(), top.tolist())
    np.testing.assert_allclose(score_of(margin, n_units), expected, atol=1e-5)
    assert (margin.argmax(axis=1) == expected.argmax(axis=1)).all() or n_units == 1


def test_by_hand():
    """Two units with one top image each, of two words that are meant with 3 to 1."""
    half = math.log(3) / 20
    similarity = np.array([[half, -half], [-half, half]], dtype=np.float32)
    likelihood = log_likelihood(find_probabilities(similarity), np.array([[0], [1]]))
    high, low = (math.log(1 + 0.998 * (p - 1) + 1e-7) for p in (0.75, 0.25))
    np.testing.assert_allclose(likelihood, [[high, low], [low, high]], atol=1e-6)
    others = others_likelihood(likelihood)
    np.testing.assert_allclose(others, likelihood[::-1])
    score = high - math.log((math.exp(high) + math.exp(low)) / 2)
    np.testing.assert_allclose(score_of((likelihood - others).max(axis=1), 2), [score] * 2, 1e-5)


def test_a_hundred_factors_do_not_vanish_and_a_margin_outlives_the_score():
    similarity = np.tile(np.array([[1.0, -1, -1]], dtype=np.float32), (200, 1))
    similarity[100:] = [-1, 1, -1]
    top = np.arange(200).reshape(2, 100)
    margin = find_margins(find_probabilities(similarity), top)
    assert np.isfinite(margin).all()
    assert margin.argmax(axis=1).tolist() == [0, 1]
    assert (score_of(margin.max(axis=1), 2) == math.log(2)).all()


def test_equal_peaks_come_in_an_order_that_is_drawn():
    peak = np.zeros((1000, 2))
    peak[7, 1] = 1
    top = rank_images(peak, 100, seed=0)
    assert top[1, 0] == 7
    assert (top[0, :99] == np.delete(top[1], 0)[:99]).mean() > 0.9  # but for that one, alike
    assert 400 < top[0].mean() < 600
    assert len(set(top[0])) == 100
    assert (rank_images(peak, 100, seed=0) == top).all()
    assert (rank_images(peak, 100, seed=1) != top).any()


@pytest.mark.parametrize("kind", ["own images each", "alike", "of their own"])
def test_units_that_know_no_words_are_beyond_chance_by_chance_alone(kind):
    """Whatever they have in common: images of their own each, nearly all, or nothing."""
    rng = np.random.default_rng(4)
    n_images, n_runs = 200, 30
    p = []
    for n in range(n_runs):
        probability = find_probabilities(cosines(rng, n_images, 50))
        if kind == "own images each":
            peak = rng.random((n_images, 10))
            peak[np.arange(n_images), rng.permutation(n_images) % 10] += 1
        else:
            noise = rng.normal(size=(n_images, 10))
            peak = noise if kind == "of their own" else noise / 3 + rng.normal(size=(n_images, 1))
        top = rank_images(peak, 20, seed=0)
        null = [
            find_margins(probability, partner[top]).max(axis=1)
            for partner in draw_partners(np.zeros(n_images, dtype=int), 40, n)
        ]
        p.append(p_values(find_margins(probability, top).max(axis=1), np.stack(null)))
    assert np.mean(p) == pytest.approx(0.5, abs=0.1)
    assert np.mean(np.array(p) <= 0.1) < 0.17


def test_a_planted_word_is_found():
    rng = np.random.default_rng(5)
    similarity = cosines(rng, 200, 50)
    peak = rng.random((200, 20))
    peak[:, 3] = similarity[:, 17]
    probability, top = find_probabilities(similarity), rank_images(peak, 20, seed=0)
    margin = find_margins(probability, top)
    partners = draw_partners(np.zeros(200, dtype=int), 100, 0)
    null = np.stack([find_margins(probability, q[top]).max(axis=1) for q in partners])
    assert margin[3].argmax() == 17
    p = p_values(margin.max(axis=1), null)
    assert p[3] == 1 / 101
    assert np.median(np.delete(p, 3)) > 0.2
