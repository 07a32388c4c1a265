"""Files go to disk while they grow, and get their names only when they are whole."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dissect_embed.artefacts.disk import PatientFile, sync_early


def test_a_growing_file_is_synced_now_and_then(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with PatientFile(tmp_path / "file") as file, sync_early(file, every=100) as written:
        for _ in range(9):
            written(30)
    assert len(synced) == 2  # after 120 and 240 bytes


def test_a_disk_that_does_not_take_what_was_written_is_heard(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with PatientFile(tmp_path / "file") as file:
        with pytest.raises(OSError, match="Input/output"), sync_early(file, every=100) as written:
            written(200)
        file.error = OSError(errno.ENOSPC, "No space left on device")
        with pytest.raises(OSError, match="No space left"), sync_early(file) as written:
            written(1)


# Writes a file under a limit of its size, as on a disk that is so large. Datasets are left to be
# closed by nobody, which is where h5py loses errors; one is compressed, so that it waits in memory.
WRITER = """
import resource, sys
from pathlib import Path
import h5py, numpy as np
from dissect_embed.artefacts.files import create_artefact, open_artefact
from dissect_embed.errors import ArtefactError, DissectEmbedError

def fill(file, kept):
    for layer in range(3):
        group = file.create_group(f"layers/{layer}")
        maps = group.create_dataset("maps", (64, 16, 7, 7), "float16")
        for n in range(0, 64, 8):
            maps[n : n + 8] = np.full((8, 16, 7, 7), layer + 1)
        group.create_dataset("names", data=["maple"] * 200, dtype=h5py.string_dtype())
        group.create_dataset("packed", data=noise(layer), compression="gzip", chunks=(8, 64))
        kept.append(maps)

def noise(layer):
    return np.random.default_rng(layer).normal(size=(64, 64))

path, hard = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with create_artefact(path, "similarity", {"layers": []}, {}) as file:
            fill(file, [])
        told = "written"
    except DissectEmbedError as error:
        told = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    if path.exists():
        with open_artefact(path, "similarity") as file:
            for layer in range(3):
                group = file[f"layers/{layer}"]
                assert (group["maps"][:] == layer + 1).all()
                assert (group["packed"][:] == noise(layer)).all()
        path.unlink()
    else:
        assert told != "written"
    assert not list(path.parent.iterdir())
    print(limit, told, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
def test_a_file_that_could_not_be_written_whole_never_gets_its_name(tmp_path):
    path = tmp_path / "similarity.h5"
    limits = [1_000, 30_000, 100_000, 150_000, 300_000, 350_000, *range(376_000, 400_000, 1_024)]
    done = subprocess.run(
        [sys.executable, "-c", WRITER, path, *map(str, limits), "10000000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert told["10000000"] == "written"
    message = f"{path}: cannot be written (File too large); see to the disk"
    assert set(told.values()) == {"written", message}
    assert sum(text == message for text in told.values()) > 8
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("size", ["400k", "800k", "1200k", "1280k"])
def test_a_full_disk_is_named(tmp_path, size):
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", tmp_path]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs more rights")
    code = WRITER.replace("(64, 16, 7, 7)", "(64, 64, 7, 7)").replace("(8, 16, 7", "(8, 64, 7")
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "s.h5", "10000000"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert f"{Path(tmp_path) / 's.h5'}: the disk ran full" in done.stdout
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_what_did_not_go_to_disk_is_read_back(tmp_path, monkeypatch):
    with PatientFile(tmp_path / "file") as file:
        file.write(b"0123456789")
        file.error = OSError(errno.ENOSPC, "No space left on device")
        file.seek(8)
        assert file.write(b"abcdef") == 6
        file.seek(12)
        file.write(b"XY")
        buffer = bytearray(14)
        file.seek(5)
        assert file.readinto(buffer) == 14
        assert bytes(buffer) == b"567abcdXY" + bytes(5)
        assert file.tell() == 19
