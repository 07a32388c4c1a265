"""`inspect`: what a file is, its layers in a few numbers, and the questions it answers."""

import io
import json
import re
import sys
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
import torch
from given import model_of
from rich.console import Console
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.axes import write_scale
from dissect_embed.artefacts.contents import row_digests, seal
from dissect_embed.artefacts.disk import format_bytes
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.kinds import KINDS
from dissect_embed.artefacts.naming import match_concepts, parse_unit
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.artefacts.similarity import write_targets
from dissect_embed.chance import write_chance
from dissect_embed.cli import main
from dissect_embed.config import Activations, Embedding
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles, write_thresholds
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import ArtefactError, DatasetError
from dissect_embed.inspection import print_inspection
from dissect_embed.inspection.tables import number
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.null import null_bound
from dissect_embed.similarity import write_similarity


def inspect(path, *, width=100_000, **options) -> str:
    """Return what would be printed, in a terminal of some width."""
    printed = io.StringIO()
    terminal = Console(file=printed, width=width, markup=False, emoji=False, highlight=False)
    print_inspection(path, console=terminal, **options)
    return printed.getvalue()


def cells(text: str, start: str) -> list[str]:
    """Return the cells of the one row that starts with some text."""
    rows = [line for line in text.splitlines() if line.strip().startswith(start)]
    assert len(rows) == 1, text
    return re.split(r" {2,}", rows[0].strip())


