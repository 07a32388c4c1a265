"""What chance gives, from files to files: beside slow counts, and data that allow no draws."""

import csv
import dataclasses
import shutil

import h5py
import numpy as np
import pytest
from PIL import Image

import dissect_embed.chance
from dissect_embed.artefacts.chance import open_chance
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.labels import open_labels
from dissect_embed.chance import write_chance
from dissect_embed.config import Chance, Dissection
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.errors import ArtefactError, ConfigError
from dissect_embed.figures.detectors import draw_detectors
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.null import draw_partners, find_strata
from dissect_embed.run import Run
from dissect_embed.tally import write_units


def dissect(folder, data, maps, write_maps):
    write_labels(folder / "labels.h5", data)
    write_maps(folder / "activations.h5", data, maps.astype(np.float16))
    sources = folder / "activations.h5", folder / "labels.h5"
    write_profiles(folder / "profiles.h5", *sources, Dissection(quantile=0.05))
    write_chance(folder / "chance.h5", *sources, folder / "profiles.h5")
    return folder


@pytest.fixture(scope="module")
def dissected(tmp_path_factory, make_tiny, write_maps):
    """Twelve images; unit 0 fires on the sky of each image, unit 1 anywhere, unit 2 nowhere."""
    folder = tmp_path_factory.mktemp("run")
    data = load_broden(make_tiny(folder / "tiny", 12))
    rng = np.random.default_rng(0)
    maps = rng.random((12, 3, 16, 16)) / 2
    for n, row in enumerate(data.rows):
        # Sky at another place in each image, so that only its own labels fit.
        sky = np.zeros((16, 16, 3), dtype=np.uint8)
        y, x = rng.integers(0, 12, 2)
        sky[y : y + 4, x : x + 4, 0] = 3
        if n != 2:
            Image.fromarray(sky).save(data.root / f"images/{row.image[:-4]}_object.png")
            maps[n, 0] += sky[:, :, 0] > 0
    maps[:, 2] = 0
    return dissect(folder, load_broden(data.root), maps, write_maps)


def slow_null(folder, threshold, partners):
    """Count pixel by pixel, with masks and labels of equal size."""
    with h5py.File(folder / "activations.h5") as file, open_labels(folder / "labels.h5") as labels:
        masks = file["layers/a/activations"][:] > threshold[:, None, None]
        both = np.zeros((3, len(labels.names)), dtype=int)
        fired = np.zeros((3, len(labels.categories)), dtype=int)
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
    with h5py.File(dissected / "profiles.h5") as file, open_labels(dissected / "labels.h5") as lab:
        threshold, pixels = file["layers/a/threshold"][:], file["labels/pixels"][:]
        true = file["layers/a/intersection"][:], file["layers/a/activation"][:]
        presence = lab.presence
    assert presence.sum(axis=0).tolist() == [12, 11, 12]  # the third image has no object
    stratum = find_strata(np.full((12, 2), 16), presence)
    partners = draw_partners(stratum, 100, seed=0)
    with open_chance(dissected / "chance.h5") as chance:
        assert (chance.n_draws, chance.alone, chance.no_p) == (100, 0, "")
        best, kept = chance.best("a"), chance.profiles("a")
        assert best.shape == (100, 3)
        assert kept.shape == (20, 3, len(pixels))
        means = np.zeros((3, len(pixels)))
        for draw, row in enumerate(partners):
            both, fired, category = slow_null(dissected, threshold, row)
            means += both / len(partners)
            union = fired[:, category] + pixels - both
            np.testing.assert_allclose(best[draw], (both / union).max(axis=1))
            if draw < 20:
                np.testing.assert_allclose(kept[draw], both / union, rtol=1e-6)
        # What is expected needs no draw; those that were drawn lie around it.
        np.testing.assert_allclose(chance.expected("a").sum(axis=1), means.sum(axis=1), rtol=0.05)
        assert chance.pixels("a")[2] == 0
    for counted, slow in zip(true, slow_null(dissected, threshold, range(12)), strict=False):
        np.testing.assert_array_equal(counted, slow)


