"""The stages one after the other on a tiny data set, through the command line."""

import contextlib
import csv
import io
import shutil
import sys
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
from PIL import Image

from dissect_embed.cli import main


def cli(*arguments: object, fails: bool = False) -> str:
    """Run a command in this process, and return what it printed."""
    printed = io.StringIO()
    code = None
    with (
        mock.patch.object(sys, "argv", ["dissect-embed", *map(str, arguments)]),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    assert bool(code) is fails, printed.getvalue()
    return printed.getvalue()


def test_from_images_to_figure_4(tiny, tmp_path):
    run = tmp_path / "run"
    data = ("--dataset", tiny)
    cli(
        "activations", *data, "--layer", "layer1", "--layer", "layer2", "-o", run / "activations.h5"
    )
    with h5py.File(run / "activations.h5") as file:
        maps = file["layers/layer1/activations"][:]
        assert maps.shape == (6, 64, 8, 8)
        assert maps.dtype == np.float16
        peak = file["layers/layer1/peak"][:]
        np.testing.assert_array_equal(peak, maps.max(axis=(2, 3)).astype(np.float32))
    cli("labels", *data, "-o", run / "labels.h5")
    both = (run / "activations.h5", run / "labels.h5")
    cli("dissect", *both, "-o", run / "profiles.h5")
    cli("chance", *both, run / "profiles.h5", "-o", run / "chance.h5")
    cli("units", run)
    cli("similarity", run / "activations.h5", "-o", run / "similarity.h5")
    three = [run / f"{name}.h5" for name in ("similarity", "profiles")]
    cli("embed", *three, "--epochs", 5, "--steps-per-epoch", 2, "-o", run / "embedding.h5")
    cli("score", run)
    cli("figure4", run)
    first = (run / "figures/figure4.svg").read_bytes()
    cli("figure4", run)
    assert (run / "figures/figure4.svg").read_bytes() == first
    assert "layer2" in cli("summary", run)
    with (run / "units.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 64 + 128
    message = cli(
        "dissect", *both, "--expect", "model.weights=trained", "-o", run / "other.h5", fails=True,
    )  # fmt: skip
    assert "made with model.weights = 'random', the config says 'trained'" in message
    assert not list(run.glob("other*"))
    truncated = run / "similarity.h5"
    truncated.write_bytes(truncated.read_bytes()[:1000])
    assert "damaged" in cli("embed", *three, "-o", run / "embedding.h5", fails=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_tiny) -> Path:
    """Make a run on six images by the commands alone."""
    folder = tmp_path_factory.mktemp("stages")
    tiny, run = make_tiny(folder / "tiny"), folder / "run"
    data = ("--dataset", tiny)
    cli("activations", *data, "--layer", "layer1", "-o", run / "activations.h5")
    cli("labels", *data, "-o", run / "labels.h5")
    both = (run / "activations.h5", run / "labels.h5")
    cli("dissect", *both, "-o", run / "profiles.h5")
    cli("chance", *both, run / "profiles.h5", "-o", run / "chance.h5")
    cli("similarity", run / "activations.h5", "-o", run / "similarity.h5")
    three = [run / f"{name}.h5" for name in ("similarity", "profiles")]
    cli("embed", *three, "--epochs", 2, "--steps-per-epoch", 2, "-o", run / "embedding.h5")
    cli("relations", run)
    return run


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("units", ["units.csv", "units.csv.json"]),
        ("compositions", ["compositions.csv", "compositions.csv.json"]),
        ("evidence", ["evidence.csv", "evidence.csv.json"]),
        ("score", ["scores.csv", "controls.csv"]),
        ("relations", ["relations.csv", "pairs.csv", "overlap.csv"]),
        ("figure2", ["figures/figure2.svg", "figures/figure2.png"]),
        ("figure3", ["figures/figure3.svg"]),
        ("figure4", ["figures/figure4.svg"]),
        ("detectors", ["figures/detectors.svg", "figures/detectors.csv"]),
        ("export", ["vectors.npz", "projector/layer1.sprite.png"]),
        ("atlas", ["atlas/index.html", "atlas/images/0/5.jpg"]),
    ],
)
def test_a_command_takes_the_folder_of_a_run(made, command, files):
    cli(command, made)
    assert [name for name in files if not (made / name).is_file()] == []