@pytest.fixture
def run(tiny, tmp_path):
    """All files of a run on the tiny data set, made by the stages from a network of 3 + 5 units."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("low", nn.Sequential(nn.Conv2d(3, 3, 4, 4), nn.ReLU()))
    network.add_module("high", nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU()))
    with torch.no_grad():
        network.high[0].weight[4] = network.high[0].bias[4] = 0  # a dead unit
    data = load_broden(tiny)
    folder = tmp_path / "run"
    kinds = (
        "activations", "labels", "thresholds", "profiles", "chance", "similarity", "embedding",
    )  # fmt: skip
    paths = {name: folder / f"{name}.h5" for name in kinds}
    write_activations(
        paths["activations"], data, network,
        model_of("low", "high", name="own:network", weights="random"),
        Activations(compression="gzip"),
        weights_provenance={"loss": 0.20351625058, "epochs": 3, "val_map": None},
    )  # fmt: skip
    write_labels(paths["labels"], data)
    write_thresholds(paths["thresholds"], paths["activations"])
    write_profiles(paths["profiles"], paths["activations"], paths["labels"])
    write_chance(paths["chance"], paths["activations"], paths["labels"], paths["profiles"])
    write_similarity(paths["similarity"], paths["activations"])
    settings = Embedding(dim=4, seeds=(3, 8), epochs=2, steps_per_epoch=1)
    write_embedding(paths["embedding"], paths["similarity"], paths["profiles"], settings)
    return paths


@contextmanager
def rewritten(path):
    """Open a file to change numbers in it as if it had been written so: digests are made anew."""
    with h5py.File(path, "r+") as file:
        yield file

        def forget(_, item):
            if item.attrs.get("digest", "rows") != "rows":
                del item.attrs["digest"]

        file.visititems(forget)
        file.attrs["fingerprint"] = seal(file, file.attrs["schema"])


# IoU and intersection of three units with four concepts; unit 2 is dead.
IOU = np.array([[0.1, 0.0, 0.3, 0.02], [0.05, 0.0, 0.2, 0.03], [0.0, 0.0, 0.0, 0.0]])
INTERSECTION = np.array([[10, 0, 30, 2], [5, 0, 20, 3], [0, 0, 0, 0]])
ACTIVATION = np.array([[60, 7, 9], [50, 8, 0], [0, 0, 0]])


def write_own_profiles(path, names, *, iou=IOU, intersection=INTERSECTION):
    return write_layers(path, names, {"a": (iou, intersection)})


def write_layers(path, names, layers):
    categories = ["object" if n % 2 == 0 else "part" for n in range(len(names))]
    config = {"layers": list(layers), "dissection": {"quantile": 0.005}}
    with create_artefact(path, "profiles", config, {"activations": "x"}) as file:
        write_scale(file, "categories", ["object", "part", "scene"])
        write_scale(file, "labels/name", names)
        file.create_dataset("labels/category", data=categories, dtype=h5py.string_dtype())
        file["labels/pixels"] = np.arange(len(names)) * 1000
        for layer, (iou, intersection) in layers.items():
            write_scale(file, f"layers/{layer}/unit", np.arange(3))
            file[f"layers/{layer}/threshold"] = np.array([1.5, 2.5, 0], dtype=np.float32)
            file[f"layers/{layer}/activation"] = ACTIVATION
            file[f"layers/{layer}/iou"] = iou
            file[f"layers/{layer}/intersection"] = intersection
    return path


def write_own_activations(path, maps=None, peak=None):
    maps = np.zeros((4, 2, 1, 1), dtype=np.float16) if maps is None else maps
    if peak is None:
        peak = np.array([[0, 1], [0, 4], [0, 2], [0, 2]], dtype=np.float32)
    config = {"layers": ["a"], "dataset": {"name": "own", "split": "all"}}
    with create_artefact(path, "activations", config, {"dataset": "y"}) as file:
        write_scale(file, "images", [f"{n}.jpg" for n in "pqrstuvw"[: len(maps)]])
        write_scale(file, "layers/a/unit", np.arange(maps.shape[1]))
        file["layers/a"].attrs["shape"], file["layers/a"].attrs["dtype"] = maps.shape[1:], "float16"
        file["layers/a/activations"], file["layers/a/peak"] = maps, peak
        file["layers/a/digest"] = row_digests(maps, peak)
    return path


def write_own_similarity(path, **targets):
    with create_artefact(path, "similarity", {"layers": list(targets)}, {}) as file:
        for layer, target in targets.items():
            write_targets(file, layer, {"image": np.array(target)}, 1)
    return path


def test_a_unit_is_dead_where_it_is_zero_and_not_where_it_is_negative(tmp_path, monkeypatch):
    # The last unit fires on the second image alone, of which only the peaks are looked at.
    monkeypatch.setattr("dissect_embed.inspection.overviews.SAMPLE", 1)
    maps = np.array([[[[0, 0]], [[-1, 0]], [[0, 2]], [[0, 0]]]] * 2, dtype=np.float16)
    maps[1, 3], peak = 1, np.array([[0, 0, 2, 0], [0, 0, 5, 1]], dtype=np.float32)
    text = inspect(write_own_activations(tmp_path / "a.h5", maps, peak))
    size = format_bytes(8 * (2 * 2 + 4))
    assert cells(text, "a  ") == ["a", "4", "1×2", "1", "-1", "5", "75.0 %", size]
    assert "* from 1 images, evenly spaced" in text


def test_detectors_are_counted_by_their_best_concept(tmp_path):
    # Unit 0 and 1 detect dog, unit 2 leg; one of layer b lies just below the bound.
    a = np.array([[0.04, 0.01], [0.5, 0.1], [0.0, 0.6]])
    b = np.array([[0.03, 0.0399], [0.0, 0.0], [0.0, 0.7]])
    layers = {"a": (a, INTERSECTION), "b": (b, INTERSECTION), "c": (a * 0, INTERSECTION)}
    path = write_layers(tmp_path / "p.h5", ["dog", "leg"], layers)
    rows = [re.split(r" {2,}", line.strip()) for line in inspect(path).splitlines()]
    assert ["a", "3", "0", "2.5", "1", "3", "100.0 %"] in rows
    assert ["b", "3", "0", "2.5", "1", "1", "33.3 %"] in rows
    assert ["a", "2", "object 1, part 1"] in rows
    first = rows.index(["a", "dog", "object", "2", "0.5000", "a:1"])
    assert rows[first + 1 : first + 3] == [
        ["leg", "part", "1", "0.6000", "a:2"],
        ["b", "leg", "part", "1", "0.7000", "b:2"],
    ]
    # Without a least IoU, a unit that overlaps nothing detects nothing all the same.
    lines = inspect(path, detector_iou=0.0).splitlines()
    assert "c 3 0 2.5 1 0 0.0 %".split() in [line.split() for line in lines]


def test_similarity_says_how_flat_it_is(tmp_path):
    path = write_own_similarity(
        tmp_path / "s.h5",
        flat=np.full((4, 4), 0.25), steep=[[0.9, 0.1], [0.4, 0.7]], one=[[1.0]],
    )  # fmt: skip
    text = inspect(path)
    assert cells(text, "flat  ")[1:] == [
        "image", "4", "1", "0.25", "0.25", "0.25", "1.3863", "1.3863", "100.00 %",
    ]  # fmt: skip
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1) + 0.4 * np.log(0.4) + 0.7 * np.log(0.7)) / 2
    assert cells(text, "steep  ")[3:8] == ["off by 0.1", "0.1", "0.4", "0.5", f"{entropy:.4f}"]
    assert cells(text, "one  ")[3:6] == ["1", "-", "-"]


def test_numbers_are_short():
    assert [number(x) for x in (0.0, 1.0, 65504.0, 1e12, 0.00123456)] == [
        "0", "1", "65504", "1e+12", "0.001235",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b:3", "f.h5: no layer 'b'; it has a.1, c$"),
        ("a.1:4", "f.h5: a.1 has the units 0 to 3, not 4$"),
        ("a.1", "--unit a.1: expected LAYER:UNIT, for example a.1:0$"),
        (":1", "expected LAYER:UNIT"),
        ("a.1:-1", "expected LAYER:UNIT"),
        ("a.1:1_0", "expected LAYER:UNIT"),
    ],
)
def test_a_unit_that_is_not_there_is_named(text, message):
    with pytest.raises(ArtefactError, match=message):
        parse_unit(text, {"a.1": 4, "c": 2}, "f.h5")


def test_the_last_unit_is_there():
    assert parse_unit("a.1:3", {"a.1": 4}, "f.h5") == ("a.1", 3)
    assert parse_unit("a:b:1", {"a:b": 2}, "f.h5") == ("a:b", 1)


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        ("dog", [1]),  # exactly, though two others are the same but for case and ending
        ("DOG", [0, 1]),
        ("Street", [3]),
        ("street-s", [4]),
        ("red", [2]),
        ("RED-S", [2]),
        ("twin", [5, 6]),
    ],
)
def test_concepts_are_matched_exactly_first(wanted, places):
    names = ["Dog", "dog", "red-c", "street", "street-s", "twin", "twin", "dog-s"]
    assert match_concepts(names, wanted, "f.h5") == places


def test_an_unknown_concept_names_its_neighbours():
    names = [f"thing {n}" for n in range(1198)] + ["Table", "pool table"]
    with pytest.raises(ArtefactError, match=r"f\.h5: none of its 1,200 .*'tabel'; did .* Table\?$"):
        match_concepts(names, "tabel", "f.h5")
    with pytest.raises(ArtefactError, match="did you mean pool table"):
        match_concepts(names[-1:], "pool", "f.h5")
    with pytest.raises(ArtefactError, match=r"'zzz'; no name is near$"):
        match_concepts(names, "zzz", "f.h5")
    with pytest.raises(ArtefactError) as found:
        match_concepts(names, "thing", "f.h5")
    assert str(found.value).count("thing ") == 8


def test_units_that_have_a_concept_are_ranked(tmp_path):
    low = (np.array([[0.1, 0.3], [0.05, 0.0], [0.0, 0.0]]), np.array([[1, 3], [5, 0], [0, 0]]))
    high = (np.array([[0.01, 0.0], [0.03, 0.2], [0.04, 0.2]]), np.array([[7, 0], [8, 9], [6, 2]]))
    path = write_layers(tmp_path / "p.h5", ["dog", "leg"], {"low": low, "high": high})
    with open_profiles(path) as profiles:
        assert profiles.units_of(0) == [
            ("low", 0, 0.1), ("low", 1, 0.05), ("high", 2, 0.04), ("high", 1, 0.03),
            ("high", 0, 0.01),
        ]  # fmt: skip
    # high 0 has it as its best concept, high 2 just reaches 0.04, high 1 neither.
    lines = [re.split(" {2,}", line.strip()) for line in inspect(path, concept="dog").splitlines()]
    assert lines[4:] == [
        ["low:0", "0.1000", "1", "leg", "0.3000"],
        ["low:1", "0.0500", "5", "itself", "0.0500"],
        ["high:2", "0.0400", "6", "leg", "0.2000"],
        ["high:0", "0.0100", "7", "itself", "0.0100"],
    ]


def test_a_unit_has_a_best_concept_in_each_category(tmp_path):
    path = write_own_profiles(tmp_path / "own.h5", ["dog", "leg", "cat", "paw"])
    with open_profiles(path) as profiles:
        assert profiles["a"].concepts_of(0) == [2, 0, 3]  # not the second, of IoU 0
        assert profiles["a"].concepts_of(2) == []
    text = inspect(path, unit="a:0")
    of_each = text[text.index("The best of each category") :]
    assert cells(of_each, "object") == ["object", "cat", "0.3000", "30", "60"]
    assert cells(of_each, "part") == ["part", "paw", "0.0200", "2", "7"]
    assert cells(of_each, "scene") == ["scene", "-", "-", "-", "9"]


def test_concepts_are_counted_in_pixels(run, tiny):
    # Sky covers n + 2 rows of 16 pixels, but image 2 has no objects; day-s holds everywhere.
    text = inspect(run["activations"], concept="sky", dataset=tiny)
    counted = re.findall(r"^ *(\d+) .* (\d)\.jpg$", text, flags=re.MULTILINE)
    assert counted == [("112", "5"), ("96", "4"), ("80", "3"), ("48", "1"), ("32", "0")]
    text = inspect(run["activations"], concept="day", dataset=tiny)
    counted = re.findall(r"^ *(\d+) .* (\d)\.jpg$", text, flags=re.MULTILINE)
    assert counted == [("256", str(n)) for n in range(6)]  # of equals in their order


def test_activations_are_inspected(run, tiny):
    text = inspect(run["activations"])
    version = KINDS["activations"].version
    assert cells(text, "what")[1].startswith(f"activations, version {version}, ")
    with h5py.File(run["activations"]) as file:
        assert cells(text, "fingerprint")[1] == file.attrs["fingerprint"][:12]
    dataset = load_broden(tiny).fingerprint[:12]
    assert cells(text, "made from")[1].startswith(f"dataset {dataset}, weights ")
    assert cells(text, "weights_provenance")[1] == "loss 0.203516, epochs 3, val_map -"
    assert cells(text, "dataset")[1] == f"images 6, name tiny, root {tiny}, split all"
    assert cells(text, "model  ")[1] == "layers low high, name own:network, weights random"
    assert cells(text, "model.input")[1].endswith("range 0 1, size 32 32, std 0.229 0.224 0.225")
    assert cells(text, "readings.high")[1] == "axes image unit y x, grid 8 8, prefix 0, units 5"
    assert cells(text, "layers  ")[1] == "low high"
    with h5py.File(run["activations"]) as file:
        maps = file["layers/high/activations"][:]
        on_disk = format_bytes(file["layers/high/activations"].id.get_storage_size())
    assert [f"activations  6×5×8×8  float16  {on_disk}  6×5×8×8 chunks, gzip".split()] == [
        line.split() for line in text.splitlines() if "6×5×8×8 chunks" in line
    ]
    zero = f"{100 * (maps == 0).mean():.1f} %"
    dead = int((maps == 0).all(axis=(0, 2, 3)).sum())
    assert dead >= 1
    size = format_bytes(6 * 5 * (64 * 2 + 4))
    expected = ["high", "5", "8×8", str(dead), "0", number(float(maps.max())), zero, size]
    assert cells(text, "high  ") == expected
    assert "6 images, 0.jpg to 5.jpg" in text
    stored = text[text.index("Datasets") : text.index("6 images, 0.jpg")].split("\n")[2:]
    names = [line.split()[0] for line in stored if line]
    assert names[0] == "images"
    at = names.index("layers/low/")  # without its units, which count from 0
    assert names[at + 1 : at + 5] == ["activations", "digest", "magnitude", "peak"]
    assert names[at + 5] == "layers/low/top/"


def test_profiles_are_inspected(run, tmp_path):
    assert cells(inspect(run["profiles"]), "made from")[1].startswith("activations ")
    text = inspect(write_own_profiles(tmp_path / "own.h5", ["dog", "leg", "cat", "paw"]))
    assert "4 concepts; a detector has an IoU of at least 0.04" in text
    rows = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    assert ["a", "3", "0", "2.5", "1", "2", "66.7 %"] in rows
    assert ["a", "1", "object 1"] in rows
    assert ["a", "cat", "object", "2", "0.3000", "a:0"] in rows


def test_similarity_is_inspected(run):
    text = inspect(run["similarity"])
    with h5py.File(run["similarity"]) as file:
        targets = {name: file[f"layers/high/{name}"][:] for name in ("image", "dataset")}
    for name, target in targets.items():
        row = cells(text, f"high   {name}")
        assert row[:4] == ["high", name, "5", "1"]
        entropy = -(target * np.log(target)).sum() / 5
        assert row[6:9] == ["0.2", f"{entropy:.4f}", "1.6094"]


def test_a_broken_similarity_shows(run):
    with rewritten(run["similarity"]) as file:
        file["layers/high/dataset"][0, 0] += 0.5
        file["layers/low/image"][0, 0] = np.nan
    assert cells(inspect(run["similarity"]), "high   dataset")[3] == "off by 0.5"
    assert cells(inspect(run["similarity"]), "low    image")[3] == "off by nan"


def test_an_embedding_is_inspected(run):
    text = inspect(run["embedding"])
    assert "4 dimensions, 2 epochs, seeds 3, 8" in text
    assert cells(text, "seeds")[:3] == ["seeds", "2", "int64"]
    with rewritten(run["embedding"]) as file:
        loss = file["layers/high/supervised/loss"][:].mean(axis=0)
        norm = np.linalg.norm(file["layers/high/supervised/vectors"][:], axis=2)
        file["layers/low/image/trajectory"][0, 0, 0] = np.nan
    row = cells(text, "high   supervised")
    assert row[2:5] == ["5", number(loss[0], 5), number(loss[1], 5)]
    assert row[5:] == [f"{norm.min():.3f}", f"{norm.max():.3f}", "none"]
    assert cells(inspect(run["embedding"]), "low    image")[-1] == "4"
    assert row[2:] != cells(text, "high   image")[2:]


def test_what_chance_gives_is_inspected(run):
    text = inspect(run["chance"])
    with h5py.File(run["chance"]) as file:
        best, pixels = file["layers/high/best"][:], file["layers/high/pixels"][:]
    bound = null_bound(best).mean()
    expected = ["high", str(len(pixels)), str((pixels == 0).sum()), f"{best.mean():.4f}"]
    assert cells(text, "high") == [*expected, f"{bound:.4f}"]
    assert "Best IoU of units whose masks lie on labels of other images, 100 draws" in text


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("labels", "concepts/category"), ("thresholds", "layers/high/threshold"),
        ("profiles", "layers/high/iou"), ("chance", "layers/low/best"),
        ("similarity", "layers/high/image"), ("embedding", "layers/low/supervised/vectors"),
    ],
)  # fmt: skip
def test_numbers_that_changed_since_are_not_summarised(run, kind, name):
    with h5py.File(run[kind], "r+") as file:
        file[name][0] = 1 - file[name][0]
    message = (
        rf"{kind}\.h5: /{name} is damaged \(its bytes are not those that were written\); delete it "
        rf"and run 'snakemake --forcerun {KINDS[kind].rule}'$"
    )
    with pytest.raises(ArtefactError, match=message):
        inspect(run[kind])


def test_units_of_a_concept(tmp_path):
    path = write_own_profiles(tmp_path / "own.h5", ["dog", "leg", "[b]cat", "paw"])
    text = inspect(path, concept="[B]CAT")
    assert "[b]cat (object): 2 units\n" in text
    assert cells(text, "a:0") == ["a:0", "0.3000", "30", "itself", "0.3000"]
    assert cells(text, "a:1") == ["a:1", "0.2000", "20", "itself", "0.2000"]
    text = inspect(path, concept="dog", top=1)
    assert "dog (object): 2 units, the first 1\n" in text
    assert cells(text, "a:0") == ["a:0", "0.1000", "10", "[b]cat", "0.3000"]
    assert "a:1" not in text
    text = inspect(path, concept="paw")
    assert "paw (part): no unit; this one is nearest" in text
    assert cells(text, "a:1")[1] == "0.0300"
    assert "leg (part): no unit overlaps it at all" in inspect(path, concept="leg")


def test_the_bound_of_a_detector_is_the_askers(tmp_path):
    path = write_own_profiles(tmp_path / "own.h5", ["dog", "leg", "cat", "paw"])
    text = inspect(path, detector_iou=0.25)
    assert "4 concepts; a detector has an IoU of at least 0.25" in text
    rows = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    assert ["a", "3", "0", "2.5", "1", "1", "33.3 %"] in rows
    assert "paw (part): 1 unit\n(an IoU of at least 0.03, or" in inspect(
        path, concept="paw", detector_iou=0.03
    )
    text = inspect(path, unit="a:1", detector_iou=0.25)
    assert "Its best IoU, 0.2000, is below the 0.25 of a detector." in text


def test_concepts_of_a_unit(tmp_path):
    path = write_own_profiles(tmp_path / "own.h5", ["dog", "leg", ":cat:", "paw"])
    text = inspect(path, unit="a:0", top=2)
    assert "a:0, threshold 1.5\n" in text
    assert "Its best IoU, 0.3000, is at least the 0.04 of a detector." in text
    lines = [re.split(" {2,}", line.strip()) for line in text.splitlines()]
    assert [":cat:", "object", "0.3000", "30", "2,000"] in lines
    assert ["dog", "object", "0.1000", "10", "0"] in lines
    assert ["paw", "part", "0.0200", "2", "3,000"] not in lines  # the third
    assert ["object", ":cat:", "0.3000", "30", "60"] in lines
    assert ["part", "paw", "0.0200", "2", "7"] in lines
    dead = inspect(path, unit="a:2")
    assert "It overlaps no concept." in dead
    assert "0.0000, is below the 0.04" in dead
    assert cells(dead, "part") == ["part", "-", "-", "-", "0"]


def test_top_images_of_a_unit(tmp_path):
    path = write_own_activations(tmp_path / "activations.h5")
    text = inspect(path, unit="a:1", top=3)
    assert "a:1, highest peaks: 3 of 4 images" in text
    lines = [line.split() for line in text.splitlines()]
    assert lines[3:6] == [["4", "q.jpg"], ["2", "r.jpg"], ["2", "s.jpg"]]
    assert re.search(r"unknown: .*profiles\.h5: missing; make it with 'dissect-embed dis", text)


def test_top_images_know_the_threshold_beside(tmp_path):
    path = write_own_activations(tmp_path / "activations.h5")
    beside = write_own_profiles(tmp_path / "profiles.h5", ["dog", "leg", "cat", "paw"])
    text = inspect(path, unit="a:1")
    assert "profiles.h5: made from another activations than " in text
    with h5py.File(path) as file, rewritten(beside) as profiles:
        made_from = {"activations": str(file.attrs["fingerprint"])}
        profiles.attrs["made_from"] = json.dumps(made_from)
        profiles["layers/a/threshold"][1] = 2  # two of the peaks are just 2: not above
    text = inspect(path, unit="a:1")
    lines = [line.split() for line in text.splitlines()]
    assert lines[3:5] == [["4", "q.jpg", "yes"], ["2", "r.jpg", "no"]]
    assert "Above its threshold, 2, on 1 of 4 images (25.0 %)." in text
    beside.write_bytes(beside.read_bytes()[:600])
    assert re.search(r"unknown: .*profiles\.h5: no HDF5 file", inspect(path, unit="a:1"))


def test_images_that_contain_a_concept(run, tiny):
    text = inspect(run["activations"], concept="SKY", dataset=tiny, top=3)
    assert "sky (object): on 5 of 6 images, the first 3" in text
    lines = [line.split() for line in text.splitlines()]
    assert lines[3:] == [
        ["112", "43.8", "%", "5.jpg"],
        ["96", "37.5", "%", "4.jpg"],
        ["80", "31.2", "%", "3.jpg"],
    ]
    with pytest.raises(ArtefactError, match=r"label\.csv: none of its 4 .*did you mean sky"):
        inspect(run["activations"], concept="sku", dataset=tiny)
    (tiny / "images/4_object.png").write_bytes(b"no image")
    with pytest.raises(ArtefactError, match="made from another dataset than"):
        inspect(run["activations"], concept="sky", dataset=tiny)


def test_damage_in_the_data_set_is_not_blamed_on_the_file(run, tiny):
    label = tiny / "images/4_object.png"
    label.write_bytes(b"x" * label.stat().st_size)  # of the same size: the fingerprint stays
    with pytest.raises(DatasetError, match=r"4_object\.png: cannot be decoded"):
        inspect(run["activations"], concept="sky", dataset=tiny)


MISAPPLIED = [
    ("profiles", {"concept": "sky", "unit": "low:0"}, "two questions"),
    ("similarity", {"concept": "sky"}, "similarity cannot answer --concept; ask"),
    ("embedding", {"unit": "low:0"}, "embedding cannot answer --unit; ask"),
    ("activations", {"concept": "sky"}, "add --dataset FOLDER"),
    ("activations", {"dataset": "d"}, "--dataset goes with --concept"),
    ("activations", {"dataset": "d", "unit": "low:0"}, "--dataset goes with --concept"),
    ("profiles", {"dataset": "d", "concept": "sky"}, "--dataset goes with --concept on activ"),
    ("similarity", {"dataset": "d"}, "--dataset goes with --concept"),
    ("embedding", {"top": 3}, "--top goes with --concept or --unit"),
    ("activations", {"top": 3}, "--top goes with --concept or --unit"),
    ("profiles", {"unit": "low:3"}, "low has the units 0 to 2, not 3"),
    ("activations", {"unit": "mid:3"}, "no layer 'mid'; it has low, high"),
]


def test_options_that_do_not_apply_are_named(run, tmp_path):
    for schema, options, message in MISAPPLIED:
        given = {k: tmp_path / v if k == "dataset" else v for k, v in options.items()}
        with pytest.raises(ArtefactError, match=message) as found:
            inspect(run[schema], **given)
        assert "\n" not in str(found.value)


def test_an_unreadable_filter_names_the_remedy(tmp_path):
    path = write_own_activations(tmp_path / "activations.h5")
    with h5py.File(path, "r+") as file:
        file["layers/a/raw"] = file["layers/a/activations"][:]
        del file["layers/a/activations"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4, 2, 1, 1))
        # No filter has this number; marked optional, HDF5 lets it be named without being there.
        properties.set_filter(40000, h5py.h5z.FLAG_OPTIONAL, ())
        maps = h5py.h5d.create(
            file["layers/a"].id, b"activations", h5py.h5t.IEEE_F16LE,
            h5py.h5s.create_simple((4, 2, 1, 1)), properties,
        )  # fmt: skip
        maps.write_direct_chunk((0, 0, 0, 0), bytes(16))
    text = inspect(path)
    assert "4×2×1×1 chunks, filter 40000" in text
    assert "pip install hdf5plugin" in text
    assert "zero*" not in text
    assert "q.jpg" in inspect(path, unit="a:1")  # the peaks are readable


def test_another_version_is_described_and_not_interpreted(run):
    with h5py.File(run["similarity"], "r+") as file:
        file.attrs["schema_version"] = 77
    text = inspect(run["similarity"])
    known = KINDS["similarity"].version
    assert "similarity, version 77" in text
    assert f"No summary: this program reads version {known}; update it." in text
    assert "entropy" not in text
    with h5py.File(run["profiles"], "r+") as file:
        file.attrs["schema_version"] = 0
    text = inspect(run["profiles"])
    assert "; delete it and run 'snakemake --forcerun dissect'." in text
    assert "detectors" not in text
    with pytest.raises(ArtefactError, match="found profiles version 0"):
        inspect(run["profiles"], concept="sky")


def test_a_view_of_missing_files_is_told(tmp_path):
    path = write_own_activations(tmp_path / "activations.h5")
    layout = h5py.VirtualLayout((4, 2, 1, 1), np.float16)
    for n, name in enumerate(("here.h5", "gone.h5")):
        layout[2 * n : 2 * n + 2] = h5py.VirtualSource(name, "x", (2, 2, 1, 1))
    with h5py.File(tmp_path / "here.h5", "w") as file:
        file["x"] = np.ones((2, 2, 1, 1), dtype=np.float16)
    with h5py.File(path, "r+") as file:
        del file["layers/a/activations"]
        file.create_virtual_dataset("layers/a/activations", layout)
    text = inspect(path)
    assert "view of 2 files" in text
    assert "layers/a/activations: gone.h5 missing beside the file; its images read as z" in text
    assert "here.h5 missing" not in text


def test_damaged_and_foreign_files_are_named(run, tmp_path):
    with pytest.raises(ArtefactError, match=r"nothing\.h5: no such file"):
        inspect(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(ArtefactError, match=r"text\.h5: no HDF5 file"):
        inspect(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ArtefactError, match=r"foreign\.h5: not a file that .* has no schema"):
        inspect(tmp_path / "foreign.h5")
    with h5py.File(run["similarity"], "r+") as file:
        del file["layers/high/image"]
    with pytest.raises(ArtefactError, match=r"similarity\.h5: damaged .*--forcerun similarity"):
        inspect(run["similarity"])
    with h5py.File(run["profiles"], "r+") as file:
        file.attrs["software"] = "{"
    with pytest.raises(ArtefactError, match=r"profiles\.h5: damaged .*--forcerun dissect"):
        inspect(run["profiles"])
    with h5py.File(run["embedding"], "r+") as file:
        file.attrs["schema"] = "recipes"
    with pytest.raises(ArtefactError, match="schema 'recipes'"):
        inspect(run["embedding"])


def test_a_damaged_chunk_is_named(run):
    with h5py.File(run["activations"]) as file:
        chunk = file["layers/low/activations"].id.get_chunk_info(0)
    content = bytearray(run["activations"].read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    run["activations"].write_bytes(content)
    with pytest.raises(ArtefactError, match=r"activations\.h5: damaged or incomplete"):
        inspect(run["activations"])


def test_1200_long_names_fit_80_columns_and_are_whole_in_a_file(tmp_path):
    names = [f"concept-{n}-" + "x" * 60 + f"-end{n}" for n in range(1200)]
    rng = np.random.default_rng(0)
    iou = rng.random((3, 1200))
    path = write_own_profiles(
        tmp_path / "own.h5", names, iou=iou, intersection=(iou * 1e7).astype(np.int64)
    )
    for options in ({}, {"concept": names[7]}, {"unit": "a:0"}):
        narrow = inspect(path, width=80, **options)
        # The path and a title may be longer than a line: they are folded too.
        assert max(map(len, narrow.splitlines())) <= 80
        assert "…" not in narrow
        wide = inspect(path, **options)
        assert wide.count("\n") < 80
        shown = set(re.findall(r"concept-\d+-x*-end\d+", wide))
        assert shown <= set(names)
        assert len(shown) >= 3
    assert names[int(iou[0].argmax())] in wide


def test_a_run_is_inspected(run):
    folder = run["profiles"].parent
    text = inspect(folder)
    for kind in ("labels", "activations", "profiles", "chance", "similarity", "embedding"):
        assert len([line for line in text.splitlines() if line.startswith(f"{kind}.h5")]) == 1
    assert cells(text, "embedding.h5")[2] == "profiles, similarity"
    assert cells(text, "model  ")[1] == "layers low high, name own:network, weights random"
    assert cells(text, "model.input")[1].endswith("range 0 1, size 32 32, std 0.229 0.224 0.225")
    assert cells(text, "readings.high")[1] == "axes image unit y x, grid 8 8, prefix 0, units 5"
    assert cells(text, "layers  ")[1] == "low high"
    assert "a detector has an IoU of at least 0.2" in inspect(folder, detector_iou=0.2)


def test_a_run_answers_what_its_files_do(run):
    folder = run["profiles"].parent
    of_each = [inspect(run[kind], unit="high:1", top=2) for kind in ("profiles", "activations")]
    assert inspect(folder, unit="high:1", top=2) == "".join(of_each)
    asked = {"concept": "sky", "detector_iou": 0.01}
    assert inspect(folder, **asked) == inspect(run["profiles"], **asked)


def test_a_run_of_two_is_told(run):
    with h5py.File(run["similarity"], "r+") as file:
        file.attrs["fingerprint"] = "another"
    with pytest.raises(ArtefactError, match=r"embedding\.h5: made from another similarity than"):
        inspect(run["embedding"].parent)


def test_the_command_prints_plain_text(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dissect-embed", "inspect", str(run["profiles"])])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert "\x1b" not in printed
    assert str(run["profiles"]) in printed
    assert "Unique detector concepts" in printed
    options = ["--unit", "high:9", "--top", "2"]
    monkeypatch.setattr(sys, "argv", ["dissect-embed", "inspect", str(run["profiles"]), *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "high has the units 0 to 4, not 9" in told


def test_names_are_printed_as_they_are(tmp_path, capsys):
    names = ["[b]dog[/b]", "leg", ":cat:", "paw"]
    print_inspection(write_own_profiles(tmp_path / "own.h5", names), unit="a:0")
    printed = capsys.readouterr().out
    assert "[b]dog[/b]" in printed
    assert ":cat:" in printed


def test_a_terminal_without_unicode_gets_question_marks(tmp_path, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    print_inspection(write_own_activations(tmp_path / "activations.h5"))
    sys.stdout.flush()
    assert b"4?2?1?1" in written.getvalue()
