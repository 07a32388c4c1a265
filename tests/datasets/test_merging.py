"""Several data sets as one: every pixel has the concepts that it has in its source, renamed."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.decoding import write_label_png
from dissect_embed.datasets.describing import describe_dataset
from dissect_embed.datasets.folders import NOTE
from dissect_embed.datasets.merging import merge_datasets, name_sources
from dissect_embed.datasets.settings import Subset
from dissect_embed.errors import ConfigError, DatasetError, DiskSpaceError

SIZE = (4, 6)  # of label maps


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def make_source(
    root: Path,
    concepts: dict[int, tuple[str, str]],
    images: list[dict],
    size: tuple[int, int] = SIZE,
    syns: dict[str, str] | None = None,
) -> Path:
    """Write a data set by hand: concepts (name, category) by number; cells of numbers and maps."""
    (root / "images" / "x").mkdir(parents=True)
    categories = list(dict.fromkeys(category for _, category in concepts.values()))
    rows = []
    for n, image in enumerate(images):
        Image.new("RGB", (8, 8), (n, 40, 90)).save(root / f"images/x/{n}.jpg")
        row = {"image": f"x/{n}.jpg", "split": "val" if n == 1 else "train", "ih": 8, "iw": 8}
        row |= {"sh": size[0], "sw": size[1], **dict.fromkeys(categories, "")}
        for category, entries in image.items():
            cell = []
            for k, entry in enumerate(entries):
                if isinstance(entry, int):
                    cell.append(str(entry))
                else:
                    cell.append(f"x/{n}_{category}_{k}.png")
                    write_label_png(root / "images" / cell[-1], entry)
            row[category] = ";".join(cell)
        rows.append(row)
    write_csv(root / "index.csv", rows)
    numbers = [{"number": n, "name": name, "category": c} for n, (name, c) in concepts.items()]
    table = [{**row, "frequency": 1, "coverage": 1} for row in numbers]
    if syns is None:
        write_csv(root / "label.csv", table)
    else:
        write_csv(root / "label.csv", [{**r, "syns": syns.get(r["name"], "")} for r in table])
    write_csv(root / "category.csv", [{"name": category} for category in categories])
    for category in categories:
        of = [row for row in table if row["category"] == category]
        write_csv(root / f"c_{category}.csv", of)
    return root


def numbers(seed: int, known: list[int], size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).choice([0, *known], size).astype(np.int64)


@pytest.fixture
def one(tmp_path):
    """Numbers beyond a byte, two maps a category, one of which says a concept again."""
    concepts = {300: ("sofa", "object"), 7: ("cat", "object"), 9: ("wet", "material")}
    first = numbers(0, [300, 7])
    images = [
        {"object": [first, np.where(first == 7, 7, 300)], "material": [9]},
        {"object": [numbers(1, [300, 7])]},
        {"material": [numbers(2, [9])]},
    ]
    return make_source(tmp_path / "one", concepts, images)


@pytest.fixture
def two(tmp_path):
    """Other numbers for the same names, another size of label maps, a category more."""
    size = (3, 3)
    concepts = {
        7: ("couch", "object"), 8: ("cat", "object"), 1: ("dog", "object"), 5: ("room", "scene")
    }  # fmt: skip
    images = [
        {"object": [numbers(3, [7, 8, 1], size)], "scene": [5]},
        {"object": [numbers(4, [7, 8], size), numbers(5, [1], size)], "scene": []},
    ]
    return make_source(tmp_path / "two", concepts, images, size)


def read_names(root: Path, renamed: dict[str, str] | None = None) -> dict[str, dict]:
    """Return of each image and category the set of names at each pixel: slowly, by csv and PIL."""

    def table(name: str) -> list[dict[str, str]]:
        with (root / name).open(newline="") as file:
            return list(csv.DictReader(file))

    names = {int(r["number"]): r["name"] for r in table("label.csv")}
    names = {n: (renamed or {}).get(name, name) for n, name in names.items()}
    found: dict[str, dict] = {}
    for row in table("index.csv"):
        said: dict[str, list] = {}
        for category in [r["name"] for r in table("category.csv")]:
            pixels = [set() for _ in range(int(row["sh"]) * int(row["sw"]))]
            for entry in filter(None, row[category].split(";")):
                if entry.isdigit():
                    values = [int(entry)] * len(pixels)
                else:
                    data = np.asarray(Image.open(root / "images" / entry)).astype(int)
                    values = (data[..., 0] + 256 * data[..., 1]).ravel().tolist()
                for pixel, value in zip(pixels, values, strict=True):
                    pixel.update({names[value]} if value else ())
            if row[category]:
                said[category] = pixels
        found[row["image"]] = {"split": row["split"], "size": (row["sh"], row["sw"]), "said": said}
    return found


def merge(tmp_path: Path, *sources: Path, table: str = "", name: str = "out") -> Path:
    (tmp_path / "synonyms.csv").write_text(table)
    synonyms = tmp_path / "synonyms.csv" if table else None
    merge_datasets(tmp_path / name, name_sources(list(map(str, sources))), synonyms)
    return tmp_path / name


@pytest.mark.parametrize("table", ["", "name,concept\ncouch,sofa\n"])
def test_every_pixel_keeps_its_concepts(tmp_path, one, two, table):
    out = merge(tmp_path, one, two, table=table)
    renamed = {"couch": "sofa"} if table else {}
    merged = read_names(out)
    expected = {f"one/{k}": v for k, v in read_names(one).items()}
    expected |= {f"two/{k}": v for k, v in read_names(two, renamed).items()}
    assert merged == expected
    assert list(merged) == [f"one/x/{n}.jpg" for n in range(3)] + [f"two/x/{n}.jpg" for n in (0, 1)]
    for image in merged:
        source, _, name = image.partition("/")
        copied = (out / "images" / image).read_bytes()
        assert copied == (tmp_path / source / "images" / name).read_bytes()
    assert check_dataset(out) == []
    names = [c.name for c in load_broden(out).concepts]
    assert names == ["sofa", "cat", *(() if table else ("couch",)), "dog", "wet", "room"]


def test_tables_count_what_label_maps_hold(tmp_path, one, two):
    """As `describe` counts it, and by hand: an image of a whole-image number is all of it."""
    out = merge(tmp_path, one, two, table="name,concept\ncouch,sofa\n")
    with (out / "label.csv").open(newline="") as file:
        label = {row["name"]: row for row in csv.DictReader(file)}
    told = describe_dataset(load_broden(out))
    assert {c["name"]: c["images"] for c in told["concepts"]} == {
        name: int(row["frequency"]) for name, row in label.items()
    }
    pixels = [image["said"].get("object", []) for image in read_names(out).values()]
    sofa = sum(sum("sofa" in p for p in said) / len(said) for said in pixels if said)
    assert label["sofa"]["coverage"] == f"{sofa:.6f}"
    assert (label["room"]["coverage"], label["room"]["category"]) == ("1.000000", "scene(1)")
    assert label["sofa"]["syns"] == "couch"


def test_a_row_of_one_source_goes_before_one_of_all(tmp_path, one, two):
    table = "name,concept,source\ncat,animal,\ncat,lion,two\n"
    out = merge(tmp_path, one, two, table=table)
    assert {c.name for c in load_broden(out).concepts} >= {"animal", "lion"}
    note = json.loads((out / NOTE).read_text())
    assert [source["renamed"] for source in note["sources"]] == [{"cat": "animal"}, {"cat": "lion"}]
    assert [source["images"] for source in note["sources"]] == [3, 2]


def test_other_names_merge_and_it_is_told(tmp_path, two, caplog):
    caplog.set_level("INFO")
    concepts = {1: ("sofa", "object"), 2: ("flat", "object")}
    images = [{"object": [numbers(0, [1, 2])]}]
    syns = {"sofa": "couch; settee", "flat": "room"}
    first = make_source(tmp_path / "first", concepts, images, syns=syns)
    out = merge(tmp_path, first, two)
    # 'room' is a scene, 'flat' an object: they stay two.
    assert [c.name for c in load_broden(out).concepts] == ["sofa", "flat", "cat", "dog", "room"]
    assert "two: 'couch' is 'sofa', by syns of label.csv" in caplog.text
    assert "object: of its concepts first has 2, two has 3; several share 1 (sofa)" in caplog.text
    kept = merge(tmp_path, first, two, table="name,concept\ncouch,couch\n", name="kept")
    assert "couch" in [c.name for c in load_broden(kept).concepts]
    # The other way round: a name of the later source's own synonyms.
    turned = merge(tmp_path, two, first, name="turned")
    assert [c.name for c in load_broden(turned).concepts] == ["couch", "cat", "dog", "flat", "room"]


def test_names_of_one_source_are_not_merged_by_other_names(tmp_path, one):
    concepts = {1: ("couch", "object"), 2: ("sofa", "object")}
    images = [{"object": [numbers(0, [1, 2])]}]
    both = make_source(tmp_path / "both", concepts, images, syns={"couch": "sofa"})
    assert {"sofa", "couch"} <= {c.name for c in load_broden(merge(tmp_path, one, both)).concepts}


def test_what_is_told_of_categories_and_spelling(tmp_path, one, caplog):
    caplog.set_level("INFO")
    concepts = {1: ("Cat", "object")}
    other = make_source(tmp_path / "other", concepts, [{"object": [numbers(0, [1])]}])
    merge(tmp_path, one, other)
    assert "splits stay as they are called: one has train, val; other has train" in caplog.text
    assert "object: of its concepts one has 2, other has 1; none is of two of them" in caplog.text
    assert "not merged, though spelt alike: 'cat' (one), 'Cat' (other)" in caplog.text


def test_a_concept_of_two_categories_is_refused_until_it_is_renamed(tmp_path, one, two):
    concepts = {1: ("cat", "part"), 2: ("dog", "part"), 3: ("leg", "part")}
    other = make_source(tmp_path / "other", concepts, [{"part": [numbers(0, [1, 2, 3])]}])
    message = (
        r"concept 'cat' is object in one \(1 images\), object in two \(1 images\), part in other "
        r"\(1 images\); so are dog: 2 of \d+ concepts; .*--synonyms.*'cat,cat \(part\),other'"
    )
    with pytest.raises(DatasetError, match=message):
        merge(tmp_path, one, two, other)
    assert not list(tmp_path.glob("out*"))
    table = "name,concept,source\ncat,cat (part),other\ndog,dog (part),other\n"
    assert check_dataset(merge(tmp_path, one, two, other, table=table)) == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,concept\ncoach,sofa\n", r"synonyms.csv:2: no concept 'coach' in any source.*couch"),
        ("name,concept,source\nsofa,x,two\n", r"synonyms.csv:2: no concept 'sofa' in two"),
        ("name,concept,source\nsofa,x,six\n", r"synonyms.csv:2: no source 'six'; there are one, "),
        ("name,concept\nsofa,\n", r"synonyms.csv:2: 'sofa' has no concept"),
        ("name,concept\nsofa,a\nsofa,b\n", r"synonyms.csv:3: 'sofa' is renamed in line 2"),
        (
            "name,concept\nsofa,couch\ncouch,settee\n",
            r"synonyms.csv:2: 'sofa' becomes 'couch', which line 3 renames 'settee'",
        ),
        ("name;concept\nsofa;couch\n", r"synonyms.csv:1: "),
    ],
)
def test_faults_of_the_synonym_table(tmp_path, one, two, table, message):
    with pytest.raises(DatasetError, match=message):
        merge(tmp_path, one, two, table=table)
    assert not list(tmp_path.glob("out*"))


def test_faults_of_sources(tmp_path, one, two):
    larger = make_source(tmp_path / "larger", {1: ("cat", "object")}, [{"object": [1]}])
    Image.new("RGB", (9, 8)).save(larger / "images/x/0.jpg")
    text = (larger / "index.csv").read_text()
    (larger / "index.csv").write_text(text.replace("8,8", "8,9"))
    with pytest.raises(
        DatasetError, match=r"larger: images of 8 × 9 pixels, .*one has 8 × 8;.*--s"
    ):
        merge(tmp_path, one, larger)
    for place in (one, one / "images/out", tmp_path):
        with pytest.raises(DatasetError, match=r"lies within .*one or holds it; .*--output"):
            merge_datasets(place, {"one": one})
    with pytest.raises(DatasetError, match=r"none.csv: no such file"):
        merge_datasets(tmp_path / "out", {"one": one}, tmp_path / "none.csv")
    (two / "images/x/1_object_0.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"x/1_object_0.png: cannot be decoded"):
        merge(tmp_path, one, two)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"junk", None])
def test_a_damaged_image_is_not_copied(tmp_path, one, two, content):
    """No picture at all, and one that is cut short."""
    image = two / "images/x/1.jpg"
    image.write_bytes(content or image.read_bytes()[:-200])
    with pytest.raises(DatasetError, match=r"two/images/x/1.jpg: cannot be decoded"):
        merge(tmp_path, one, two)
    assert not (tmp_path / "out").exists()


def test_how_images_are_read_is_asked_of_the_merged_data_set(tmp_path, one):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (8, 8)).save(one / "images/x/0.jpg", exif=exif)
    out = merge(tmp_path, one)
    assert check_dataset(out, Subset(orientation="apply")) == []


def test_what_was_merged_of_other_sources_is_not_replaced(tmp_path, one, two):
    merge(tmp_path, one, two)
    with pytest.raises(
        DatasetError,
        match=rf"out: holds a data set made from the data sets one={one}, two={two}, and this is "
        rf"to be made from the data sets one={one}; name another folder, or delete it",
    ):
        merge(tmp_path, one)
    merge(tmp_path, one, two, table="name,concept\ncouch,sofa\n")
    assert "couch" not in {c.name for c in load_broden(tmp_path / "out").concepts}


def test_an_empty_category_and_concepts_in_no_image_are_left_out(tmp_path, one, caplog):
    caplog.set_level("INFO")
    concepts = {1: ("cat", "object"), 2: ("gnu", "object"), 3: ("red", "color")}
    other = make_source(tmp_path / "other", concepts, [{"object": [1]}])
    out = merge(tmp_path, one, other)
    assert load_broden(out).categories == ("object", "material")
    assert check_dataset(out) == []
    assert "left out, being in no image: 2 of 5 concepts (gnu, red)" in caplog.text


def test_a_concept_must_cover_most_where_its_source_says(tmp_path, one):
    text = (one / "c_material.csv").read_text()
    (one / "c_material.csv").write_text(text + "7,cat,material,1,9\n")
    with pytest.raises(DatasetError, match=r"'cat' covers most in 'object' .* but in 'material'"):
        merge(tmp_path, one)


def test_a_concept_of_one_source_may_stand_in_two_of_its_categories(tmp_path, one, two):
    """As in Broden: its category is that in which it covers most."""
    text = (one / "c_material.csv").read_text()
    (one / "c_material.csv").write_text(text + "7,cat,material,1,0.1\n")
    few = np.zeros(SIZE, np.int64)
    few[0, 0], few[0, 1] = 7, 9
    write_label_png(one / "images/x/2_material_0.png", few)
    out = merge(tmp_path, one, two)
    assert check_dataset(out) == []
    with (out / "label.csv").open(newline="") as file:
        label = {row["name"]: row for row in csv.DictReader(file)}
    assert label["cat"]["category"] == "object(4);material(1)"
    assert label["cat"]["frequency"] == "5"
    with (out / "c_material.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["cat", "wet"]


def test_no_room(tmp_path, one, monkeypatch):
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda place: usage)
    with pytest.raises(DiskSpaceError, match=r"out: needs [\d,]+ bytes, 100 are free"):
        merge(tmp_path, one)
    assert not list(tmp_path.glob("out*"))


def test_names_of_sources(tmp_path):
    for folder in ("a/photos", "b/photos", "c=d"):
        (tmp_path / folder).mkdir(parents=True)
    a, b, c = (str(tmp_path / folder) for folder in ("a/photos", "b/photos", "c=d"))
    assert list(name_sources([a, f"other={b}", c])) == ["photos", "other", "c=d"]
    with pytest.raises(ConfigError, match=r"the name 'photos' as well; .*as in other=.*b/photos"):
        name_sources([a, b])
    for name in ("", " x", "x;y", "../x", ".x"):
        with pytest.raises(ConfigError, match="cannot name a source"):
            name_sources([f"{name}={a}"])


def test_the_command(tmp_path, one, two):
    (tmp_path / "synonyms.csv").write_text("name,concept\ncouch,sofa\n")
    command = [sys.executable, "-m", "dissect_embed", "merge", one, f"other={two}"]
    command += ["-o", tmp_path / "out", "--synonyms", tmp_path / "synonyms.csv", "--threads", "1"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "out: 5 images" in done.stderr
    assert (tmp_path / "out/images/other/x/1.jpg").is_file()
    command[-4] = tmp_path / "none.csv"
    done = subprocess.run(list(map(str, command[:-2])), capture_output=True, text=True, check=False)
    assert done.returncode == 1
