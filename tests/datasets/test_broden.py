"""Reading Broden's format: what the labels say, against a slow reference, and every bad input."""

import csv
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.datasets.pixels import read_image, read_regions
from dissect_embed.errors import DatasetError

# The fixture's concepts by place: 0 red-c (number 1), 1 blue-c (2), 2 sky (3), 3 day-s (300).
NAMES = ["red-c", "blue-c", "sky", "day-s"]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def relabel(root: Path, **cells: str) -> None:
    """Set cells of the first image's row in index.csv."""
    with (root / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[0] |= cells
    with (root / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def paint(path: Path, numbers: np.ndarray) -> None:
    """Write a label PNG; its blue channel, which means nothing, is noise."""
    blue = np.random.default_rng(0).integers(0, 256, numbers.shape)
    pixels = np.stack([numbers % 256, numbers // 256, blue], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def concept_sets(dataset: Broden, n: int = 0) -> list[list[set[str]]]:
    """Return the names that each pixel of an image carries, and check the regions' own claims."""
    regions = read_regions(dataset, dataset.rows[n])
    pairs = list(zip(regions.member_region, regions.member_concept, strict=True))
    assert len(set(pairs)) == len(pairs)
    assert regions.region_pixels.tolist() == [
        int((regions.region == r).sum()) for r in range(regions.n_regions)
    ]
    assert 0 not in regions.region_pixels
    members = {
        r: {dataset.concepts[c].name for region, c in pairs if region == r}
        for r in range(regions.n_regions)
    }
    return [[members[r] for r in row] for row in regions.region]


# ---- tables ----


def test_tables(tiny):
    dataset = load_broden(tiny)
    assert [c.name for c in dataset.concepts] == NAMES
    assert [c.number for c in dataset.concepts] == [1, 2, 3, 300]
    assert dataset.categories == ("color", "object", "scene")
    assert dataset.concept_category.tolist() == [0, 0, 1, 2]
    assert len(dataset.concept_index) == 301
    assert dataset.concept_index[[0, 1, 2, 3, 4, 299, 300]].tolist() == [-1, 0, 1, 2, -1, -1, 3]
    row = dataset.rows[1]
    assert (row.image, row.split, row.size, row.label_size) == (
        "1.jpg",
        "train",
        (32, 32),
        (16, 16),
    )
    assert row.entries == ("1_color.png", "1_object.png", 300)
    assert dataset.rows[2].entries == ("2_color.png", 300)
    assert dataset.image_size == (32, 32)


def test_splits(tiny):
    assert [row.image for row in load_broden(tiny, "val").rows] == ["4.jpg", "5.jpg"]
    assert len(load_broden(tiny, "train").rows) == 4
    assert len(load_broden(tiny).rows) == 6
    assert len(load_broden(tiny, "val").concepts) == 4


def test_concept_has_the_category_it_covers_most(tiny):
    edit(tiny / "c_object.csv", "1,3,sky,6,1.0", "1,3,sky,6,1.0\n2,1,red-c,1,1.5")
    edit(tiny / "c_scene.csv", "1,300,day-s,6,1.0", "1,300,day-s,6,1.0\n2,3,sky,900,0.5")
    concepts = load_broden(tiny).concepts
    assert [c.category for c in concepts] == ["object", "color", "object", "scene"]


def test_unlabelled_is_no_concept(tiny):
    edit(tiny / "label.csv", "1,red-c", "0,unlabelled,,0,0,\n1,red-c")
    relabel(tiny, color="0;0_color.png", object="0")
    dataset = load_broden(tiny)
    assert [c.name for c in dataset.concepts] == NAMES
    assert dataset.rows[0].entries == ("0_color.png", 300)


def test_byte_order_mark_blank_lines_and_other_columns(tiny):
    text = (tiny / "label.csv").read_text()
    (tiny / "label.csv").write_text("\ufeff" + text + "\n\n", encoding="utf-8")
    edit(tiny / "category.csv", "name,first", "name,erste")
    assert load_broden(tiny).concepts[0].name == "red-c"


def test_quoted_names_hold_commas(tiny):
    edit(tiny / "label.csv", "3,sky,", '3,"sky, clear",')
    assert load_broden(tiny).concepts[2].name == "sky, clear"


# ---- images and label maps ----


def test_image_is_decoded_as_it_is(tiny):
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tiny / "images/exact.png")
    relabel(tiny, image="exact.png")
    dataset = load_broden(tiny)
    np.testing.assert_array_equal(read_image(dataset, dataset.rows[0]), pixels)


def test_grey_image_has_three_equal_channels(tiny):
    Image.fromarray(np.full((32, 32), 7, dtype=np.uint8)).save(tiny / "images/grey.png")
    relabel(tiny, image="grey.png")
    dataset = load_broden(tiny)
    assert (read_image(dataset, dataset.rows[0]) == 7).all()


def test_labels_by_hand(tiny):
    sky = np.array([[3, 3, 0], [3, 300, 0]])
    sky_again = np.array([[3, 0, 0], [0, 0, 0]])
    red = np.array([[1, 0, 0], [1, 0, 0]])
    blue = np.array([[2, 0, 0], [0, 0, 2]])
    for name, numbers in {"s": sky, "t": sky_again, "r": red, "b": blue}.items():
        paint(tiny / f"images/{name}.png", numbers)
    relabel(tiny, sh="2", sw="3", color="r.png;b.png", object="s.png; t.png;", scene="")
    dataset = load_broden(tiny)
    assert concept_sets(dataset) == [
        # two concepts of one category in one pixel; sky of two maps, once
        [{"red-c", "blue-c", "sky"}, {"sky"}, set()],
        # 300 = 44 + 256 · 1: the green channel counts
        [{"red-c", "sky"}, {"day-s"}, {"blue-c"}],
    ]


def test_numbers_label_the_whole_image(tiny):
    red = np.zeros((16, 16), dtype=int)
    red[0, 0] = 1
    paint(tiny / "images/r.png", red)
    relabel(tiny, color="r.png;2", object="", scene="3;300")
    dataset = load_broden(tiny)
    sets = concept_sets(dataset)
    assert sets[0][0] == {"red-c", "blue-c", "sky", "day-s"}
    assert all(s == {"blue-c", "sky", "day-s"} for s in [*sets[0][1:], *sets[1], *sets[15]])


def test_image_without_any_label(tiny):
    relabel(tiny, color="", object="", scene="")
    dataset = load_broden(tiny)
    regions = read_regions(dataset, dataset.rows[0])
    assert regions.n_regions == 1
    assert len(regions.member_region) == 0
    assert concept_sets(dataset) == [[set()] * 16] * 16


def slow_sets(dataset: Broden, maps: dict[str, np.ndarray], n: int = 0) -> list[list[set[str]]]:
    """Look at every pixel of every map."""
    by_number = {c.number: c.name for c in dataset.concepts}
    row = dataset.rows[n]
    sets: list[list[set[str]]] = [[set() for _ in range(16)] for _ in range(16)]
    for y in range(16):
        for x in range(16):
            for entry in row.entries:
                number = entry if isinstance(entry, int) else int(maps[entry][y, x])
                if number:
                    sets[y][x].add(by_number[number])
    return sets


@pytest.mark.parametrize("seed", range(20))
def test_regions_equal_the_slow_reference(tiny, seed, monkeypatch):
    # Numbered anew after each map, or once in the end.
    monkeypatch.setattr("dissect_embed.datasets.pixels.MAX_REGIONS", (1, 8192)[seed % 2])
    rng = np.random.default_rng(seed)
    maps = {}
    for n in range(int(rng.integers(0, 6))):
        few = rng.choice([0, 0, 1, 2, 3, 300], int(rng.integers(1, 7)))
        numbers = rng.choice(few, (16, 16))
        if rng.random() < 0.5:  # as in pictures: large areas
            numbers = np.kron(numbers[:4, :4], np.ones((4, 4), dtype=int))
        maps[f"m{n}.png"] = numbers
        paint(tiny / f"images/m{n}.png", numbers)
    entries = [*maps, *rng.choice(["0", "2", "300"], int(rng.integers(0, 3)))]
    cells = [";".join(e for i, e in enumerate(entries) if i % 3 == g) for g in range(3)]
    relabel(tiny, color=cells[0], object=cells[1], scene=cells[2])
    dataset = load_broden(tiny)
    assert concept_sets(dataset) == slow_sets(dataset, maps)


# ---- fingerprint ----


@pytest.mark.parametrize(
    "change",
    [
        lambda root: edit(root / "index.csv", "5.jpg,val", "5.jpg,train"),
        lambda root: edit(root / "c_scene.csv", "6,1.0", "6,2.0"),
        lambda root: (root / "images/3.jpg").write_bytes(b"of another size"),
        lambda root: (root / "images/unlisted.png").rename(root / "images/renamed.png"),
        lambda root: (root / "images/unlisted.png").unlink(),
    ],
)
def test_fingerprint_follows_the_files(tiny, change):
    (tiny / "images/unlisted.png").touch()
    before = load_broden(tiny).fingerprint
    assert load_broden(tiny).fingerprint == before
    change(tiny)
    assert load_broden(tiny).fingerprint != before


def test_fingerprint_depends_on_the_split_and_not_on_the_place(tiny):
    found = {load_broden(tiny, split).fingerprint for split in ("all", "train", "val")}
    assert len(found) == 3
    moved = tiny.rename(tiny.with_name("moved"))
    assert load_broden(moved, "val").fingerprint in found


# ---- bad inputs: tables ----

INDEX = "index.csv"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        # cells
        (INDEX, "1.jpg,train", "1.jpg,train,more", r"index\.csv:3: 10 cells, the header has 9"),
        (INDEX, "1.jpg,train,", "1.jpg,", r"index\.csv:3: 8 cells, the header has 9"),
        (INDEX, "0.jpg,train,32", "0.jpg,train,x", r"index\.csv:2: ih is 'x', expected a whole nu"),
        (INDEX, "0.jpg,train,32", "0.jpg,train,-3", r"index\.csv:2: ih is '-3', .*at least 0"),
        (INDEX, "0.jpg,train,32", "0.jpg,train,3.5", r"index\.csv:2: ih is '3\.5'"),
        (INDEX, "0.jpg,train,32", "0.jpg,train,", r"index\.csv:2: ih is ''"),
        (INDEX, "0.jpg,train,32", "0.jpg,train,0", r"index\.csv:2: a size of 0 pixels .*= 0, 32"),
        ("label.csv", "300,day", "many,day", r"label\.csv:5: number is 'many', expected a whole"),
        ("label.csv", "300,day", "65536,day", r"label\.csv:5: .* 65536, .*at most 65535"),
        ("label.csv", "300,day", "3,day", r"label\.csv:5: number 3 stands here twice"),
        ("label.csv", "300,day", "4,day", r"label\.csv:5: concept 'day-s' \(number 4\) is in no"),
        ("c_color.csv", "2,2,blue-c,6,1.0", "2,2,blue-c,6,wide", r"color\.csv:3: coverage is 'wi"),
        ("c_color.csv", "2,2,blue-c,6,1.0", "2,2,blue-c,6,nan", r"color\.csv:3: coverage is 'nan"),
        ("c_color.csv", "2,2,blue-c,6,1.0", "2,2,blue-c,6,inf", r"expected a number of at least 0"),
        ("c_color.csv", "2,2,blue-c", "2,1,blue-c", r"c_color\.csv:3: number 1 stands here twice"),
        ("category.csv", "object", "color", r"category\.csv: category 'color' stands here twice"),
        # columns
        (INDEX, "image,split", "image,slpit", r"index\.csv:1: no column 'split'; the header is"),
        (INDEX, "color,object", "color,objects", r"index\.csv:1: no column 'object'"),
        ("label.csv", "number,", "nr,", r"label\.csv:1: no column 'number'"),
        ("category.csv", "name,", "names,", r"category\.csv:1: no column 'name'"),
        ("c_scene.csv", "coverage", "cover", r"c_scene\.csv:1: no column 'coverage'"),
        # files
        ("category.csv", "scene,1", "part,1", r"c_part\.csv: missing; a data set"),
        (INDEX, "3.jpg", "none.jpg", r"index\.csv:5: .*images/none\.jpg is missing; fetch or rend"),
        (INDEX, "3_color.png", "none.png", r"index\.csv:5: .*images/none\.png is missing"),
        (INDEX, "3.jpg", "", r"index\.csv:5: image is empty"),
        (INDEX, "3.jpg", "../3.jpg", r"index\.csv:5: '\.\./3\.jpg' leaves the data set"),
        (INDEX, "3.jpg", "a/../../3.jpg", r"index\.csv:5: 'a/\.\./\.\./3\.jpg' leaves the"),
        (INDEX, "3.jpg", "/etc/passwd", r"index\.csv:5: '/etc/passwd' leaves the data set"),
        (INDEX, "3.jpg", "..\\3.jpg", r"index\.csv:5: '\.\./3\.jpg' leaves the data set"),
        (INDEX, "3_color.png", "../index.csv", r"index\.csv:5: '\.\./index\.csv' leaves the data"),
        # numbers and sizes
        (INDEX, "png,300", "png,299", r"index\.csv:2: label number 299 is not in .*label\.csv"),
        (INDEX, "png,300", "png,70000", r"index\.csv:2: label number 70000 is not in"),
        (INDEX, "4.jpg,val,32", "4.jpg,val,30", r"4\.jpg is 30 × 32 pixels, 0\.jpg is 32 × 32"),
    ],
)  # fmt: skip
def test_bad_table(tiny, file, old, new, message):
    edit(tiny / file, old, new)
    with pytest.raises(DatasetError, match=message):
        load_broden(tiny)


@pytest.mark.parametrize("file", ["category.csv", "label.csv", "c_object.csv"])
def test_missing_and_empty_tables(tiny, file):
    (tiny / file).write_text("")
    with pytest.raises(DatasetError, match=rf"{file}:1: no column"):
        load_broden(tiny)
    (tiny / file).unlink()
    with pytest.raises(DatasetError, match=rf"{file}: missing"):
        load_broden(tiny)


@pytest.mark.parametrize(
    ("file", "message"),
    [("category.csv", "no category is listed"), ("label.csv", "no concept is listed")],
)
def test_tables_of_a_header_only(tiny, file, message):
    header = (tiny / file).read_text().splitlines()[0]
    (tiny / file).write_text(f"{header}\n")
    with pytest.raises(DatasetError, match=rf"{file}: {message}"):
        load_broden(tiny)


def test_table_that_is_no_csv(tiny):
    with (tiny / "label.csv").open("ab") as file:
        file.write(b'"' + b"an open quote\n" * 20_000)
    with pytest.raises(DatasetError, match=r"label\.csv: cannot be read after line \d+ \(.*UTF-8"):
        load_broden(tiny)


def test_no_index(tiny, tmp_path):
    (tiny / "index.csv").unlink()
    for root, message in (
        (tiny, r"no index\.csv in it, .*name the folder that has it, or make one"),
        (tmp_path / "none", r"none: no such folder; name that of a data set"),
    ):
        with pytest.raises(DatasetError, match=message):
            load_broden(root)


def test_empty_split(tiny):
    with pytest.raises(DatasetError, match=r"in split 'test'; the splits are: train, val \(or 'a"):
        load_broden(tiny, "test")
    header = (tiny / "index.csv").read_text().splitlines()[0]
    (tiny / "index.csv").write_text(f"{header}\n")
    with pytest.raises(DatasetError, match="in split 'all'; the splits are: none"):
        load_broden(tiny)


# ---- bad inputs: images and label maps ----


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def claim_to_be_huge(path: Path) -> None:
    """Let a PNG say that it has 30,000 × 30,000 pixels."""
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 30_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)


