"""The chart of detectors: counts by hand, and input that a chart may choke on."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from dissect_embed.artefacts.axes import write_scale
from dissect_embed.artefacts.chance import write_strata
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.config import Dissection
from dissect_embed.errors import ArtefactError
from dissect_embed.figures.detectors import MAX_BARS, Bar, draw_detectors, find_detectors

NAMES = ["sky", "tree", "leaf", "grass"]
CATEGORY = ["object", "object", "part", "object"]


def write_run(
    folder: Path,
    iou: list[list[float]],
    names: list[str] = NAMES,
    category: list[str] = CATEGORY,
    *,
    alone: bool = False,
) -> RunFolder:
    """Write profiles of one layer, and what chance gives."""
    config = {
        "dataset": {"name": "d", "split": "all", "images": 3},
        "model": {"name": "m", "weights": "random"},
        "layers": ["a"],
        "dissection": {"quantile": 0.005},
    }
    path = folder / "profiles.h5"
    with create_artefact(path, "profiles", config, {"activations": "x"}) as file:
        write_scale(file, "categories", ["part", "object", "scene"])
        write_scale(file, "labels/name", names)
        file["labels/number"] = np.arange(1, len(names) + 1)
        file.create_dataset("labels/category", data=category, dtype=h5py.string_dtype())
        file["layers/a/iou"] = np.array(iou)
        file["layers/a/threshold"] = np.zeros(len(iou), dtype=np.float32)
    with h5py.File(path) as file:
        made_from = {"activations": "x", "profiles": str(file.attrs["fingerprint"])}
    with create_artefact(folder / "chance.h5", "chance", config, made_from) as file:
        # What every unit reaches by chance: 0 to 0.25, in the middle 0.125.
        null = np.linspace(0, 0.25, 100)[:, None] + np.zeros(len(iou))
        write_strata(file, np.arange(3) if alone else np.zeros(9, dtype=int), len(null))
        file["layers/a/best"] = null
        file["layers/a/pixels"] = (np.array(iou).max(axis=1) > 0).astype(int)
    return RunFolder(folder)


IOU = [
    [0.04, 0.01, 0.00, 0.00],  # the bound itself suffices: sky
    [0.00, 0.30, 0.30, 0.10],  # of equals the first: tree
    [0.00, 0.20, 0.10, 0.19],  # tree
    [0.00, 0.03, 0.00, 0.039],  # below the bound
    [0.00, 0.00, 0.05, 0.00],  # leaf
    [0.00, 0.00, 0.00, 0.00],  # dead
]


def test_detectors_by_hand(tmp_path):
    run = write_run(tmp_path, IOU)
    with run.open_profiles() as profiles, run.open_chance() as chance:
        # Above chance is the second unit alone: p = 1 / 101, times five living ones.
        found = find_detectors(profiles, chance, "a", 0.04)
        # Categories in the data set's order, then the most units first.
        leaf, sky = Bar("leaf", "part", 1, 0, 0), Bar("sky", "object", 1, 0, 0)
        assert found.bars == [leaf, Bar("tree", "object", 1, 0, 1), sky]
        assert found.counts() == [4, 3, 1, 1, 1]
        assert found.counts("object") == [3, 2, 1, 1, 1]
        high = find_detectors(profiles, chance, "a", 0.31)
        assert high.bars == [Bar("tree", "object", 0, 1, 0)]
        assert high.counts() == [0, 0, 1, 1, 0]
        # Without a least IoU: all but the dead one, and grass of the best 0.039.
        grass = Bar("grass", "object", 1, 0, 0)
        lowest = [leaf, Bar("tree", "object", 1, 0, 1), grass, sky]
        assert find_detectors(profiles, chance, "a", 0.0).bars == lowest


def read_rows(path: Path) -> list[list[str]]:
    with path.open() as file:
        return [list(row.values()) for row in csv.DictReader(file)]


def test_table_of_detectors(tmp_path):
    run = write_run(tmp_path, IOU)
    draw_detectors(run, tmp_path / "detectors")
    assert read_rows(tmp_path / "detectors.csv") == [
        ["a", "part", "1", "1", "0", "0", "0"],
        ["a", "object", "3", "2", "1", "1", "1"],
        ["a", "scene", "0", "0", "0", "0", "0"],
    ]


def test_the_bound_is_a_setting(tmp_path):
    """Of the picture alone: the same profiles, counted by another bound."""
    run = write_run(tmp_path, IOU)
    draw_detectors(run, tmp_path / "x", Dissection(detector_iou=0.25))
    assert [row[2:4] for row in read_rows(tmp_path / "x.csv")] == [["0"] * 2, ["1"] * 2, ["0"] * 2]
    svg = (tmp_path / "x.svg").read_text()
    assert "a, of 6 units: 1 with IoU ≥ 0.25, of 1 concepts; 1 beyond chance, of 1; 1 both" in svg


def test_without_what_chance_gives_it_says_so(tmp_path):
    write_run(tmp_path, IOU)
    (tmp_path / "chance.h5").unlink()
    with pytest.raises(ArtefactError, match=r"chance\.h5: missing, .*'dissect-embed chance'"):
        draw_detectors(RunFolder(tmp_path), tmp_path / "x")
    assert not list(tmp_path.glob("x.*"))


def test_the_same_input_gives_the_same_bytes(tmp_path):
    run = write_run(tmp_path, IOU)
    draw_detectors(run, tmp_path / "a" / "x")
    draw_detectors(run, tmp_path / "b" / "x")
    for suffix in (".svg", ".png"):
        first, second = ((tmp_path / f / f"x{suffix}").read_bytes() for f in "ab")
        assert first == second
    svg = (tmp_path / "a/x.svg").read_text()
    for text in ("tree", "4 with IoU ≥ 0.04, of 3 concepts; 1 beyond chance", "over 100 draws"):
        assert text in svg


@pytest.mark.parametrize("iou", [[[0.0] * 4], [[0.01] * 4] * 3])
def test_a_layer_without_detectors_says_so(tmp_path, iou):
    draw_detectors(write_run(tmp_path, iou), tmp_path / "x")
    assert "no unit is a detector" in (tmp_path / "x.svg").read_text()


def test_names_are_text(tmp_path):
    names = ["$x$", "<script>", 'a "b", c', "שמים"]
    iou = (np.eye(4) * 0.5).tolist()
    draw_detectors(write_run(tmp_path, iou, names), tmp_path / "x")
    svg = (tmp_path / "x.svg").read_text()
    assert "$x$" in svg
    assert "&lt;script&gt;" in svg
    assert "<script>" not in svg


def test_more_concepts_than_a_page_holds_are_counted(tmp_path):
    n = MAX_BARS + 20
    names = [f"c{i}" for i in range(n)]
    iou = (np.eye(n) * 0.5).tolist()
    draw_detectors(write_run(tmp_path, iou, names, ["object"] * n), tmp_path / "x")
    assert "and 20 units of 20 other concepts" in (tmp_path / "x.svg").read_text()


def test_where_there_is_no_test_against_chance_it_says_why(tmp_path):
    draw_detectors(write_run(tmp_path, IOU, alone=True), tmp_path / "x")
    svg = (tmp_path / "x.svg").read_text()
    assert "no test against chance: 3 of 3 images have a label map of a size that no other" in svg
    assert "beyond chance, of" not in svg
    assert [row[4:] for row in read_rows(tmp_path / "x.csv")] == [["", "", ""]] * 3
