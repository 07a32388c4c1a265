"""Table 1 from made-up results: means and spreads by hand, empty cells, what does not belong."""

import csv
import json
import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.cli import main
from dissect_embed.datasets.classes import ClassSplit, load_classes, write_classes
from dissect_embed.distillation.results.names import Pair
from dissect_embed.distillation.results.page import write_markdown
from dissect_embed.distillation.results.rows import Row
from dissect_embed.distillation.results.runs import read_run, read_runs
from dissect_embed.distillation.results.table import build_table, write_csv
from dissect_embed.distillation.training.schedules import SCHEDULES, shorten
from dissect_embed.errors import ArtefactError
from dissect_embed.figures.table1 import draw_table1

PAIR = Pair("resnet56", "resnet20")


def make_classes(path, name, pixel=0):
    images = np.full((2, 8, 8, 3), pixel, np.uint8)
    split = ClassSplit(images, np.array([0, 1]))
    write_classes(path, name, ["a", "b"], {"train": split, "test": split})
    return load_classes(path, "test").fingerprint


def add(folder, where, data, *, name="", accuracy=0.5, step=0.01, epochs=240, kl=None, **task):
    """Write a result as ``trainer`` does."""
    schedule = shorten(SCHEDULES["crd"], epochs)._asdict()
    student = where.split("-")[-1]
    described = {
        "version": 3, "student": student, "method": "plain", "seed": 0, "data": data,
        "schedule": schedule, "beta": None, "temperature": 1.0, "control": None, "teacher": None,
        "prior": None, "precision": "float32", "held_out": 0, "role": "student",
    } | task  # fmt: skip
    session = {"device": "cpu", "processor": "x86_64", "threads": 1}
    result = {
        "task": described,
        "accuracy": accuracy,
        "run": {"seconds_a_step": step, "peak_memory_bytes": 400_000_000, "sessions": [session]},
    }
    if kl is not None:
        told = {target: {"mean": mean, "layers": [mean]} for target, mean in kl.items()}
        result["measured"] = {"images": 1000, "prior": "s", "divergence": told}
    name = name or f"{described['method']}-seed{described['seed']}"
    path = folder / where / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result))
    return path


@pytest.fixture
def results(tmp_path):
    """Return a folder of results on two pairs, its classes.h5 and their fingerprint."""
    classes = tmp_path / "classes.h5"
    data = make_classes(classes, "cifar100")
    folder = tmp_path / "distillation"
    add(folder, "teachers", data, name="resnet56-seed0", student="resnet56", accuracy=0.72)
    for seed, accuracy in enumerate((0.69, 0.70, 0.71)):
        add(folder, "resnet56-resnet20", data, seed=seed, accuracy=accuracy)
    skd = {"method": "skd", "beta": 0.5}
    for seed, accuracy in enumerate((0.70, 0.73)):
        add(folder, "resnet56-resnet20", data, seed=seed, accuracy=accuracy, step=0.012, **skd)
    add(folder, "resnet56-resnet20", data, name="x", **(skd | {"control": "random"}))
    add(folder, "resnet56-resnet20", data, name="y", **(skd | {"beta": 0}))
    add(folder, "resnet56-resnet20", data, name="z", **(skd | {"temperature": 0.1}))
    add(folder, "vgg13-vgg8", data, method="kd", accuracy=0.7, step=0.02)
    add(folder, "vgg13-vgg8", data, **(skd | {"beta": 0.05}))
    return folder, classes, data


def rows_of(path):
    with path.open(newline="") as file:
        return {(r["pair"], r["method"], r["control"]): r for r in csv.DictReader(file)}


