"""The stage that finds formulas of concepts: its table, beside the dissection and beside chance."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from dissect_embed.artefacts.tables import COLUMNS, read_table
from dissect_embed.compositions import find_compositions, list_rows, write_compositions
from dissect_embed.errors import ArtefactError
from dissect_embed.inspection.printing import print_inspection
from dissect_embed.run import Run


def inspected(folder: Path, **asked: str) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_inspection(folder, console=console, **asked)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, dissect_tiny) -> Path:
    """Return a run on nine tiny images."""
    folder = dissect_tiny(tmp_path_factory.mktemp("compositions") / "run", 0)
    return folder


def test_the_table_has_every_unit_beside_its_best_concept(folder):
    table = read_table(folder / "compositions.csv", "compositions")
    with Run(folder).open_profiles() as profiles:
        expected = [
            (layer, str(unit), name, repr(float(iou)))
            for layer in profiles.layers
            for unit, (name, iou) in enumerate(
                zip(profiles.best_names(layer), profiles[layer].best.iou, strict=True)
            )
        ]
    names = ("layer", "unit", "concept", "concept_iou")
    assert [tuple(row[name] for name in names) for row in table.rows] == expected
    assert list(table.rows[0]) == list(COLUMNS["compositions"])
    assert table.config["chance"]["draws"] == 100
    for row in table.rows:
        # All categories are labelled in all images but one.
        assert float(row["gain"]) <= float(row["iou"]) - float(row["concept_iou"]) + 1e-12
        if row["p"]:
            excess = float(row["sampled"]) - float(row["null_mean"])
            assert float(row["excess"]) == pytest.approx(excess, abs=2e-4)
            assert 1 / 101 <= float(row["p"]) + 1e-4 <= float(row["q"]) + 2e-4


def test_the_same_run_gives_the_same_table_with_any_number_of_threads(folder, tmp_path):
    for threads in (1, 3):
        path = tmp_path / f"{threads}.csv"
        write_compositions(Run(folder), path, n_threads=threads)
        assert path.read_bytes() == (folder / "compositions.csv").read_bytes()


def test_formulas_come_to_what_looking_at_every_pixel_comes_to(folder):
    run = Run(folder)
    rows = read_table(folder / "compositions.csv", "compositions").rows
    with (
        run.open_labels() as labels,
        run.open_profiles() as profiles,
        run.open_activations() as source,
    ):
        held, masks = [], {layer: [] for layer in source.layers}
        for n, size in enumerate(labels.size.tolist()):
            regions = labels.regions(n)
            member = np.zeros((regions.n_regions, len(labels.names)), dtype=bool)
            member[regions.member_region, regions.member_concept] = True
            held.append(member[regions.region])
            for layer, of_layer in masks.items():
                maps = torch.from_numpy(source.read_maps(layer, slice(n, n + 1))[0]).double()
                large = torch.nn.functional.interpolate(maps, size, mode="bilinear")[0].numpy()
                of_layer.append(large > profiles[layer].threshold[:, None, None])
        alive = [row for row in rows if row["formula"]]
        assert {row["length"] for row in alive} == {"2", "3"}
        for row in alive:
            first, *rest = re.split(r"\)? (AND NOT|AND|OR) ", row["formula"].lstrip("("))
            concepts = [labels.names.index(name) for name in (first, *rest[1::2])]
            assert len(concepts) == int(row["length"])
            both = union = 0
            for n in np.flatnonzero(
                labels.presence[:, labels.concept_category[concepts]].all(axis=1)
            ):
                value, *others = (held[n][..., c] for c in concepts)
                for operator, other in zip(rest[::2], others, strict=True):
                    value = {
                        "AND": value & other, "OR": value | other, "AND NOT": value & ~other
                    }[operator]  # fmt: skip
                mask = masks[row["layer"]][n][int(row["unit"])]
                both, union = both + (value & mask).sum(), union + (value | mask).sum()
            assert float(row["iou"]) == pytest.approx(both / union)


def test_inspect_tells_the_formulas_of_a_run_and_of_a_unit(folder):
    rows = read_table(folder / "compositions.csv", "compositions").rows
    row = next(row for row in rows if row["formula"] and row["layer"] == "two")
    printed = inspected(folder)
    assert "Formulas of up to three concepts" in printed
    fire = [float(r["gain"]) for r in rows if r["layer"] == "two" and r["sampled"]]
    assert f"{np.mean(fire):.4f}" in printed
    printed = inspected(folder, unit=f"two:{row['unit']}")
    assert f"by a formula: {row['formula']}" in printed
    assert f"{float(row['held_out']):.4f}" in printed
    if dead := [r for r in rows if not r["formula"]]:
        unit = f"{dead[0]['layer']}:{dead[0]['unit']}"
        assert f"{unit} overlaps no formula" in inspected(folder, unit=unit)


def test_compositions_as_a_data_frame(folder):
    frame = Run(folder).compositions("two")
    assert list(frame.columns) == list(COLUMNS["compositions"])
    assert frame["layer"].unique().tolist() == ["two"]
    assert frame["gain"].dtype == float


def test_counts_that_differ_from_the_dissections_are_refused(folder, monkeypatch):
    run = Run(folder)
    with (
        run.open_activations() as source,
        run.open_labels() as labels,
        run.open_profiles() as profiles,
        run.open_chance() as chance,
    ):
        profiles["one"].intersection[1, 2] += 1
        both = int(profiles["one"].intersection[1, 2])
        message = rf"unit 1 of all layers shares {both} pixels with .*, and {both - 1} when"
        with pytest.raises(ArtefactError, match=message):
            find_compositions(source, labels, profiles, chance, None, "cpu")


def test_without_partners_there_is_no_p(folder, monkeypatch):
    run = Run(folder)
    with (
        run.open_activations() as source,
        run.open_labels() as labels,
        run.open_profiles() as profiles,
        run.open_chance() as chance,
    ):
        monkeypatch.setattr(type(chance), "no_p", "no two images are alike")
        found = find_compositions(source, labels, profiles, chance, None, "cpu")
        rows = list_rows(found, profiles)
    assert found.draws.shape == (0, 12)
    with (folder / "compositions.csv").open() as file:
        before = list(csv.reader(file))[1:]
    assert [list(map(str, row[:10])) for row in rows] == [row[:10] for row in before]
    assert {tuple(row[-4:]) for row in rows} == {("",) * 4}
