"""Runs side by side, from finished runs to the page, and what of the user's cannot be compared."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import dissect_embed as de
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import COLUMNS, TEXTS, read_table
from dissect_embed.comparing import write_comparison
from dissect_embed.comparison.runs import name_runs
from dissect_embed.errors import ArtefactError


def test_two_runs_come_out_as_a_table_a_figure_and_a_page(three_runs):
    before = {path: path.read_bytes() for path in three_runs.rglob("*.*")}
    folder = write_comparison([three_runs / "a", three_runs / "b"])
    assert folder == three_runs.resolve() / "compare/a-b"
    names = ["compare.csv", "compare.csv.json", "compare.png", "compare.svg", "index.html"]
    assert sorted(path.name for path in folder.iterdir()) == names
    table = read_table(folder / "compare.csv", "compare")
    assert {row["run"] for row in table.rows} == {"a", "b"}
    assert table.config["runs"]["b"]["folder"] == str(three_runs / "b")
    assert table.config["left_out"] == ""
    header = RunFolder(three_runs / "a").header("profiles")
    assert table.made_from["a/profiles"] == header["fingerprint"]
    # The runs are as they were.
    assert {path: path.read_bytes() for path in before} == before
    frame = de.compare([three_runs / "a", de.open_run(three_runs / "b")])
    assert list(frame.columns) == list(COLUMNS["compare"])
    for name in COLUMNS["compare"]:
        written = [row[name] for row in table.rows]
        if name not in TEXTS:
            written = [float(text or "nan") for text in written]
        np.testing.assert_array_equal(frame[name], written)


def test_the_same_runs_give_the_same_bytes(three_runs, tmp_path):
    both = [three_runs / "a", three_runs / "c"]
    for name in ("first", "again"):
        write_comparison(both, tmp_path / name)
    for name in ("compare.csv", "compare.svg", "compare.png"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_of_three_runs_every_two_are_compared(three_runs):
    frame = de.compare([three_runs / name for name in "abc"])
    pairs = frame[frame.other != ""][["run", "other"]].drop_duplicates()
    assert [*pairs.itertuples(index=False, name=None)] == [("a", "b"), ("a", "c"), ("b", "c")]
    # Numbers depend on no third.
    alone = de.compare([three_runs / "b", three_runs / "c"])
    assert alone.equals(frame[frame.run.isin(["b", "c"])].reset_index(drop=True))


def test_runs_whose_folders_have_one_name_have_their_paths(three_runs, tmp_path):
    shutil.copytree(three_runs / "b", tmp_path / "a")
    frame = de.compare([three_runs / "a", tmp_path / "a"])
    assert set(frame.run) == {str((parent / "a").resolve()) for parent in (three_runs, tmp_path)}


def test_what_depends_on_labels_is_left_out_where_masks_were_made_otherwise(
    three_runs, dissect_tiny, tmp_path, caplog
):
    dissect_tiny(tmp_path / "q", 1, quantile=0.1)
    folder = write_comparison([three_runs / "a", tmp_path / "q"], tmp_path / "out")
    table = read_table(folder / "compare.csv", "compare")
    told = "dissection.quantile is 0.05 in a and 0.1 in q"
    assert table.config["left_out"] == told
    assert told in caplog.text
    assert told in (folder / "index.html").read_text("utf-8")
    assert told in (folder / "compare.svg").read_text("utf-8")
    statistics = {row["statistic"] for row in table.rows}
    assert not statistics & {"detectors", "concepts", "gain", "matched_concept"}
    assert {"units", "cka", "similarity_cka", "matched_correlation"} <= statistics
    # What does not depend on masks is that of the same network.
    frame = de.compare([three_runs / "a", three_runs / "b"])
    cka = [float(row["value"]) for row in table.rows if row["statistic"] == "cka"]
    assert cka == frame[frame.statistic == "cka"].value.tolist()


def test_from_the_command_line(three_runs, tmp_path):
    command = [sys.executable, "-m", "dissect_embed", "compare", str(three_runs / "a")]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode == 1
    assert alone.stderr == (
        "error: compare: expected two runs or more, results/<run>; one is named\n"
    )
    command += [str(three_runs / "c"), "-o", str(tmp_path / "out"), "--detector-iou", "0.2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.endswith(f"{tmp_path / 'out/index.html'}: done\n")
    header = json.loads((tmp_path / "out/compare.csv.json").read_text("utf-8"))
    assert header["config"]["dissection"] == {"detector_iou": 0.2}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"^compare: expected two runs or more, results/<run>$"),
        (["a"], r"two runs or more, results/<run>; one is named$"),
        (["a", "a"], r"^compare: .*/a is named twice; name runs that differ"),
        (["a", "c/../a"], r"/a is named twice"),
        (["a", "z"], r"/z: no such folder; name that of a run"),
    ],
)
def test_what_are_no_two_runs_is_refused(three_runs, names, message):
    with pytest.raises(ArtefactError, match=message):
        de.compare([three_runs / name for name in names])


def test_a_folder_in_place_of_a_list_is_one_run(three_runs):
    with pytest.raises(ArtefactError, match=r"one is named$"):
        de.compare(str(three_runs / "a"))


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("activations.h5", "activations"), ("profiles.h5", "dissect"), ("chance.h5", "chance"),
        ("similarity.h5", "similarity"), ("controls.csv", "score"),
    ],
)  # fmt: skip
def test_a_run_half_made_is_refused_before_anything_is_written(three_runs, tmp_path, kind, command):
    half = tmp_path / "half"
    shutil.copytree(three_runs / "b", half)
    (half / kind).unlink()
    told = rf"half/{kind}: missing, the run is half made; .*'dissect-embed {command}'"
    with pytest.raises(ArtefactError, match=told):
        write_comparison([three_runs / "a", half], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # Nor is anything worked out.
    with pytest.raises(ArtefactError, match=told):
        name_runs([three_runs / "a", half])


def test_files_of_two_runs_in_one_folder_are_refused(three_runs, dissect_tiny, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(three_runs / "b", mixed)
    shutil.copy(three_runs / "a/activations.h5", mixed)
    with pytest.raises(ArtefactError, match="made from another activations than"):
        de.compare([three_runs / "a", mixed])


def test_a_table_changed_by_hand_is_told_how_to_be_made_again(three_runs, tmp_path):
    folder = write_comparison([three_runs / "a", three_runs / "b"], tmp_path)
    with (folder / "compare.csv").open("a") as file:
        file.write("\n")
    with pytest.raises(ArtefactError, match=r"run 'dissect-embed compare' again$"):
        read_table(folder / "compare.csv", "compare")
    (folder / "compare.csv").unlink()
    with pytest.raises(ArtefactError, match=r"missing; make it with 'dissect-embed compare'$"):
        read_table(folder / "compare.csv", "compare")
