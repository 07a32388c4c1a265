"""What IoU chance gives: pairs by hand, and a unit that knows nothing beside one that does."""

import csv

import h5py
import numpy as np
import pytest
from PIL import Image

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.labels import open_labels
from dissect_embed.chance import write_chance
from dissect_embed.config import Dissection
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.null import count_draws, draw_partners, p_values
from dissect_embed.tally import write_units


def test_partners_share_their_size_and_are_never_oneself():
    size = np.array([[8, 8], [4, 4], [8, 8], [4, 4], [8, 8], [2, 9]])
    partners = draw_partners(size, 50, seed=3)
    for row in partners:
        assert sorted(row.tolist()) == list(range(6))
        assert (size[row] == size).all()
        assert (row[:5] != np.arange(5)).all()
        assert row[5] == 5  # alone with its size
    assert len({tuple(row) for row in partners.tolist()}) > 1
    assert (draw_partners(size, 2, seed=3) == partners[:2]).all()


def test_p_values_by_hand():
    null = np.array([0.1, 0.2, 0.2, 0.3])
    assert p_values(np.array([0.05, 0.2, 0.3, 0.31]), null).tolist() == [1.0, 0.8, 0.4, 0.2]


@pytest.fixture
def dissected(tmp_path, make_tiny, write_maps):
    """Twelve images; unit 0 fires on the sky of each image, unit 1 anywhere."""
    data = load_broden(make_tiny(tmp_path / "tiny", 12))
    rng = np.random.default_rng(0)
    maps = rng.random((12, 2, 16, 16)) / 2
    for n, row in enumerate(data.rows):
        # Sky at another place in each image, so that only its own labels fit.
        sky = np.zeros((16, 16, 3), dtype=np.uint8)
        y, x = rng.integers(0, 12, 2)
        sky[y : y + 4, x : x + 4, 0] = 3
        if n != 2:
            Image.fromarray(sky).save(data.root / f"images/{row.image[:-4]}_object.png")
            maps[n, 0] += sky[:, :, 0] > 0
    data = load_broden(data.root)
    write_labels(tmp_path / "labels.h5", data)
    write_maps(tmp_path / "activations.h5", data, maps.astype(np.float16))
    sources = tmp_path / "activations.h5", tmp_path / "labels.h5"
    write_profiles(tmp_path / "profiles.h5", *sources, Dissection(quantile=0.05))
    write_chance(tmp_path / "chance.h5", *sources, tmp_path / "profiles.h5")
    return tmp_path


def slow_null(folder, threshold, partners):
    """Count pixel by pixel, with masks and labels of equal size."""
    with h5py.File(folder / "activations.h5") as file, open_labels(folder / "labels.h5") as labels:
        masks = file["layers/a/activations"][:] > threshold[:, None, None]
        both = np.zeros((2, len(labels.names)), dtype=int)
        fired = np.zeros((2, len(labels.categories)), dtype=int)
        for n, partner in enumerate(partners):
            regions = labels.regions(int(partner))
            present = set()
            for region, concept in zip(regions.member_region, regions.member_concept, strict=True):
                both[:, concept] += (masks[n] & (regions.region == region)).sum(axis=(1, 2))
                present.add(labels.concept_category[concept])
            for g in present:
                fired[:, g] += masks[n].sum(axis=(1, 2))
        return both, fired, labels.concept_category


def test_chance_equals_the_slow_reference(dissected):
    with h5py.File(dissected / "profiles.h5") as file, h5py.File(dissected / "chance.h5") as chance:
        group = file["layers/a"]
        pixels = file["labels/pixels"][:]
        best = chance["layers/a/best"][:]
        assert best.shape == (count_draws(2), 2) == (128, 2)
        partners = draw_partners(np.full((12, 2), 16), 128, seed=0)
        for draw in (0, 127):
            both, fired, category = slow_null(dissected, group["threshold"][:], partners[draw])
            iou = both / (fired[:, category] + pixels - both)
            np.testing.assert_allclose(best[draw], iou.max(axis=1))
        both, fired, _ = slow_null(dissected, group["threshold"][:], np.arange(12))
        np.testing.assert_array_equal(group["intersection"][:], both)
        np.testing.assert_array_equal(group["activation"][:], fired)


def test_a_unit_that_knows_beats_chance_and_one_that_does_not_does_not(dissected):
    write_units(RunFolder(dissected), dissected / "units.csv")
    with (dissected / "units.csv").open() as file:
        knows, does_not = csv.DictReader(file)
    assert knows["label"] == "sky"
    assert float(knows["p"]) == pytest.approx(1 / 257, abs=1e-4)
    assert float(does_not["p"]) > 0.05
