"""Labelled images of other formats: what is imported is what was labelled, pixel by pixel."""

import json
from pathlib import Path

import numpy as np
import pytest
from imported import BLUE, RED, SMALL, labels_of, run, table
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.folders import NOTE
from dissect_embed.datasets.importing.classes import read_numbers
from dissect_embed.datasets.importing.coco import (
    decode_counts,
    decode_segmentation,
    fill_polygon,
    import_coco,
)
from dissect_embed.datasets.importing.files import Pairs
from dissect_embed.datasets.importing.image_labels import import_folders
from dissect_embed.datasets.importing.masks import import_colours, import_masks
from dissect_embed.datasets.importing.writing import UNKNOWN, fill_rest
from dissect_embed.datasets.pixels import read_image, read_label_png
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import ConfigError, DatasetError, DiskSpaceError


@pytest.fixture
def pairs(tmp_path):
    """Ten images of 8 × 12 pixels, left half red, and their masks: 1 and 2, a column of 255."""
    pixels = np.full((8, 12, 3), BLUE, np.uint8)
    pixels[:, :6] = RED
    mask = np.full((8, 12), 2, np.uint8)
    mask[:4, :6] = 1
    mask[:, 11] = 255
    for n in range(10):
        folder = "a" if n < 5 else "b"
        (tmp_path / "images" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"images/{folder}/{n}.png")
        Image.fromarray(mask).save(tmp_path / f"masks/{folder}/{n}.png")
    (tmp_path / "classes.csv").write_text("number,name\n1,sky\n2,road\n3,boat\n")
    return Pairs(tmp_path / "images", tmp_path / "masks")


def test_masks_are_imported_pixel_by_pixel(tmp_path, pairs):
    """Of 12 columns the middle 8 are kept, of which label maps have every second, in the middle."""
    out = tmp_path / "out"
    assert import_masks(out, pairs, tmp_path / "classes.csv", SMALL) == 10
    assert check_dataset(out) == []
    data = load_broden(out)
    assert [row.image for row in data.rows] == [f"{'ab'[n > 4]}/{n}.jpg" for n in range(10)]
    pixels = read_image(data, data.rows[0]).astype(int)
    assert np.abs(pixels[:, :4] - RED).max() < 12
    assert np.abs(pixels[:, 4:] - BLUE).max() < 12
    top, bottom = ["sky", "sky", "road", "road"], ["road"] * 4
    assert labels_of(out) == [top, top, bottom, bottom]
    color = read_label_png(data, data.rows[0], "a/0_color.png")
    names = {c.number: c.name for c in data.concepts}
    assert [names[n] for n in color[0]] == ["red-c", "red-c", "blue-c", "blue-c"]


def test_tables_count_images_and_pixels(tmp_path, pairs):
    import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    label = {row["name"]: row for row in table(tmp_path / "out/label.csv")}
    assert set(label) == {"red-c", "blue-c", "sky", "road"}  # no boat is in any image
    assert label["sky"]["category"] == "object(10)"
    assert label["sky"]["frequency"] == "10"
    assert float(label["sky"]["coverage"]) == 10 * 4 / 16
    assert float(table(tmp_path / "out/c_object.csv")[1]["coverage"]) == 10 * 12 / 16
    assert [row["name"] for row in table(tmp_path / "out/category.csv")] == ["color", "object"]


def test_a_fifth_of_each_folder_is_val_by_the_seed(tmp_path, pairs):
    def draw(name: str, **settings: float) -> set[str]:
        made = Import(size=8, **settings)
        import_masks(tmp_path / name, pairs, tmp_path / "classes.csv", made, n_threads=1)
        return {r.image for r in load_broden(tmp_path / name).rows if r.split == "val"}

    first = draw("first")
    assert sorted(name[0] for name in first) == ["a", "b"]
    assert draw("again") == first
    assert any(draw("other", seed=seed) != first for seed in (1, 2, 3))
    assert len(draw("half", val=0.4)) == 4
    assert draw("none", val=0) == set()
    files = [p.relative_to(tmp_path / "first") for p in sorted((tmp_path / "first").rglob("*.*"))]
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_splits_are_those_of_the_folders(tmp_path, pairs):
    for folder in (pairs.images, pairs.masks):
        (folder / "a").rename(folder / "training")
        (folder / "b").rename(folder / "validation")
    import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    rows = load_broden(tmp_path / "out").rows
    assert [row.split for row in rows] == ["train"] * 5 + ["val"] * 5
    for folder in (pairs.images, pairs.masks):
        (folder / "validation").rename(folder / "b")
    with pytest.raises(DatasetError, match=r"b/5: in no folder of a split.* 5 of 10 .*--val 0.2"):
        import_masks(tmp_path / "other", pairs, tmp_path / "classes.csv", SMALL)


def test_cityscapes_names_and_numbers_to_ignore(tmp_path, pairs):
    for file in pairs.images.rglob("*.png"):
        file.rename(file.with_name(f"{file.stem}_leftImg8bit.png"))
    for file in pairs.masks.rglob("*.png"):
        Image.new("RGB", (12, 8)).save(file.with_name(f"{file.stem}_gtFine_color.png"))
        file.rename(file.with_name(f"{file.stem}_gtFine_labelIds.png"))
    ending = Pairs(pairs.images, pairs.masks, "_leftImg8bit.png", "_gtFine_labelIds.png")
    import_masks(tmp_path / "out", ending, tmp_path / "classes.csv", SMALL, ignore=[2])
    assert labels_of(tmp_path / "out")[1:3] == [["sky", "sky", "", ""], [""] * 4]
    assert check_dataset(tmp_path / "out") == []