def test_means_and_spreads_by_hand(results, tmp_path):
    folder, classes, _ = results
    write_csv(tmp_path / "table1.csv", build_table(folder, classes))
    rows = rows_of(tmp_path / "table1.csv")
    plain = rows["resnet56-resnet20", "plain", ""]
    assert (plain["n"], plain["mean"], plain["sd"]) == ("3", "70.0000", "1.0000")
    assert (plain["published"], plain["source"]) == ("69.06", "HAN22")
    skd = rows["resnet56-resnet20", "skd", ""]
    assert (skd["n"], skd["mean"], skd["sd"]) == ("2", "71.5000", "2.1213")  # 3 / √2
    assert (skd["seconds_a_step"], skd["relative_step"]) == ("0.012000", "1.2000")
    assert (skd["published"], skd["source"]) == ("70.23", "HAN22")
    teacher = rows["resnet56-resnet20", "teacher", ""]
    assert (teacher["n"], teacher["mean"], teacher["sd"]) == ("1", "72.0000", "")
    kd = rows["vgg13-vgg8", "kd", ""]
    # No plain student of this pair was run: there is nothing to be relative to.
    assert (kd["mean"], kd["sd"], kd["relative_step"]) == ("70.0000", "", "")
    assert (kd["published"], kd["source"]) == ("72.98", "TIAN20")
    # What was not run stays empty, whatever was published; controls have no published number.
    crd = rows["resnet56-resnet20", "crd", ""]
    assert (crd["n"], crd["mean"], crd["sd"], crd["published"]) == ("0", "", "", "71.16")
    assert rows["resnet56-resnet20", "skd", "random"]["published"] == ""
    assert ("vgg13-vgg8", "skd", "random") not in rows