def test_units_are_ablated_where_labelled_images_are_named(made, tmp_path):
    text = cli("ablate", made, fails=True)
    assert "the network has 1000 outputs, which are not the 4 concepts of the data set" in text
    for n in range(4):
        for name in ("cat", "dog"):
            (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(made.parent / f"tiny/images/{n}.jpg", tmp_path / "pictures" / name)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["dog", *map(str, range(998)), "cat"]))
    out = tmp_path / "importance.csv"
    options = ("--images", tmp_path / "pictures", "--classes", names, "--limit", 4, "--top", 2)
    assert "what is right is right by chance" in cli("ablate", made, *options, "-o", out)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert {row["unit"] for row in rows if row["k"] == "1"} == {str(n) for n in range(64)}
    assert {row["k"] for row in rows} == {"1", "2"}
    assert (tmp_path / "ablation.csv.json").is_file()


def test_either_similarity_is_drawn_and_named(made, tmp_path):
    """Figures say which; by default it is the run's first."""
    for name in ("figure2", "figure3"):
        drawn = {}
        for similarity, option in (("image", ()), ("dataset", ("--similarity", "dataset"))):
            cli(name, made, *option, "-o", tmp_path / f"{similarity}.svg")
            drawn[similarity] = (tmp_path / f"{similarity}.svg").read_text()
            assert f"; similarity {similarity}" in drawn[similarity]
        assert drawn["image"] != drawn["dataset"]
        text = cli(name, made, "--similarity", "pearson", "-o", tmp_path / "x.svg", fails=True)
        assert "no vectors by similarity 'pearson'; there are image, dataset" in text


def test_an_atlas_shows_either_similarity(made, tmp_path):
    for similarity in ("image", "dataset"):
        folder = tmp_path / similarity
        cli("atlas", made, "--similarity", similarity, "--no-pictures", "-o", folder)
        assert f"; similarity {similarity}" in (folder / "index.html").read_text()
    told = [(tmp_path / name / "data/0.js").read_text() for name in ("image", "dataset")]
    assert told[0] != told[1]