def test_palette_masks_are_their_indices(tmp_path, pairs):
    """As Pascal VOC has them; images without a mask are left out where it is said so."""
    for file in pairs.masks.rglob("*.png"):
        palette = Image.open(file).convert("P")
        palette.putpalette([n * 7 % 256 for n in range(768)])
        palette.save(file)
    (pairs.masks / "b/9.png").unlink()
    chosen = pairs._replace(skip_unlabelled=True)
    assert import_masks(tmp_path / "out", chosen, tmp_path / "classes.csv", SMALL) == 9
    assert labels_of(tmp_path / "out")[0] == ["sky", "sky", "road", "road"]


@pytest.mark.parametrize(("suffix", "mask_ending"), [(".png", "_L.png"), (".jpg", ".png")])
def test_images_and_masks_may_lie_in_one_folder(tmp_path, pairs, suffix, mask_ending):
    """As CamVid's names would allow, and many others'."""
    both = tmp_path / "both"
    both.mkdir()
    for n in range(5):
        Image.open(pairs.images / f"a/{n}.png").save(both / f"{n}{suffix}")
        (pairs.masks / f"a/{n}.png").rename(both / f"{n}{mask_ending}")
    (both / ".hidden.png").write_bytes(b"")
    chosen = Pairs(both, both, mask_ending=mask_ending)
    assert import_masks(tmp_path / "out", chosen, tmp_path / "classes.csv", SMALL) == 5
    assert labels_of(tmp_path / "out")[0] == ["sky", "sky", "road", "road"]


def test_what_a_failed_import_left_is_no_hindrance(tmp_path, pairs):
    whole = (pairs.images / "b/9.png").read_bytes()
    (pairs.images / "b/9.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"b/9.png: cannot be decoded"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    assert (tmp_path / "out.part").is_dir()
    (pairs.images / "b/9.png").write_bytes(whole)
    for _ in range(2):  # the second in place of the first
        assert import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL) == 10
        assert check_dataset(tmp_path / "out") == []
        assert not (tmp_path / "out.part").exists()


def test_an_import_names_all_files_that_it_reads(tmp_path, pairs, coco, monkeypatch):
    """By these it knows whether what was interrupted is of the same."""
    named = []
    for name in ("masks", "coco"):
        monkeypatch.setattr(
            f"dissect_embed.datasets.importing.{name}.write_dataset",
            lambda root, source, *rest: named.append(
                {*source.tables, *(path for paths in source.files for path in paths)}
            ),
        )
    out = tmp_path / "out"
    chosen = pairs._replace(skip_unlabelled=True)  # the images of coco lie there as well
    import_masks(out, chosen, tmp_path / "classes.csv", SMALL)
    import_coco(out, *coco, SMALL)
    assert named == [
        {tmp_path / "classes.csv", *pairs.images.rglob("*.png"), *pairs.masks.rglob("*.png")},
        {coco[1], *coco[0].glob("*.jpg")},
    ]