def test_the_table_for_people(results, tmp_path):
    folder, classes, _ = results
    table = build_table(folder, classes, [PAIR, Pair("vgg13", "vgg8")])
    write_markdown(tmp_path / "table1.md", table)
    text = (tmp_path / "table1.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# Table 1 on cifar100: test accuracy in percent"
    assert "2 training and 2 test images of 2 classes" in lines[2]
    assert "schedule crd, 240 epochs, seeds 0, 1, 2, float32; cpu (x86_64), 1 thread." in lines[2]
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    head = ["method", "resnet56 → resnet20", "published", "vgg13 → vgg8", "published"]
    assert cells[0] == head
    by_title = {row[0]: row[1:] for row in cells[2:21]}
    assert by_title["teacher"] == ["72.00", "72.34", "", "74.64"]
    assert by_title["plain student"] == ["70.00 ± 1.00", "69.06", "", "70.36"]
    assert by_title["SKD"] == ["71.50 ± 2.12 (2)", "70.23", "50.00 (1)", "71.09"]
    assert by_title["CRD"] == ["", "71.16", "", "73.94"]
    titles = [row[0] for row in cells[2:21]]
    assert titles[:3] == ["teacher", "plain student", "KD"]
    assert titles[14:19] == ["CRD", "SKD", "SKD, β = 0", "SKD, random S",
                             "SKD, temperature 0.1 (ours)"]  # fmt: skip
    cost = text[text.index("## Cost") :]
    assert "| SKD | 1.20×, 400 MB | 400 MB |" in cost
    assert "| teacher" not in cost
    assert not re.search(r"\| CRD", cost)


def test_numbers_of_cifar_are_not_set_beside_other_images(results, tmp_path):
    folder, classes = tmp_path / "shapes", tmp_path / "shapes.h5"
    data = make_classes(classes, "shapes")
    add(folder, "resnet56-resnet20", data, epochs=3)
    table = build_table(folder, classes)
    short = "by a short schedule (crd, 3 epochs, shortened from 240)"
    assert table.title == (
        f"Table 1, a demonstration on rendered shapes {short}: test accuracy in percent"
    )
    assert table.rows == [Row("plain")]
    assert table.cells[Row("plain"), PAIR].published is None
    assert "schedule crd, 3 epochs, shortened from 240, seed 0" in table.settings
    write_markdown(tmp_path / "t.md", table)
    text = (tmp_path / "t.md").read_text()
    assert "| plain student | 50.00 |" in text
    assert "±" not in text
    assert "of one seed each" in text
    assert "69.06" not in text


@pytest.mark.parametrize(
    ("task", "row", "title"),
    [
        ({"method": "skd", "beta": 0.5}, Row("skd"), "SKD"),
        ({"method": "skd", "control": "uniform", "beta": 0.5}, Row("skd", "uniform"),
         "SKD, uniform p"),
        ({"method": "skd", "control": "shuffled", "beta": 0.5}, Row("skd", "shuffled"),
         "SKD, d(S, S) shuffled"),
        ({"method": "skd", "control": "similarity", "beta": 0.5}, Row("skd", "similarity"),
         "SKD, P instead of S"),
        ({"method": "skd", "control": "random", "beta": 5.0}, Row("skd", "random", beta=5),
         "SKD, random S, β = 5 (ours)"),
        ({"method": "kd"}, Row("kd"), "KD"),
        ({"method": "at", "beta": 1000}, Row("at"), "AT"),
        ({"method": "at", "beta": 10}, Row("at", beta=10), "AT, β = 10 (ours)"),
    ],
)  # fmt: skip
def test_what_a_run_is_its_content_says(tmp_path, task, row, title):
    run = read_run(add(tmp_path, "resnet56-resnet20", "d", **task))
    assert run.row == row
    assert run.row.title == title
    assert run.pair == PAIR


def test_results_of_older_versions_are_read_and_others_refused(tmp_path):
    path = add(tmp_path, "resnet56-resnet20", "d", method="skd", beta=5.0, control="random")
    expected, content = read_run(path), json.loads(path.read_text())
    task = content["task"] | {"version": 1, "target": "random", "weight": 5.0}
    del task["control"], task["beta"]
    path.write_text(json.dumps(content | {"task": task}))
    assert read_run(path) == expected
    path.write_text(json.dumps(content | {"task": task | {"target": "semantic", "weight": 0.5}}))
    assert read_run(path).row == Row("skd")
    # Keys of one version under the number of the other are not taken for "nothing was changed".
    path.write_text(json.dumps(content | {"task": task | {"version": 3}}))
    with pytest.raises(ArtefactError, match=r"skd-seed0\.json: no result .*'(control|beta)'"):
        read_run(path)
    path.write_text(json.dumps(content | {"task": task | {"version": 4}}))
    with pytest.raises(ArtefactError, match=r"of version 4, this program reads 1 to 3; use"):
        read_run(path)
    second = {k: v for k, v in content["task"].items() if k not in ("held_out", "role")}
    path.write_text(json.dumps(content | {"task": second | {"version": 2}}))
    assert read_run(path) == expected
    path.write_text(json.dumps(content | {"task": second | {"version": 2, "control": "permuted"}}))
    message = r"json: its control is 'permuted': it is SKD itself, by symmetry: .*keep its result"
    with pytest.raises(ArtefactError, match=message):
        read_run(path)


@pytest.fixture
def measured(tmp_path):
    """Return a table of which the loss of targets was measured, by 2 seeds of plain and SKD."""
    folder, classes = tmp_path / "measured", tmp_path / "classes.h5"
    data = make_classes(classes, "shapes")
    kl = {"skd": (0.010, 0.012), "uniform": (0.020, 0.020), "similarity": (0.011, 0.013)}
    for seed in (0, 1):
        one = {name: values[seed] for name, values in kl.items()}
        add(folder, "resnet56-resnet20", data, seed=seed, kl=one)
        less = {name: value - (0.004, -0.001)[seed] for name, value in one.items()}
        add(folder, "resnet56-resnet20", data, seed=seed, method="skd", beta=0.5, kl=less)
    add(folder, "resnet56-resnet20", data, name="u", method="skd", beta=0.5, control="uniform",
        kl={"skd": 0.02, "uniform": 0.001, "similarity": 0.021})  # fmt: skip
    add(folder, "resnet56-resnet20", data, name="z", method="skd", beta=0.0,
        kl={"skd": 0.010, "uniform": 0.020, "similarity": 0.011})  # fmt: skip
    add(folder, "resnet56-resnet20", data, method="kd")
    add(folder, "vgg13-vgg8", data, method="kd", student="vgg8")
    return build_table(folder, classes)


def test_the_loss_of_every_target_by_hand(measured, tmp_path):
    write_csv(tmp_path / "table1.csv", measured)
    rows = rows_of(tmp_path / "table1.csv")
    plain, skd = (rows["resnet56-resnet20", name, ""] for name in ("plain", "skd"))
    assert (plain["kl_skd"], plain["kl_uniform"]) == ("0.011000", "0.020000")
    assert (skd["kl_skd"], skd["kl_similarity"]) == ("0.009500", "0.010500")
    assert skd["kl_shuffled"] == skd["kl_random"] == ""
    assert rows["vgg13-vgg8", "kd", ""]["kl_skd"] == ""
    assert {row["tested_on"] for row in rows.values()} == {"test"}
    write_markdown(tmp_path / "table1.md", measured)
    text = (tmp_path / "table1.md").read_text()
    section = text[text.index("## The loss itself") : text.index("## Cost")]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    # Of the other pair and of KD nothing was measured; nor of what is shuffled or random.
    assert lines == [
        "| resnet56 → resnet20 | S | uniform p | P |",
        "| --- | ---: | ---: | ---: |",
        "| plain student | 11.000 | 20.000 | 12.000 |",
        "| SKD | **9.500** | 18.500 | 10.500 |",
        "| SKD, β = 0 | 10.000 | 20.000 | 11.000 |",
        "| SKD, uniform p | 20.000 | **1.000** | 21.000 |",
    ]
    words = (
        "SKD's from S is 1.500 lower than the plain student's of the same seed, and lower in 1 of 2"
    )
    assert words in section
    assert "\n\n\n" not in text


def test_nothing_is_said_of_what_was_not_measured(results, tmp_path):
    folder, classes, _ = results
    write_markdown(tmp_path / "table1.md", build_table(folder, classes))
    assert "loss itself" not in (tmp_path / "table1.md").read_text()


def test_students_of_a_pair_are_measured_by_one_prior(tmp_path):
    add(tmp_path, "resnet56-resnet20", "d", kl={"skd": 0.1})
    other = add(tmp_path, "resnet56-resnet20", "d", method="kd", kl={"skd": 0.1})
    content = other.read_text()
    other.write_text(content.replace('"prior": "s"', '"prior": "t"'))
    with pytest.raises(ArtefactError, match=r"its prior is (s|t), that of .*json (t|s); keep each"):
        read_runs(tmp_path)
    other.unlink()
    third = add(tmp_path, "vgg13-vgg8", "d", method="kd", kl={"skd": 0.1})
    third.write_text(content.replace('"prior": "s"', '"prior": "t"').replace("resnet20", "vgg8"))
    assert len(read_runs(tmp_path)) == 2


def test_numbers_to_choose_by_are_told_as_such(tmp_path):
    folder, classes = tmp_path / "distillation", tmp_path / "classes.h5"
    data = make_classes(classes, "cifar100")
    add(folder, "resnet56-resnet20", data, held_out=5000)
    add(folder, "resnet56-resnet20", data, method="skd", beta=5.0, held_out=5000)
    table = build_table(folder, classes)
    title = "Table 1 on cifar100: accuracy in percent on 5,000 held-out training images"
    assert table.title == title
    write_markdown(tmp_path / "t.md", table)
    text = (tmp_path / "t.md").read_text()
    assert "**To choose settings by, not to report.** 5,000 of the training images" in text
    # What is published is of the test images.
    assert not re.search("69.06|CRD|[Pp]ublished", text)
    write_csv(tmp_path / "t.csv", table)
    assert {row["tested_on"] for row in rows_of(tmp_path / "t.csv").values()} == {"held-out"}
    add(folder, "resnet56-resnet20", data, method="kd")
    with pytest.raises(ArtefactError, match=r"its held_out is (0|5000), that of .* (5000|0);"):
        read_runs(folder)


def test_names_with_hyphens(tmp_path):
    path = add(tmp_path, "wrn-40-2-wrn-16-2", "d", student="wrn-16-2")
    assert read_run(path).pair == Pair("wrn-40-2", "wrn-16-2")
    path = add(tmp_path, "wrn-16-2", "d", student="wrn-16-2")
    with pytest.raises(ArtefactError, match=r"expected it in a folder <teacher>-wrn-16-2"):
        read_run(path)


def test_a_short_schedule_is_told_beside_published_numbers(tmp_path):
    folder, classes = tmp_path / "distillation", tmp_path / "classes.h5"
    add(folder, "resnet56-resnet20", make_classes(classes, "cifar100"), epochs=3)
    table = build_table(folder, classes)
    assert table.title.startswith("Table 1 on cifar100 by a short schedule (crd, 3 epochs, ")
    write_markdown(tmp_path / "t.md", table)
    assert "of whole trainings, so they do not compare" in (tmp_path / "t.md").read_text()
    draw_table1(table, tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert "plain student" in svg
    assert not re.search("published|CRD", svg)


def test_teachers_may_be_trained_for_longer(tmp_path):
    folder, classes = tmp_path / "distillation", tmp_path / "classes.h5"
    data = make_classes(classes, "shapes")
    add(folder, "resnet56-resnet20", data, epochs=3)
    add(folder, "teachers", data, name="resnet56-seed0", student="resnet56", epochs=12)
    settings = build_table(folder, classes).settings
    assert "schedule crd, 3 epochs, shortened from 240, " in settings
    assert "teachers crd, 12 epochs, shortened from 240, " in settings
    add(folder, "teachers", data, name="resnet110-seed0", student="resnet110", epochs=6)
    with pytest.raises(ArtefactError, match=r"its schedule is crd, (6|12) epochs"):
        read_runs(folder)


def test_the_readme_tells_what_the_kept_results_say():
    root = Path(__file__).parents[3]
    runs = read_runs(root / "benchmarks/table1/3-epochs")
    rows = {run.row for run in runs}
    assert {Row("teacher"), Row("plain"), Row("skd"), Row("skd", "random")} < rows
    readme = (root / "README.md").read_text()
    for row in rows:
        values = [run.accuracy for run in runs if run.row == row]
        told = f"{statistics.fmean(values):.2f}"
        told += f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        assert f"| {row.title} | {told} |" in readme


def test_what_does_not_belong_together(results, tmp_path):
    folder, classes, data = results
    other = add(folder, "resnet56-resnet20", data, name="short", method="kd", epochs=3)
    with pytest.raises(ArtefactError, match=r"its schedule is crd, (3|240) epochs"):
        read_runs(folder)
    other.unlink()
    other = add(folder, "resnet56-resnet20", "0" * 64, method="kd")
    with pytest.raises(ArtefactError, match=r"its data is .*, that of .*kd-seed0\.json 0000"):
        read_runs(folder)
    other.unlink()
    other = add(folder, "resnet56-resnet20", data, name="again")
    with pytest.raises(ArtefactError, match=r"plain-seed0\.json: the same training as .*again"):
        read_runs(folder)
    other.write_text('{"task": {')
    with pytest.raises(ArtefactError, match=r"again\.json:1: damaged"):
        read_runs(folder)
    other.write_text('{"task": {}}')
    with pytest.raises(
        ArtefactError, match=r"json: no result of a training, 'version' .*elsewhere"
    ):
        read_runs(folder)
    other.unlink()
    with pytest.raises(ArtefactError, match=r"empty: no result of a training .*distil"):
        read_runs(tmp_path / "empty")
    make_classes(tmp_path / "other.h5", "other", pixel=1)
    build_table(folder, classes)
    with pytest.raises(ArtefactError, match=r"trained on other images than .*other\.h5"):
        build_table(folder, tmp_path / "other.h5")


def test_command_line_and_the_picture(results, tmp_path, monkeypatch, capsys):
    folder, classes, _ = results
    out, figure = tmp_path / "table1.csv", tmp_path / "figures/table1.svg"
    arguments = ["table1", folder, classes, "--output", out, "--figure", figure]
    arguments += ["--pair", "resnet56:resnet20", "--pair", "resnet110:resnet32"]
    monkeypatch.setattr(sys, "argv", ["dissect-embed", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    printed = capsys.readouterr().err
    assert end.value.code in (0, None), printed
    assert printed.splitlines()[-1].startswith(f"{out}: 6 of 38 cells")
    assert out.with_suffix(".md").read_text().startswith("# Table 1")
    svg = figure.read_text()
    for text in ("resnet56 → resnet20", "SKD, random S", "plain's mean", "published"):
        assert text in svg
    pixels = np.asarray(Image.open(figure.with_suffix(".png")).convert("L"))
    # Nothing is cut off: the margin is white.
    edge = np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel()])
    assert edge.min() == 255
    first = figure.read_bytes()
    draw_table1(build_table(folder, classes, [PAIR, Pair("resnet110", "resnet32")]),
                figure.with_suffix(""))  # fmt: skip
    assert figure.read_bytes() == first
