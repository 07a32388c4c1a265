"""What two runs say of each other: worked out again from their peaks."""

import json
import shutil

import h5py
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import dissect_embed as de
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.mathematics.alignment import kernel_alignment


@pytest.fixture(scope="module")
def frame(three_runs):
    frame = de.compare([three_runs / name for name in "abc"])
    return frame[frame.other != ""]


def chosen(frame, statistic, **where):
    for name, value in ({"statistic": statistic} | where).items():
        frame = frame[frame[name] == value]
    return frame


def peaks(run, layer):
    with de.open_run(run).open_activations() as source:
        return source[layer].peaks.astype(float)


def test_all_layers_are_aligned_with_all(three_runs, frame):
    for layer in ("one", "two"):
        for other in ("first", "two"):
            (row,) = chosen(
                frame, "cka", run="a", other="c", layer=layer, other_layer=other
            ).itertuples()
            kernels = [
                x @ x.T for x in (peaks(three_runs / "a", layer), peaks(three_runs / "c", other))
            ]
            control = kernel_alignment(*kernels)
            found = [row.value, row.null_mean, row.null_sd, row.p]
            assert found == pytest.approx(list(control), rel=1e-6)
            assert row.null == "images_shuffled"


def test_units_are_matched_between_layers_of_one_name_or_those_most_alike(three_runs, frame):
    of_pair = frame[(frame.run == "a") & (frame.other == "c")]
    partner = dict(chosen(of_pair, "matched")[["layer", "other_layer"]].to_numpy())
    cka = chosen(of_pair, "cka", layer="one")
    assert partner == {"one": cka.loc[cka.value.idxmax()].other_layer, "two": "two"}
    x, y = peaks(three_runs / "a", "two"), peaks(three_runs / "c", "two")
    x, y = (z[:, z.std(axis=0) > 0] for z in (x, y))
    correlation = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    best = correlation[linear_sum_assignment(-correlation)]
    found = chosen(of_pair, "matched_correlation", layer="two")
    assert found.value.tolist() == pytest.approx([best.mean()] * 2)
    assert found.null.tolist() == ["images_shuffled", "units_shuffled"]
    assert chosen(of_pair, "matched", layer="two").value.item() == len(best)


def test_similarities_compare_where_units_have_the_same_numbers(three_runs, frame):
    """Those of layers of one name, whatever the other layers are called."""
    told = chosen(frame, "similarity_cka")
    layers = {(r.run, r.other, r.layer) for r in told.itertuples()}
    assert layers == {("a", "b", "one")} | {(*pair, "two") for pair in ("ab", "ac", "bc")}
    assert set(told.similarity) == {"image", "dataset"}
    # By the cosines themselves, which P is the softmax of.
    cosines = []
    for name in "ab":
        with RunFolder(three_runs / name).open_activations() as source:
            maps = source["two"].maps[:].astype(float).swapaxes(0, 1).reshape(7, -1)
        gram = maps @ maps.T
        length = np.sqrt(np.diag(gram))
        cosines.append(gram / np.where(np.outer(length, length) > 0, np.outer(length, length), 1))
    (row,) = chosen(told, "similarity_cka", run="a", other="b", layer="two",
                    similarity="dataset").itertuples()  # fmt: skip
    assert row.value == pytest.approx(kernel_alignment(*cosines).value, rel=1e-4)


def test_networks_of_other_names_have_no_units_in_common(three_runs, tmp_path):
    shutil.copytree(three_runs / "b", tmp_path / "b")
    with h5py.File(tmp_path / "b/activations.h5", "r+") as file:
        config = json.loads(file.attrs["config"])
        file.attrs["config"] = json.dumps(config | {"model": {"name": "vgg", "weights": "given"}})
    frame = de.compare([three_runs / "a", tmp_path / "b"])
    assert chosen(frame, "similarity_cka").empty
    assert len(chosen(frame, "matched")) == 2


def test_a_run_and_its_copy_are_the_same(three_runs, tmp_path):
    shutil.copytree(three_runs / "a", tmp_path / "copy")
    frame = de.compare([three_runs / "a", tmp_path / "copy"])
    same = frame[frame.layer == frame.other_layer]
    assert set(chosen(same, "cka").value.round(6)) == {1.0}
    assert set(chosen(same, "similarity_cka").value.round(6)) == {1.0}
    assert set(chosen(same, "matched_correlation").value.round(6)) == {1.0}
    named = de.open_run(three_runs / "a").units()
    alive = chosen(same, "matched", layer="two").value.item()
    shared = chosen(same, "matched_concept", layer="two").value.item()
    assert shared * alive == pytest.approx((named[named.layer == "two"].concept != "").sum())
