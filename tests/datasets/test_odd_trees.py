"""Folders as users have them: read as they are meant, or refused with the cause and the line."""

import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.examination import find_class_folders
from dissect_embed.datasets.folders import is_junk, list_files
from dissect_embed.datasets.importing.files import Pairs
from dissect_embed.datasets.importing.masks import import_masks
from dissect_embed.datasets.pixels import read_regions
from dissect_embed.datasets.settings import Import
from dissect_embed.datasets.sources import read_source
from dissect_embed.errors import DatasetError

JUNK = ("Thumbs.db", "desktop.ini", ".DS_Store", "._0.jpg", "__MACOSX/._0.jpg")


@pytest.fixture
def tiny(tiny):
    """Without the label map that no row names."""
    (tiny / "images/2_object.png").unlink()
    return tiny


def add_junk(folder):
    (folder / "__MACOSX").mkdir()
    for name in JUNK:
        (folder / name).write_bytes(b"junk")


def test_names_with_spaces_umlauts_and_capitals_and_a_link_that_leads_back(tiny):
    images = tiny / "images"
    (images / "0.jpg").rename(images / "Ein Bäum.JPG")
    table = (tiny / "index.csv").read_text().replace("0.jpg", "Ein Bäum.JPG", 1)
    (tiny / "index.csv").write_text(table, encoding="utf-8")
    (images / "loop").symlink_to(images)
    assert len(list_files(images)) == len(list(images.glob("*.*")))
    assert load_broden(tiny).rows[0].image == "Ein Bäum.JPG"
    assert check_dataset(tiny) == []


def test_what_file_managers_leave_is_passed_over(tiny):
    before = load_broden(tiny).fingerprint
    add_junk(tiny / "images")
    assert check_dataset(tiny) == []
    assert load_broden(tiny).fingerprint == before
    assert not any(map(is_junk, ("0.jpg", "Thumbs.jpg", "_0.jpg", "MACOSX")))


def test_backslashes_and_spaces_after_commas_are_read(tiny):
    """As tables are that were written on Windows, or by hand."""
    dataset = load_broden(tiny)
    regions = [read_regions(dataset, row).region for row in dataset.rows]
    names = {row.image for row in dataset.rows}
    (tiny / "images").rename(tiny / "kept")
    (tiny / "images").mkdir()
    (tiny / "kept").rename(tiny / "images/a b")
    lines = (tiny / "index.csv").read_text().splitlines()
    for n, line in enumerate(lines):
        cells = line.split(",")
        if n:
            files = [";".join(f"a b\\{e}" if "." in e else e for e in c.split(";")) for c in cells]
            cells = [files[0], *cells[1:6], *files[6:]]
        lines[n] = ", ".join(cells)
    (tiny / "index.csv").write_text("\r\n".join(lines))
    moved = load_broden(tiny)
    assert {row.image for row in moved.rows} == {f"a b/{name}" for name in names}
    for row, expected in zip(moved.rows, regions, strict=True):
        assert (read_regions(moved, row).region == expected).all()
    assert check_dataset(tiny) == []


@pytest.mark.parametrize(
    ("named", "stored", "message"),
    [
        ("a.JPG", "a.jpg", r"index.csv:2: .* has no 'a.JPG', but 'a.jpg', .* in capitals alone"),
        (
            unicodedata.normalize("NFC", "bäum.jpg"),
            unicodedata.normalize("NFD", "bäum.jpg"),
            r"index.csv:2: .* has no 'b\\xe4um.jpg', but 'ba\\u0308um.jpg', .* accents .*NFD",
        ),
    ],
)
def test_a_name_that_is_spelt_otherwise_is_told(tiny, named, stored, message):
    (tiny / "images/0.jpg").rename(tiny / "images" / stored)
    table = (tiny / "index.csv").read_text().replace("0.jpg", named, 1)
    (tiny / "index.csv").write_text(table, encoding="utf-8")
    with pytest.raises(DatasetError, match=message):
        load_broden(tiny)


@pytest.mark.parametrize(
    ("table", "code", "message"),
    [
        (
            "label.csv", "latin-1",
            r"label.csv:4: is not in UTF-8 \(read as Latin-1: '2,Bäume,obj.*; save it as .* UTF-8",
        ),
        ("index.csv", "utf-16", r"index.csv: is in UTF-16; save it as CSV in UTF-8"),
        ("category.csv", "utf-16", r"category.csv: is in UTF-16"),
    ],
)  # fmt: skip
def test_tables_in_other_encodings_are_refused(tiny, table, code, message):
    lines = (tiny / table).read_text().splitlines()
    lines.insert(3, "2,Bäume,object(1),1,1.0,")
    (tiny / table).write_bytes("\n".join(lines).encode(code))
    with pytest.raises(DatasetError, match=message):
        load_broden(tiny)
    assert any(table in fault for fault in check_dataset(tiny))


@pytest.mark.parametrize("table", ["index.csv", "label.csv", "category.csv", "c_object.csv"])
@pytest.mark.parametrize("mark", [";", "\t"])
def test_tables_with_other_marks_between_cells_are_refused(tiny, table, mark):
    (tiny / table).write_text((tiny / table).read_text().replace(",", mark))
    with pytest.raises(
        DatasetError, match=f"{table}:1: its cells .* {re.escape(repr(mark))}; .*comma"
    ):
        load_broden(tiny)
    assert any("its cells are parted" in fault for fault in check_dataset(tiny))


def test_images_and_masks_of_which_macos_stored_one(tmp_path):
    for kind, form, mode in (("images", "NFD", "RGB"), ("masks", "NFC", "L")):
        (tmp_path / kind).mkdir()
        name = unicodedata.normalize(form, "Bäume 1.PNG")
        Image.new(mode, (8, 8), 1).save(tmp_path / kind / name)
        add_junk(tmp_path / kind)
    (tmp_path / "classes.csv").write_text("1,tree\n")
    pairs = Pairs(tmp_path / "images", tmp_path / "masks")
    out = tmp_path / "out"
    assert import_masks(out, pairs, tmp_path / "classes.csv", Import(size=8)) == 1
    assert load_broden(out).rows[0].image == unicodedata.normalize("NFC", "Bäume 1.jpg")


@pytest.fixture
def classes(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "0.PNG")
    return tmp_path


def test_class_folders_with_what_file_managers_leave(classes):
    before = {(e.split, e.class_name, e.name) for e in read_source(classes)}
    images = find_class_folders(classes / "train").paths
    for folder in (classes / "train", classes / "train/cat"):
        add_junk(folder)
    assert {(e.split, e.class_name, e.name) for e in read_source(classes)} == before
    assert find_class_folders(classes / "train").paths == images


def test_kaggles_layout_of_cifar_is_refused(tmp_path):
    """Its images lie in one folder, with their classes in a table."""
    (tmp_path / "train").mkdir()
    for n in range(3):
        (tmp_path / f"train/{n}.png").touch()
    with pytest.raises(DatasetError, match=r"train: 3 files and no class folder; .*of its class$"):
        list(read_source(tmp_path))
    (tmp_path / "trainLabels.csv").touch()
    with pytest.raises(DatasetError, match=r"folder of its class, as trainLabels.csv says$"):
        list(read_source(tmp_path))
