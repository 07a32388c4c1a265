"""Imports that were killed go on where they stopped, and come out as those left in peace do."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.folders import list_files
from dissect_embed.datasets.importing.files import Pairs
from dissect_embed.datasets.importing.masks import import_masks
from dissect_embed.datasets.importing.writing import Labelled, Source, write_dataset
from dissect_embed.datasets.merging import merge_datasets
from dissect_embed.datasets.progress import stamp_files
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError, DiskSpaceError

SMALL = Import(size=8, label_size=4)
N = 10


class Reader:
    """Images of known pixels; notes which are read, and fails where it is told to."""

    def __init__(self, folder: Path, fails: int | None = None, error: Exception | None = None):
        self.read_places: list[int] = []
        self.checked: list[list[int]] = []
        self.fails, self.error = fails, error or DatasetError("image 6 is damaged; mend it")
        self.file, self.folder = folder / "classes.csv", folder / "source"
        if not self.file.exists():
            self.file.write_text("1,sky\n2,road\n")
            self.folder.mkdir()
            for n in range(N):
                (self.folder / f"{n}").write_text("x")

    def __call__(self, place: int) -> Labelled:
        if place == self.fails:
            raise self.error
        self.read_places.append(place)
        generator = np.random.default_rng(place)
        pixels = generator.integers(0, 255, (8, 12, 3), dtype=np.uint8)
        return Labelled(pixels, [generator.integers(0, 3, (8, 12))])

    def check(self, places: Sequence[int]) -> None:
        self.checked.append(list(places))

    def make(self, root: Path, settings: Import = SMALL) -> None:
        names = [f"{'ab'[n % 2]}/{n}" for n in range(N)]
        classes = {"sky": "", "road": "street"}
        note = {"source": "drawn"}
        files = [[self.folder / f"{n}"] for n in range(N)]
        source = Source(names, classes, self, note, files, [self.file], self.check)
        write_dataset(root, source, settings, n_threads=1)


def content(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in sorted(list_files(root))}


@pytest.fixture
def whole(tmp_path):
    Reader(tmp_path).make(tmp_path / "whole")
    return content(tmp_path / "whole")


def test_it_goes_on_and_nothing_is_read_twice(tmp_path, whole, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    broken = Reader(tmp_path, fails=6)
    with pytest.raises(DatasetError, match="image 6 is damaged"):
        broken.make(out)
    assert not out.exists()
    assert "out.part: 6 images are made; the same command goes on from there, unless" in caplog.text
    again = Reader(tmp_path)
    again.make(out)
    assert "out.part: goes on after the 6 images that are made" in caplog.text
    assert again.read_places == [6, 7, 8, 9]
    assert (again.checked, broken.checked) == ([again.read_places], [list(range(N))])
    assert content(out) == whole
    assert not list(tmp_path.glob("out.*"))


def test_a_record_cut_short_and_files_lost_in_a_power_cut(tmp_path, whole):
    out, record = tmp_path / "out", tmp_path / "out.part.jsonl"
    with pytest.raises(DatasetError):
        Reader(tmp_path, fails=6).make(out)
    record.write_bytes(record.read_bytes()[:-9])  # of image 5
    (tmp_path / "out.part/images/a/2.jpg").write_bytes(b"")
    (tmp_path / "out.part/images/b/3_object.png").unlink()
    with pytest.raises(DatasetError):
        Reader(tmp_path, fails=8).make(out)
    again = Reader(tmp_path)
    again.make(out)
    assert again.read_places == [8, 9]
    assert content(out) == whole


def test_what_is_wrong_with_all_images_leaves_nothing_to_go_on_with(tmp_path, caplog):
    """A disk that runs full at last does."""
    caplog.set_level("INFO")
    out = tmp_path / "out"
    for error, left in ((DatasetError("no class"), 0), (OSError(errno.ENOSPC, "full"), 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dissect_embed.datasets.importing.writing.write_tables", fail_with(error))
            with pytest.raises((DatasetError, DiskSpaceError)):
                Reader(tmp_path).make(out)
        assert len(list(tmp_path.glob("out*"))) == left
        assert ("10 images are made" in caplog.text) == (left > 0)


def fail_with(error: Exception) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise error

    return fail


def test_an_image_that_was_changed_is_made_again(tmp_path, caplog):
    """One that was broken, and one that had been made."""
    caplog.set_level("INFO")
    out = tmp_path / "out"
    with pytest.raises(DatasetError):
        Reader(tmp_path, fails=6).make(out)
    for n in (2, 6):
        (tmp_path / f"source/{n}").write_text("mended")
    again = Reader(tmp_path)
    again.make(out)
    assert again.read_places == [2, 6, 7, 8, 9]
    assert again.checked == [again.read_places]
    assert "out.part: goes on after the 5 images that are made" in caplog.text


@pytest.mark.parametrize("change", ["file", "settings", "version", "torn", "zeros"])
def test_it_begins_anew_when_anything_differs(tmp_path, change, monkeypatch, caplog):
    caplog.set_level("INFO")
    out, settings = tmp_path / "out", SMALL
    with pytest.raises(DatasetError):
        Reader(tmp_path, fails=6).make(out)
    (tmp_path / "out.part/images/a/stray.jpg").write_bytes(b"stray")
    if change == "file":
        os.utime(tmp_path / "classes.csv", (1, 1))
    elif change == "settings":
        settings = Import(size=8, label_size=4, seed=1)
    elif change == "version":
        monkeypatch.setattr("dissect_embed.datasets.progress.__version__", "another")
    elif change == "torn":
        (tmp_path / "out.part.jsonl").write_bytes(b"{")
    else:
        with (tmp_path / "out.part.jsonl").open("ab") as record:
            record.write(bytes(50) + b"\n")
    again = Reader(tmp_path)
    again.make(out, settings)
    assert (again.read_places, again.checked) == (list(range(N)), [list(range(N))])
    assert "a/stray.jpg" not in list_files(out / "images")
    told = {
        "file": "begun with other files; ", "settings": "begun with other settings; ",
        "version": "begun with other version; ", "zeros": "its record is damaged; ", "torn": "",
    }  # fmt: skip
    assert ("begins anew" in caplog.text) == (change != "torn")
    assert f"out.part: {told[change]}" in caplog.text


def test_what_fails_before_the_first_image_leaves_nothing(tmp_path):
    with pytest.raises(DatasetError):
        Reader(tmp_path, fails=0).make(tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["classes.csv", "source"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_runs_full(tmp_path, whole, number):
    out = tmp_path / "out"
    reader = Reader(tmp_path, fails=6, error=OSError(number, "no space"))
    message = r"out: the disk ran full \(.* free in .*\); make room and run again"
    with pytest.raises(DiskSpaceError, match=message):
        reader.make(out)
    Reader(tmp_path).make(out)
    assert content(out) == whole


class ShortWriter(FileIO):
    """A file on a disk that takes the first bytes of a line and says nothing, once."""

    full = True

    def write(self, data: bytes) -> int:
        if self.full and data.startswith(b"[4,"):
            self.full = False
            return super().write(data[:20])
        return super().write(data)


def test_a_record_that_a_full_disk_cut_short(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dissect_embed.datasets.progress.FileIO", ShortWriter)
        with pytest.raises(DiskSpaceError, match="out: the disk ran full"):
            Reader(tmp_path).make(tmp_path / "out")
    again = Reader(tmp_path)
    again.make(tmp_path / "out")
    assert again.read_places == [4, 5, 6, 7, 8, 9]
    assert content(tmp_path / "out") == whole


def test_two_at_once_are_refused(tmp_path, whole):
    with (tmp_path / "out.part.jsonl").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match=r"out: another process is making it; wait"):
            Reader(tmp_path).make(tmp_path / "out")
    Reader(tmp_path).make(tmp_path / "out")
    assert content(tmp_path / "out") == whole


def test_a_stamp_tells_names_sizes_and_times(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("x")
        os.utime(file, (5, 5))
    stamps = [stamp_files(files), stamp_files(files[:1]), stamp_files(files[::-1])]
    files[0].write_text("xx")
    os.utime(files[0], (5, 5))
    stamps.append(stamp_files(files))
    os.utime(files[0], (5, 6))
    stamps.append(stamp_files(files))
    assert len(set(stamps)) == 5


@pytest.fixture
def masks(tmp_path):
    """Enough images that a signal comes before the last."""
    generator = np.random.default_rng(0)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / kind).mkdir()
        for n in range(150):
            shape = (300, 300, 3) if kind == "images" else (300, 300)
            pixels = generator.integers(0, 3, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / kind / f"{n:03d}.{suffix}")
    (tmp_path / "classes.csv").write_text("1,sky\n2,road\n")
    return Pairs(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_signal_in_the_middle(tmp_path, masks, sent):
    """The command is killed, or stopped by Ctrl-C, and run again."""
    classes = tmp_path / "classes.csv"
    import_masks(tmp_path / "whole", masks, classes)
    command = [sys.executable, "-m", "dissect_embed", "import", "masks", masks.images, masks.masks]
    command += ["--classes", classes, "-o", tmp_path / "out"]
    record = tmp_path / "out.part.jsonl"

    def heed() -> None:
        # A shell that starts the tests in the background lets them ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with (tmp_path / "stderr").open("w") as log:
        child = subprocess.Popen(list(map(str, command)), stderr=log, preexec_fn=heed)
        while not record.is_file() or record.read_bytes().count(b"\n") < 20:
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(sent)
        child.wait()
    assert child.returncode == (-9 if sent == signal.SIGKILL else 130)
    told = (tmp_path / "stderr").read_text()
    assert "Traceback" not in told
    assert ("the same command goes on from there" in told) == (sent == signal.SIGINT)
    assert not (tmp_path / "out").exists()
    assert 20 <= len(record.read_bytes().splitlines()) <= 150
    import_masks(tmp_path / "out", masks, classes)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_merge_goes_on(tmp_path, whole, caplog):
    caplog.set_level("INFO")
    source = tmp_path / "whole"
    merge_datasets(tmp_path / "merged", {"one": source, "two": source})
    label = source / "images/a/8_object.png"
    kept = label.read_bytes()
    label.write_bytes(b"x" * len(kept))
    with pytest.raises(DatasetError, match=r"8_object.png: cannot be decoded"):
        merge_datasets(tmp_path / "out", {"one": source, "two": source}, n_threads=1)
    assert "out.part: 8 images are made" in caplog.text
    label.write_bytes(kept)
    merge_datasets(tmp_path / "out", {"one": source, "two": source})
    assert "out.part: goes on after the 8 images" in caplog.text
    merged, out = content(tmp_path / "merged"), content(tmp_path / "out")
    assert merged == out
    label.write_bytes(b"x" * len(kept))
    with pytest.raises(DatasetError, match=r"8_object.png: cannot be decoded"):
        merge_datasets(tmp_path / "out", {"one": source, "two": source}, n_threads=1)
    label.write_bytes(kept)
    (source / "label.csv").touch()
    merge_datasets(tmp_path / "out", {"one": source, "two": source})
    assert "out.part: begun with other files; begins anew" in caplog.text
    assert json.loads(out["made-by-dissect-embed.json"])["sources"][0]["note"]["images"] == N