def test_what_was_interrupted_with_other_options_is_begun_anew(tmp_path, pairs, caplog):
    caplog.set_level("INFO")
    classes, out = tmp_path / "classes.csv", tmp_path / "out"
    whole = (pairs.images / "b/9.png").read_bytes()
    (pairs.images / "b/9.png").write_bytes(whole[: len(whole) // 2])
    for options in ({"ignore": [3]}, {"ignore": [2]}):
        with pytest.raises(DatasetError, match=r"b/9.png: cannot be decoded"):
            import_masks(out, pairs, classes, SMALL, n_threads=1, **options)
        assert "out.part: 9 images are made; the same command goes on from there" in caplog.text
    assert "out.part: begun with other classes, source; begins anew" in caplog.text
    (pairs.images / "b/9.png").write_bytes(whole)
    import_masks(out, pairs, classes, SMALL, ignore=[2])
    assert "out.part: goes on after the 9 images that are made" in caplog.text
    assert labels_of(out) == [["sky", "sky", "", ""]] * 2 + [[""] * 4] * 2


@pytest.mark.parametrize(
    ("first", "highest", "told"),
    [(1, 2, True), (0, 2, False), (1, 3, False)],
)
def test_a_list_that_begins_too_high_is_told(tmp_path, pairs, caplog, first, highest, told):
    """As Pascal VOC's with --first 1: every class would be the one before it."""
    caplog.set_level("INFO")
    (tmp_path / "names.txt").write_text("ground\nsky\nroad\n")
    mask = np.zeros((8, 12), np.uint8)
    mask[:4], mask[4:, 6:] = 1, highest if first else 2
    Image.fromarray(mask).save(pairs.masks / "a/0.png")
    import_masks(tmp_path / "out", pairs, tmp_path / "names.txt", SMALL, first=first)
    asked = (
        "names.txt: 1 of 10 masks have 0, which is not in it, and none has its last number, 3 "
        "(road): does it begin at 0 (--first 0)?"
    )
    assert (asked in caplog.text) == told


def test_a_class_that_is_listed_as_0_or_255_is_one(tmp_path, pairs):
    Image.new("L", (12, 8)).save(pairs.masks / "a/0.png")
    (tmp_path / "names.txt").write_text("ground\nsky\nroad\n")
    import_masks(tmp_path / "out", pairs, tmp_path / "names.txt", SMALL, first=0)
    assert labels_of(tmp_path / "out") == [["ground"] * 4] * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,sky\n2,road\n", {1: "sky", 2: "road"}),
        ("id\tname\n7\troad, wet\n", {7: "road, wet"}),
        ("id;name\n7;road, wet\n", {7: "road, wet"}),
        ('name,id,colour\n"road, wet",7,red\n', {7: "road, wet"}),
        ("\ufeff1,car\n2,car\n\n", {1: "car", 2: "car"}),
        ("sky\nroad\n", {1: "sky", 2: "road"}),
        ("name\nsky\nroad\n", {1: "sky", 2: "road"}),
        (
            "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.15\t9\t1\t1\twall\n"
            "2\t0.10\t9\t1\t1\tbuilding, edifice\n",
            {1: "wall", 2: "building"},
        ),
        (
            "Idx,Ratio,Train,Val,Stuff,Name\n2,0.10,9,1,1,building;edifice\n",
            {2: "building"},
        ),
        ("id,label\n1,sky\n", {1: "sky"}),
        ("class_id;class_name\n1;sky\n", {1: "sky"}),
        ("category,Label ID\nsky,1\n", {1: "sky"}),
        ("class,label\n1,sky\n", {1: "sky"}),
        ("label,class\n1,sky\n", {1: "sky"}),
        ("id,index,name\n1,1,sky\n", {1: "sky"}),
        ("sky,1\nroad,2\n", {1: "sky", 2: "road"}),
        ("0: background\n1: sky\n", {0: "background", 1: "sky"}),
        ("0 background\n12 sky, blue\n", {0: "background", 12: "sky, blue"}),
        ("2 wheeler\ncar\n", {1: "2 wheeler", 2: "car"}),
        ("name,id\nsky,1\nlicense plate,-1\n", {1: "sky"}),
        ("name,trainId\nroad,0\nego,255\nborder,255\nplate,-1\n", {0: "road"}),
        ("name,id\nsky,1\nunknown,255\n", {1: "sky", 255: "unknown"}),
        # What parts cells is what parts all rows alike.
        ('1;"sky, blue"\n2;"road, wet"\n', {1: "sky, blue", 2: "road, wet"}),
        ('id;"name, main"\n7;road\n', r":1: the header is 'id,name, main', none of it is known"),
        ("sep=;\nid;name\n7;road, wet\n", {7: "road, wet"}),
    ],
)
def test_class_lists_of_all_forms(tmp_path, text, expected):
    (tmp_path / "classes").write_text(text, "utf-8")
    if isinstance(expected, str):
        with pytest.raises(DatasetError, match=expected):
            read_numbers(tmp_path / "classes", first=1)
        return
    numbers, others = read_numbers(tmp_path / "classes", first=1)
    assert numbers == expected
    assert others.get("building") in (None, "edifice")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky\nroad\n", r"classes: names without numbers.*--first 0 or --first 1"),
        (
            "name,id,trainId\nroad,7,0\n",
            r"classes:1: 'id' and 'trainId' are columns of .* \(--number-column id\)",
        ),
        ("foo,name\n7,road\n", r"classes:1: the header is 'foo,name', none .* number, idx, index"),
        ("id,foo\n7,road\n", r"classes:1: .* known for that of names; call one class, label"),
        ("1,sky\n-2,road\n", r"classes:2: '-2', expected a whole number"),
        ("sep=;\n", r"classes: empty but for 'sep=;'"),
        ("1,sky\n1,road\n", r"classes:2: number 1 stands here twice"),
        ("1,sky\nx,road\n", r"classes:2: 'x', expected a whole number"),
        (
            "1,road, wet\n2,sky\n",
            r"classes:1: 3 cells, expected 2, a number and a name.*double quotes",
        ),
        ("\n", r"classes: empty"),
        ("1,sky\n2,stra\u00dfe\n", r"classes:2: not in UTF-8 \(byte 0xdf\); save the table as CSV"),
    ],
)
def test_class_lists_that_cannot_be_told(tmp_path, text, message):
    (tmp_path / "classes").write_text(text, "latin-1")
    with pytest.raises(DatasetError, match=message):
        read_numbers(tmp_path / "classes")


