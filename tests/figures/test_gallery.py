"""Pictures of units: which images, which pixels, the same bytes, and what is not there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.embedding import write_trained
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.labels import open_labels
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.artefacts.tables import COLUMNS
from dissect_embed.config import Dissection, Figure2
from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.dissection import write_profiles
from dissect_embed.errors import ArtefactError, ConfigError
from dissect_embed.export import SIDE, unit_pictures, write_npz, write_projector
from dissect_embed.figures.figure2 import choose_units, draw_neighbours
from dissect_embed.figures.figure3 import choose_pairs, draw_sums
from dissect_embed.figures.gallery import choose_images, find_images, open_gallery, read_maps
from dissect_embed.figures.maps import DARKEST
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.halves import second_half
from dissect_embed.mathematics.vectors import Trained
from dissect_embed.run import Run

VECTORS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def files(tmp_path_factory, make_tiny, write_maps) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    data = load_broden(make_tiny(folder / "tiny", 8))
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(8, 6, 4, 4)), 0).astype(np.float16)
    maps[:, 5] = 0  # never fires
    write_labels(folder / "labels.h5", data)
    write_maps(folder / "activations.h5", data, maps)
    sources = folder / "activations.h5", folder / "labels.h5"
    write_profiles(folder / "profiles.h5", *sources, Dissection(quantile=0.05))
    with open_profiles(folder / "profiles.h5") as profiles:
        made_from = {"profiles": profiles.fingerprint}
        config = profiles.config | {"embedding": {"similarity": ["image", "dataset"]}}
        with create_artefact(folder / "embedding.h5", "embedding", config, made_from) as file:
            trained = Trained(VECTORS[None, None], torch.zeros(1, 0))
            other = Trained(-(VECTORS[None, None] ** 2), torch.zeros(1, 0))
            by_method = {"image": trained, "dataset": other, "supervised": trained}
            write_trained(file, [7], {("a", k): v for k, v in by_method.items()})
    return folder


@pytest.fixture
def gallery(files):
    with (
        open_activations(files / "activations.h5") as source,
        open_profiles(files / "profiles.h5") as profiles,
        open_labels(files / "labels.h5") as labels,
    ):
        yield open_gallery(source, profiles, labels, load_broden(files / "tiny"), None)


def test_images_are_those_of_the_highest_peak_and_of_other_content(gallery):
    for unit in range(5):
        chosen = choose_images(gallery, unit, 3)
        assert len(set(chosen)) == 3
        assert chosen[0] == gallery.peak[:, unit].argmax()
        fires = np.flatnonzero(gallery.peak[:, unit] > gallery.thresholds[unit])
        assert set(chosen[: len(fires)]) <= set(fires.tolist())
    assert len(choose_images(gallery, 5, 3)) == 3


def test_maps_are_enlarged_to_the_images_pixels(gallery):
    maps = read_maps(gallery, [3, 0], [4, 1])
    assert maps.shape == (2, 2, 32, 32)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(gallery.source["a"].maps[:]).double(), (32, 32), mode="bilinear",
        align_corners=False,
    )  # fmt: skip
    np.testing.assert_array_equal(maps, large[[3, 0]][:, [4, 1]].numpy())
    assert read_maps(gallery, [3], [4], (5, 6)).shape == (1, 1, 5, 6)


def test_images_are_chosen_among_those_asked_for(gallery):
    kept = second_half(8)
    for unit in range(6):
        assert set(choose_images(gallery, unit, 3, kept)) <= set(np.flatnonzero(kept).tolist())


def test_units_have_different_concepts_and_fire(gallery):
    every = np.ones(8, dtype=bool)
    units = choose_units(gallery, 3, 0, every)
    assert len(set(units)) == 3
    assert 5 not in units
    assert units == choose_units(gallery, 3, 0, every)
    assert 5 in choose_units(gallery, 6, 0, every)
    # A unit that alone fires on the images shown comes first.
    peak = np.where(np.arange(6) == 2, 9.0, -9.0)[None] * np.ones((8, 1))
    for seed in range(4):
        assert choose_units(gallery._replace(peak=peak), 1, seed, every) == [2]


def pair(first: int, second: int, target: int, gain: float = 0.2, **others: str) -> dict[str, str]:
    numbers = dict.fromkeys(COLUMNS["pairs"], "0.5") | {"layer": "a", "similarity": "image"}
    units = {
        "first": first,
        "second": second,
        "target": target,
        "drawn_first": 0,
        "drawn_second": 3,
    }
    return (
        numbers | {name: str(unit) for name, unit in units.items()} | {"gain": f"{gain}"} | others
    )


def test_pairs_share_no_unit_and_fire(gallery):
    pairs = [pair(*triple) for triple in [(0, 1, 5), (0, 1, 2), (2, 3, 4), (3, 4, 0)]]
    assert choose_pairs(gallery, pairs, 2) == [pairs[1]]
    assert choose_pairs(gallery, [pair(0, 1, 2, 0.0)], 2) == []


def near(unit: int, rank: int, neighbour: int, **others: str) -> dict[str, str]:
    numbers = dict.fromkeys(COLUMNS["overlap"], "0.25") | {"layer": "a", "similarity": "image"}
    units = {"unit": unit, "fires": 7, "rank": rank, "neighbour": neighbour, "drawn": 3, "best": 1}
    return numbers | {name: str(number) for name, number in units.items()} | others


NEAR = [near(unit, rank, (unit + rank) % 6) for unit in range(6) for rank in (1, 2)]
PAIRS = [pair(0, 1, 2), pair(3, 4, 1)]


def test_figures_are_the_same_bytes_each_time(gallery, tmp_path):
    for name in "ab":
        draw_neighbours(gallery, "t", NEAR, "image", tmp_path / name / "figure2", Figure2())
        draw_sums(gallery, "t", PAIRS, "image", tmp_path / name / "figure3")
    for file in ("figure2.svg", "figure2.png", "figure3.svg", "figure3.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_units_and_images_can_be_named(gallery, tmp_path):
    chosen = Figure2(units=[5, 2, 0], images=["3.jpg", "1.jpg"])
    draw_neighbours(gallery, "t", NEAR, "image", tmp_path / "x", chosen)
    svg = (tmp_path / "x.svg").read_text()
    for text in ("a:5", "a:2", "a:0", "cosine 0.25, IoU 0.25", "at random, IoU 0.25"):
        assert text in svg
    assert "shown on images that were named" in svg
    assert find_images(gallery.source, ["3.jpg", "1.jpg"]) == [3, 1]
    with pytest.raises(ArtefactError, match=r"9\.jpg: no image of the data set"):
        draw_neighbours(gallery, "t", NEAR, "image", tmp_path / "y", Figure2(images=["9.jpg"]))
    with pytest.raises(ArtefactError, match="a has no unit 6, only 0 to 5"):
        draw_neighbours(gallery, "t", NEAR, "image", tmp_path / "y", Figure2(units=[6]))
    with pytest.raises(ConfigError, match=r"figure2\.units\.0: -1, expected at least 0"):
        Figure2(units=[-1])
    assert not list(tmp_path.glob("y*"))


def test_figures_tell_of_the_similarity_that_is_asked_for(gallery, tmp_path):
    other = [row | {"similarity": "dataset", "overlap": "0.75"} for row in NEAR]
    draw_neighbours(gallery, "t", [*NEAR, *other], "dataset", tmp_path / "x", Figure2(units=[1]))
    svg = (tmp_path / "x.svg").read_text()
    assert "similarity dataset" in svg
    assert "cosine 0.25, IoU 0.75" in svg
    assert "nearest 0.750, any two 0.250, the best choice possible 0.250" in svg
    draw_sums(gallery, "t", [pair(0, 1, 2), pair(3, 4, 1, similarity="dataset")], "dataset",
              tmp_path / "y", ["3.jpg"])  # fmt: skip
    svg = (tmp_path / "y.svg").read_text()
    assert "a:3 + a:4" in svg
    assert "a:0 + a:1" not in svg


def test_layers_of_few_units_are_drawn(gallery, tmp_path):
    one = gallery._replace(
        thresholds=gallery.thresholds[:1], peak=gallery.peak[:, :1], concepts=gallery.concepts[:1]
    )
    draw_neighbours(one, "t", [], "image", tmp_path / "one", Figure2())
    draw_sums(one, "t", [], "image", tmp_path / "three")
    svg = (tmp_path / "three.svg").read_text()
    assert "no pair adds up to a third unit" in svg
    assert "On the other half no two units fire." in (tmp_path / "one.svg").read_text()


def test_a_layer_that_was_not_probed_is_named(files):
    with (
        open_activations(files / "activations.h5") as source,
        open_profiles(files / "profiles.h5") as profiles,
        open_labels(files / "labels.h5") as labels,
        pytest.raises(ArtefactError, match="no layer 'b'; there are a"),
    ):
        open_gallery(source, profiles, labels, load_broden(files / "tiny"), None, "b")


def test_vectors_for_other_tools(files, gallery, tmp_path):
    vectors, run = VECTORS.numpy()[None], Run(files)
    write_npz(run, tmp_path / "vectors.npz")
    write_projector(run, tmp_path / "projector", dataset=files / "tiny")
    with np.load(tmp_path / "vectors.npz") as npz:
        np.testing.assert_array_equal(npz["a.image"], vectors)
        np.testing.assert_array_equal(npz["a.dataset"], -(vectors**2))
        assert npz["a.label"].tolist() == [name for name, _ in gallery.concepts]
        assert npz["seeds"].tolist() == [7]
    folder = tmp_path / "projector"
    np.testing.assert_allclose(np.loadtxt(folder / "a.image.tensors.tsv"), vectors[0], rtol=1e-5)
    other = np.loadtxt(folder / "a.dataset.tensors.tsv")
    np.testing.assert_allclose(other, -(vectors[0] ** 2), rtol=1e-5)
    rows = (folder / "a.metadata.tsv").read_text().splitlines()
    assert rows[0] == "unit\tlabel\tscore"
    assert [row.split("\t")[0] for row in rows[1:]] == [f"a:{unit}" for unit in range(6)]
    sprite = np.asarray(Image.open(folder / "a.sprite.png"))
    assert sprite.shape == (3 * SIDE, 3 * SIDE, 3)
    assert (sprite[2 * SIDE :] == 255).all()  # six units leave the last row white
    config = (folder / "projector_config.pbtxt").read_text()
    assert config.count("a.sprite.png") == config.count("a.metadata.tsv") == 2


def test_a_picture_is_as_bright_as_its_unit_is_active(gallery):
    pictures = unit_pictures(gallery, side=32)
    for unit in range(6):
        image = int(gallery.peak[:, unit].argmax())
        pixels = read_image(gallery.dataset, gallery.dataset.rows[image])
        maps = read_maps(gallery, [image], [unit])[0, 0]
        fires, silent = maps > gallery.thresholds[unit], maps <= 0
        np.testing.assert_array_equal(pictures[unit][fires], pixels[fires])
        dark = (pixels[silent] * DARKEST).round()
        np.testing.assert_array_equal(pictures[unit][silent], dark)
