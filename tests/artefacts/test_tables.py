"""The tables between stages: read as they were written, and refused when anything was changed."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.kinds import KINDS
from dissect_embed.artefacts.tables import (
    COLUMNS,
    read_table,
    score_curve,
    write_artefact_table,
    write_table,
)
from dissect_embed.errors import ArtefactError

CONFIG = {"layers": ["a"], "embedding": {"seeds": [3, 8]}}
MADE_FROM = {"embedding": "e1", "profiles": "p1"}
# Layer, similarity, method, seed, epoch, KL.
ROWS = [
    ("a", "image", "ours", 3, 0, 0.5), ("a", "image", "ours", 3, 1, 0.25),
    ("a", "image", "ours", 8, 0, 0.75), ("a", "image", "ours", 8, 1, 0.125),
    ("a", "dataset", "ours", 3, 0, 0.5), ("a", "dataset", "ours", 3, 1, 0.0625),
    ("a", "image", "limit", "", "", 0.1), ("a", "", "random", 3, 0, 7.0),
    ("b", "image", "ours", 3, 0, 9.0),
]  # fmt: skip
AGAIN = "delete it and run 'snakemake --forcerun score'"
CHANGED = (
    f"not the table that scores.csv.json tells of: one of the two was changed or replaced; {AGAIN}"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_artefact_table(tmp_path / "run" / "scores.csv", "scores", ROWS, CONFIG, MADE_FROM)
    return tmp_path / "run" / "scores.csv"


def beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def refusal(path: Path, kind: str = "scores") -> str:
    """Return what is told of a table that is not read: one line."""
    with pytest.raises(ArtefactError) as caught:
        read_table(path, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_header(path: Path, **values: Any) -> None:
    header = json.loads(beside(path).read_text("utf-8")) | values
    beside(path).write_text(json.dumps(header), "utf-8")


def test_round_trip(path):
    table = read_table(path, "scores")
    assert [tuple(row) for row in table.rows] == [COLUMNS["scores"]] * len(ROWS)
    assert [tuple(row.values()) for row in table.rows] == [tuple(map(str, row)) for row in ROWS]
    assert (table.config, table.made_from) == (CONFIG, MADE_FROM)
    assert sorted(file.name for file in path.parent.iterdir()) == ["scores.csv", "scores.csv.json"]
    header = json.loads(beside(path).read_text("utf-8"))
    assert (header["schema"], header["schema_version"]) == ("scores", KINDS["scores"].version)
    assert header["fingerprint"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert {"created", "software"} <= header.keys()


def test_names_are_kept_whatever_they_are(tmp_path):
    names = ['say "a", it\'s b', "two\nlines", "two\r\nlines", "שלום", "a;b\tc", "", " x "]
    rows = [(name, "image", "ours", 0, 0, 1.0) for name in names]
    write_artefact_table(tmp_path / "s.csv", "scores", rows, {}, {})
    assert [row["layer"] for row in read_table(tmp_path / "s.csv", "scores").rows] == names


def test_a_table_of_other_columns_for_each_data_set(tmp_path):
    columns = ("layer", "unit", "object-iou")
    write_artefact_table(tmp_path / "u.csv", "units", [("a", 0, 0.5)], {}, {}, columns)
    rows = read_table(tmp_path / "u.csv", "units").rows
    assert rows == [{"layer": "a", "unit": "0", "object-iou": "0.5"}]


def test_rows_that_fail_leave_what_was_there(path):
    def rows() -> Any:
        yield ROWS[0]
        raise KeyboardInterrupt

    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_artefact_table(path, "scores", rows(), {}, {})
    assert path.read_bytes() == before
    assert read_table(path, "scores").config == CONFIG
    assert len(list(path.parent.iterdir())) == 2


def test_a_run_that_ends_between_the_two_files_is_noticed(path, monkeypatch):
    """The table comes last: with the JSON alone, or beside an older table, nothing is there."""
    replace = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if target == path:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_artefact_table(path, "scores", ROWS[:2], CONFIG, MADE_FROM)
    assert refusal(path) == f"{path}: {CHANGED}"


def test_one_changed_cell_is_noticed(path):
    content = path.read_bytes()
    assert content.count(b"0.25") == 1
    path.write_bytes(content.replace(b"0.25", b"0.26"))
    assert refusal(path) == f"{path}: {CHANGED}"
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    assert refusal(path) == f"{path}: {CHANGED}"
    path.write_bytes(content)
    assert len(read_table(path, "scores").rows) == len(ROWS)


def test_the_json_of_another_table_is_noticed(path, tmp_path):
    other = tmp_path / "other" / "scores.csv"
    write_artefact_table(other, "scores", ROWS[:2], CONFIG, MADE_FROM)
    shutil.copy(beside(other), beside(path))
    assert refusal(path) == f"{path}: {CHANGED}"


@pytest.mark.parametrize("name", ["scores.csv", "scores.csv.json"])
def test_a_missing_file_is_named(path, name):
    missing = path.with_name(name)
    missing.unlink()
    assert refusal(path) == f"{missing}: missing; make it with 'dissect-embed score' or snakemake"


@pytest.mark.parametrize(
    ("kind", "version", "found", "end"),
    [
        ("scores", 0, "scores version 0", AGAIN),
        ("scores", 99, "scores version 99", "it is of a later version of dissect-embed: update th"),
        ("scores", None, "scores version None", AGAIN),
        ("pairs", 1, "pairs version 1", "name a file of 'score'"),
        (None, 1, "None version 1", "name a file of 'score'"),
    ],
)
def test_another_version_or_kind(path, kind, version, found, end):
    change_header(path, schema=kind, schema_version=version)
    told = f"{beside(path)}: expected scores version {KINDS['scores'].version}, found {found}"
    assert refusal(path).startswith(f"{told}; {end}")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": {}}', '{"config": 1, "made_from": 2}'])
def test_a_damaged_json_is_named(path, text):
    beside(path).write_text(text)
    told = refusal(path)
    assert told.startswith(f"{beside(path)}: damaged (")
    assert told.endswith(f"; {AGAIN}")


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (
            [("a", 1)],
            ("layer", "kl"),
            f":1: expected the columns layer,similarity,method,seed,epoch,kl, found "
            f"'layer,kl'; {AGAIN}",
        ),
        ([ROWS[0], ROWS[1][:5]], (), f":3: 5 cells, expected 6; {AGAIN}"),
        ([(*ROWS[0], 1)], (), f":2: 7 cells, expected 6; {AGAIN}"),
        ([("a\nb", *ROWS[0][1:]), ()], (), f":4: 0 cells, expected 6; {AGAIN}"),
        ([], (), f": it has no row; {AGAIN}"),
    ],
)
def test_a_table_that_was_written_wrong_is_named(tmp_path, rows, columns, told):
    path = tmp_path / "scores.csv"
    write_artefact_table(path, "scores", rows, CONFIG, MADE_FROM, columns)
    assert refusal(path) == f"{path}{told}"


@pytest.mark.parametrize("kind", ["relations", "pairs", "overlap"])
def test_small_layers_have_neither_neighbours_nor_pairs(tmp_path, kind):
    write_artefact_table(tmp_path / "t.csv", kind, [], CONFIG, MADE_FROM)
    assert read_table(tmp_path / "t.csv", kind).rows == []


def write_run(folder: Path, vectors: float) -> Path:
    """Write the vectors of a run and its scores, as far as they say what they are."""
    with create_artefact(folder / "embedding.h5", "embedding", CONFIG, {}) as file:
        file["vectors"] = np.full(3, vectors)
    with h5py.File(folder / "embedding.h5") as file:
        made_from = {"embedding": str(file.attrs["fingerprint"])}
    write_artefact_table(folder / "scores.csv", "scores", ROWS, CONFIG, made_from)
    return folder


def test_the_scores_of_another_run_are_refused(tmp_path):
    """As for Figure 4: a table copied into a folder with all that belongs to it."""
    one, other = write_run(tmp_path / "one", 1.0), write_run(tmp_path / "other", 2.0)
    assert len(RunFolder(one).read_table("scores").rows) == len(ROWS)
    for name in ("scores.csv", "scores.csv.json"):
        shutil.copy(other / name, one / name)
    with pytest.raises(ArtefactError) as caught:
        RunFolder(one).read_table("scores")
    told = f"{one / 'scores.csv'}: made from another embedding than {one / 'embedding.h5'}"
    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith("run snakemake again")


def test_a_curve_has_a_row_a_seed(path):
    rows = read_table(path, "scores").rows
    assert score_curve(rows, "a", "ours", "image").tolist() == [[0.5, 0.25], [0.75, 0.125]]
    assert score_curve(rows, "a", "ours", "dataset").tolist() == [[0.5, 0.0625]]
    assert score_curve(rows, "a", "limit", "image").tolist() == [[0.1]]
    assert score_curve(rows, "a", "random").tolist() == [[7.0]]


def test_a_plain_table(tmp_path):
    write_table(tmp_path / "deep" / "t.tsv", ("a", "b"), [(1, "x\ty"), (2.5, "é")], "\t")
    assert (tmp_path / "deep" / "t.tsv").read_text("utf-8") == 'a\tb\n1\t"x\ty"\n2.5\té\n'