def test_any_picture_is_drawn(made, tmp_path):
    """A file from elsewhere, whose network is that of the run."""
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "sea.png")
    (tmp_path / "sea.txt").write_text("teal")
    for name in ("figure2", "figure3"):
        cli(name, made, "--image", tmp_path / "sea.png", "-o", tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.png").is_file()
        text = cli(
            name, made, "--image", tmp_path / "sea.txt", "-o", tmp_path / "x.svg", fails=True
        )
        assert "sea.txt: cannot be read as a picture" in text
        text = cli(name, made, "--image", "sea", "-o", tmp_path / "x.svg", fails=True)
        assert "sea: no image of the data set" in text
    assert not list(tmp_path.glob("x*"))


def test_inspect_takes_the_folder_of_a_run(made):
    assert "layer1" in cli("inspect", made)
    text = cli("inspect", made, "--unit", "layer1:3")
    assert "layer1:3, threshold" in text
    assert "layer1:3, highest peaks" in text
    assert "layer1:" in cli("inspect", made, "--concept", "sky")


def test_a_run_whose_data_set_was_moved(made, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(made, moved)
    tiny = made.parent / "tiny"
    elsewhere = tmp_path / "data"
    tiny.rename(elsewhere)
    try:
        text = cli("figure2", moved, fails=True)
        assert "the run's data set is not here" in text
        assert "--dataset FOLDER" in text
        cli("figure2", moved, "--dataset", elsewhere)
        (elsewhere / "images/5.jpg").write_bytes(b"another picture")
        text = cli("figure2", moved, "--dataset", elsewhere, fails=True)
        assert "not the data set that" in text
    finally:
        elsewhere.rename(tiny)
        shutil.rmtree(moved)


def test_a_checkpoint_goes_with_trained_weights_alone(tiny, tmp_path):
    out = ("--dataset", tiny, "--layer", "layer1", "-o", tmp_path / "a.h5")
    text = cli("activations", *out, "--checkpoint", tmp_path / "model.pt", fails=True)
    assert "model.pt: goes with --weights trained, not 'random'" in text
    text = cli("activations", *out, "--weights", "trained", fails=True)
    assert "--weights trained needs --checkpoint" in text


@pytest.mark.parametrize(
    ("command", "option", "message"),
    [
        ("embed", "--target=minibach", "embedding.target: 'minibach', expected 'mean' or 'minib"),
        ("embed", "--similarity=pearson", "embedding.similarity.0: 'pearson', expected 'image' or"),
        ("embed", "--similarity=image --similarity=image", "'image' stands there twice"),
        ("embed", "--dim=0", "embedding.dim: 0, expected at least 1"),
        ("embed", "--lr=-0.1", "embedding.lr: -0.1, expected more than 0"),
        ("embed", "--momentum=2", "embedding.momentum: 2.0, expected less than 1"),
        ("embed", "--epochs=0", "embedding.epochs: 0, expected at least 1"),
        ("embed", "--seed=1 --seed=1", "embedding.seeds: [1, 1]: 1 stands there twice"),
        ("dissect", "--quantile=1", "dissection.quantile: 1.0: expected at most 0.5: it is the sh"),
        ("dissect", "--quantile=1.5", "dissection.quantile: 1.5: expected at most 0.5"),
        ("dissect", "--quantile=0.995", "above the threshold, 0.005 for the 99.5 % quantile"),
        ("dissect", "--quantile=-0.2", "dissection.quantile: -0.2, expected more than 0"),
        ("dissect", "--quantile=nan", "dissection.quantile: nan, expected a finite number"),
        ("chance", "--seed=-1", "chance.seed: -1, expected at least 0"),
        ("activations", "--batch-size=0", "activations.batch_size: 0, expected at least 1"),
        ("activations", "--dtype=int8", "activations.dtype: 'int8', expected 'float16' or 'floa"),
        ("detectors", "--detector-iou=2", "dissection.detector_iou: 2.0, expected at most 1"),
        ("figure2", "--unit=-1", "figure2.units.0: -1, expected at least 0"),
    ],
)
def test_a_setting_out_of_bounds_is_one_line(made, tmp_path, command, option, message):
    both = (made / "activations.h5", made / "labels.h5")
    inputs = {
        "embed": [made / "similarity.h5", made / "profiles.h5"],
        "dissect": both,
        "chance": [*both, made / "profiles.h5"],
        "activations": ["--dataset", made.parent / "tiny", "--layer", "layer1"],
    }.get(command, [made])
    text = cli(command, *inputs, *option.split(), "-o", tmp_path / "out.h5", fails=True)
    assert message in text
    assert len(text.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: (r / "images/1.jpg").write_bytes(b"\xff\xd8\xff"), r"1\.jpg: cannot be decoded"),
        (lambda r: (r / "images/1.jpg").unlink(), r"index\.csv:3: .*1\.jpg is missing"),
        (
            lambda r: _edit(r, "0.jpg", "../0.jpg"),
            r"index\.csv:2: '\.\./0\.jpg' leaves the data set",
        ),
        (lambda r: _edit(r, "0.jpg,train", "0.jpg,train,extra"), r"index\.csv:2: 10 cells"),
    ],
)
def test_bad_data_is_named(tiny, tmp_path, change, message):
    import re

    change(tiny)
    out = tmp_path / "activations.h5"
    text = cli("activations", "--dataset", tiny, "--layer", "layer4", "-o", out, fails=True)
    assert re.search(message, text)
    assert not list(tmp_path.glob("activations*"))


def _edit(root: Path, old: str, new: str) -> None:
    path = root / "index.csv"
    path.write_text(path.read_text().replace(old, new, 1))


def test_unknown_layers_and_splits_are_named(tiny, tmp_path):
    out = ("-o", tmp_path / "a.h5")
    text = cli("activations", "--dataset", tiny, "--layer", "layer5", *out, fails=True)
    assert "no layer 'layer5'; did you mean layer4" in text
    text = cli(
        "activations", "--dataset", tiny, "--layer", "layer4", "--split", "tset", *out, fails=True
    )
    assert "no image in split 'tset'; the splits are: train, val" in text
