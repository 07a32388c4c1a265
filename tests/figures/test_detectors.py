"""The chart of detectors: counts by hand, and input that a chart may choke on."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from dissect_embed.artefacts import files
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.figures.detectors import Bar, count_detectors, draw_detectors

NAMES = ["sky", "tree", "leaf", "grass"]
CATEGORY = ["object", "object", "part", "object"]


def write_profiles(
    folder: Path, iou: list[list[float]], names: list[str] = NAMES, category: list[str] = CATEGORY
) -> Path:
    path = folder / "profiles.h5"
    config = {
        "dataset": {"name": "d", "split": "all", "images": 3},
        "model": {"name": "m", "weights": "random"},
        "layers": ["a"],
        "dissection": {"quantile": 0.005, "detector_iou": 0.04},
    }
    with files.create_artefact(path, "profiles", config, {"activations": "x"}) as file:
        files.write_scale(file, "categories", ["part", "object", "scene"])
        files.write_scale(file, "labels/name", names)
        file["labels/number"] = np.arange(1, len(names) + 1)
        file.create_dataset("labels/category", data=category, dtype=h5py.string_dtype())
        file["layers/a/iou"] = np.array(iou)
        file["layers/a/null/best"] = np.linspace(0, 0.1, 200)[None]
        file["layers/a/threshold"] = np.zeros(len(iou), dtype=np.float32)
    return path


IOU = [
    [0.04, 0.01, 0.00, 0.00],  # the bound itself suffices: sky
    [0.00, 0.30, 0.30, 0.10],  # of equals the first: tree
    [0.00, 0.20, 0.10, 0.19],  # tree
    [0.00, 0.03, 0.00, 0.039],  # below the bound
    [0.00, 0.00, 0.05, 0.00],  # leaf
    [0.00, 0.00, 0.00, 0.00],  # dead
]


def test_detectors_by_hand(tmp_path):
    with open_profiles(write_profiles(tmp_path, IOU)) as profiles:
        # Categories in the data set's order, then the most units first.
        expected = [Bar("leaf", "part", 1), Bar("tree", "object", 2), Bar("sky", "object", 1)]
        assert count_detectors(profiles, "a") == expected


def test_table_of_detectors(tmp_path):
    draw_detectors(write_profiles(tmp_path, IOU), tmp_path / "detectors")
    with (tmp_path / "detectors.csv").open() as file:
        rows = [list(row.values()) for row in csv.DictReader(file)]
    chance = "0.0990"  # 2 of the 200 values between 0 and 0.1 lie above
    assert rows == [
        ["a", "part", "1", "1", "0", chance],
        ["a", "object", "3", "2", "2", chance],
        ["a", "scene", "0", "0", "0", chance],
    ]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    path = write_profiles(tmp_path, IOU)
    draw_detectors(path, tmp_path / "a" / "x")
    draw_detectors(path, tmp_path / "b" / "x")
    for suffix in (".svg", ".png"):
        first, second = ((tmp_path / f / f"x{suffix}").read_bytes() for f in "ab")
        assert first == second
    svg = (tmp_path / "a/x.svg").read_text()
    for text in ("tree", "a: 4 of 6 units are detectors, of 3 concepts", "IoU ≥ 0.04"):
        assert text in svg


@pytest.mark.parametrize("iou", [[[0.0] * 4], [[0.01] * 4] * 3])
def test_a_layer_without_detectors_says_so(tmp_path, iou):
    draw_detectors(write_profiles(tmp_path, iou), tmp_path / "x")
    assert "no unit reaches the bound" in (tmp_path / "x.svg").read_text()


def test_names_are_text(tmp_path):
    names = ["$x$", "<script>", 'a "b", c', "שמים"]
    iou = (np.eye(4) * 0.5).tolist()
    draw_detectors(write_profiles(tmp_path, iou, names), tmp_path / "x")
    svg = (tmp_path / "x.svg").read_text()
    assert "$x$" in svg
    assert "&lt;script&gt;" in svg
    assert "<script>" not in svg
