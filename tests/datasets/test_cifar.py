"""Class folders, tar files of them, CIFAR's pickles: one file from all, or an error that helps."""

import io
import pickle
import re
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torchvision
from PIL import Image

from dissect_embed.artefacts.files import read_made_from
from dissect_embed.cli import main
from dissect_embed.datasets import cifar
from dissect_embed.datasets.cifar import decode_classes, download_cifar100
from dissect_embed.datasets.classes import ClassSplit, hash_classes, load_classes, write_classes
from dissect_embed.errors import ArtefactError, DatasetError, DiskSpaceError

CIFAR100 = Path(__file__).parents[3] / "shared" / "data" / "cifar100"

# In another order than they are to come out in, and with numbers that say where they belong.
IMAGES = {
    "train/pear/b.png": 3,
    "train/apple/z.webp": 2,
    "train/apple/a.png": 1,
    "train/pear/c.bmp": 4,
    "test/pear/a.png": 6,
    "test/apple/z.png": 5,
}


def picture(value: int, size: tuple[int, int] = (32, 32), kind: str = "png") -> bytes:
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels[0, 0] = value
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"lossless": True} if kind == "webp" else {}))
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "fruit"
    for name, value in IMAGES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(value, kind=name.rpartition(".")[2]))
    return root


def pack(path: Path, files: dict[str, bytes | None], mode: str = "w") -> Path:
    """Write a tar file; a name without content is a folder."""
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def pictures(prefix: str = "") -> dict[str, bytes | None]:
    return {
        prefix + name: picture(value, kind=name.rpartition(".")[2])
        for name, value in IMAGES.items()
    }


def write_pickles(root: Path, **changes: object) -> Path:
    """Write what `IMAGES` holds as CIFAR-100's authors would."""
    root.mkdir()
    content: dict[str, dict[str, object]] = {"meta": {"fine_label_names": ["apple", "pear"]}}
    for split in ("train", "test"):
        rows = [(name.split("/"), v) for name, v in IMAGES.items() if name.startswith(split)]
        pixels = [np.asarray(Image.open(io.BytesIO(picture(value)))) for _, value in rows]
        content[split] = {
            "data": np.stack([p.transpose(2, 0, 1).ravel() for p in pixels]),
            "fine_labels": [["apple", "pear"].index(parts[1]) for parts, _ in rows],
            "filenames": [parts[2].rpartition(".")[0] + ".png" for parts, _ in rows],
        }
    content["train"] |= changes
    for name, value in content.items():
        (root / name).write_bytes(pickle.dumps(value, protocol=2))
    return root


def decode(tmp_path: Path, *sources: Path, name: str = "fruit") -> Path:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
    decode_classes(sources, path, name)
    return path


def assert_same(path: Path, other: Path) -> None:
    for split in ("train", "test"):
        a, b = load_classes(path, split), load_classes(other, split)
        assert a.fingerprint == b.fingerprint
        np.testing.assert_array_equal(a.images, b.images)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_images_come_by_class_and_name(folder, tmp_path):
    counts = decode_classes([folder], tmp_path / "new" / "classes.h5", "fruit")
    assert str(counts) == "4 training and 2 test images of 2 classes, 32×32 pixels"
    train = load_classes(tmp_path / "new" / "classes.h5", "train")
    assert (train.name, train.classes) == ("fruit", ["apple", "pear"])
    assert (train.images.dtype, train.labels.dtype) == (np.uint8, np.int64)
    assert train.images.shape == (4, 32, 32, 3)
    assert train.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert train.labels.tolist() == [0, 0, 1, 1]
    test = load_classes(tmp_path / "new" / "classes.h5", "test")
    assert test.images[:, 0, 0, 0].tolist() == [5, 6]
    assert test.labels.tolist() == [0, 1]
    assert test.fingerprint == train.fingerprint
    with Image.open(folder / "train/pear/c.bmp") as image:
        np.testing.assert_array_equal(train.images[3], np.asarray(image))


def test_layout_of_the_file(folder, tmp_path):
    with h5py.File(decode(tmp_path, folder)) as file:
        assert file["classes"].asstr()[:].tolist() == ["apple", "pear"]
        assert [d.label for d in file["train/images"].dims] == ["image", "y", "x", "channel"]
        assert file["train/images"].chunks is None
        assert file.attrs["schema"] == "classes"
        assert re.fullmatch("[0-9a-f]{64}", read_made_from(file)["images"])


