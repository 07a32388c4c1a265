"""Dissection end to end beside a slow reference, on units and labels out of the ordinary."""

import dataclasses

import h5py
import joblib
import numpy as np
import pytest
from joblib import Parallel
from PIL import Image

from dissect_embed import labels
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.chance import write_chance
from dissect_embed.config import Dissection
from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.pixels import read_label_png
from dissect_embed.dissection import write_profiles
from dissect_embed.errors import DatasetError
from dissect_embed.figures.detectors import draw_detectors
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.thresholds import allowed_above
from dissect_embed.tally import write_units

QUANTILE = 0.02


def dissect(folder, data, maps, write_maps):
    write_labels(folder / "labels.h5", data)
    write_maps(folder / "activations.h5", data, maps)
    write_profiles(
        folder / "profiles.h5",
        folder / "activations.h5",
        folder / "labels.h5",
        Dissection(quantile=QUANTILE),
    )
    write_chance(
        folder / "chance.h5", folder / "activations.h5", folder / "labels.h5",
        folder / "profiles.h5",
    )  # fmt: skip
    with open_artefact(folder / "profiles.h5", "profiles") as file:
        group = file["layers/a"]
        names = ("threshold", "intersection", "activation", "iou")
        return {name: group[name][:] for name in names} | {"pixels": file["labels/pixels"][:]}


def concepts_of(data, row):
    """Return for every concept where it holds, pixel by pixel."""
    held = np.zeros((len(data.concepts), *row.label_size), dtype=bool)
    for entry in row.entries:
        for c, concept in enumerate(data.concepts):
            if isinstance(entry, int):
                held[c] |= entry == concept.number
            else:
                held[c] |= read_label_png(data, row, entry) == concept.number
    return held


