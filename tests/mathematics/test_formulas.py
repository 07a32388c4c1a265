"""Formulas of concepts: beside a search that looks at every pixel, and units that are known."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from dissect_embed.mathematics.formulas import OPERATORS, Formulas, search_formulas
from dissect_embed.mathematics.labelsets import draw_places, join_images, read_image
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.masksets import MaskSets, lay_on, own_labels
from dissect_embed.mathematics.null import draw_partners, p_values
from dissect_embed.mathematics.pairings import Pairings
from dissect_embed.mathematics.regions import Regions
from dissect_embed.mathematics.running import Maps

ALL = 10_000  # a beam in which every formula finds room


class Labelled:
    """Images whose concepts are given pixel by pixel, (concept, y, x) each."""

    def __init__(self, held, category):
        self.held, self.concept_category = held, np.array(category)
        self.size = np.array([h.shape[1:] for h in held])
        self.names = [f"c{n}" for n in range(len(category))]
        self.categories = [str(g) for g in range(max(category) + 1)]
        here = np.array([h.any(axis=(1, 2)) for h in held])
        groups = [here[:, self.concept_category == g].any(axis=1) for g in range(max(category) + 1)]
        self.presence = np.stack(groups, axis=1)

    def regions(self, image):
        held = self.held[image]
        kinds, region = np.unique(held.reshape(len(held), -1), axis=1, return_inverse=True)
        member = np.argwhere(kinds.T)
        return Regions(region.reshape(held.shape[1:]), member[:, 0], member[:, 1], kinds.shape[1])


def some_data(rng, sizes=((6, 5),) * 6, *, hide=True):
    """Return images of five concepts of three categories, of which not all are always labelled."""
    held = [rng.random((5, *size)) < 0.4 for size in sizes]
    if hide:
        held[0][3:], held[1][:2], held[2][2] = False, False, False
    return Labelled(held, [0, 0, 1, 2, 2])


def count(data, masks, places=None):
    """Return pixels, label sets and what is known of places, of masks (image, unit, y, x)."""
    places = np.array([[0.5, 0.5]]) if places is None else places
    read = [read_image(data.regions(n), places) for n in range(len(data.held))]
    sets, at = join_images(read, data.presence, len(data.names))
    limits = {"a": np.full(masks[0].shape[0], 0.5, dtype=np.float32)}
    counted = MaskSets(data, sets, places, limits, "cpu")
    for n, mask in enumerate(masks):
        maps = torch.from_numpy(mask[None].astype(np.float32))
        counted.add(n, {"a": Maps(maps, maps.amax(dim=(2, 3)))})
    return own_labels(sets, counted.masks, data.concept_category), sets, at, counted.fired


class Slow:
    """Formulas pixel by pixel; truth is known where all their categories are labelled.

    Parameters
    ----------
    first, more
        Images whose concepts formulas begin and go on with.
    """

    def __init__(self, first, more, masks):
        self.first, self.more = first, more
        self.mask = [m.reshape(len(m), -1) for m in masks]

    def iou(self, unit, concepts, operators, within=()):
        both = union = 0
        for n, mask in enumerate(self.mask):
            sources = [self.first] + [self.more] * (len(concepts) - 1)
            shown = [
                source.presence[n][source.concept_category[c]]
                for source, c in zip(sources, concepts, strict=True)
            ]
            shown += [source.presence[n][source.concept_category[c]] for source, c in within]
            if not all(shown):
                continue
            value, *others = (
                source.held[n][c].ravel() for source, c in zip(sources, concepts, strict=True)
            )
            for operator, other in zip(operators, others, strict=True):
                value = [value & other, value | other, value & ~other][operator]
            both += (value & mask[unit]).sum()
            union += (value | mask[unit]).sum()
        return both / union if union else 0.0

    def gain(self, unit, concepts, operators, beam):
        """Return the IoU less the best of a single concept, there or on all images."""
        n_concepts = len(self.first.names)
        alone = [self.iou(unit, (c,), ()) for c in range(n_concepts)]
        best = np.argsort(-np.array(alone), kind="stable")[:beam]
        there = [(self.first, concepts[0]), *((self.more, c) for c in concepts[1:])]
        base = max([alone[best[0]]] + [self.iou(unit, (c,), (), there) for c in best.tolist()])
        return self.iou(unit, concepts, operators) - base

    def best_gain(self, unit):
        """Return the highest gain of all formulas that there are."""
        n, found = len(self.first.names), [0.0]
        for concepts in itertools.product(range(n), repeat=2):
            found += [self.gain(unit, concepts, (o,), ALL) for o in range(3)]
        for concepts in itertools.product(range(n), repeat=3):
            for operators in itertools.product(range(3), repeat=2):
                found.append(self.gain(unit, concepts, operators, ALL))
        return max(found)


def formula(found: Formulas, unit: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    length = int(found.length[unit])
    return (
        tuple(found.concepts[unit, :length].tolist()),
        tuple(found.operators[unit, : length - 1].tolist()),
    )


def test_all_formulas_are_found_as_by_looking_at_every_pixel():
    rng = np.random.default_rng(0)
    data = some_data(rng)
    masks = [rng.random((3, 6, 5)) < 0.2 for _ in data.held]
    pixels, *_ = count(data, masks)
    found = search_formulas(pixels, ALL)
    slow = Slow(data, data, masks)
    for unit in range(3):
        assert found.gain[unit] == pytest.approx(slow.best_gain(unit), abs=1e-12)
        assert found.gain[unit] == pytest.approx(slow.gain(unit, *formula(found, unit), ALL))
        assert found.iou[unit] == pytest.approx(slow.iou(unit, *formula(found, unit)))


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_what_a_narrow_beam_finds_is_what_it_says(beam):
    rng = np.random.default_rng(1)
    data = some_data(rng, ((6, 5), (6, 5), (9, 4), (6, 5), (9, 4)))
    masks = [rng.random((8, *size)) < 0.2 for size in data.size]
    pixels, *_ = count(data, masks)
    found, slow = search_formulas(pixels, beam), Slow(data, data, masks)
    for unit in range(8):
        concepts, operators = formula(found, unit)
        assert found.iou[unit] == pytest.approx(slow.iou(unit, concepts, operators))
        assert found.gain[unit] == pytest.approx(slow.gain(unit, concepts, operators, beam))
    assert (found.gain <= search_formulas(pixels, ALL).gain + 1e-12).all()


def test_units_that_are_gone_through_in_parts_are_the_same(monkeypatch):
    rng = np.random.default_rng(2)
    data = some_data(rng)
    pixels, *_ = count(data, [rng.random((9, 6, 5)) < 0.2 for _ in data.held])
    whole = search_formulas(pixels)
    for limit in ("CANDIDATES", "CACHED"):
        monkeypatch.setattr(f"dissect_embed.mathematics.formulas.{limit}", 60)
        for a, b in zip(whole, search_formulas(pixels), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_formula_by_hand():
    """A mask of four pixels: of tree 4 of 8, of sky none; without red, exactly the mask."""
    tree = np.array([[1, 1, 1, 1], [1, 1, 1, 1]], dtype=bool)
    red = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    sky = np.zeros((2, 4), dtype=bool)
    data = Labelled([np.stack([tree, red, sky])], [0, 1, 0])
    mask = np.array([[[1, 1, 1, 1], [0, 0, 0, 0]]], dtype=bool)
    pixels, *_ = count(data, [mask])
    found = search_formulas(pixels)
    assert found.text(0, ["tree", "red", "sky"]) == "tree AND NOT red"
    assert (found.iou[0], found.gain[0], found.length[0]) == (1.0, 0.5, 2)


def test_formulas_in_words():
    names = ["tree", "sky", "red"]
    none = np.full((1, 3), -1), np.full((1, 2), -1)
    numbers = np.zeros(1), np.zeros(1)
    assert Formulas(*none, *numbers).text(0, names) == ""
    one = Formulas(np.array([[1, -1, -1]]), none[1], *numbers)
    assert (one.text(0, names), one.length.tolist()) == ("sky", [1])
    two = Formulas(np.array([[0, 1, -1]]), np.array([[1, -1]]), *numbers)
    assert two.text(0, names) == "tree OR sky"
    three = Formulas(np.array([[0, 1, 2]]), np.array([[1, 2]]), *numbers)
    assert three.text(0, names) == "(tree OR sky) AND NOT red"
    assert OPERATORS == ("AND", "OR", "AND NOT")


def test_a_unit_that_overlaps_nothing_has_no_formula():
    rng = np.random.default_rng(3)
    data = some_data(rng)
    masks = [rng.random((2, 6, 5)) < 0.3 for _ in data.held]
    for n, mask in enumerate(masks):
        mask[0] = False
        # Fires where nothing is labelled.
        mask[1] &= ~data.held[n].any(axis=0)
    pixels, *_ = count(data, masks)
    found = search_formulas(pixels)
    assert [found.text(unit, data.names) for unit in range(2)] == ["", ""]
    assert found.gain.tolist() == found.iou.tolist() == [0, 0]


def test_masks_are_counted_as_the_dissection_counts_them():
    """Several layers, sizes and batches, in any order."""
    rng = np.random.default_rng(4)
    sizes = ((6, 5), (9, 4), (6, 5), (6, 5), (9, 4))
    data = some_data(rng, sizes)
    layers = {"a": (4, 3, 3), "b": (2, 5, 6)}
    maps = {k: torch.from_numpy(rng.random((5, *s)).astype(np.float16)) for k, s in layers.items()}
    limits = {k: np.full(s[0], 0.7, dtype=np.float32) for k, s in layers.items()}
    places = draw_places(5, 5 * 20, seed=0)
    read = [read_image(data.regions(n), places) for n in range(5)]
    sets, at = join_images(read, data.presence, 5)
    counted, true = MaskSets(data, sets, places, limits, "cpu"), Pairings(data, limits, 0, "cpu")
    for start, stop in ((3, 5), (0, 3)):
        batch = {
            k: Maps(m[start:stop], m[start:stop].amax(dim=(2, 3)).float()) for k, m in maps.items()
        }
        counted.add(start, batch)
        true.add(start, batch)
    both = np.concatenate([true.counts[k].intersection for k in layers])
    np.testing.assert_array_equal((counted.masks @ sets.concepts).toarray(), both)
    np.testing.assert_array_equal(sets.pixels @ sets.concepts, true.pixels)
    fired = {tuple(row) for row in np.stack(counted.fired, axis=1).tolist()}
    expected = set()
    for n, size in enumerate(sizes):
        first = 0
        for k, m in maps.items():
            peak = m[n : n + 1].amax(dim=(2, 3)).float()
            mask = np.zeros((len(limits[k]), size[0] * size[1]), dtype=bool)
            for part in firing_pixels(m[n : n + 1], peak, torch.from_numpy(limits[k]), size):
                mask[part.unit[part.map], part.pixel] = True
            for place, (y, x) in enumerate(places):
                pixel = int(y * size[0]) * size[1] + int(x * size[1])
                expected |= {(first + u, n, place) for u in np.flatnonzero(mask[:, pixel]).tolist()}
                held = set(np.flatnonzero(data.held[n].reshape(5, -1)[:, pixel]).tolist())
                assert set(sets.concepts[[at[n, place]]].indices.tolist()) == held
            first += len(limits[k])
    assert fired == expected
    assert len(counted.fired.unit) == len(expected)


def test_places_lie_in_the_squares_of_a_grid():
    places = draw_places(10, 90, seed=1)
    assert sorted((places * 3).astype(int).tolist()) == [[y, x] for y in range(3) for x in range(3)]
    assert len(draw_places(2, 100_000, seed=0)) == 28 * 28
    assert len(draw_places(100_000, 10, seed=0)) == 1


def test_formulas_that_go_on_with_the_labels_of_another_image():
    rng = np.random.default_rng(5)
    data = some_data(rng, hide=False)
    masks = [rng.random((3, 6, 5)) < 0.2 for _ in data.held]
    every = np.array([[(y + 0.5) / 6, (x + 0.5) / 5] for y in range(6) for x in range(5)])
    pixels, sets, at, fired = count(data, masks, every)
    own = lay_on(sets, at, fired, 3, data.concept_category, np.arange(6))
    for a, b in zip(search_formulas(own), search_formulas(pixels), strict=True):
        np.testing.assert_array_equal(a, b)
    partner = np.array([2, 0, 1, 4, 3, 5])
    other = Labelled([data.held[n] for n in partner], data.concept_category)
    found = search_formulas(lay_on(sets, at, fired, 3, data.concept_category, partner), ALL)
    slow = Slow(data, other, masks)
    for unit in range(3):
        assert found.gain[unit] == pytest.approx(slow.best_gain(unit), abs=1e-12)


def draws_of(data, masks, n_draws):
    """Return the gain of each unit, and those with labels of other images."""
    every = np.array([[(y + 0.5) / 12, (x + 0.5) / 12] for y in range(12) for x in range(12)])
    _, sets, at, fired = count(data, masks, every)
    stratum = np.zeros(len(data.held), dtype=np.int64)
    partners = [np.arange(len(data.held)), *draw_partners(stratum, n_draws, seed=0)]
    n_units = len(masks[0])
    gains = [
        search_formulas(lay_on(sets, at, fired, n_units, data.concept_category, p)).gain
        for p in partners
    ]
    return gains[0], np.array(gains[1:])


def blobs(rng, n, size=12):
    """Return rectangles, (n, y, x)."""
    held = np.zeros((n, size, size), dtype=bool)
    for h in held:
        y, x = rng.integers(0, size - 4, 2)
        h[y : y + rng.integers(3, 8), x : x + rng.integers(3, 8)] = rng.random() < 0.7
    return held


def test_a_unit_of_two_concepts_stands_out_and_one_of_a_single_concept_does_not():
    """Units that fire on half of the pixels of ``c0 AND c1``, and on half of those of ``c0``."""
    rng = np.random.default_rng(6)
    data = Labelled([blobs(rng, 6) for _ in range(40)], [0, 0, 0, 1, 1, 1])
    masks = []
    for held in data.held:
        noise = rng.random((40, 12, 12)) < 0.5
        noise[:20] &= held[0] & held[1]
        noise[20:] &= held[0]
        masks.append(noise)
    gain, draws = draws_of(data, masks, 49)
    p = p_values(gain, draws)
    assert (p[:20] == 1 / 50).all()
    assert (p[20:] <= 0.1).mean() <= 0.25
    assert p[20:].mean() > 0.3


def test_label_sets_are_told_apart_by_what_is_labelled_in_the_image():
    """The same concept, in an image where another category is labelled and in one where none is."""
    one = np.array([[[1, 0]], [[0, 1]]], dtype=bool)
    two = np.array([[[1, 0]], [[0, 0]]], dtype=bool)
    data = Labelled([one, two], [0, 1])
    _, sets, *_ = count(data, [np.zeros((1, 1, 2), dtype=bool)] * 2)
    assert len(sets.kind) == 4
    assert isinstance(sets.concepts, csr_array)
    assert sets.pixels.tolist() == [1, 1, 1, 1]
    alike = Labelled([one, one], [0, 1])
    _, sets, *_ = count(alike, [np.zeros((1, 1, 2), dtype=bool)] * 2)
    assert sets.pixels.tolist() == [2, 2]
