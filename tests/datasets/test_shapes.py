"""The rendered stand-in for CIFAR-100: its counts, its pixels, and that classes differ."""

import sys

import numpy as np
import pytest

from dissect_embed.cli import main
from dissect_embed.datasets.classes import load_classes
from dissect_embed.datasets.shapes import CLASSES, render_shape, render_shapes
from dissect_embed.errors import DatasetError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "classes.h5"
    render_shapes(path, 3, 2, seed=5, n_jobs=1)
    return path


def test_counts_and_labels(path):
    train, test = load_classes(path, "train"), load_classes(path, "test")
    assert train.name == "shapes"
    assert train.classes == CLASSES == sorted(set(CLASSES))
    assert len(CLASSES) == 100
    assert train.images.shape == (300, 32, 32, 3)
    assert test.images.shape == (200, 32, 32, 3)
    assert train.labels.tolist() == [n // 3 for n in range(300)]
    assert test.labels.tolist() == [n // 2 for n in range(200)]
    np.testing.assert_array_equal(train.images[3 * 7 + 2], render_shape("train", 7, 2, seed=5))
    np.testing.assert_array_equal(test.images[2 * 99], render_shape("test", 99, 0, seed=5))


def test_no_image_occurs_twice(path):
    images = np.concatenate([load_classes(path, split).images for split in ("train", "test")])
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) == 500


def test_same_seed_same_file_whatever_the_number(path, tmp_path):
    render_shapes(tmp_path / "again.h5", 3, 2, seed=5, n_jobs=2)
    render_shapes(tmp_path / "more.h5", 4, 2, seed=5, n_jobs=1)
    render_shapes(tmp_path / "other.h5", 3, 2, seed=6, n_jobs=1)
    first = load_classes(path, "train")
    again, more, other = (
        load_classes(tmp_path / f"{name}.h5", "train") for name in ("again", "more", "other")
    )
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.images, first.images)
    kept = more.images.reshape(100, 4, 32, 32, 3)[:, :3].reshape(first.images.shape)
    np.testing.assert_array_equal(kept, first.images)
    assert len({d.fingerprint for d in (first, more, other)}) == 3
    assert not (other.images == first.images).all(axis=(1, 2, 3)).any()


def test_the_middle_has_the_colour_of_the_class():
    # Colours, not light: shares of red, green and blue in the middle, mean of plain discs.
    shares = {}
    for name in ("red", "yellow", "green", "blue", "purple"):
        label = CLASSES.index(f"{name} plain disc")
        middle = np.mean(
            [render_shape("train", label, n)[12:20, 12:20] for n in range(8)], (0, 1, 2)
        )
        shares[name] = middle / middle.sum()
    assert shares["red"].argmax() == 0
    assert shares["green"].argmax() == 1
    assert shares["blue"].argmax() == 2
    assert shares["yellow"][2] < 0.2
    assert shares["purple"][1] == shares["purple"].min()


def test_patterns_vary_within_the_thing_and_plain_does_not():
    def spread(pattern: str) -> float:
        label = CLASSES.index(f"blue {pattern} disc")
        middles = [render_shape("test", label, n)[11:21, 11:21] for n in range(8)]
        return float(np.mean([middle.std(axis=(0, 1)) for middle in middles]))

    plain = spread("plain")
    assert all(spread(pattern) > 1.2 * plain for pattern in ("striped", "dotted", "chequered"))


@pytest.mark.parametrize("numbers", [(0, 2), (2, 0), (-1, 2)])
def test_too_few_images(tmp_path, numbers):
    with pytest.raises(DatasetError, match=r"classes.h5: .* a class; expected at least 1 of each"):
        render_shapes(tmp_path / "classes.h5", *numbers)


def test_command_line(monkeypatch, tmp_path, capsys):
    path = tmp_path / "classes.h5"
    arguments = f"shapes --output {path} --images-per-class 2 --test-images-per-class 1 --seed 3"
    monkeypatch.setattr(sys, "argv", ["dissect-embed", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)
    line = "200 training and 100 test images of 100 classes, 32×32 pixels"
    assert capsys.readouterr().err.splitlines()[-1] == f"{path}: {line}"
    np.testing.assert_array_equal(
        load_classes(path, "train").images[1], render_shape("train", 0, 1, seed=3)
    )