def enlarge(a, height, width):
    """Enlarge a map bilinearly, half-pixel centres, one pixel after the other."""
    h, w = a.shape
    out = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            sy = min(max((y + 0.5) * h / height - 0.5, 0), h - 1)
            sx = min(max((x + 0.5) * w / width - 0.5, 0), w - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = a[y0, x0] * (1 - sx + x0) + a[y0, x1] * (sx - x0)
            bottom = a[y1, x0] * (1 - sx + x0) + a[y1, x1] * (sx - x0)
            out[y, x] = top * (1 - sy + y0) + bottom * (sy - y0)
    return out


def slow(data, maps):
    """Dissect as the definitions say."""
    n_units, n_concepts, n_categories = maps.shape[1], len(data.concepts), len(data.categories)
    values = np.moveaxis(maps, 1, 0).reshape(n_units, -1)
    allowed = allowed_above(values.shape[1], QUANTILE)
    threshold = np.array([min(v for v in u if (u > v).sum() <= allowed) for u in values])
    both = np.zeros((n_units, n_concepts), dtype=int)
    fired = np.zeros((n_units, n_categories), dtype=int)
    pixels = np.zeros(n_concepts, dtype=int)
    for row, image in zip(data.rows, maps, strict=True):
        held = concepts_of(data, row)
        pixels += held.sum(axis=(1, 2))
        present = {int(data.concept_category[c]) for c in np.flatnonzero(held.any(axis=(1, 2)))}
        for unit in range(n_units):
            mask = enlarge(image[unit].astype(float), *row.label_size) > threshold[unit]
            both[unit] += (held & mask).sum(axis=(1, 2))
            for g in present:
                fired[unit, g] += mask.sum()
    union = fired[:, data.concept_category] + pixels - both
    iou = np.divide(both, union, out=np.zeros(both.shape), where=union > 0)
    return {
        "threshold": threshold, "intersection": both, "activation": fired, "iou": iou,
        "pixels": pixels,
    }  # fmt: skip


@pytest.fixture
def data(tmp_path, make_tiny):
    """Six images; number 4 has no label, number 5 label maps of another size."""
    root = make_tiny(tmp_path / "tiny")
    rows = (root / "index.csv").read_text().splitlines()
    rows = [row + "," if n else row + ",texture" for n, row in enumerate(rows)]
    rows[5] = "4.jpg,val,32,32,16,16,,,,"
    rows[6] = rows[6].replace("32,32,16,16", "32,32,10,12")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    # A category without any image, and a concept of it.
    with (root / "category.csv").open("a") as file:
        file.write("texture,1,1,1,0\n")
    with (root / "label.csv").open("a") as file:
        file.write("7,dotted,texture(0),0,0.0,\n")
    (root / "c_texture.csv").write_text("code,number,name,frequency,coverage\n1,7,dotted,0,0.0\n")
    rng = np.random.default_rng(5)
    for kind in ("color", "object"):
        numbers = np.zeros((10, 12, 3), dtype=np.uint8)
        numbers[:, :, 0] = rng.integers(0, 4, (10, 12))
        Image.fromarray(numbers).save(root / f"images/5_{kind}.png")
    return load_broden(root)


UNITS = {
    "ordinary": lambda rng: np.maximum(rng.normal(size=(6, 5, 5)), 0),
    "never fires": lambda rng: np.zeros((6, 5, 5)),
    "constant": lambda rng: np.full((6, 5, 5), 3.5),
    "ties": lambda rng: rng.integers(0, 3, (6, 5, 5)),
    "all tied at the top": lambda rng: (rng.random((6, 5, 5)) < 0.5) * 2.0,
    "negative": lambda rng: -np.abs(rng.normal(size=(6, 5, 5))) - 0.1,
    "both signs": lambda rng: rng.normal(size=(6, 5, 5)),
    "minus zero": lambda rng: np.where(rng.random((6, 5, 5)) < 0.97, -0.0, 1.0),
    "one value on one image": lambda rng: np.eye(150)[7].reshape(6, 5, 5),
    "fires on one image only": lambda rng: np.eye(6)[2][:, None, None] * rng.random((6, 5, 5)),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("names", [list(UNITS), ["ordinary"], ["never fires"]])
def test_dissection_equals_the_slow_reference(tmp_path, data, write_maps, dtype, names):
    rng = np.random.default_rng(2)
    maps = np.stack([UNITS[name](rng) for name in names], axis=1).astype(dtype)
    found, expected = dissect(tmp_path, data, maps, write_maps), slow(data, maps)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    for k, name in enumerate(names):
        if name in ("never fires", "constant", "all tied at the top"):
            assert found["activation"][k].sum() == 0, name
    # What is made of it goes through as well.
    run = RunFolder(tmp_path)
    write_units(run, tmp_path / "units.csv")
    assert len((tmp_path / "units.csv").read_text().splitlines()) == 1 + len(names)
    draw_detectors(run, tmp_path / "detectors")


def test_a_data_set_without_any_label(tmp_path, data, write_maps):
    rows = tuple(dataclasses.replace(row, entries=()) for row in data.rows)
    data = dataclasses.replace(data, rows=rows)
    maps = np.random.default_rng(0).random((6, 3, 4, 4)).astype(np.float16)
    found = dissect(tmp_path, data, maps, write_maps)
    assert not found["iou"].any()
    run = RunFolder(tmp_path)
    write_units(run, tmp_path / "units.csv")
    lines = (tmp_path / "units.csv").read_text().splitlines()
    assert lines[1].startswith("a,0,,,0.0,,,,,,,0,")  # one image of six is alone with its size


def test_processes_read_the_same_labels(tmp_path, data, monkeypatch):
    monkeypatch.setattr(labels, "BATCH", 2)
    write_labels(tmp_path / "here.h5", data)
    monkeypatch.setattr(labels, "FEW_PIXELS", 0)
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda n_jobs: 2)
    begun = []

    def parallel(n_jobs, **options):
        begun.append(n_jobs)
        return Parallel(2, **options)

    monkeypatch.setattr(joblib, "Parallel", parallel)
    write_labels(tmp_path / "there.h5", data)
    assert begun == [-1]
    with h5py.File(tmp_path / "here.h5") as here, h5py.File(tmp_path / "there.h5") as there:
        names = []
        here.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        assert {"region", "members/concept", "n_regions"} <= set(names)
        for name in names:
            np.testing.assert_array_equal(here[name][()], there[name][()], err_msg=name)


@pytest.mark.parametrize("few", [0, 10**9])
def test_a_damaged_label_map_is_named_and_nothing_is_left(tmp_path, data, monkeypatch, few):
    monkeypatch.setattr(labels, "FEW_PIXELS", few)
    (data.root / "images/3_color.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"3_color\.png: cannot be decoded"):
        write_labels(tmp_path / "labels.h5", data)
    assert not list(tmp_path.glob("labels*"))


def test_large_label_maps_have_room_for_their_regions(tmp_path, data):
    """More than 65,536 pixels: regions are numbered with four bytes."""
    rows = tuple(
        dataclasses.replace(row, entries=(300,), label_size=(300, 300)) for row in data.rows
    )
    write_labels(tmp_path / "labels.h5", dataclasses.replace(data, rows=rows))
    with h5py.File(tmp_path / "labels.h5") as file:
        assert file["region"].dtype == np.uint32