def test_all_forms_give_the_same_file(folder, tmp_path):
    expected = decode(tmp_path, folder)
    plain = pictures()
    train = pack(tmp_path / "a.tar", {k: v for k, v in plain.items() if k.startswith("train")})
    test = pack(tmp_path / "b.tar", {k: v for k, v in plain.items() if k.startswith("test")})
    packed = pack(tmp_path / "c.tar.gz", pictures("fruit-main/"), "w:gz")
    dotted = pack(tmp_path / "d.tar.xz", pictures("./"), "w:xz")
    pickles = write_pickles(tmp_path / "cifar-100-python")
    for sources in ([test, train], [packed], [dotted], [pickles], [pickles.parent]):
        assert_same(decode(tmp_path, *sources), expected)
    for tar in (packed, dotted):
        tar.unlink()
    (pickles / "meta").unlink()
    assert_same(decode(tmp_path, tmp_path), expected)  # a folder of tar files


def test_cifar10_has_five_training_files(tmp_path):
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    names = {"label_names": ["airplane", "automobile"]}
    (root / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    for value, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = {
            "data": np.full((2, 3072), value, np.uint8),
            "labels": [1, 0],
            "filenames": [f"{value}.png", f"{value}.png"],
        }
        (root / name).write_bytes(pickle.dumps(batch, protocol=2))
    train = load_classes(decode(tmp_path, root), "train")
    assert train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4] * 2


def test_many_images_are_decoded_in_order(monkeypatch, folder, tmp_path):
    expected = decode(tmp_path, folder)
    monkeypatch.setattr(cifar, "_CHUNK", 1)
    monkeypatch.setattr(cifar, "cpu_count", lambda: 2)
    assert_same(decode(tmp_path, folder), expected)


def test_the_fingerprint_tells_pixels_labels_and_names_apart(folder, tmp_path):
    def content(value: int = 0, label: int = 1, second: str = "b") -> str:
        images = np.zeros((2, 4, 4, 3), np.uint8)
        images[1, 3, 3, 2] = value
        split = ClassSplit(images, np.array([0, label]))
        return hash_classes(["a", second], {"train": split, "test": split})

    assert content() == content()
    assert len({content(), content(value=1), content(label=0), content(second="c")}) == 4
    one, other = decode(tmp_path, folder), decode(tmp_path, folder, name="other")
    # The file's own fingerprint attests what it holds: a name is none of it.
    assert load_classes(one, "test").fingerprint == load_classes(other, "test").fingerprint
    Image.new("RGB", (32, 32), (9, 9, 9)).save(folder / "train/apple/a.png")
    changed = load_classes(decode(tmp_path, folder), "test").fingerprint
    assert changed != load_classes(other, "test").fingerprint


def test_hidden_files_and_what_lies_beside_classes_is_passed_over(folder, tmp_path):
    expected = decode(tmp_path, folder)
    for name in ("README.md", "train/labels.txt", "train/apple/.DS_Store", "train/.cache/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    assert_same(decode(tmp_path, folder), expected)
    junk = {"README.md": b"x", "__MACOSX/train/apple/._a.png": b"x", "train/.x/a.png": b"x",
            "train/apple/._a.png": b"x", "train": None, "train/apple": None}  # fmt: skip
    assert_same(decode(tmp_path, pack(tmp_path / "a.tar", {**pictures(), **junk})), expected)


def test_grey_and_opaque_images_become_rgb(folder, tmp_path):
    Image.new("L", (32, 32), 77).save(folder / "train/apple/a.png")
    Image.new("RGBA", (32, 32), (1, 2, 3, 255)).save(folder / "train/apple/b.png")
    train = load_classes(decode(tmp_path, folder), "train")
    assert train.images[:2, 0, 0].tolist() == [[77, 77, 77], [1, 2, 3]]


def test_hidden_pixels_are_not_shown(folder, tmp_path):
    Image.new("RGBA", (32, 32), (1, 2, 3, 4)).save(folder / "train/apple/b.png")
    message = r"apple/b\.png: partly transparent; save it on a ground .* or set --background"
    assert_refused(tmp_path, message, folder)


def test_what_is_transparent_or_turned_is_read_as_is_said(folder, tmp_path):
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(folder / "train/apple/b.png")
    turned = Image.new("RGB", (32, 32))
    turned.putpixel((0, 0), (255, 255, 255))
    turned.getexif()[0x0112] = 3  # upside down
    turned.save(folder / "train/apple/c.png", exif=turned.getexif())
    out = tmp_path / "classes.h5"
    decode_classes([folder], out, "t", 1, background=(10, 20, 30), orientation="apply")
    train = load_classes(out, "train")
    assert train.images[1, 5, 5].tolist() == [10, 20, 30]
    assert train.images[2, 31, 31].tolist() == [255, 255, 255]
    message = r"c\.png: stored turned .* or set --orientation to 'apply' or 'ignore'"
    with pytest.raises(DatasetError, match=message):
        decode_classes([folder], out, "t", 1, background=(10, 20, 30))


def assert_refused(tmp_path: Path, match: str, *sources: Path) -> None:
    """Check the error, and that nothing is left."""
    path = tmp_path / "out" / "classes.h5"
    with pytest.raises(DatasetError, match=match):
        decode_classes(sources, path, "fruit")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("train/pear/README.md", b"# Pears", r"train/pear/README.md: not an image; take it out"),
        ("test/pear/a.png", picture(1)[:900], r"test/pear/a.png: cannot be decoded .*truncated"),
        ("test/pear/a.png", b"", r"test/pear/a.png: not an image"),
        (
            "test/pear/b.png",
            picture(1, (16, 24)),
            r"test/pear/b.png: 16×24 pixels, .*train/apple/a.png has 32×32; scale all",
        ),
        ("train/pear/more/x.png", picture(1), r"pear/more: lies deeper than .*fruit / train or"),
        ("train/fig/x.png", picture(1), r"1 of 3 classes are missing in test/ \(fig\); name all"),
        ("test/fig/x.png", picture(1), r"1 of 3 classes are missing in train/ \(fig\)"),
        ("train/fig/", None, r"train/fig: no image of class 'fig' in train; add some"),
        ("train/fig/.hidden", b"", r"train/fig: no image of class 'fig' in train"),
    ],
)
def test_a_wrong_file_is_named(folder, tmp_path, name, content, match):
    place = folder / name
    if content is None:
        place.mkdir()
    else:
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
    assert_refused(tmp_path, match, folder)
    files = {**pictures(), name.removesuffix("/"): content}
    in_tar = match.replace(r".*fruit / train or", ".*a.tar / train or")
    if "hidden" not in name:
        if "more" in name:
            in_tar = r"a.tar: train/pear/more/x.png: lies deeper than"
        assert_refused(tmp_path, in_tar, pack(tmp_path / "a.tar", files))


