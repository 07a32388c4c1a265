"""Masks laid on labels of other images: beside slow counts, expectations, and units that are known.

The simulated units fire on maps as large as the label maps, so that what they know is exact.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from dissect_embed.artefacts.chance import add_counts
from dissect_embed.mathematics.cells import SIDE, cell_of_pixels, cover_of
from dissect_embed.mathematics.draws import Draws, add_strata
from dissect_embed.mathematics.iou import compute_iou
from dissect_embed.mathematics.null import (
    FRACTIONS,
    PARTS,
    compare_units,
    draw_partners,
    find_strata,
)
from dissect_embed.mathematics.pairings import Pairings
from dissect_embed.mathematics.regions import Regions
from dissect_embed.mathematics.running import Maps


@dataclass
class Labelled:
    """Images whose concepts are given pixel by pixel."""

    held: list[np.ndarray]  # (concept, y, x) of each image
    concept_category: np.ndarray

    @property
    def size(self) -> np.ndarray:
        return np.array([h.shape[1:] for h in self.held])

    @property
    def names(self) -> list[str]:
        return [str(c) for c in range(len(self.concept_category))]

    @property
    def categories(self) -> list[str]:
        return [str(g) for g in range(int(self.concept_category.max()) + 1)]

    @property
    def presence(self) -> np.ndarray:
        here = np.array([h.any(axis=(1, 2)) for h in self.held])
        groups = range(len(self.categories))
        return np.stack([here[:, self.concept_category == g].any(axis=1) for g in groups], axis=1)

    def regions(self, image: int) -> Regions:
        held = self.held[image]
        kinds, region = np.unique(held.reshape(len(held), -1), axis=1, return_inverse=True)
        member = np.argwhere(kinds.T)
        shape = held.shape[1:]
        return Regions(region.reshape(shape), member[:, 0], member[:, 1], kinds.shape[1])


def draws_of(data, maps, thresholds, partners, *, first=0, some=None, stratum=None):
    """Count draws of one layer, over some of the images."""
    stratum = find_strata(data.size, data.presence) if stratum is None else stratum
    covers = [cover_of(data.regions(i)) for i in range(len(data.held))]
    found = Draws(
        covers, data.presence, data.size, stratum, add_strata(covers, stratum, "cpu"), partners,
        {"a": thresholds}, len(data.names), first, "cpu",
    )  # fmt: skip
    for start, stop in some or [(0, len(maps))]:
        batch = torch.from_numpy(maps[start:stop])
        found.add(start, {"a": Maps(batch, batch.amax(dim=(2, 3)).float())})
    return found


def total(found):
    """Return the counts of all draws."""
    blocks = [counts["a"] for _, counts in found.blocks()]
    both, fired = (np.concatenate([b[i] for b in blocks], axis=1) for i in range(2))
    return both, fired, blocks[0].expected, blocks[0].pixels


def slow_counts(data, masks, partners):
    """Count as the text says: within each cell, mask and label lie independently."""
    n_units, n_concepts = masks.shape[1], len(data.names)
    both = np.zeros((n_units, len(partners), n_concepts))
    fired = np.zeros((n_units, len(partners), len(data.categories)), dtype=int)
    for d, row in enumerate(partners):
        for n, partner in enumerate(row):
            held = data.held[partner]
            cell = cell_of_pixels(held.shape[1:])
            for x in range(cell.max() + 1):
                here = cell == x
                share = held.reshape(n_concepts, -1)[:, here].mean(axis=1)
                pixels = masks[n].reshape(n_units, -1)[:, here].sum(axis=1)
                both[:, d] += pixels[:, None] * np.round(share * PARTS)
            fired[:, d] += masks[n].sum(axis=(1, 2))[:, None] * data.presence[partner]
    return both, fired


def some_data(rng, sizes, n_concepts=5):
    held = [rng.random((n_concepts, *size)) < 0.3 for size in sizes]
    for n, h in enumerate(held):
        if n % 4 == 0:
            h[3:] = False  # the last category is not labelled here
    return Labelled(held, np.array([0, 0, 1, 2, 2][:n_concepts]))


@pytest.mark.parametrize("size", [(6, 5), (SIDE, 61), (70, 33), (115, 9)])
def test_counts_equal_the_slow_reference(size):
    rng = np.random.default_rng(0)
    data = some_data(rng, [size] * 6)
    maps = rng.random((6, 4, *size)).astype(np.float32)
    maps[:, 3] = 0  # a unit that never fires
    thresholds = np.array([0.9, 0.5, 0.97, 0.5], dtype=np.float32)
    partners = draw_partners(np.zeros(6, dtype=int), 30, seed=1)
    both, fired, _, pixels = total(draws_of(data, maps, thresholds, partners))
    masks = maps > thresholds[:, None, None]
    expected = slow_counts(data, masks, partners)
    np.testing.assert_array_equal(both, expected[0])
    np.testing.assert_array_equal(fired, expected[1])
    np.testing.assert_array_equal(pixels, masks.sum(axis=(0, 2, 3)))


def test_label_maps_as_large_as_the_grid_are_counted_exactly():
    """Laid on their own labels, masks give what dissection counts, by other code."""
    rng = np.random.default_rng(1)
    data = some_data(rng, [(20, 13)] * 5)
    maps = rng.random((5, 4, 10, 7)).astype(np.float16)
    thresholds = np.array([0.9, 0.6, 0.97, 0.8], dtype=np.float32)
    both, fired, _, _ = total(draws_of(data, maps, thresholds, np.arange(5)[None]))
    true = Pairings(data, {"a": thresholds}, 0, "cpu")
    batch = torch.from_numpy(maps)
    true.add(0, {"a": Maps(batch, batch.amax(dim=(2, 3)).float())})
    np.testing.assert_array_equal(both[:, 0], PARTS * true.counts["a"].intersection)
    np.testing.assert_array_equal(fired[:, 0], true.counts["a"].activation)


def test_the_expectation_is_the_mean_over_all_draws_there_could_be():
    rng = np.random.default_rng(2)
    data = some_data(rng, [(40, 33)] * 7)
    stratum = np.array([0, 0, 0, 0, 1, 1, 2])  # four, two, one alone
    maps = rng.random((7, 3, 40, 33)).astype(np.float32)
    thresholds = np.full(3, 0.9, dtype=np.float32)
    partners = [
        [*four, *two, 6]
        for four in itertools.permutations([0, 1, 2, 3])
        for two in itertools.permutations([4, 5])
    ]
    both, _, expected, _ = total(
        draws_of(data, maps, thresholds, np.array(partners), stratum=stratum)
    )
    np.testing.assert_allclose(expected / FRACTIONS, both.mean(axis=1) / PARTS, atol=1e-5)


def test_counts_add_up_in_any_order_and_in_parts():
    rng = np.random.default_rng(3)
    sizes = [(12, 12)] * 4 + [(30, 40)] * 4
    data = some_data(rng, [sizes[i] for i in (0, 4, 1, 5, 2, 6, 3, 7)])
    maps = rng.random((8, 5, 9, 8)).astype(np.float16)
    thresholds = np.full(5, 0.8, dtype=np.float32)
    stratum = find_strata(data.size, data.presence)
    partners = draw_partners(stratum, 40, seed=0)
    whole = total(draws_of(data, maps, thresholds, partners))
    pieces = [(5, 8), (0, 2), (2, 5)]
    again = total(draws_of(data, maps, thresholds, partners, some=pieces))
    halves = [
        list(draws_of(data, maps[part], thresholds, partners, first=part.start).blocks())
        for part in (slice(0, 3), slice(3, 8))
    ]
    for (first, one), (_, other) in zip(*halves, strict=True):
        added = add_counts([one["a"], other["a"]])
        n_draws = added.intersection.shape[1]
        for counts, of_all in zip(added[:2], whole[:2], strict=True):
            np.testing.assert_array_equal(counts, of_all[:, first : first + n_draws])
        np.testing.assert_array_equal(added.expected, whole[2])
        np.testing.assert_array_equal(added.pixels, whole[3])
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_layer_that_never_fires_counts_nothing():
    data = some_data(np.random.default_rng(4), [(6, 6)] * 3)
    maps = np.zeros((3, 2, 6, 6), dtype=np.float16)
    partners = draw_partners(np.zeros(3, dtype=int), 5, seed=0)
    for counts in total(draws_of(data, maps, np.zeros(2, dtype=np.float32), partners)):
        assert not counts.any()


# Units whose answer is known. Images come from two sources: one labels the first category, the
# other the second, and what lies on a picture differs from image to image.
N_IMAGES, SIZE, DRAWS = 120, 12, 200


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(7)
    held = []
    for n in range(N_IMAGES):
        h = np.zeros((8, SIZE, SIZE), dtype=bool)
        for c in rng.choice(4, 2, replace=False) + 4 * (n % 2):
            y, x = rng.integers(0, SIZE - 4, 2)
            h[c, y : y + 5, x : x + 5] = True
        held.append(h)
    return Labelled(held, np.repeat([0, 1], 4))


def against_chance(world, masks, seed=0):
    """Compare units that fire where they are said to."""
    maps, limits = masks.astype(np.float16), np.full(masks.shape[1], 0.5, dtype=np.float32)
    stratum = find_strata(world.size, world.presence)
    partners = draw_partners(stratum, DRAWS, seed)
    both, fired, expected, pixels = total(draws_of(world, maps, limits, partners))
    true = Pairings(world, {"a": limits}, 0, "cpu")
    batch = torch.from_numpy(maps)
    true.add(0, {"a": Maps(batch, batch.amax(dim=(2, 3)).float())})
    counts, category = true.counts["a"], world.concept_category
    iou = compute_iou(counts.intersection, counts.activation, true.pixels, category)
    null = compute_iou(
        both.swapaxes(0, 1), PARTS * fired.swapaxes(0, 1), PARTS * true.pixels, category
    ).max(axis=2)
    assert abs(both.mean(axis=1).sum() / PARTS / (expected.sum() / FRACTIONS) - 1) < 0.02
    return compare_units(iou, null, pixels)


def blobs(rng, n_units, chance_to_fire):
    """Return masks of a square somewhere, on some images each."""
    masks = np.zeros((N_IMAGES, n_units, SIZE, SIZE), dtype=bool)
    for n, unit in np.argwhere(rng.random((N_IMAGES, n_units)) < chance_to_fire):
        y, x = rng.integers(0, SIZE - 3, 2)
        masks[n, unit, y : y + 4, x : x + 4] = True
    return masks


def test_units_that_fire_at_random_have_p_at_random(world):
    found = against_chance(world, blobs(np.random.default_rng(0), 500, 0.3))
    assert kstest(found.p, "uniform").pvalue > 0.01
    assert (found.p <= 0.01).mean() <= 0.015
    assert found.detectors().sum() == 0


def test_units_that_know_their_source_alone_are_no_detectors(world):
    rng = np.random.default_rng(1)
    masks = blobs(rng, 500, 0.5)
    masks[::2, :250] = False  # fires on images of the second source only
    masks[1::2, 250:] = False
    found = against_chance(world, masks)
    assert (found.p <= 0.01).mean() <= 0.02
    # Laid on labels of any image, one in four is: that is what strata are for.
    everywhere = Labelled(world.held, np.zeros(8, dtype=int))
    assert (against_chance(everywhere, masks).p <= 0.01).mean() > 0.2


@pytest.mark.parametrize("overlap", [0.2, 0.5, 1.0])
def test_units_that_know_a_concept_are_found(world, overlap):
    rng = np.random.default_rng(2)
    masks = blobs(rng, 40, 0.15)
    knows = rng.random((N_IMAGES, 20)) < overlap
    for n, unit in np.argwhere(knows):
        if world.held[n][unit % 8].any():
            masks[n, unit] = world.held[n][unit % 8]
    found = against_chance(world, masks)
    assert (found.p[:20] == 1 / (1 + DRAWS)).mean() >= (0.9 if overlap == 0.2 else 1)
    assert found.detectors()[:20].mean() >= (0.9 if overlap == 0.2 else 1)
    assert found.detectors()[20:].sum() <= 1
    assert (found.n_concepts[:20] >= 1).mean() >= 0.9


def test_a_dead_half_changes_nothing_for_the_living(world):
    masks = blobs(np.random.default_rng(3), 30, 0.3)
    alive = against_chance(world, masks)
    both = np.zeros((N_IMAGES, 60, SIZE, SIZE), dtype=bool)
    both[:, 1::2] = masks
    found = against_chance(world, both)
    for of_all, of_living in zip(found, alive, strict=True):
        np.testing.assert_array_equal(of_all[1::2], of_living)
    assert np.isnan(found.p[::2]).all()
