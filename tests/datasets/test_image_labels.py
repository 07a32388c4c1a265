"""Labels of whole images: class folders and tables, as they come."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from imported import BLUE, RED, SMALL, files_of, labels_of, run, table
from PIL import Image

from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.checking import check_dataset
from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.importing.image_labels import import_folders, import_table
from dissect_embed.datasets.pixels import read_image
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError

SCENE = Import(size=8, label_size=4, category="scene")


def save(folder: Path, *names: str) -> Path:
    for n, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (RED, BLUE)[n % 2]).save(path)
    return folder


def said_of(root: Path) -> dict[str, str]:
    """Return the labels of the first pixel of each image."""
    rows = load_broden(root).rows
    return {row.image: labels_of(root, n)[0][0] for n, row in enumerate(rows)}


def test_a_folder_is_a_class(tmp_path, caplog):
    """Its number is in the index and labels every pixel; what is no image is passed over."""
    caplog.set_level("INFO")
    images = save(
        tmp_path / "images", "Möwe/a b.JPG", "Möwe/deep/er/1.jpeg", "tern/1.png", "tern/2.png"
    )
    (images / "tern/Thumbs.db").write_bytes(b"\0")
    (images / "tern/._2.png").write_bytes(b"\0")
    (images / "tern/notes.txt").write_text("of a day")
    assert import_folders(tmp_path / "out", images, SCENE) == 4
    assert check_dataset(tmp_path / "out") == []
    assert labels_of(tmp_path / "out") == [["Möwe"] * 4] * 4
    assert said_of(tmp_path / "out") == {
        "Möwe/a b.jpg": "Möwe", "Möwe/deep/er/1.jpg": "Möwe", "tern/1.jpg": "tern",
        "tern/2.jpg": "tern",
    }  # fmt: skip
    data = load_broden(tmp_path / "out")
    assert data.categories == ("color", "scene")
    assert np.abs(read_image(data, data.rows[1]).astype(int) - BLUE).max() < 12
    number = {row["name"]: row["number"] for row in table(tmp_path / "out/label.csv")}
    assert {r["scene"] for r in table(tmp_path / "out/index.csv")} == {
        number["Möwe"], number["tern"],
    }  # fmt: skip
    coverage = {r["name"]: float(r["coverage"]) for r in table(tmp_path / "out/c_scene.csv")}
    assert coverage == {"Möwe": 2, "tern": 2}
    assert "passed over, being no images: 1 .txt" in caplog.text


def test_folders_of_splits_are_no_classes(tmp_path):
    """Whatever their capitals, and a class may be called as a split within one."""
    images = save(tmp_path / "images", "Train/cat/1.png", "Train/test/2.png", "Val/cat/3.png")
    done = run("folders", images, "-o", tmp_path / "out", "--category", "scene", "--size", 8)
    assert done.returncode == 0, done.stderr
    rows = load_broden(tmp_path / "out").rows
    assert [row.split for row in rows] == ["train", "train", "val"]
    assert list(said_of(tmp_path / "out").values()) == ["cat", "test", "cat"]


def test_faults_of_folders(tmp_path):
    def refused(message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            import_folders(tmp_path / "out", tmp_path / "images", SCENE)
        assert not (tmp_path / "out").exists()

    images = save(tmp_path / "images", "cat/1.png", "2.png", "train/3.png")
    refused(r"images: 2 of 3 images lie in no folder of a class \(the first: 2.png\).*table")
    (images / "2.png").unlink()
    (images / "train/3.png").unlink()
    Image.new("RGB", (8, 8)).save(images / "cat/1.jpg")
    refused(r"1.jpg and 1.png have one name but for the ending; rename one, or take one")
    (images / "cat/1.jpg").unlink()
    (images / "cat/1.png").write_bytes(b"no image")
    refused(r"cat/1.png: cannot be decoded")
    (images / "cat/1.png").unlink()
    refused(r"images: no file that ends in .jpg")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["images/cat/1.png", "images/dog/2.png"],
            r"photos: all images lie in images, .* \(cat, dog …\); .* name .*photos/images, else",
        ),
        (["train/images/cat/1.png", "train/images/dog/2.png"], r"move them out of images"),
        (
            ["train/1.png", "bus/2.png"],
            r"1 of 2 images lie .*; train are taken for splits: a class",
        ),
        (["train/a/1.png", "bus/2.png"], r"train is taken for a split, bus beside it .*rename its"),
    ],
)
def test_folders_that_are_hardly_those_of_classes(tmp_path, names, message):
    images = save(tmp_path / "photos", *names)
    with pytest.raises(DatasetError, match=message):
        import_folders(tmp_path / "out", images, Import(size=8, val=0))


def test_one_class_is_told(tmp_path, caplog):
    caplog.set_level("INFO")
    import_folders(tmp_path / "out", save(tmp_path / "photos", "cat/1.png", "cat/a/2.png"), SCENE)
    assert "photos: one class alone, 'cat'" in caplog.text


def test_kinds_of_images(tmp_path, caplog):
    """What Pillow reads is read; others are no 'no images'."""
    caplog.set_level("INFO")
    kinds = [e for e in (".jfif", ".jpe", ".jp2", ".avif") if e in SUFFIXES]
    images = save(tmp_path / "images", *(f"cat/{n}{e}" for n, e in enumerate(kinds)), "dog/a.PNG")
    for file in ("cat/x.HEIC", "cat/y.heic", "cat/z.txt"):
        (images / file).write_bytes(b"?")
    assert len(kinds) > 1
    assert import_folders(tmp_path / "out", images, SCENE) == len(kinds) + 1
    assert "passed over, images of kinds that cannot be read here; save them as PNG: 2 .heic" in (
        caplog.text
    )
    assert "passed over, being no images: 1 .txt" in caplog.text
    heic = tmp_path / "heic"
    heic.mkdir()
    (heic / "1.heic").write_bytes(b"?")
    with pytest.raises(DatasetError, match=r"heic: no file that ends in .jpg.*, but 1 .heic; name"):
        import_folders(tmp_path / "other", heic, SCENE)
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; name the one"):
        import_folders(tmp_path / "other", tmp_path / "nowhere", SCENE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,label\na/1.png,cat\na/2.JPG,dog\n", ["cat", "dog"]),
        ("id,label\n1,cat\n2,dog\n", ["cat", "dog"]),  # as Kaggle's CIFAR
        ("\ufefffile;breed\r\na\\1.png;cat\r\n.\\A\\2.jpg;dog\r\n\r\n", ["cat", "dog"]),
        ("a/1.png,cat\na/2,dog\n", ["cat", "dog"]),  # without a header
        ("x.png,lost\n", "labels.csv:1: 'x.png': no such image below .* as of 1 of 1 rows"),
        ("name,labels\n1.png,cat; wet\n2.jpg,\n", ["cat+wet", ""]),
        ("label\timage\tlabel_2\ncat\timages/a/1.png\twet, cold\ndog\t2\t\n",
         ["cat+wet, cold", "dog"]),
        ("filename,width,class,xmin\n1.png,8,cat,3\n1.png,8,dog,4\n2.jpg,8,dog,1\n",
         ["cat+dog", "dog"]),
        ('1.png;"cat, big"\n2.JPG;"dog, wet"\n', ["cat, big", "dog, wet"]),
        ('image;"label, main"\n1;cat\n2;dog\n', ["cat", "dog"]),
        ("sep=;\nimage;label\n1;cat\n2;dog, wet\n", ["cat", "dog, wet"]),
        ("1.png,cat;wet\n2.JPG,dog;dry\n", ["cat+wet", "dog+dry"]),
        ("image,cat,dog\n1,1.0,0.0\n2,1.0,1.0\n", ["cat", "cat+dog"]),
        ("image,cat,dog\n1,1,0\n2,2,1\n", r"labels.csv:1: .*which columns are labels cannot be"),
        ("image,label\n1,cat,wet\n", r"labels.csv:2: 3 cells, the first row has 2.*quotes"),
        ("image\n1\n2\n", r"labels.csv:1: 1 cells, .*expected an image and its labels"),
        ("image,label\n1,cat\n7,dog\n8,dog\n", r"labels.csv:3: '7': no .* as of 2 of 3 rows"),
        ("image,label\n1,cat\n", r"1 of 2 images have no row in .*first: 2.JPG.*--skip-unlab"),
        ("image,label\n1,\n2,\n", r"no labelled class found"),
        ("image,label\n1,red-c\n2,dog\n", r"a class 'red-c', as a colour is"),
        (" \n", r"labels.csv: empty"),
        (b"image,label\n1,cat\n2,H\xfcndin\n", r"labels.csv:3: not in UTF-8 \(byte 0xfc\)"),
    ],
)  # fmt: skip
def test_tables_of_all_forms(tmp_path, text, expected):
    images = save(tmp_path / "images", "a/1.png", "a/2.JPG")
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / "labels.csv").write_bytes(content)
    if isinstance(expected, str):
        with pytest.raises(DatasetError, match=expected):
            import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE)
        assert not (tmp_path / "out").exists()
    else:
        assert import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE) == 2
        assert check_dataset(tmp_path / "out") == []
        assert list(said_of(tmp_path / "out").values()) == expected


# Two images, 1.png and 2.png, of a cat and a dog; the other way round if rows are taken for images.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,image_name,label\n1,2.png,dog\n2,1.png,cat\n", ["cat", "dog"]),
        (",filepath,label\n1,2.png,dog\n2,1.png,cat\n", ["cat", "dog"]),
        (",filepath,breed\n1,2.png,dog\n2,1.png,cat\n", ["cat", "dog"]),
        ("Unnamed: 0,whatever,label\n1,2.png,dog\n2,1.png,cat\n", ["cat", "dog"]),
        ("index,img,label\n1,2,dog\n2,1,cat\n", ["cat", "dog"]),
        ("image,label\n2,1\n1,2\n", ["2", "1"]),  # of classes that are numbers
        ("filename,path,label\n2.png,images/2.png,dog\n1.png,images/1.png,cat\n", ["cat", "dog"]),
        ("dog,2.png\ncat,1.png\n", ["cat", "dog"]),  # without a header
        ("id,image,label\n1,2,dog\n2,1,cat\n", ["cat", "dog"]),
        ("img,image,label\n1,2,dog\n2,1,cat\n", r":1: the images may be .* 'img' or 'image'"),
        (",x,label\n7,2.png,dog\n8,9.png,cat\n", r"labels.csv:3: '9.png': no such image"),
        ("a,b\n1,2\n2,1\n", r":1: .* column 'a' or 'b', which differ; take out .* 'image'"),
    ],
)  # fmt: skip
def test_the_image_is_the_column_that_names_images(tmp_path, text, expected):
    images = save(tmp_path / "images", "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(text)
    if isinstance(expected, str):
        with pytest.raises(DatasetError, match=expected):
            import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE)
    else:
        import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE)
        assert list(said_of(tmp_path / "out").values()) == expected


def test_it_is_told_what_columns_are(tmp_path, caplog):
    caplog.set_level("INFO")
    images = save(tmp_path / "images", "1.png", "2.png")
    (tmp_path / "labels.csv").write_text("id,image_name,label\n1,2.png,a|b\n2,1.png,c\n")
    import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE)
    told = "the image is column 'image_name'; labels are 'label'; passed over: 'id'"
    assert f"labels.csv: {told}" in caplog.text
    assert "labels.csv: 2 labels: a|b, c\n" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,label_1,label_2\n1,1,0\n2,1,1\n", ["label_1", "label_1+label_2"]),
        ("image,class 1,class 2\n1,0,1.0\n2,-1,0\n", ["class 2", ""]),
        ("image,label\n1,0\n2,1\n", ["0", "1"]),
        ("image,label,label_name\n1,3,cat\n2,4,dog\n", ["cat", "dog"]),
        ("image,label,name\n1,3,cat\n2,4,dog\n", ["cat", "dog"]),
        ("image,class_name,class\n1,cat,0\n2,dog,1\n", ["cat", "dog"]),
        ("image,label,name\n1,3,cat\n2,3,dog\n", ["3", "3"]),  # names of something else
        ("image,label,label_2\n1,3,cat\n2,3,dog\n", r":1: .label. has numbers, .label_2."),
        ("image,label,class 1,class 2\n1,a,0,1\n2,b,0,1\n", r":1: .label. has labels, .class 1."),
        ("1.png,0,1\n2.png,1,0\n", r":1: 0 and 1, and no header that says of what"),
        ("image,label\n1,cat\n2,nan\n", r":3: 'nan' in column 'label'; leave the cell empty"),
        ("image,cat,dog\n1,1,0\n2,NaN,1\n", r":3: 'NaN' in column 'cat'; leave the cell empty"),
        ("image,label\n1,none\n2,\n", ["none", ""]),
    ],
)  # fmt: skip
def test_what_labels_are(tmp_path, caplog, text, expected):
    caplog.set_level("INFO")
    images = save(tmp_path / "images", "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(text)
    if isinstance(expected, str):
        with pytest.raises(DatasetError, match=expected):
            import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE)
    else:
        import_table(tmp_path / "out", images, tmp_path / "labels.csv", SCENE)
        assert list(said_of(tmp_path / "out").values()) == expected
        assert ("0 and 1 are taken for two classes" in caplog.text) == (expected == ["0", "1"])


def test_images_that_have_none_of_the_labels(tmp_path, caplog):
    """They count as unlabelled, and it is said so, or as the rest."""
    caplog.set_level("INFO")
    images = save(tmp_path / "images", "1.png", "2.png", "3.png")
    said = tmp_path / "labels.csv"
    said.write_text("image,crack,wet\n1,1,1\n2,0,0\n3,0,1\n")
    import_table(tmp_path / "out", images, said, SCENE)
    told = (
        "1 of 3 images have nothing of 'scene': they count as unlabelled there, not as without it"
    )
    assert f"{told}; name what is there instead (--rest NAME)" in caplog.text
    caplog.clear()
    done = run(
        "table", images, said, "-o", tmp_path / "out", "--rest", "sound", "--size", 8,
        "--label-size", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(said_of(tmp_path / "out").values()) == ["crack+wet", "sound", "wet"]
    assert "have nothing of" not in done.stderr + done.stdout
    done = run("folders", images, "-o", tmp_path / "other", "--rest", "sound")
    assert "import folders: --rest does not go with this format" in done.stderr
    with pytest.raises(DatasetError, match=r"more: --rest sound does not go with this format"):
        import_folders(
            tmp_path / "other",
            save(tmp_path / "more", "cat/1.png", "dog/1.png"),
            Import(rest="sound"),
        )


def test_names_are_those_of_one_image_alone(tmp_path):
    """A path below the folder comes first; letters are the same, one code point or two."""
    images = save(tmp_path / "images", "train/1.png", "test/1.png", "Möwe.png")
    said = tmp_path / "labels.csv"
    said.write_text("image,label\n1,cat\n", "utf-8")
    with pytest.raises(
        DatasetError, match=r"labels.csv:2: '1' may be any of 2 images \(test/1, train/1 …\)"
    ):
        import_table(tmp_path / "out", images, said, SCENE)
    apart = unicodedata.normalize("NFD", "Möwe.png")
    said.write_text(f"image,label\ntrain/1,cat\n{apart},gull\n", "utf-8")
    done = run(
        "table", images, said, "--skip-unlabelled", "--val", 0, "-o", tmp_path / "out",
        "--size", 8, "--label-size", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said_of(tmp_path / "out") == {"Möwe.jpg": "gull", "train/1.jpg": "cat"}


def test_the_same_table_gives_the_same_files(tmp_path):
    images = save(tmp_path / "images", "a/1.png", "a/2.png")
    (tmp_path / "labels.csv").write_text("1,b;a\n2,a\n")
    for name, threads in (("first", 1), ("second", 4)):
        import_table(tmp_path / name, images, tmp_path / "labels.csv", SMALL, n_threads=threads)
    for file in (tmp_path / "first").rglob("*.*"):
        same = tmp_path / "second" / file.relative_to(tmp_path / "first")
        assert file.read_bytes() == same.read_bytes()


def test_files_that_are_read_are_named_and_not_written_among(tmp_path, monkeypatch):
    images = save(tmp_path / "images", "a/1.png", "b/2.png")
    said = tmp_path / "labels.csv"
    said.write_text("1,cat\n2,dog\n")

    def read_table(root: Path) -> int:
        return import_table(root, images, said, SCENE)

    def read_folders(root: Path) -> int:
        return import_folders(root, images, SCENE)

    there = set(images.rglob("*.png"))
    assert files_of(monkeypatch, "image_labels", read_table) == {said, *there}
    assert files_of(monkeypatch, "image_labels", read_folders) == there
    for read in (read_table, read_folders):
        with pytest.raises(DatasetError, match=r"lies within .* or holds it; name a folder"):
            read(images / "out")
