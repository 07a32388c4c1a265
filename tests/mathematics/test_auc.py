"""AUC of peaks: by hand, beside scipy's U of pairs of images, and what it does on noise."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from dissect_embed.mathematics import auc as module
from dissect_embed.mathematics.auc import FEWEST, double_ranks, find_alike, find_presence
from dissect_embed.mathematics.null import draw_partners, p_values


def best_by_chance(presence, ranks, stratum, n_draws, seed=0):
    partners = draw_partners(stratum, n_draws, seed)
    return np.stack([presence.deal(partner).auc(ranks).max(axis=1) for partner in partners])


def test_by_hand(monkeypatch):
    """Two strata: of (with, without) pairs 1 of 2 and 2½ of 4 are in the right order."""
    monkeypatch.setattr(module, "FEWEST", 1)
    stratum = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    present = np.array([[1], [0], [0], [1], [1], [0], [0], [1]], dtype=bool)
    peak = np.array([2, 1, 3, 5, 4, 4, 4, 100.0])[:, None]
    presence = find_presence(present, stratum)
    # The last image has nobody to be compared with.
    assert presence.pairs.tolist() == [2 + 4]
    expected = (1 + 0 + 2 * 1 + 2 * 0.5) / 6
    assert presence.auc(double_ranks(peak, stratum)).tolist() == [[expected]]


def test_equals_the_sums_of_mann_whitneys_u():
    rng = np.random.default_rng(0)
    stratum = rng.integers(0, 3, 200)
    present = rng.random((200, 7)) < 0.4
    present[stratum == 2, 3] = False  # a stratum in which a concept is nowhere
    peak = rng.integers(0, 6, (200, 5)).astype(np.float32)  # many are equal
    presence = find_presence(present, stratum)
    assert presence.concepts.tolist() == list(range(7))
    found = presence.auc(double_ranks(peak, stratum))
    for unit in range(5):
        for concept in range(7):
            u = pairs = 0
            for s in range(3):
                has, values = present[stratum == s, concept], peak[stratum == s, unit]
                if has.any() and not has.all():
                    u += mannwhitneyu(values[has], values[~has]).statistic
                    pairs += has.sum() * (~has).sum()
            assert found[unit, concept] == pytest.approx(u / pairs, rel=1e-12)


def test_labels_dealt_out_are_those_of_the_partners():
    rng = np.random.default_rng(1)
    stratum = rng.integers(0, 4, 150)
    present = rng.random((150, 4)) < 0.5
    ranks = double_ranks(rng.random((150, 3)), stratum)
    partner = draw_partners(stratum, 1, seed=5)[0]
    dealt = find_presence(present, stratum).deal(partner)
    expected = find_presence(present[partner], stratum)
    assert (dealt.present.toarray() == expected.present.toarray()).all()
    assert (dealt.auc(ranks) == expected.auc(ranks)).all()


def test_concepts_in_too_few_images_are_left_out():
    """Counted among images that are compared: a stratum that all have it in does not count."""
    present = np.zeros((100, 4), dtype=bool)
    present[:FEWEST, 0] = True
    present[: FEWEST - 1, 1] = True
    present[: 100 - FEWEST + 1, 2] = True
    present[: FEWEST + 5, 3] = True
    one = np.zeros(100, dtype=int)
    assert find_presence(present, one).concepts.tolist() == [0, 3]
    # Ten of the last concept's images are in a stratum in which there is no other.
    assert find_presence(present, np.where(np.arange(100) < 10, 1, 0)).concepts.tolist() == []


def test_a_unit_that_knows_the_source_alone_tells_nothing():
    """Walls are in source 1 alone, which has objects and scenes; source 0 has objects."""
    rng = np.random.default_rng(2)
    source = np.repeat([0, 1], 100)
    wall = (source == 1) & (rng.random(200) < 0.8)
    other = rng.random(200) < 0.5
    present = np.stack([wall, other], axis=1)
    stratum = find_alike(np.stack([np.ones(200, dtype=bool), source == 1], axis=1))
    peak = (source + 0.01 * rng.random(200))[:, None]
    found = find_presence(present, stratum).auc(double_ranks(peak, stratum))
    assert abs(found - 0.5).max() < 0.15
    # All images in one, it would tell walls.
    together = np.zeros(200, dtype=int)
    assert find_presence(present, together).auc(double_ranks(peak, together))[0, 0] > 0.9


def test_of_noise_p_is_uniform_and_a_planted_concept_is_found():
    rng = np.random.default_rng(3)
    stratum = rng.integers(0, 3, 300)
    present = rng.random((300, 30)) < rng.uniform(0.1, 0.6, 30)
    peak = rng.random((300, 400)) ** 4
    peak[:, :40] += 0.5 * present[:, [5]]
    presence = find_presence(present, stratum)
    ranks = double_ranks(peak, stratum)
    auc = presence.auc(ranks)
    p = p_values(auc.max(axis=1), best_by_chance(presence, ranks, stratum, 100))
    assert (presence.concepts[auc[:40].argmax(axis=1)] == 5).all()
    assert (p[:40] == 1 / 101).all()
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(p[40:] <= level) == pytest.approx(level, abs=3.5 * 0.5 / np.sqrt(360))
    assert np.mean(p[40:] <= 0.05) < 0.09


def test_images_that_lack_a_concept_count_only_where_others_have_it():
    present = (np.arange(100) < 30)[:, None]
    assert find_presence(present, np.zeros(100, dtype=int)).concepts.tolist() == [0]
    # Of forty images thirty have it; the other sixty have labels of other categories.
    assert find_presence(present, (np.arange(100) >= 40).astype(int)).concepts.tolist() == []
