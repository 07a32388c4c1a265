"""The whole of ADE20K: numbers in two colours, names in JSON files, parts and scenes."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from imported import RED, SMALL, files_of, labels_of, run, table
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.importing.ade20k import import_ade20k
from dissect_embed.datasets.pixels import read_label_png
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError

CAR, DOOR, GLASS, DRINKING, WHEEL = 401, 774, 1051, 1052, 2900
NAMES = {
    CAR: "car, auto, machine",
    DOOR: "door",
    GLASS: "glass",
    DRINKING: "glass, drinking glass",
    WHEEL: "wheel",
}


def colour(number: int) -> tuple[int, int, int]:
    """As ADE20K's authors write it; blue numbers the instance."""
    return 10 * (number // 256), number % 256, 77


def save(folder: Path, name: str, scene: str, numbers: list[int], **maps: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), RED).save(folder / f"{name}.jpg")
    for ending, said in maps.items():
        pixels = np.zeros((8, 8, 3), np.uint8)
        for number in np.unique(said[said > 0]).tolist():
            pixels[said == number] = colour(number)
        Image.fromarray(pixels).save(folder / f"{name}_{ending}.png")
    objects = [{"name_ndx": n, "name": NAMES[n]} for n in numbers]
    said = {"folder": f"ADE20K_2021_17_01/images/ADE/training/urban/{scene}", "object": objects}
    # An umlaut in Latin-1, which is no UTF-8.
    text = json.dumps({"annotation": {**said, "author": "\xfc"}}, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text, "latin-1")


@pytest.fixture
def ade20k(tmp_path):
    """Two images: a car with a door and its glass above a drinking glass, and a door by itself."""
    objects = np.full((8, 8), CAR)
    objects[6:] = DRINKING
    objects[:, 6:] = 0
    parts = np.zeros((8, 8), int)
    parts[:4, :4] = DOOR
    deeper = np.zeros((8, 8), int)
    deeper[:2, :2] = GLASS
    deeper[2:4, :2] = DOOR  # said twice
    folder = tmp_path / "ADE/training/urban/street"
    numbers = [CAR, DOOR, GLASS, DRINKING, WHEEL]
    save(folder, "a", "street", numbers, seg=objects, parts_1=parts, parts_2=deeper)
    save(tmp_path / "ADE/validation/h/hall", "b", "hall", [DOOR], seg=np.full((8, 8), DOOR))
    # Masks of instances lie in a folder of the image's name.
    (folder / "a").mkdir()
    Image.new("L", (8, 8)).save(folder / "a/instance_000_a.png")
    return tmp_path / "ADE"


def test_objects_parts_and_scenes_are_categories(tmp_path, ade20k):
    assert import_ade20k(tmp_path / "out", ade20k, SMALL) == 2
    assert check_dataset(tmp_path / "out") == []
    drinking, street = "glass, drinking glass", "street-s"
    below = [f"{drinking}+{street}"] * 3 + [street]
    assert labels_of(tmp_path / "out") == [
        [f"car+door+glass+{street}", f"car+door+{street}", f"car+{street}", street],
        [f"car+door+{street}", f"car+door+{street}", f"car+{street}", street],
        [f"car+{street}"] * 3 + [street],
        below,
    ]
    assert labels_of(tmp_path / "out", 1) == [["door+hall-s"] * 4] * 4
    data = load_broden(tmp_path / "out")
    assert [row.split for row in data.rows] == ["train", "val"]
    assert data.categories == ("color", "object", "part", "scene")
    second = read_label_png(data, data.rows[0], "training/urban/street/a_part_2.png")
    assert np.count_nonzero(second) == 1  # the door of the first map is not said again


def test_tables_of_several_categories(tmp_path, ade20k):
    """A door is an object and a part: one concept, of which more is object here."""
    import_ade20k(tmp_path / "out", ade20k, SMALL)
    label = {row["name"]: row for row in table(tmp_path / "out/label.csv")}
    assert set(label) == {
        "red-c", "car", "door", "glass", "glass, drinking glass", "street-s", "hall-s",
    }  # fmt: skip
    assert label["car"]["syns"] == "auto;machine"
    assert label["door"]["category"] == "object(1);part(1)"
    assert float(label["door"]["coverage"]) == (16 + 4) / 16
    assert float(table(tmp_path / "out/c_scene.csv")[0]["coverage"]) == 1
    index = table(tmp_path / "out/index.csv")
    assert [row["scene"] for row in index] == [
        label["street-s"]["number"],
        label["hall-s"]["number"],
    ]
    assert index[1]["part"] == ""


