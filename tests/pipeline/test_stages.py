"""The stages one after the other on a tiny data set, through the command line."""

import contextlib
import csv
import io
import sys
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest

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
    cli("units", run / "profiles.h5", "-o", run / "units.csv")
    cli("similarity", run / "activations.h5", "-o", run / "similarity.h5")
    three = [run / f"{name}.h5" for name in ("similarity", "profiles")]
    cli("embed", *three, "--epochs", 5, "--steps-per-epoch", 2, "-o", run / "embedding.h5")
    files = [run / f"{name}.h5" for name in ("profiles", "similarity", "embedding")]
    cli("controls", *files, "-o", run / "controls.csv")
    cli("score", *files, run / "controls.csv", "-o", run / "scores.csv")
    cli("figure4", run / "scores.csv", run / "profiles.h5", "-o", run / "figures/figure4.svg")
    first = (run / "figures/figure4.svg").read_bytes()
    cli("figure4", run / "scores.csv", run / "profiles.h5", "-o", run / "figures/figure4.svg")
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