def test_a_damaged_image_is_named_by_another_process(monkeypatch, folder, tmp_path):
    (folder / "test/pear/a.png").write_bytes(b"no")
    monkeypatch.setattr(cifar, "_CHUNK", 1)
    monkeypatch.setattr(cifar, "cpu_count", lambda: 2)
    assert_refused(tmp_path, r"test/pear/a.png: not an image", folder)


def test_one_class_is_none(folder, tmp_path):
    files = {name: data for name, data in pictures().items() if "apple" in name}
    tar = pack(tmp_path / "a.tar", files)
    assert_refused(tmp_path, r"a.tar: only one class \(apple\); expected at least two", tar)


@pytest.mark.parametrize(("split", "other"), [("train", "test"), ("test", "train")])
def test_both_splits_are_needed(folder, tmp_path, split, other):
    (folder / split).rename(folder / "val")
    assert_refused(tmp_path, rf"fruit: no {split} split; expected {split}/<class>", folder)
    (folder / other).rename(folder / "x")
    assert_refused(tmp_path, r"fruit: expected train/ and test/ .*, got val, x; name the", folder)
    assert_refused(tmp_path, r"a.tar: no train split", pack(tmp_path / "a.tar", {"a/b.png": b""}))


def test_a_source_that_does_not_exist(tmp_path):
    assert_refused(tmp_path, r"nowhere: no such file or folder; correct", tmp_path / "nowhere")


def test_a_source_named_twice(folder, tmp_path):
    tar = pack(tmp_path / "a.tar", pictures())
    match = r"apple/a.png: is in .*apple/a.png as well; name each source once"
    assert_refused(tmp_path, match, folder, tar)


def test_a_truncated_tar_is_refused_wherever_it_ends(tmp_path):
    tar = pack(tmp_path / "a.tar", pictures())
    content = tar.read_bytes()
    with tarfile.open(tar) as file:
        last = file.getmembers()[-1]
    ends = {"within data": last.offset_data + 700, "within a header": last.offset + 100,
            "between files": last.offset, "after a header": last.offset_data}  # fmt: skip
    for end in ends.values():
        tar.write_bytes(content[:end])
        assert_refused(tmp_path, r"a.tar: no tar file, or not a whole one \(.+\); fetch", tar)
    tar.write_bytes(b"no tar" * 200)
    assert_refused(tmp_path, r"a.tar: no tar file, or not a whole one", tar)
    for mode in ("gz", "xz", "bz2"):
        packed = pack(tmp_path / f"a.tar.{mode}", pictures(), f"w:{mode}")
        packed.write_bytes(packed.read_bytes()[:-900])
        assert_refused(tmp_path, rf"a.tar.{mode}: no tar file, or not a whole one", packed)


