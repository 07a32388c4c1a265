"""Unpacking archives that are damaged, odd or hostile."""

import contextlib
import hashlib
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dissect_embed.datasets.folders import NOTE
from dissect_embed.datasets.unpack import unpack_zip
from dissect_embed.errors import DatasetError, DiskSpaceError

CAMVID = Path(__file__).parents[3] / "shared" / "data" / "broden_camvid.zip"


def zipped(tmp_path: Path, files: dict[str, bytes], **how: int) -> Path:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w", **how) as file:  # type: ignore[arg-type]
        for name, content in files.items():
            file.writestr(name, content)
    return archive


BRODEN = {"b/index.csv": b"image,split\n", "b/images/a/1.jpg": b"\xff\xd8" * 500}


def test_unpacks_the_top_folder_under_the_new_name(tmp_path):
    junk = {"__MACOSX/b/._index.csv": b"x", "b/.DS_Store": b"x", "b/images/.DS_Store": b"x"}
    archive = zipped(tmp_path, BRODEN | junk)
    root = tmp_path / "deep" / "broden"
    assert unpack_zip(archive, root) == root
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.*")}
    assert found.pop(NOTE).startswith(b"{")
    assert found == {name.removeprefix("b/"): content for name, content in BRODEN.items()}
    assert [path.name for path in root.parent.iterdir()] == ["broden"]


def test_leftover_part_and_empty_root_are_no_obstacle(tmp_path):
    root = tmp_path / "broden"
    root.mkdir()
    (tmp_path / "broden.part").mkdir()
    (tmp_path / "broden.part" / "stale.csv").touch()
    unpack_zip(zipped(tmp_path, BRODEN), root)
    assert sorted(path.name for path in root.iterdir()) == ["images", "index.csv", NOTE]
    (root / "index.csv").unlink()
    unpack_zip(tmp_path / "archive.zip", root)
    assert (root / "index.csv").exists()
    assert not (tmp_path / "broden.part").exists()


def test_existing_root_is_not_touched(tmp_path):
    root = tmp_path / "broden"
    root.mkdir()
    (root / "mine.txt").touch()
    with pytest.raises(
        DatasetError,
        match=r"broden: exists already.*not made by.*delete it",
    ):
        unpack_zip(zipped(tmp_path, BRODEN), root)
    assert [path.name for path in root.iterdir()] == ["mine.txt"]


def assert_refused(archive: Path, match: str, error: type[Exception] = DatasetError) -> None:
    """Check that the archive is refused and leaves nothing in its folder."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(error, match=match):
        unpack_zip(archive, archive.parent / "broden")
    assert sorted(archive.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        "/etc/x",
        "../x",
        "b/../../x",
        "b/..",
        "b\\..\\x",
        "C:/x",
        "b/C:/x",
        "\\\\host\\x",
        "b/x\0.jpg",
    ],
)
def test_entries_that_leave_the_folder(tmp_path, name):
    archive = tmp_path / "inner" / "archive.zip"
    archive.parent.mkdir()
    entry = zipfile.ZipInfo("replaced")
    entry.filename = name  # ZipInfo() itself would make it harmless
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("b/index.csv", b"")
        file.writestr(entry, b"x")
    assert_refused(archive, "would land outside the folder; nothing was unpacked")
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path, kind):
    archive = zipped(tmp_path, BRODEN)
    entry = zipfile.ZipInfo("b/images/link")
    entry.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(entry, b"/etc")
    assert_refused(archive, "'b/images/link' is a link or a device")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (BRODEN | {"c/index.csv": b""}, "got b, c"),
        (BRODEN | {"readme.txt": b""}, "got b, readme.txt"),
        ({"b/images/1.jpg": b""}, "got b"),
        ({"index.csv": b""}, "got index.csv"),
        ({"b/c/index.csv": b""}, "got b"),
        ({}, "got nothing"),
    ],
)
def test_other_layouts(tmp_path, files, found):
    assert_refused(
        zipped(tmp_path, files), f"expected one top folder with index.csv in it, {found}"
    )


def test_truncated_archive(tmp_path):
    archive = zipped(tmp_path, BRODEN)
    content = archive.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        archive.write_bytes(content[:size])
        assert_refused(archive, "archive.zip: not a whole zip archive .* fetch it again")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_damaged_entry(tmp_path, method):
    noise = hashlib.shake_128(b"seed").digest(20_000)
    archive = zipped(tmp_path, BRODEN | {"b/noise.bin": noise}, compression=method)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    assert_refused(archive, "not a whole zip archive")


def test_no_damage_escapes_the_one_error(tmp_path):
    archive = zipped(tmp_path, BRODEN | {"b/é.csv": b"a,b\n" * 99}, compression=zipfile.ZIP_BZIP2)
    content = archive.read_bytes()
    random = np.random.default_rng(0)
    for position, byte in random.integers(0, [len(content), 256], (300, 2)):
        damaged = bytearray(content)
        damaged[position] = byte
        archive.write_bytes(damaged)
        with contextlib.suppress(DatasetError):
            shutil.rmtree(unpack_zip(archive, tmp_path / "broden"))
        assert [path.name for path in tmp_path.iterdir()] == ["archive.zip"]


def test_missing_archive(tmp_path):
    with pytest.raises(DatasetError, match=r"none.zip: cannot be unpacked to .*No such file"):
        unpack_zip(tmp_path / "none.zip", tmp_path / "broden")


def test_encrypted_archive(tmp_path):
    archive = zipped(tmp_path, BRODEN)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert_refused(archive, "'b/index.csv' is encrypted")


def test_bomb_that_declares_its_size(tmp_path):
    bomb = {"b/index.csv": b"", "b/zeros.bin": bytes(10_000_000)}
    archive = zipped(tmp_path, bomb, compression=zipfile.ZIP_DEFLATED)
    assert_refused(archive, r"would unpack to 10,000,000; do not trust it")


def test_bomb_that_lies_about_its_size(tmp_path):
    bomb = {"b/index.csv": b"", "b/zeros.bin": bytes(10_000_000)}
    archive = zipped(tmp_path, bomb, compression=zipfile.ZIP_DEFLATED)
    content = archive.read_bytes()
    archive.write_bytes(content.replace((10_000_000).to_bytes(4, "little"), b"\x10\0\0\0"))
    assert_refused(archive, "not a whole zip archive .*CRC")


def test_full_disk_is_told_before_unpacking(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 8191))
    assert_refused(zipped(tmp_path, BRODEN), "needs 8,192 bytes, 8,191 are free", DiskSpaceError)


@pytest.mark.shared
@pytest.mark.skipif(not CAMVID.exists(), reason="needs ../shared/data/broden_camvid.zip")
def test_photographs(tmp_path):
    root = unpack_zip(CAMVID, tmp_path / "camvid")
    rows = (root / "index.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == 1402