def test_a_column_of_numbers_is_chosen(tmp_path, pairs, caplog):
    """As of Cityscapes' own table, for masks of labelTrainIds."""
    caplog.set_level("INFO")
    listed = "name,id,trainId\nroad,7,1\nsky,23,2\nego,1,255\nborder,2,255\nplate,-1,-1\n"
    (tmp_path / "labels.csv").write_text(listed)
    for name, message in (
        ("", r"labels.csv:1: 'id' and 'trainId' are columns of other numbers"),
        ("catId", r"labels.csv:1: .*no column 'catId' \(--number-column\)"),
    ):
        with pytest.raises(DatasetError, match=message):
            import_masks(
                tmp_path / "out", pairs, tmp_path / "labels.csv", SMALL, number_column=name
            )
    done = run(
        "masks", pairs.images, pairs.masks, "--classes", tmp_path / "labels.csv", "-o",
        tmp_path / "out", "--number-column", "trainid", "--size", 8, "--label-size", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "255 as others are: 3 rows (ego, border, plate)" in done.stderr + done.stdout
    assert labels_of(tmp_path / "out")[0] == ["road", "road", "sky", "sky"]


def test_the_rest_of_masks_is_0_and_nothing_else(tmp_path, pairs, caplog):
    """Not what is ignored: nobody knows what is there."""
    caplog.set_level("INFO")
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :6], mask[4:, :6], mask[:4, 6:8] = 1, 255, 2
    Image.fromarray(mask).save(pairs.masks / "a/0.png")
    Image.new("L", (12, 8)).save(pairs.masks / "b/9.png")
    made = SMALL.model_copy(update={"rest": "ground"})
    import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", made, ignore=[2])
    top, bottom = ["sky", "sky", "", "ground"], ["", "", "ground", "ground"]
    assert labels_of(tmp_path / "out") == [top, top, bottom, bottom]
    assert labels_of(tmp_path / "out", 9) == [["ground"] * 4] * 4
    assert labels_of(tmp_path / "out", 1) == [["sky", "sky", "", ""]] * 2 + [[""] * 4] * 2
    assert check_dataset(tmp_path / "out") == []
    assert "have nothing of" not in caplog.text
    import_masks(tmp_path / "plain", pairs, tmp_path / "classes.csv", SMALL, ignore=[2])
    told = "1 of 10 images have nothing of 'object': they count as unlabelled there, not as without"
    assert told in caplog.text
    assert "--rest NAME), or the number 0 in the class list ('0,background')" in caplog.text


@pytest.mark.parametrize(
    ("listed", "ignore", "rest", "message"),
    [
        ("1,sky\n2,road\n", [], "sky", r"masks|images: 'sky' is a class already; call the rest"),
        ("1,sky\n2,road\n", [], "red-c", r"a class 'red-c', as a colour is"),
        ("0,ground\n1,sky\n2,road\n", [], "rest", r"0 means something else .* '--rest rest'"),
        ("1,sky\n2,road\n", [0], "rest", r"classes.csv: 0 means something else already"),
    ],
)
def test_faults_of_the_rest(tmp_path, pairs, listed, ignore, rest, message):
    (tmp_path / "classes.csv").write_text(listed)
    made = SMALL.model_copy(update={"rest": rest})
    with pytest.raises(DatasetError, match=message):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", made, ignore=ignore)
    assert not (tmp_path / "out").exists()


def test_the_rest_is_what_no_map_labels():
    first, second = np.array([[1, 0, 0, UNKNOWN]]), np.array([[0, 2, 0, 0]])
    filled = fill_rest([first, second], 3)
    assert [m.tolist() for m in filled] == [[[1, 0, 3, UNKNOWN]], [[0, 2, 0, 0]]]
    assert fill_rest([], 3) == [3]
    assert fill_rest([1, 2], 3) == [1, 2]


def test_faults_of_masks(tmp_path, pairs):
    """Each by its message; nothing lies under the final name afterwards."""
    classes, out = tmp_path / "classes.csv", tmp_path / "out"

    def refused(message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            import_masks(out, pairs, classes, SMALL)
        assert not out.exists()

    whole = (pairs.masks / "b/9.png").read_bytes()
    for name, number in (("a/3", 9), ("b/9", 9), ("b/7", 8)):
        mask = np.ones((8, 12), np.uint8)
        mask[5, 6:8] = number
        Image.fromarray(mask).save(pairs.masks / f"{name}.png")
    refused(
        r"a/3.png: pixel 6, 5 \(column, row\): number 9 is not in .*classes.csv; 2 of 10 masks "
        r"have it, 4 pixels in all; so are 1 further values; .*--ignore 9"
    )
    for name in ("a/3", "b/9", "b/7"):
        (pairs.masks / f"{name}.png").write_bytes(whole)
    Image.new("L", (12, 9), 1).save(pairs.masks / "b/9.png")
    for number in (-1, 65536):
        with pytest.raises(DatasetError, match=rf"--ignore {number}: masks hold numbers of 0 to"):
            import_masks(out, pairs, classes, SMALL, ignore=[number])
    refused(r"b/9.png: labels of 9 × 12 pixels, but .*images/b/9.png has 8 × 12")
    (pairs.masks / "b/9.png").unlink()
    (pairs.masks / "b/8.png").unlink()
    refused(r"images: 2 of 10 images have no mask .*the first: 8.png, expected b/8.png")
    (pairs.images / "b/8.png").unlink()
    (pairs.images / "b/9.png").unlink()
    (pairs.images / "a/0.png").unlink()
    refused(r"masks: 1 of 8 masks have no image .*the first: 0.png")
    (pairs.masks / "a/0.png").write_bytes(whole)
    (pairs.images / "a/0.png").write_bytes(b"no image")
    refused(r"a/0.png: cannot be decoded")
    Image.new("RGB", (12, 8)).save(pairs.images / "a/0.jpg")
    refused(r"0.jpg and 0.png have one name")


def test_what_is_to_be_asked_names_the_commands_options(tmp_path, pairs):
    path = pairs.images / "a/0.png"
    whole = Image.open(path).convert("RGB")
    half = whole.convert("RGBA")
    half.putalpha(100)
    half.save(path)
    with pytest.raises(DatasetError, match=r"a/0.png: partly transparent; .* set --background to"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    exif = Image.Exif()
    exif[0x0112] = 3
    whole.save(path, exif=exif)
    with pytest.raises(DatasetError, match=r"a/0.png: stored turned .* set --orientation to"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)


def test_no_room_and_a_folder_of_ones_own(tmp_path, pairs, monkeypatch):
    out = tmp_path / "out"
    usage = type("Usage", (), {"free": 100})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda place: usage)
        with pytest.raises(DiskSpaceError, match=r"out: needs 800 bytes, 100 are free"):
            import_masks(out, pairs, tmp_path / "classes.csv", SMALL)
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="not made by dissect-embed"):
        import_masks(out, pairs, tmp_path / "classes.csv", SMALL)
    assert (out / "mine.txt").read_text() == "mine"