DAMAGES = [
    (shorten, "truncated"),
    (lambda path: path.write_bytes(b""), "cannot identify"),
    (lambda path: path.write_text("no image"), "cannot identify"),
    (claim_to_be_huge, "900000000 pixels"),
    (lambda path: path.unlink(), "No such file"),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGES)
@pytest.mark.parametrize("kind", ["image", "label map"])
def test_file_that_cannot_be_decoded(tiny, damage, reason, kind):
    with Image.open(tiny / "images/0.jpg") as image:
        image.save(tiny / "images/0.png")
    relabel(tiny, image="0.png")
    dataset = load_broden(tiny)
    name, read = {
        "image": ("0.png", read_image),
        "label map": ("0_color.png", read_regions),
    }[kind]
    damage(tiny / "images" / name)
    message = rf"images/{name}: cannot be decoded \(.*{reason}.*fetch or make it again"
    with pytest.raises(DatasetError, match=message):
        read(dataset, dataset.rows[0])


def test_truncated_jpeg(tiny):
    shorten(tiny / "images/2.jpg")
    dataset = load_broden(tiny)
    with pytest.raises(DatasetError, match=r"2\.jpg: cannot be decoded \(.*truncated"):
        read_image(dataset, dataset.rows[2])


def assert_refused(read: Callable[..., object], root: Path, message: str) -> None:
    dataset = load_broden(root)
    with pytest.raises(DatasetError, match=message):
        read(dataset, dataset.rows[0])


def test_other_size_than_the_index_says(tiny):
    Image.new("RGB", (32, 31)).save(tiny / "images/0.jpg")  # Pillow says width, height
    assert_refused(read_image, tiny, r"0\.jpg: 31 × 32 pixels, the index says 32 × 32 \(ih × iw\)")
    paint(tiny / "images/0_color.png", np.zeros((16, 8), dtype=int))
    assert_refused(read_regions, tiny, r"color\.png: 16 × 8 pixels, .* says 16 × 16 \(sh × sw\)")


@pytest.mark.parametrize("number", [4, 256, 301, 65535])
def test_label_map_with_an_unknown_number(tiny, number):
    numbers = np.zeros((16, 16), dtype=int)
    numbers[15, 15] = number
    paint(tiny / "images/0_color.png", numbers)
    assert_refused(read_regions, tiny, rf"0_color\.png: label number {number} \(red .*label\.csv")
