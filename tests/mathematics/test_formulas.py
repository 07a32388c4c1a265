"""Formulas of concepts: beside a search that looks at every pixel, and units that are known."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from dissect_embed.mathematics.formula_counts import Domains, TotalCounts
from dissect_embed.mathematics.formula_search import search_formulas
from dissect_embed.mathematics.formulas import OPERATORS, Formulas, gain_elsewhere, measure_gains
from dissect_embed.mathematics.labelsets import draw_places, join_images, read_image
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.masksets import MaskSets, lay_on
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


def count(data, masks, places=None, second=None):
    """Return what is counted of masks (unit, y, x), an image each, and of places."""
    places = np.array([[0.5, 0.5]]) if places is None else places
    second = np.zeros(len(masks), dtype=bool) if second is None else second
    read = (read_image(data.regions(n), places) for n in range(len(data.held)))
    sets, at = join_images(read, data.presence, second, len(data.names))
    limits = {"a": np.full(masks[0].shape[0], 0.5, dtype=np.float32)}
    counted = MaskSets(data, sets, places, second, limits, "cpu")
    for n, mask in enumerate(masks):
        maps = torch.from_numpy(mask[None].astype(np.float32))
        counted.add(n, {"a": Maps(maps, maps.amax(dim=(2, 3)))})
    return counted, sets, at


def search(data, masks, *beam):
    """Return the best formulas, over all images."""
    counted, sets, _ = count(data, masks)
    total = TotalCounts(sets, data.concept_category, sets.pixels[0])
    return search_formulas(total, counted.halves[0], *beam)


class Slow:
    """Formulas pixel by pixel; truth is known where all their categories are labelled."""

    def __init__(self, data, masks):
        self.data = data
        self.mask = [m.reshape(len(m), -1) for m in masks]

    def iou(self, unit, concepts, operators, within=(), images=None):
        both = union = 0
        for n in range(len(self.mask)) if images is None else images:
            mask, category = self.mask[n], self.data.concept_category
            if not all(self.data.presence[n][category[c]] for c in (*concepts, *within)):
                continue
            value, *others = (self.data.held[n][c].ravel() for c in concepts)
            for operator, other in zip(operators, others, strict=True):
                value = [value & other, value | other, value & ~other][operator]
            both += (value & mask[unit]).sum()
            union += (value | mask[unit]).sum()
        return both / union if union else 0.0

    def gain(self, unit, concepts, operators, beam):
        """Return the IoU less the best of a single concept, there or on all images."""
        alone = [self.iou(unit, (c,), ()) for c in range(len(self.data.names))]
        best = np.argsort(-np.array(alone), kind="stable")[:beam]
        # The unit's best, and the formula's own.
        known = (*best.tolist(), *concepts)
        base = max([alone[best[0]]] + [self.iou(unit, (c,), (), concepts) for c in known])
        return self.iou(unit, concepts, operators) - base

    def best_gain(self, unit):
        """Return the highest gain of all formulas that there are."""
        n, found = len(self.data.names), [0.0]
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
    found, slow = search(data, masks, ALL), Slow(data, masks)
    for unit in range(3):
        assert found.gain[unit] == pytest.approx(slow.best_gain(unit), abs=1e-12)
        assert found.gain[unit] == pytest.approx(slow.gain(unit, *formula(found, unit), ALL))
        assert found.iou[unit] == pytest.approx(slow.iou(unit, *formula(found, unit)))


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_what_a_narrow_beam_finds_is_what_it_says(beam):
    rng = np.random.default_rng(1)
    data = some_data(rng, ((6, 5), (6, 5), (9, 4), (6, 5), (9, 4)))
    masks = [rng.random((8, *size)) < 0.2 for size in data.size]
    found, slow = search(data, masks, beam), Slow(data, masks)
    for unit in range(8):
        concepts, operators = formula(found, unit)
        assert found.iou[unit] == pytest.approx(slow.iou(unit, concepts, operators))
        assert found.gain[unit] == pytest.approx(slow.gain(unit, concepts, operators, beam))
    assert (found.gain <= search(data, masks, ALL).gain + 1e-12).all()


def test_gains_are_measured_over_all_single_concepts():
    """A narrow beam knows one; some of its formulas gain nothing over the others."""
    rng = np.random.default_rng(8)
    data = some_data(rng, ((6, 5),) * 5)
    masks = [rng.random((60, 6, 5)) < 0.2 for _ in data.held]
    for mask in masks:
        mask[59] = False
    counted, sets, _ = count(data, masks)
    half = counted.halves[0]
    total = TotalCounts(sets, data.concept_category, sets.pixels[0])
    found = search_formulas(total, half, 1)
    measured, slow = measure_gains(total, half, found), Slow(data, masks)
    changed = 0
    for unit in range(59):
        gain = slow.gain(unit, *formula(found, unit), ALL)
        assert gain <= found.gain[unit] + 1e-12
        assert measured.gain[unit] == pytest.approx(max(gain, 0.0), abs=1e-12)
        if gain <= 0:
            changed += 1
            assert measured.text(unit, data.names) == data.names[found.single[unit]]
        else:
            assert formula(measured, unit) == formula(found, unit)
        assert measured.iou[unit] == pytest.approx(slow.iou(unit, *formula(measured, unit)))
    assert 0 < changed < 59
    assert measured.text(59, data.names) == ""


def test_units_that_are_gone_through_in_parts_are_the_same(monkeypatch):
    rng = np.random.default_rng(2)
    data = some_data(rng)
    masks = [rng.random((9, 6, 5)) < 0.2 for _ in data.held]
    whole = search(data, masks)
    for limit in ("CANDIDATES", "CACHED"):
        monkeypatch.setattr(f"dissect_embed.mathematics.formula_search.{limit}", 60)
        for a, b in zip(whole, search(data, masks), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_formula_by_hand():
    """A mask of four pixels: of tree 4 of 8, of sky none; without red, exactly the mask."""
    tree = np.array([[1, 1, 1, 1], [1, 1, 1, 1]], dtype=bool)
    red = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
    sky = np.zeros((2, 4), dtype=bool)
    data = Labelled([np.stack([tree, red, sky])], [0, 1, 0])
    mask = np.array([[[1, 1, 1, 1], [0, 0, 0, 0]]], dtype=bool)
    found = search(data, [mask])
    assert found.text(0, ["tree", "red", "sky"]) == "tree AND NOT red"
    assert (found.iou[0], found.gain[0], found.length[0]) == (1.0, 0.5, 2)


def test_formulas_in_words():
    names = ["tree", "sky", "red"]
    none = np.full((1, 3), -1), np.full((1, 2), -1)
    numbers = np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64)
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
    found = search(data, masks)
    assert [found.text(unit, data.names) for unit in range(2)] == ["", ""]
    assert found.gain.tolist() == found.iou.tolist() == [0, 0]


@pytest.mark.parametrize("room", [None, 3])
def test_masks_are_counted_as_the_dissection_counts_them(room, monkeypatch):
    """Several layers, sizes and batches, in any order."""
    if room:
        monkeypatch.setattr("dissect_embed.mathematics.masksets.ROOM", room)
    rng = np.random.default_rng(4)
    sizes = ((6, 5), (9, 4), (6, 5), (6, 5), (9, 4))
    data = some_data(rng, sizes)
    layers = {"a": (4, 3, 3), "b": (2, 5, 6)}
    maps = {k: torch.from_numpy(rng.random((5, *s)).astype(np.float16)) for k, s in layers.items()}
    limits = {k: np.full(s[0], 0.7, dtype=np.float32) for k, s in layers.items()}
    places = draw_places(5, 5 * 20, seed=0)
    read = (read_image(data.regions(n), places) for n in range(5))
    second = np.array([False, True, False, True, True])
    sets, at = join_images(read, data.presence, second, 5)
    counted = MaskSets(data, sets, places, second, limits, "cpu")
    true, of_second = (Pairings(data, limits, 0, "cpu") for _ in range(2))
    for start, stop in ((3, 5), (0, 3)):
        batch = {
            k: Maps(m[start:stop], m[start:stop].amax(dim=(2, 3)).float()) for k, m in maps.items()
        }
        counted.add(start, batch)
        true.add(start, batch)
        for n in np.flatnonzero(second[start:stop]).tolist():
            image = {k: Maps(*(t[n : n + 1] for t in of)) for k, of in batch.items()}
            of_second.add(start + n, image)
    both, later = (
        np.concatenate([of.counts[k].intersection for k in layers]) for of in (true, of_second)
    )
    halves = counted.halves
    for half, expected in zip(halves, (both - later, later), strict=True):
        np.testing.assert_array_equal((half @ sets.concepts).toarray(), expected)
    pixels = sets.pixels @ sets.concepts
    np.testing.assert_array_equal(pixels, [true.pixels - of_second.pixels, of_second.pixels])
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


EVERY = np.array([[(y + 0.5) / 6, (x + 0.5) / 5] for y in range(6) for x in range(5)])


def test_masks_on_the_labels_of_other_images():
    """As if these images had the other labels; on their own, masks are what they are."""
    rng = np.random.default_rng(5)
    data = some_data(rng)
    masks = [rng.random((3, 6, 5)) < 0.2 for _ in data.held]
    counted, sets, at = count(data, masks, EVERY)
    own = lay_on(at, sets, counted.fired, 3, np.arange(6))
    np.testing.assert_array_equal(own.toarray(), counted.halves[0].toarray())
    partner = np.array([2, 0, 1, 4, 3, 5])
    laid = lay_on(at, sets, counted.fired, 3, partner)
    other = Labelled([data.held[n] for n in partner], data.concept_category)
    total = TotalCounts(sets, data.concept_category, np.bincount(at.ravel()))
    np.testing.assert_array_equal(total.pixels, sets.pixels[0])
    for a, b in zip(search_formulas(total, laid, ALL), search(other, masks, ALL), strict=True):
        np.testing.assert_allclose(a, b)


def test_what_formulas_gain_on_other_images():
    rng = np.random.default_rng(6)
    data = some_data(rng, ((6, 5),) * 8)
    masks = [rng.random((20, 6, 5)) < 0.2 for _ in data.held]
    for mask in masks:
        mask[0] = False
    second = np.arange(8) % 2 == 1
    counted, sets, _ = count(data, masks, second=second)
    first, other = counted.halves
    category = data.concept_category
    found = search_formulas(TotalCounts(sets, category, sets.pixels[0]), first)
    gain = gain_elsewhere(TotalCounts(sets, category, sets.pixels[1]), other, found)
    slow, images = Slow(data, masks), np.flatnonzero(second).tolist()
    assert gain[0] == 0
    for unit in range(1, 20):
        concepts, operators = formula(found, unit)
        single = (int(found.single[unit]),)
        base = max(slow.iou(unit, single, (), w, images) for w in ((), concepts))
        iou = slow.iou(unit, concepts, operators, (), images)
        assert gain[unit] == pytest.approx(iou - base, abs=1e-12)
    # Units that fire at random gain where formulas are looked for, and nothing elsewhere.
    assert found.gain[1:].min() > 0 > gain[1:].mean()


def test_what_is_labelled_together():
    """Kinds of images: with a; with a and b; with all three."""
    labelled = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    domains = Domains(labelled)
    assert domains.kinds[domains.of_category].tolist() == labelled.T.tolist()
    assert domains.kinds[domains.narrow[0]].tolist() == labelled.T.tolist()
    assert domains.kinds[domains.narrow[1, 0]].tolist() == [False, True, True]
    assert len(domains.kinds) == 3


def blobs(rng, n, size=12):
    """Return rectangles, (n, y, x)."""
    held = np.zeros((n, size, size), dtype=bool)
    for h in held:
        y, x = rng.integers(0, size - 4, 2)
        h[y : y + rng.integers(3, 8), x : x + rng.integers(3, 8)] = rng.random() < 0.7
    return held


def test_units_that_know_nothing_are_as_good_as_chance_and_one_that_knows_stands_out():
    rng = np.random.default_rng(7)
    data = Labelled([blobs(rng, 6) for _ in range(40)], [0, 0, 0, 1, 1, 1])
    masks = []
    for held in data.held:
        # Of what an image shows nothing; each fires in a place of its own, on some images.
        fires = np.stack([blobs(rng, 1)[0] for _ in range(60)])
        fires[:10] = (rng.random((10, 12, 12)) < 0.3) & held[0] & ~held[4]
        masks.append(fires)
    places = np.array([[(y + 0.5) / 12, (x + 0.5) / 12] for y in range(12) for x in range(12)])
    counted, sets, at = count(data, masks, places)
    total = TotalCounts(sets, data.concept_category, np.bincount(at.ravel()))
    partners = [np.arange(40), *draw_partners(np.zeros(40, dtype=np.int64), 49, seed=0)]
    iou, *draws = (
        search_formulas(total, lay_on(at, sets, counted.fired, 60, partner)).iou
        for partner in partners
    )
    p = p_values(iou, np.array(draws))
    assert (p[:10] == 1 / 50).all()
    assert (p[10:] <= 0.1).mean() <= 0.2
    assert 0.35 < p[10:].mean() < 0.65


def test_label_sets_are_told_apart_by_what_is_labelled_in_the_image():
    """The same concept, in an image where another category is labelled and in one where none is."""
    one = np.array([[[1, 0]], [[0, 1]]], dtype=bool)
    two = np.array([[[1, 0]], [[0, 0]]], dtype=bool)
    data = Labelled([one, two], [0, 1])
    _, sets, _ = count(data, [np.zeros((1, 1, 2), dtype=bool)] * 2)
    assert len(sets.kind) == 4
    assert isinstance(sets.concepts, csr_array)
    assert sets.pixels.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0]]
    alike = Labelled([one, one], [0, 1])
    _, sets, _ = count(alike, [np.zeros((1, 1, 2), dtype=bool)] * 2)
    assert sets.pixels.tolist() == [[2, 2], [0, 0]]