def test_a_data_set_of_another_source_is_not_replaced(tmp_path, pairs, coco, monkeypatch):
    """By the same source it is, whatever the settings, and however that is spelt."""
    out, classes = tmp_path / "out", tmp_path / "classes.csv"
    both = pairs._replace(skip_unlabelled=True)
    import_masks(out, both, classes, SMALL)
    before = (out / NOTE).read_bytes()
    message = rf"out: holds a data set made from masks {pairs.images} {pairs.masks}, and this is to"
    with pytest.raises(DatasetError, match=message):
        import_coco(out, *coco, SMALL)
    (tmp_path / "colours.csv").write_text("red,green,blue,name\n1,1,1,sky\n")
    with pytest.raises(DatasetError, match=r"this is to be made from colours .*; name another"):
        import_colours(out, both, tmp_path / "colours.csv", SMALL)
    with pytest.raises(DatasetError, match=message):
        import_folders(out, pairs.masks, SMALL)
    assert (out / NOTE).read_bytes() == before
    monkeypatch.chdir(tmp_path)
    short = both._replace(images=Path("images"), masks=Path("masks"))
    import_masks(Path("out"), short, classes, Import(size=16), ignore=[2])
    assert load_broden(out).image_size == (16, 16)
    (out / NOTE).write_text("{")
    with pytest.raises(DatasetError, match=r"made from what .* should say, which is damaged"):
        import_masks(out, both, classes, SMALL)
    for note, told in (('{"archive": "b.zip"}', "the archive b.zip"), ('{"seed": 0}', "nothing")):
        (out / NOTE).write_text(note)
        with pytest.raises(DatasetError, match=f"out: holds a data set made from {told}"):
            import_masks(out, both, classes, SMALL)


def test_a_data_set_is_not_made_within_its_source(tmp_path, pairs, coco):
    """An import that goes on, or is made again, would find its own images there."""
    message = r"lies within .* or holds it; name a folder beside it"
    for place in (pairs.images / "out", pairs.masks, tmp_path):
        with pytest.raises(DatasetError, match=message):
            import_masks(place, pairs, tmp_path / "classes.csv", SMALL)
    with pytest.raises(DatasetError, match=message):
        import_coco(coco[0] / "out", *coco, SMALL)


def test_names_that_will_not_do(tmp_path, pairs):
    def refused(message: str, **settings: str) -> None:
        made = Import(size=8, **settings)
        with pytest.raises(DatasetError, match=message):
            import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", made)

    refused("import.category: 'split' has another meaning", category="split")
    (tmp_path / "classes.csv").write_text("1,red-c\n2,road\n")
    refused("a class 'red-c', as a colour is")
    (tmp_path / "classes.csv").write_text("1,sky\n2,road\n")
    for folder in (pairs.images, pairs.masks):
        (folder / "a/0.png").rename(folder / "a/0;1.png")
    refused("'a/0;1': an index cannot hold this name")
    with pytest.raises(ConfigError, match=r"import.val: 2.0, expected at most 1"):
        Import(val=2.0)


