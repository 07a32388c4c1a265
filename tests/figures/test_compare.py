"""The figure of a comparison: input that it may choke on."""

import re

import pytest

from dissect_embed.artefacts.tables import COLUMNS, Table
from dissect_embed.figures.compare import draw_comparison

CONFIG = {"model": {"name": "m", "weights": "w"},
          "dataset": {"name": "d", "split": "all", "images": 9}}  # fmt: skip


def row(statistic, value, **texts):
    empty = dict.fromkeys(COLUMNS["compare"], "")
    return empty | {"statistic": statistic, "value": str(value)} | texts


def table(rows, names, left_out=""):
    config = {"runs": dict.fromkeys(names, CONFIG), "dissection": {"detector_iou": 0.04}}
    return Table(rows, config | {"left_out": left_out}, {})


CONTROL = {"null_mean": "0.1", "null_sd": "0.05", "p": "0.01"}


def rows_of(one, other, value="0.5", **control):
    rows = [row("units", 7, run=name, layer="a") for name in (one, other)]
    pair = {"run": one, "other": other}
    layers = {"layer": "a", "other_layer": "b"}
    rows += [
        row("images", 9, **pair),
        row("cka", value, **pair, **layers, null="images_shuffled", **control),
        row("matched_correlation", value, **pair, **layers, null="units_shuffled", **control),
    ]
    return rows


def test_names_are_text_and_long_ones_keep_their_end(tmp_path):
    names = ["$x$", "/a/long/path/to/many/results/<b>"]
    detectors = [
        row(what, 3, run=name, layer="a", category=c)
        for name in names for what in ("detectors", "concepts") for c in ("", "$c$")
    ]  # fmt: skip
    draw_comparison(table(detectors + rows_of(*names, **CONTROL), names), tmp_path / "x")
    svg = re.sub("<!--.*?-->", "", (tmp_path / "x.svg").read_text())
    for text in (
        "a  $x$",
        "$c$",
        "…/path/to/many/results/&lt;b&gt;",
        "a | b  matched",
        "3 of 3 con",
    ):
        assert text in svg
    assert "<b>" not in svg


@pytest.mark.parametrize("value", ["", "0.5"])
def test_what_is_left_out_and_what_has_no_control(tmp_path, value):
    """Of dead layers there is no alignment, and nobody is matched."""
    draw_comparison(table(rows_of("x", "y", value), ["y", "x"], "why"), tmp_path / "x")
    svg = (tmp_path / "x.svg").read_text()
    assert "no detectors, gains and concepts: why" in svg
    assert "gain over uniform" not in svg
    assert "on 9 images; shuffled at most 0.00" in svg
    assert (tmp_path / "x.png").stat().st_size > 0
    assert (">–<" in svg) == (not value)


def test_runs_are_in_the_order_in_which_they_were_named(tmp_path):
    draw_comparison(table(rows_of("z", "b", **CONTROL), ["b", "z"]), tmp_path / "x")
    svg = (tmp_path / "x.svg").read_text()
    assert svg.index("z: m (w)") < svg.index("b: m (w)")
    assert "z and b" in svg