def test_a_category_of_which_nothing_is_left_is_none(tmp_path, ade20k):
    for file in ade20k.rglob("*_parts_*.png"):
        file.unlink()
    done = run("ade20k", ade20k, "-o", tmp_path / "out", "--size", 8, "--label-size", 4)
    assert done.returncode == 0, done.stderr
    assert load_broden(tmp_path / "out").categories == ("color", "object", "scene")
    assert "part" not in table(tmp_path / "out/index.csv")[0]
    assert not (tmp_path / "out/c_part.csv").exists()
    assert check_dataset(tmp_path / "out") == []


def test_one_object_is_no_list(tmp_path, ade20k):
    """As MATLAB writes a list of one."""
    path = ade20k / "validation/h/hall/b.json"
    said = json.loads(path.read_text("latin-1"))
    said["annotation"]["object"] = said["annotation"]["object"][0]
    path.write_text(json.dumps(said))
    import_ade20k(tmp_path / "out", ade20k, SMALL)
    assert labels_of(tmp_path / "out", 1) == [["door+hall-s"] * 4] * 4


def test_faults(tmp_path, ade20k):
    folder = ade20k / "training/urban/street"

    def refused(message: str, **settings: str) -> None:
        with pytest.raises(DatasetError, match=message):
            import_ade20k(tmp_path / "out", ade20k, Import(size=8, **settings))
        assert not (tmp_path / "out").exists()

    refused("import.category: 'part' has another meaning", category="part")
    whole = {file: (folder / file).read_bytes() for file in ("a_parts_1.png", "a.json", "a.jpg")}
    Image.new("RGB", (8, 9)).save(folder / "a_parts_1.png")
    refused(r"a_parts_1.png: labels of 9 × 8 pixels, but .*a.jpg has 8 × 8")
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[3, 4:7] = (20, 1, 0)
    Image.fromarray(mask).save(folder / "a_parts_1.png")
    refused(
        r"a_parts_1.png: pixel 4, 3 \(column, row\): number 513 .* is in no JSON file, as are 1 of "
        r"its numbers, 3 pixels in all"
    )
    (folder / "a_parts_1.png").write_bytes(whole["a_parts_1.png"])
    (folder / "a_parts_1.png").write_bytes(whole["a_parts_1.png"][:60])
    refused(r"a_parts_1.png: cannot be decoded")
    (folder / "a_parts_1.png").write_bytes(whole["a_parts_1.png"])
    text = whole["a.json"].decode("latin-1")
    (folder / "a.json").write_text(text.replace('"door"', '"gate"'))
    refused(r"b.json: number 774 is 'door', but 'gate' in .*a.json; they are of two releases")
    (folder / "a.json").write_text(text.replace('"name_ndx": 401', '"name_ndx": []'))
    refused(r"a.json: object 1: 'name_ndx' is '\[\]', expected int")
    (folder / "a.json").write_text(text[:50])
    refused(r"a.json:1: broken JSON")
    (folder / "a.json").unlink()
    refused(r"a.json: missing, as are 1 of 2 JSON files.* fetch that of 2021")
    (folder / "a.json").write_bytes(whole["a.json"])
    (folder / "a.jpg").unlink()
    refused(r"ADE: 1 of 2 masks have no image below .*the first: a_seg.png")
    (folder / "a.jpg").write_bytes(whole["a.jpg"])
    (folder / "a_seg.png").unlink()
    refused(r"1 of 2 images have no mask .*expected .*a_seg.png\); put what is missing")
    assert import_ade20k(tmp_path / "out", ade20k, SMALL, skip_unlabelled=True) == 1


def test_files_that_are_read_are_named_and_not_written_among(ade20k, monkeypatch):
    read = partial(import_ade20k, folder=ade20k, settings=SMALL)
    there = {file for file in ade20k.rglob("*.*") if file.parent.name != "a"}
    assert files_of(monkeypatch, "ade20k", read) == there
    with pytest.raises(DatasetError, match=r"lies within .* or holds it; name a folder beside it"):
        read(ade20k / "out")