def test_nothing_that_is_labelled_is_left(tmp_path, pairs, caplog):
    caplog.set_level("INFO")
    for file in pairs.masks.rglob("*.png"):
        Image.new("L", (12, 8)).save(file)
    message = r"masks: none of the 3 classes of .*classes.csv is in any of 10 masks, but numbers "
    with pytest.raises(DatasetError, match=message + r"that mean unlabelled \(0: 960 pixels\)"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    assert not list(tmp_path.glob("out*"))
    # In what is cut off alone; then all of it is made, and there is nothing to go on with.
    mask = np.zeros((8, 12), np.uint8)
    mask[:, 0] = 1
    Image.fromarray(mask).save(file)
    with pytest.raises(DatasetError, match=r"none of its 3 classes is in any of the 10 images"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    assert not list(tmp_path.glob("out*"))
    assert "images are made" not in caplog.text


def test_a_mask_of_black_and_white(tmp_path, pairs):
    mask = np.zeros((8, 12), np.uint8)
    mask[:, :5] = 255
    for file in pairs.masks.rglob("*.png"):
        Image.fromarray(mask).save(file)
    (tmp_path / "classes.csv").write_text("1,a\n")
    with pytest.raises(DatasetError, match=r"unlabelled \(0: 560 pixels; 255: 400 pixels\); add"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)


def test_colours(tmp_path, pairs):
    """Two colours of one name are one class; one without a name is unlabelled."""
    mask = np.zeros((8, 12, 3), np.uint8)
    mask[:, :4], mask[:, 4:8], mask[:4, 8:] = (9, 8, 7), (1, 2, 3), (3, 2, 1)
    for file in pairs.masks.rglob("*.png"):
        Image.fromarray(mask).save(file)
    (tmp_path / "colours.csv").write_text("name,r,g,b\nsky,9,8,7\nroad,1,2,3\nroad,3,2,1\n,0,0,0\n")
    import_colours(tmp_path / "out", pairs, tmp_path / "colours.csv", SMALL)
    lines = labels_of(tmp_path / "out")
    assert lines == [["sky", "road", "road", "road"]] * 2 + [["sky", "road", "road", ""]] * 2
    assert check_dataset(tmp_path / "out") == []
    for text in (  # as of CamVid, and Void left out; and other lists without a header
        "9 8 7\t\tsky\n1 2 3\troad\n3 2 1\troad\n0 0 0\n",
        '9,8,7,sky\n1,2,3,"road"\n3,2,1,road\n0,0,0,\n',
    ):
        (tmp_path / "colours.csv").write_text(text)
        import_colours(tmp_path / "other", pairs, tmp_path / "colours.csv", SMALL)
        assert labels_of(tmp_path / "other") == lines
    (tmp_path / "colours.csv").write_text("red,green,blue,name\n9,8,7,sky\n0,0,0,\n3,2,1,sea\n")
    with pytest.raises(
        DatasetError,
        match=r"a/0.png: pixel 4, 0 \(column, row\): colour 1, 2, 3 is not in .*colours.csv; "
        r"10 of 10 masks have it, 320 pixels in all",
    ):
        import_colours(tmp_path / "out", pairs, tmp_path / "colours.csv", SMALL)
    for file in pairs.masks.rglob("*.png"):
        Image.fromarray(mask).save(file.with_suffix(".jpg"))
    lossy = pairs._replace(mask_ending=".jpg")
    with pytest.raises(DatasetError, match="a label map as JPEG may have other colours"):
        import_colours(tmp_path / "out", lossy, tmp_path / "colours.csv", SMALL)
    for text, message in (
        ("red,green,name\n", "the header is 'red,green,name', expected red,green,blue,name"),
        ("r,g,b,name\n1,2,256,x\n", "colours.csv:2: '256', expected a whole number of 0 to 255"),
        ("r,g,b,name\n1,2,3,x\n1,2,3,y\n", "colours.csv:3: colour 1, 2, 3 stands here twice"),
        ("1 2 3 x\n1 2 y\n", "colours.csv:2: expected red, green, blue and a name"),
        ("1 2 3 x\n1 2 256 y\n", "colours.csv:2: '256', expected a whole number of 0 to 255"),
        ("r,g,b,name\n1,2,3\n", "colours.csv:2: 3 cells, the header has 4"),
    ):
        (tmp_path / "colours.csv").write_text(text)
        with pytest.raises(DatasetError, match=message):
            import_colours(tmp_path / "out", pairs, tmp_path / "colours.csv", SMALL)


def test_gray_masks_saved_as_colour_are_told_apart(tmp_path, pairs):
    """Read as red + 256 · green, 1 were 257, which a list of many classes names as well."""
    file = pairs.masks / "b/9.png"
    Image.open(file).convert("RGB").save(file)
    (tmp_path / "classes.csv").write_text("".join(f"{n},class {n}\n" for n in range(1000)))
    with pytest.raises(DatasetError, match=r"b/9.png: gray saved as colour .* \(mode L\)"):
        import_masks(tmp_path / "out", pairs, tmp_path / "classes.csv", SMALL)
    assert not list(tmp_path.glob("out*"))


def coco_document() -> dict:
    """Two images of 8 × 8 pixels; the second has a crowd and nothing else."""
    return {
        "images": [
            {"id": 5, "file_name": "b.jpg", "height": 8, "width": 8},
            {"id": 3, "file_name": "a.jpg", "height": 8, "width": 8},
            {"id": 4, "file_name": "c.jpg", "height": 8, "width": 8},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 90, "name": "tie"}],
        "annotations": [
            {"image_id": 3, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 8, 0, 8]]},
            {"image_id": 3, "category_id": 90, "segmentation": [[2, 2, 6, 2, 6, 4, 2, 4]]},
            {"image_id": 3, "category_id": 1, "segmentation": [[6, 6, 8, 6, 8, 8, 6, 8]]},
            {
                "image_id": 5,
                "category_id": 90,
                "iscrowd": 1,
                "segmentation": {"size": [8, 8], "counts": [16, 16, 32]},
            },
        ],
    }


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "images").mkdir(exist_ok=True)
    for name in "abc":
        Image.new("RGB", (8, 8), RED).save(tmp_path / f"images/{name}.jpg")
    (tmp_path / "instances.json").write_text(json.dumps(coco_document()))
    return tmp_path / "images", tmp_path / "instances.json"


