"""Vectors of units that know concepts beat every draw of wrong labels; for shuffled labels none do.

From maps to vectors to controls, on images of which all is known.
"""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from dissect_embed.mathematics.cells import cover_of
from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.mathematics.draws import Draws, add_strata
from dissect_embed.mathematics.iou import compute_iou
from dissect_embed.mathematics.null import draw_partners, find_strata
from dissect_embed.mathematics.pairings import Pairings
from dissect_embed.mathematics.regions import Regions
from dissect_embed.mathematics.running import Maps
from dissect_embed.mathematics.scores import likeness_of, meaning_of, wrong_label_controls
from dissect_embed.mathematics.vectors import Schedule, initial_vectors, train_vectors

N_IMAGES, N_UNITS, N_CONCEPTS, SIZE, DRAWS = 60, 24, 6, 10, 20
CATEGORY = np.repeat([0, 1], N_CONCEPTS // 2)


class Labelled:
    """Images whose concepts are given pixel by pixel; every second has the other category."""

    def __init__(self, held: np.ndarray) -> None:
        self.held, self.concept_category = held, CATEGORY
        self.size = np.full((len(held), 2), SIZE)
        self.names, self.categories = [str(c) for c in range(N_CONCEPTS)], ["a", "b"]
        here = held.any(axis=(2, 3))
        self.presence = np.stack([here[:, group == CATEGORY].any(axis=1) for group in (0, 1)], 1)

    def regions(self, image: int) -> Regions:
        """Return the labels of an image."""
        held = self.held[image].reshape(N_CONCEPTS, -1)
        kinds, region = np.unique(held, axis=1, return_inverse=True)
        member = np.argwhere(kinds.T)
        return Regions(region.reshape(SIZE, SIZE), member[:, 0], member[:, 1], kinds.shape[1])


def squares(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    y, x = rng.integers(0, SIZE - 4, 2)
    mask[y : y + 5, x : x + 5] = True
    return mask


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, torch.Tensor]:
    """Return labels, and maps of units each of which knows a concept, more or less."""
    rng = np.random.default_rng(0)
    held = np.zeros((N_IMAGES, N_CONCEPTS, SIZE, SIZE), dtype=bool)
    for n in range(N_IMAGES):
        for c in rng.choice(3, 2, replace=False) + 3 * (n % 2):
            held[n, c] = squares(rng)
    maps = rng.random((N_IMAGES, N_UNITS, SIZE, SIZE)) * 0.8
    for n in range(N_IMAGES):
        for unit in range(N_UNITS):
            maps[n, unit] += held[n, unit % N_CONCEPTS] * rng.random()
    return held, torch.from_numpy(maps.astype(np.float16))


def profiles_of(held: np.ndarray, maps: torch.Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return T, and T' of some draws."""
    labels = Labelled(held)
    batch = {"a": Maps(maps, maps.amax(dim=(2, 3)).float())}
    limits = {"a": torch.quantile(maps.float().movedim(1, 0).flatten(1), 0.95, dim=1).numpy()}
    true = Pairings(labels, limits, 0, "cpu")
    true.add(0, batch)
    stratum = find_strata(labels.size, labels.presence)
    covers = [cover_of(labels.regions(n)) for n in range(N_IMAGES)]
    partners = draw_partners(stratum, DRAWS, seed)
    draws = Draws(
        covers, labels.presence, labels.size, stratum, add_strata(covers, stratum, "cpu"),
        partners, limits, N_CONCEPTS, 0, "cpu",
    )  # fmt: skip
    draws.add(0, batch)
    ((_, counts),) = draws.blocks()
    iou = compute_iou(*true.counts["a"], true.pixels, CATEGORY)
    return iou, counts["a"].iou(true.pixels, CATEGORY)


@pytest.fixture(scope="module")
def likeness(world):
    _, maps = world
    p = (similarity_sum(maps) / N_IMAGES).float()
    start = initial_vectors(N_UNITS, 8, [0])
    schedule = Schedule(epochs=20, steps_per_epoch=20, lr=1.0, milestones=(15,))
    return likeness_of(train_vectors(start, lambda step: p, schedule).trajectory[:, -1])


def test_the_right_labels_beat_every_draw_of_wrong_ones(world, likeness):
    held, maps = world
    iou, wrong = profiles_of(held, maps, seed=0)
    (found,) = wrong_label_controls(meaning_of(iou), list(wrong), likeness)
    assert found["gain"].p == found["rank_correlation"].p == 1 / (1 + DRAWS)
    assert found["gain"].excess > 0 < found["rank_correlation"].excess


def test_for_labels_shuffled_within_their_strata_nothing_is_found(world, likeness):
    """Also though the vectors hold what kind of picture it is, which shuffled labels do as well."""
    held, maps = world
    rng = np.random.default_rng(1)
    p = {"gain": [], "rank_correlation": []}
    for seed in range(20):
        shuffled = held.copy()
        for source in (0, 1):
            shuffled[source::2] = held[source::2][rng.permutation(N_IMAGES // 2)]
        iou, wrong = profiles_of(shuffled, maps, seed)
        (found,) = wrong_label_controls(meaning_of(iou), list(wrong), likeness)
        for name, values in p.items():
            values.append(found[name].p)
    for values in p.values():
        assert kstest(values, "uniform").pvalue > 0.01
        assert np.mean(np.array(values) <= 0.05) <= 0.2