def read_units(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_unit_that_knows_beats_chance_and_one_that_does_not_does_not(dissected, tmp_path):
    write_units(RunFolder(dissected), tmp_path / "units.csv")
    knows, does_not, dead = read_units(tmp_path / "units.csv")
    assert knows["label"] == "sky"
    assert (knows["p"], knows["q"]) == ("0.0099", "0.0198")
    assert int(knows["n_concepts"]) == 1
    assert float(knows["excess"]) == pytest.approx(
        float(knows["score"]) - float(knows["null_mean"]), abs=1e-4
    )
    assert float(does_not["p"]) > 0.05
    assert [dead[name] for name in ("p", "q", "null_mean", "excess", "n_concepts")] == [""] * 5


def test_units_and_their_concepts_in_python(dissected):
    units = Run(dissected).units()
    assert list(units.columns) == ["layer", "unit", "concept", "category", "iou", "p", "q"]
    assert units.p.round(4).tolist()[0] == 0.0099
    assert np.isnan(units.q[2])
    sky = Run(dissected).units("sky")
    assert sky.unit.tolist() == [0, 1]
    assert sky.p[0] < 0.01 < 0.05 < sky.p[1]


def test_images_of_sizes_of_their_own_give_no_p_and_the_reason(tmp_path, make_tiny, write_maps):
    root = make_tiny(tmp_path / "tiny")
    for n in range(6):
        size = (10 + n, 12)
        for category in ("color", "object"):
            path = root / f"images/{n}_{category}.png"
            pixels = np.asarray(Image.open(path))[: size[0], : size[1]]
            Image.fromarray(pixels).save(path)
    rows = (root / "index.csv").read_text()
    for n in range(6):
        rows = rows.replace(f"{n}.jpg,train,32,32,16,16", f"{n}.jpg,train,32,32,{10 + n},12")
        rows = rows.replace(f"{n}.jpg,val,32,32,16,16", f"{n}.jpg,val,32,32,{10 + n},12")
    (root / "index.csv").write_text(rows)
    maps = np.random.default_rng(0).random((6, 2, 5, 5))
    folder = dissect(tmp_path, load_broden(root), maps, write_maps)
    with open_chance(folder / "chance.h5") as chance:
        assert chance.alone == 6
        assert chance.no_p.startswith("6 of 6 images have a label map of a size that no other has")
    write_units(RunFolder(folder), folder / "units.csv")
    for row in read_units(folder / "units.csv"):
        assert (row["p"], row["q"], row["excess"], row["n_concepts"]) == ("", "", "", "")
        assert row["label"]
    draw_detectors(RunFolder(folder), folder / "detectors")
    assert "no test against chance: 6 of 6 images" in (folder / "detectors.svg").read_text()
    assert Run(folder).units().p.isna().all()


@pytest.mark.parametrize(
    ("n_images", "reason"),
    [
        (1, "1 of 1 images have a label map of a size that no other has"),
        (2, ""),
        (5, ""),
    ],
)
def test_few_images_have_a_p_and_a_single_one_the_reason(
    tmp_path, make_tiny, write_maps, n_images, reason
):
    data = load_broden(make_tiny(tmp_path / "tiny", n_images))
    maps = np.random.default_rng(0).random((n_images, 2, 16, 16))
    folder = dissect(tmp_path, data, maps, write_maps)
    with open_chance(folder / "chance.h5") as chance:
        assert chance.no_p.startswith(reason)
        assert bool(chance.no_p) == bool(reason)
    write_units(RunFolder(folder), folder / "units.csv")
    assert any(row["p"] for row in read_units(folder / "units.csv")) == (not reason)


def test_more_counts_than_memory_are_made_in_passes(dissected, tmp_path, monkeypatch):
    monkeypatch.setattr(dissect_embed.chance, "MEMORY", 1)
    paths = [dissected / f"{name}.h5" for name in ("activations", "labels", "profiles")]
    write_chance(tmp_path / "chance.h5", *paths)
    with open_chance(tmp_path / "chance.h5") as again, open_chance(dissected / "chance.h5") as once:
        assert again.fingerprint == once.fingerprint


def test_a_data_set_without_labels_gives_no_p_and_the_reason(tmp_path, make_tiny, write_maps):
    data = load_broden(make_tiny(tmp_path / "tiny"))
    rows = tuple(dataclasses.replace(row, entries=()) for row in data.rows)
    maps = np.random.default_rng(0).random((6, 2, 5, 5))
    folder = dissect(tmp_path, dataclasses.replace(data, rows=rows), maps, write_maps)
    with open_chance(folder / "chance.h5") as chance:
        assert chance.no_p == "no image of the data set has a label"


def test_draws_that_lie_elsewhere_are_refused(dissected, tmp_path, monkeypatch):
    """As if every image met its own labels in half of the draws."""

    def unfair(stratum, n_draws, seed):
        partners = draw_partners(stratum, n_draws, seed)
        partners[:50] = np.arange(12)
        return partners

    monkeypatch.setattr(dissect_embed.chance, "draw_partners", unfair)
    monkeypatch.setattr(dissect_embed.chance, "ERRORS", 3)
    paths = [dissected / f"{name}.h5" for name in ("activations", "labels", "profiles")]
    with pytest.raises(ArtefactError, match=r"chance\.h5: in a the draws share .* are expected"):
        write_chance(tmp_path / "chance.h5", *paths)
    assert not (tmp_path / "chance.h5").exists()


def test_fewer_draws_than_a_hundred_are_refused():
    with pytest.raises(ConfigError, match=r"chance\.draws: 99, expected at least 100"):
        Chance(draws=99)


def test_what_chance_gave_another_run_is_refused(dissected, tmp_path):
    for name in ("activations.h5", "labels.h5", "profiles.h5", "chance.h5"):
        shutil.copy(dissected / name, tmp_path / name)
    again = Dissection(quantile=0.1)
    write_profiles(
        tmp_path / "profiles.h5", tmp_path / "activations.h5", tmp_path / "labels.h5", again
    )
    with pytest.raises(ArtefactError, match=r"chance\.h5: made from another profiles than"):
        write_units(RunFolder(tmp_path), tmp_path / "units.csv")