def test_coco(tmp_path, coco):
    """Where categories overlap, both hold; run lengths go down the columns."""
    assert import_coco(tmp_path / "out", *coco, SMALL) == 3
    assert check_dataset(tmp_path / "out") == []
    assert labels_of(tmp_path / "out") == [
        ["person", "person", "", ""],
        ["person", "person+tie", "tie", ""],
        ["person", "person", "", ""],
        ["person", "person", "", "person"],
    ]
    assert labels_of(tmp_path / "out", 1) == [["", "tie", "", ""]] * 4
    assert labels_of(tmp_path / "out", 2) == [[""] * 4] * 4
    assert {r["name"]: r["category"] for r in table(tmp_path / "out/label.csv")} == {
        "red-c": "color(3)", "person": "object(1)", "tie": "object(2)",
    }  # fmt: skip


def test_the_rest_of_coco_is_where_no_instance_is(tmp_path, coco):
    import_coco(tmp_path / "out", *coco, SMALL.model_copy(update={"rest": "wall"}))
    assert check_dataset(tmp_path / "out") == []
    assert labels_of(tmp_path / "out") == [
        ["person", "person", "wall", "wall"],
        ["person", "person+tie", "tie", "wall"],
        ["person", "person", "wall", "wall"],
        ["person", "person", "wall", "person"],
    ]
    assert labels_of(tmp_path / "out", 2) == [["wall"] * 4] * 4


def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path, coco):
    document = coco_document()
    for name in ("../images/a.jpg", str(tmp_path / "images/a.jpg")):
        document["images"][1]["file_name"] = name
        coco[1].write_text(json.dumps(document))
        with pytest.raises(DatasetError, match="images/a': an index cannot hold this name"):
            import_coco(tmp_path / "out", *coco, SMALL)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (("annotations", 0), {"image_id": 7}, r"annotation 1: image_id 7 is not in the file"),
        (("annotations", 1), {"category_id": 7}, r"annotation 2: category_id 7 is not in"),
        (("annotations", 0), {"segmentation": []}, r"annotation 1: no segmentation"),
        (("annotations", 0), {"segmentation": [[0, 0, 1, 1]]}, r"annotation 1: 2 points"),
        (
            ("annotations", 0),
            {"segmentation": [[0, 0, 1]]},
            r"annotation 1: a polygon is \[0, 0, 1\],",
        ),
        (("annotations", 0), {"segmentation": [2, 2, 20]}, r"annotation 1: a polygon is 2, ex"),
        (
            ("annotations", 0),
            {"segmentation": [[0, 0, 4, None, 4, 8]]},
            r"annotation 1: point 2 of 3 \(x, y\) is \[4, None\]: not a number each",
        ),
        (
            ("annotations", 0),
            {"segmentation": [[0, 0, 4, 0, 4, 8], [9, 0, 12, 0, 12, 8]]},
            r"annotation 1: a polygon lies outside of its image of 8 × 8 pixels",
        ),
        (
            ("annotations", 0),
            {"segmentation": {"size": [8, 8], "counts": [3]}},
            r"annotation 1: its counts are no run lengths of 64 pixels",
        ),
        (
            ("annotations", 0),
            {"segmentation": {"size": [8, 9], "counts": [72]}},
            r"annotation 1: run lengths of size \[8, 9\], its image has \[8, 8\]",
        ),
        *(
            (
                ("annotations", 0),
                {"segmentation": {"size": size, "counts": [64]}},
                rf"annotation 1: run lengths of size {size}, its image has \[8, 8\]",
            )
            for size in (None, 5)
        ),
        (("images", 0), {"file_name": "no.jpg"}, r"1 of its 3 images are not below .*no.jpg"),
        (
            ("images", 2),
            {"height": 9},
            r"image 4: labels of 9 × 8 pixels, but .*c.jpg has 8 × 8 \(h",
        ),
        (("images", 2), {"height": "9"}, r"image 4: 'height' is '9', a text, expected int"),
        (("images", 0), {"id": 3}, r"images: id 3 stands there twice"),
        (("images", 0), {"id": None}, r"images, number 1: 'id' is missing, expected int"),
    ],
)
def test_faults_of_coco(tmp_path, coco, place, change, message):
    document = coco_document()
    document[place[0]][place[1]] |= change
    coco[1].write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=message):
        import_coco(tmp_path / "out", *coco, SMALL)
    assert not (tmp_path / "out").exists()


def test_faults_of_annotations_are_counted_before_an_image_is_made(tmp_path, coco, caplog):
    """That of the last image too: once the file is corrected, all images are made of another."""
    caplog.set_level("INFO")
    document = coco_document()
    document["annotations"][3]["segmentation"]["counts"] = [3]
    document["annotations"][1]["segmentation"] = [[0, 0, float("nan"), 1, 2, 2]]
    coco[1].write_text(json.dumps(document))
    with pytest.raises(
        DatasetError,
        match=r"annotation 2: point 2 .*\[nan, 1\]: not a number each; redraw it; "
        r"1 more of 4 annotations are faulty",
    ):
        import_coco(tmp_path / "out", *coco, SMALL, n_threads=1)
    assert not list(tmp_path.glob("out*"))
    assert "images are made" not in caplog.text


def test_sizes_are_looked_at_before_an_image_is_made(tmp_path, coco):
    document = coco_document()
    document["images"][2] |= {"height": 9}
    coco[1].write_text(json.dumps(document))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "images/b.jpg", exif=exif)
    made = Import(size=8, orientation="apply")
    with pytest.raises(DatasetError, match=r"image 5: .*b.jpg has 8 × 6 .*; 1 more of 3 images"):
        import_coco(tmp_path / "out", *coco, made, n_threads=1)
    assert not list(tmp_path.glob("out*"))