def test_links_in_a_tar_are_refused(tmp_path):
    tar = pack(tmp_path / "a.tar", pictures())
    with tarfile.open(tar, "a") as file:
        link = tarfile.TarInfo("train/apple/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert_refused(tmp_path, r"a.tar: train/apple/link.png: is a link or a device", tar)


class Hostile:
    def __reduce__(self):
        return print, ("pwned",)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"data": np.zeros((4, 100), np.uint8)}, r"train: not as CIFAR's .*\(4, 100\) pixels, 4"),
        ({"fine_labels": [0, 1]}, r"train: .*2 labels\); fetch the archive"),
        ({"fine_labels": [0, 1, 0, 2]}, r"train: .*row 3 has label 2"),
        ({"data": Hostile()}, r"train: .*refers to __builtin__.print: do not trust it"),
    ],
)
def test_pickles_that_are_not_cifars(tmp_path, capsys, changes, match):
    assert_refused(tmp_path, match, write_pickles(tmp_path / "cifar-100-python", **changes))
    assert "pwned" not in capsys.readouterr().out


def test_pickles_that_are_not_whole(tmp_path):
    root = write_pickles(tmp_path / "cifar-100-python")
    content = (root / "train").read_bytes()
    (root / "train").write_bytes(content[:1000])
    assert_refused(tmp_path, r"cifar-100-python/train: not as CIFAR's authors made it", root)
    (root / "train").write_bytes(pickle.dumps({"data": 1}, protocol=2))
    assert_refused(tmp_path, r"train: .*it has no 'fine_labels'", root)
    (root / "train").unlink()
    assert_refused(tmp_path, r"train: not as CIFAR's authors made it \(missing\)", root)


def test_no_room_on_the_disk(monkeypatch, folder, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    with pytest.raises(DiskSpaceError, match=r"classes.h5: needs 18,432 bytes, 100 are free"):
        decode_classes([folder], tmp_path / "out" / "classes.h5", "fruit")


def test_loading_what_is_not_there(folder, tmp_path):
    path = decode(tmp_path, folder)
    with pytest.raises(DatasetError, match=r"no split 'val'; expected train or test"):
        load_classes(path, "val")
    with pytest.raises(ArtefactError, match=r"no.h5: missing; make it with 'dissect-embed classes"):
        load_classes(tmp_path / "no.h5", "train")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ArtefactError, match=r"no HDF5 file, or a damaged one"):
        load_classes(path, "train")


def test_an_error_while_writing_leaves_the_old_file(monkeypatch, folder, tmp_path):
    path = decode(tmp_path, folder)
    before = path.read_bytes()
    split = ClassSplit(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(1, np.int64))
    monkeypatch.setattr("dissect_embed.datasets.classes.label_axes", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_classes(path, "x", ["a"], {"train": split, "test": split})
    assert path.read_bytes() == before


def test_download_goes_through_torchvision(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", lambda *a, **k: asked.append((a, k)))
    assert download_cifar100(tmp_path) == tmp_path
    assert asked == [((str(tmp_path),), {"download": True})]

    def fail(*args: object, **kwargs: object) -> None:
        message = "no network"
        raise OSError(message)

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", fail)
    with pytest.raises(DatasetError, match=r"cannot be fetched \(no network\); unpack cifar-100"):
        download_cifar100(tmp_path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["dissect-embed", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None)


def test_command_line(monkeypatch, folder, tmp_path, capsys):
    path = tmp_path / "fruits" / "classes.h5"
    run(monkeypatch, "classes", "--source", folder, "--output", path)
    line = "4 training and 2 test images of 2 classes, 32×32 pixels"
    assert capsys.readouterr().err.splitlines()[-1] == f"{path}: {line}"
    assert load_classes(path, "train").name == "fruits"
    run(monkeypatch, "inspect", path)
    printed = capsys.readouterr().out
    assert line in printed
    assert "Classes: apple to pear." in printed
    assert "Images a class: 2 to 2 in train, 1 to 1 in test." in printed


def test_command_line_without_a_source(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["dissect-embed", "classes", "-o", str(tmp_path / "c.h5")])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "nothing to decode" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.skipif(not CIFAR100.exists(), reason="needs ../shared/data/cifar100")
def test_cifar100(tmp_path):
    decode_classes([CIFAR100], tmp_path / "classes.h5", "cifar100")
    train = load_classes(tmp_path / "classes.h5", "train")
    assert np.bincount(train.labels).tolist() == [500] * 100
    assert (train.classes[0], train.classes[-1]) == ("apple", "worm")
    mean = train.images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, (0.50708, 0.48655, 0.44092), atol=5e-6)
    test = load_classes(tmp_path / "classes.h5", "test")
    assert np.bincount(test.labels).tolist() == [100] * 100
