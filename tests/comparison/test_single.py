"""What a run says of itself: counted again from what it holds."""

import h5py
import numpy as np
import pytest

import dissect_embed as de
from dissect_embed.artefacts.axes import write_scale
from dissect_embed.artefacts.chance import Chance, write_strata
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.comparison.single import detector_rows


def test_counts_by_hand(tmp_path):
    """Five units, of which one never fires; chance gives every unit 0 to 0.1 at best."""
    iou = np.array([
        [0.04, 0.01, 0.00],  # the bound itself suffices: sky
        [0.30, 0.20, 0.00],  # sky, beyond chance
        [0.00, 0.00, 0.20],  # leaf, beyond chance
        [0.01, 0.00, 0.02],  # below the bound
        [0.00, 0.00, 0.00],
    ])  # fmt: skip
    drawn = np.zeros((2, 5, 3), dtype=np.float32)
    drawn[0, 1, 0] = drawn[0, 2, 1] = drawn[1, 3, 1] = 0.04  # sky and tree, tree
    config, path = {"layers": ["a"]}, tmp_path / "profiles.h5"
    with create_artefact(path, "profiles", config, {}) as file:
        write_scale(file, "categories", ["part", "object"])
        write_scale(file, "labels/name", ["sky", "tree", "leaf"])
        file.create_dataset(
            "labels/category", data=["object", "object", "part"], dtype=h5py.string_dtype()
        )
        file["layers/a/iou"], file["layers/a/threshold"] = iou, np.zeros(5, dtype=np.float32)
    with h5py.File(path) as file:
        made_from = {"profiles": str(file.attrs["fingerprint"])}
    with create_artefact(tmp_path / "chance.h5", "chance", config, made_from) as file:
        write_strata(file, np.zeros(9, dtype=int), 100)
        file["layers/a/best"] = np.linspace(0, 0.1, 100)[:, None] + np.zeros(5)
        file["layers/a/pixels"] = np.array([1, 1, 1, 1, 0])
        file["layers/a/iou"] = drawn
    rows = list(detector_rows("run", RunFolder(tmp_path), 0.04))
    assert {(row.run, row.layer, row.other) for row in rows} == {("run", "a", "")}
    told = {(row.statistic, row.category): row.control for row in rows}
    values = {key: control.value for key, control in told.items()}
    assert values == {
        ("detectors", ""): 3, ("detectors", "object"): 2, ("detectors", "part"): 1,
        ("concepts", ""): 2, ("concepts", "object"): 1, ("concepts", "part"): 1,
        ("detectors_above_chance", ""): 2, ("detectors_above_chance", "object"): 1,
        ("detectors_above_chance", "part"): 1, ("concepts_above_chance", ""): 2,
        ("concepts_above_chance", "object"): 1, ("concepts_above_chance", "part"): 1,
    }  # fmt: skip
    assert told["detectors", ""].null_mean == told["concepts", ""].null_mean == 1.5
    assert told["concepts", "object"].p == 1.0  # 1, and by chance 2 and 1
    assert told["detectors", "part"][1:] == pytest.approx((0, 0, 1 / 3))


@pytest.fixture(scope="module")
def frame(three_runs):
    return de.compare([three_runs / "a", three_runs / "b"], de.Dissection(detector_iou=0.01))


def number(frame, **where):
    where = {"other": "", "category": "", "similarity": ""} | where
    for name, value in where.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("layer", ["one", "two"])
def test_detectors_are_those_of_the_units(three_runs, frame, name, layer):
    units = de.open_run(three_runs / name).units()
    units = units[units.layer == layer]
    assert number(frame, run=name, layer=layer, statistic="units").value == len(units)
    rules = {"": units[units.iou >= 0.01], "_above_chance": units[units.q <= 0.05]}
    for ending, found in rules.items():
        for category in ("", "color", "object", "scene"):
            chosen = found[found.category == category] if category else found
            counts = {"detectors": len(chosen), "concepts": chosen.concept.nunique()}
            for statistic, count in counts.items():
                row = number(
                    frame, run=name, layer=layer, statistic=statistic + ending, category=category
                )
                assert row.value == count
                assert (row.null == "wrong_labels") == (not ending)
    assert len(rules[""]) > 1


def test_wrong_labels_give_their_own_detectors(three_runs, frame):
    run = de.open_run(three_runs / "b")
    with run.open_chance() as chance, run.open_profiles() as profiles:
        wrong, categories = chance.profiles("two"), profiles.concept_categories
    for category in ("", "color", "object"):
        units, concepts = [], []
        for iou in wrong:
            best = [int(row.argmax()) for row in iou if row.max() >= np.float32(0.01)]
            best = [c for c in best if category in ("", categories[c])]
            units.append(len(best))
            concepts.append(len(set(best)))
        for statistic, null in (("detectors", units), ("concepts", concepts)):
            row = number(frame, run="b", layer="two", statistic=statistic, category=category)
            assert row.null_mean == pytest.approx(np.mean(null))
            assert row.null_sd == pytest.approx(np.std(null, ddof=1))
            assert row.p == pytest.approx((1 + sum(n >= row.value for n in null)) / 21)


def test_gains_are_the_mean_over_seeds_and_of_p_the_most(three_runs, frame):
    controls = de.open_run(three_runs / "a").controls()
    for similarity in ("image", "dataset"):
        of_gain = controls[
            (controls.layer == "two") & (controls.similarity == similarity)
            & (controls.statistic == "gain") & (controls.null == "wrong_labels")
        ]  # fmt: skip
        assert len(of_gain) == 2
        row = number(frame, run="a", layer="two", statistic="gain", similarity=similarity)
        assert row.value == pytest.approx(of_gain.value.mean())
        assert row.null_mean == pytest.approx(of_gain.null_mean.mean())
        assert row.p == of_gain.p.max()
        assert row.excess == pytest.approx(row.value - row.null_mean)


def test_where_there_are_no_draws_there_is_no_control(three_runs, monkeypatch, tmp_path):
    from dissect_embed.comparing import write_comparison

    monkeypatch.setattr(Chance, "no_p", "no image of the data set has a label")
    runs = [three_runs / "a", three_runs / "b"]
    frame = de.compare(runs)
    counted = frame[frame.statistic.isin(["detectors", "concepts"])]
    assert len(counted) == 2 * 2 * 2 * 4
    assert (counted.null == "").all()
    assert counted.p.isna().all()
    assert not frame.statistic.str.endswith("above_chance").any()
    page = (write_comparison(runs, tmp_path) / "index.html").read_text("utf-8")
    assert "nan" not in page.partition("base64")[2].partition('"')[2]