def test_a_broken_json_of_coco(tmp_path, coco):
    coco[1].write_text(json.dumps(coco_document(), indent=1).replace('"id": 5', '"id" 5'))
    with pytest.raises(DatasetError, match=r"instances.json:4: broken JSON"):
        import_coco(tmp_path / "out", *coco, SMALL)
    coco[1].write_text("[]")
    with pytest.raises(DatasetError, match=r"instances.json: expected an object .* a list"):
        import_coco(tmp_path / "out", *coco, SMALL)
    coco[1].write_bytes(b'{"a": "\xfc"}')
    with pytest.raises(DatasetError, match=r"instances.json: no JSON in UTF-8"):
        import_coco(tmp_path / "out", *coco, SMALL)


def test_a_polygon_has_the_pixels_whose_centre_is_within():
    """Against a slow reference: the parity of edges crossed, pixel by pixel."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        corners = generator.uniform(-4, 24, size=(generator.integers(3, 9), 2))
        points = [(x, y) for x, y in corners.tolist()]
        mask = fill_polygon(points, (15, 20))
        for y, x in np.ndindex(15, 20):
            inside = False
            for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
                if (y0 > y + 0.5) != (y1 > y + 0.5):
                    inside ^= x + 0.5 > x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            assert mask[y, x] == inside


def encode_counts(counts: list[int]) -> str:
    """COCO's rleToString, written anew."""
    text = ""
    for n, count in enumerate(counts):
        value = count - (counts[n - 2] if n > 2 else 0)
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + (32 if more else 0))
    return text


def test_compressed_run_lengths():
    generator = np.random.default_rng(0)
    for _ in range(20):
        counts = generator.integers(0, 2000, size=30).tolist()
        assert decode_counts(encode_counts(counts)) == counts
    text = encode_counts([16, 16, 32])
    mask = decode_segmentation("here", {"size": [8, 8], "counts": text}, (8, 8))
    assert (mask == (np.arange(8) // 2 == 1)).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_masks_are_those_of_cocos_own_library():
    """Run lengths bit by bit; of polygons it rounds the corners, so edges may differ by a pixel."""
    theirs = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for _ in range(30):
        size = tuple(generator.integers(2, 90, size=2).tolist())
        blocks = np.kron(generator.random((9, 9)) < 0.4, np.ones((10, 10), bool))
        mask = blocks[: size[0], : size[1]]
        said = theirs.encode(np.asfortranarray(mask.astype(np.uint8)))
        text = {"size": list(size), "counts": said["counts"].decode()}
        assert (decode_segmentation("here", text, size) == mask).all()
        angle = np.sort(generator.uniform(0, 2 * np.pi, size=12))
        points = 50 + generator.uniform(15, 40, size=(12, 1)) * np.stack(
            [np.cos(angle), np.sin(angle)], axis=1
        )
        polygon = [points.ravel().tolist()]
        ours = decode_segmentation("here", polygon, (100, 100))
        other = theirs.decode(theirs.merge(theirs.frPyObjects(polygon, 100, 100))).astype(bool)
        assert (ours & other).sum() / (ours | other).sum() > 0.97


def test_the_command(tmp_path, pairs):
    """Its options reach the data set, and its note says where this comes from."""
    done = run(
        "masks", pairs.images, pairs.masks, "--classes", tmp_path / "classes.csv",
        "-o", tmp_path / "out", "--size", 16, "--category", "thing", "--licence", "CC0",
        "--threads", 1, "--ignore", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "out: 10 images" in done.stderr
    data = load_broden(tmp_path / "out")
    assert (data.image_size, data.rows[0].label_size) == ((16, 16), (8, 8))
    assert data.categories == ("color", "thing")
    note = json.loads((tmp_path / "out" / NOTE).read_text())
    assert (note["licence"], note["images"], note["source"]) == ("CC0", 10, str(pairs.images))
    done = run("labelme", pairs.images, "--first", 1, "-o", tmp_path / "other")
    assert done.returncode == 1
    assert "import labelme: --first does not go with this format" in done.stderr
    done = run("yolo", pairs.images, "-o", tmp_path / "other")
    assert "import yolo: no such format; there are masks, colours, labelme, coco" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("masks", None, {"classes": None}), "name the folder of masks after that of the images"),
        (("labelme", "labels", {}), "one folder is enough"),
        (("folders", "labels", {}), "one folder is enough"),
        (("ade20k", "labels", {}), "one folder is enough"),
        (("panoptic", None, {}), "name the JSON file of annotations after that of the images"),
        (("table", None, {}), "name the table of labels after that of the images"),
        (("coco", "labels", {"masks": Path("x")}), "--masks does not go with this format"),
        (("colours", "labels", {"variable": "x"}), "--variable does not go with this format"),
        (("masks", "labels", {"classes": None}), r"--classes FILE"),
        (("coco", "labels", {"mask_ending": "x"}), "--mask-ending does not go with this format"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message):
    from dissect_embed.cli.importing import _check_arguments

    format, labels, own = arguments
    with pytest.raises(ConfigError, match=message):
        _check_arguments(format, Path("images"), Path(labels) if labels else None, own)
