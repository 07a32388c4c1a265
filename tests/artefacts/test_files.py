"""The files between stages: whole or not there, and refused when they are not what they should."""

import datetime
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from dissect_embed.artefacts import files
from dissect_embed.artefacts.disk import PatientFile, check_disk_space, format_bytes
from dissect_embed.artefacts.files import SCHEMA_VERSIONS, atomic_path, check_expected, check_made_from, create_artefact, fingerprint, layer_names, open_artefact, read_config, read_made_from
from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_strings
from dissect_embed.errors import ArtefactError, DiskSpaceError

CONFIG = {
    "dataset": {"name": "mini", "split": "all"},
    "layers": ["layer2", "layer1"],
    "quantile": 0.005,
}
MADE_FROM = {"activations": "abc"}


def write(path: Path, **attributes: object) -> Path:
    with create_artefact(path, "profiles", CONFIG, MADE_FROM) as file:
        file["numbers"] = np.arange(1000)
        file.attrs.update(attributes)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- writing ----


def test_round_trip(tmp_path):
    path = write(tmp_path / "deep" / "er" / "profiles.h5")
    assert names(path.parent) == ["profiles.h5"]
    with open_artefact(path, "profiles") as file:
        assert file["numbers"][:].tolist() == list(range(1000))
        assert read_config(file) == CONFIG
        assert read_made_from(file) == MADE_FROM
        assert layer_names(file) == ["layer2", "layer1"]
        with pytest.raises(ValueError, match="no write intent"):
            file.create_group("more")


def test_an_error_on_the_way_leaves_what_was_there(tmp_path):
    path = tmp_path / "profiles.h5"

    def fail(error: BaseException) -> None:
        with create_artefact(path, "profiles", CONFIG, MADE_FROM) as file:
            file["numbers"] = np.zeros(5)
            assert names(tmp_path)[-1] == "profiles.h5.part"
            raise error

    with pytest.raises(ValueError, match="mine"):
        fail(ValueError("mine"))
    assert names(tmp_path) == []
    write(path)
    before = path.read_bytes()
    for error in (ValueError("mine"), OSError("of another kind"), KeyboardInterrupt("stop")):
        with pytest.raises(type(error), match=str(error)):
            fail(error)
        assert names(tmp_path) == ["profiles.h5"]
        assert path.read_bytes() == before


def test_a_new_file_takes_the_place_of_the_old_one(tmp_path):
    path = write(tmp_path / "profiles.h5")
    write(path, note="new")
    with open_artefact(path, "profiles") as file:
        assert file.attrs["note"] == "new"


def test_what_a_killed_run_left_is_overwritten(tmp_path):
    path = tmp_path / "profiles.h5"
    (tmp_path / "profiles.h5.part").write_bytes(b"half a file")
    write(path)
    assert names(tmp_path) == ["profiles.h5"]
    with open_artefact(path, "profiles") as file:
        assert "numbers" in file


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / "notes.txt"
    synced = []

    def sync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", sync)
    with atomic_path(path) as part:
        part.write_text("twelve bytes")
        assert synced == []
    assert synced == [(12, False)]
    assert path.read_text() == "twelve bytes"


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "notes.txt"):
        pass
    assert names(tmp_path) == []


# ---- two at once ----

WRITER = """
import pathlib, sys
from dissect_embed.artefacts.files import create_artefact
with create_artefact(pathlib.Path(sys.argv[1]), "profiles", {}, {}):
    pass
"""


def second_writer(path: Path) -> str:
    command = [sys.executable, "-c", WRITER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    return done.stderr


def test_a_second_writer_is_told_of_the_first(tmp_path):
    path = tmp_path / "profiles.h5"
    with h5py.File(tmp_path / "profiles.h5.part", "w"):
        message = second_writer(path)
    assert f"ArtefactError: {path}: another process is writing it; wait for that one" in message
    assert not path.exists()


def test_a_second_writer_does_not_harm_the_first(tmp_path):
    path = tmp_path / "profiles.h5"
    with create_artefact(path, "profiles", CONFIG, MADE_FROM) as file:
        file["numbers"] = np.arange(1000)
        assert "another process is writing it" in second_writer(path)
    with open_artefact(path, "profiles") as file:
        assert file["numbers"][-1] == 999


# ---- fingerprint ----


def test_fingerprint_is_that_of_the_settings(tmp_path):
    with h5py.File(write(tmp_path / "a.h5")) as file:
        assert file.attrs["fingerprint"] == fingerprint("profiles", CONFIG, MADE_FROM)


def test_fingerprint_heeds_neither_time_nor_versions(tmp_path, monkeypatch):
    with h5py.File(write(tmp_path / "a.h5")) as file:
        before = dict(file.attrs)
    later = SimpleNamespace(now=lambda zone: datetime.datetime(2036, 2, 29, tzinfo=zone))
    monkeypatch.setattr(files, "datetime", SimpleNamespace(UTC=datetime.UTC, datetime=later))
    monkeypatch.setattr(files, "_software", lambda: {"torch": "9.9"})
    with h5py.File(write(tmp_path / "b.h5")) as file:
        after = dict(file.attrs)
    differ = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert differ == {"created", "software"}
    assert after["created"] == "2036-02-29T00:00:00+00:00"


def test_fingerprint_follows_what_makes_the_numbers(monkeypatch):
    found = [
        fingerprint("profiles", CONFIG, MADE_FROM),
        fingerprint("similarity", CONFIG, MADE_FROM),
        fingerprint("profiles", CONFIG | {"quantile": 0.01}, MADE_FROM),
        fingerprint("profiles", CONFIG | {"layers": ["layer1", "layer2"]}, MADE_FROM),
        fingerprint("profiles", CONFIG, {"activations": "abd"}),
        fingerprint("profiles", CONFIG, MADE_FROM, version=99),
    ]
    assert len(set(found)) == len(found)
    turned = dict(reversed(CONFIG.items()))
    assert fingerprint("profiles", turned, MADE_FROM) == found[0]
    monkeypatch.setitem(SCHEMA_VERSIONS, "profiles", 99)
    assert fingerprint("profiles", CONFIG, MADE_FROM) == found[-1]


# ---- reading what is not right ----


def assert_refused(path: Path, message: str, schema: str = "profiles") -> None:
    with pytest.raises(ArtefactError, match=message), open_artefact(path, schema):
        pass


def test_missing_file(tmp_path):
    for path in (tmp_path / "none.h5", tmp_path):
        assert_refused(path, rf"{path.name}: missing; make it with 'dissect-embed dissect'")


def test_file_of_another_kind(tmp_path):
    path = write(tmp_path / "p.h5")
    message = (
        r"p\.h5: expected similarity version \d+, found profiles version \d+; delete it and run"
    )
    assert_refused(path, rf"{message} 'snakemake --forcerun similarity'", "similarity")
    with h5py.File(tmp_path / "plain.h5", "w"):
        pass
    assert_refused(tmp_path / "plain.h5", r"expected profiles version \d+, found None version None")


def test_file_of_another_version(tmp_path):
    path = write(tmp_path / "old.h5", schema_version=0)
    version = SCHEMA_VERSIONS["profiles"]
    message = rf"old\.h5: expected profiles version {version}, found profiles version 0; delete it"
    assert_refused(path, rf"{message} and run 'snakemake --forcerun dissect'")


def test_truncated_and_foreign_files(tmp_path):
    path = write(tmp_path / "p.h5")
    content = path.read_bytes()
    message = r"p\.h5: no HDF5 file, or a damaged one \(.+\); delete it and run .*forcerun dissect"
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert_refused(path, message)
    path.write_text("unit,concept\n" * 100)
    assert_refused(path, message)


def test_file_made_from_another(tmp_path):
    with open_artefact(write(tmp_path / "p.h5"), "profiles") as file:
        check_made_from(file, "activations", "abc", "run/activations.h5")
        message = (
            r"p\.h5: made from another activations than run/activations\.h5; "
            "delete it and run 'snakemake --forcerun dissect'"
        )
        with pytest.raises(ArtefactError, match=message):
            check_made_from(file, "activations", "abd", "run/activations.h5")
        with pytest.raises(ArtefactError, match="made from another similarity than run/s"):
            check_made_from(file, "similarity", "abc", "run/similarity.h5")


def test_expected_settings(tmp_path):
    with open_artefact(write(tmp_path / "p.h5"), "profiles") as file:
        check_expected(file, {})
        right = {"dataset.name": "mini", "layers": "layer2,layer1", "quantile": "0.005"}
        check_expected(file, right)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("dataset.name", "broden", "mini"),
        ("layers", "layer1,layer2", "layer2,layer1"),
        ("quantile", "0.01", "0.005"),
        ("dataset.root", "data", "None"),
        ("dataset.name.first", "m", "None"),
    ],
)
def test_other_settings_than_expected(tmp_path, key, value, found):
    message = (
        rf"p\.h5: made with {key} = '{found}', the config says '{value}'; "
        "delete it and run 'snakemake --forcerun"
    )
    with open_artefact(write(tmp_path / "p.h5"), "profiles") as file:
        with pytest.raises(ArtefactError, match=message):
            check_expected(file, {"dataset.split": "all", key: value})


# ---- disks ----


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> list[Path]:
    asked = []

    def usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    return asked


def test_disk_space_is_asked_for_where_the_file_will_lie(tmp_path, monkeypatch):
    asked = leave_free(monkeypatch, 2_500_000)
    assert check_disk_space(tmp_path / "not" / "yet" / "a.h5", 2_500_000) == 2_500_000
    assert asked == [tmp_path]
    message = rf"a\.h5: needs 2\.5 MB, {tmp_path} has 2\.5 MB free; make room, choose fewer layers"
    with pytest.raises(DiskSpaceError, match=message):
        check_disk_space(tmp_path / "a.h5", 2_500_001)
    assert names(tmp_path) == []


def assert_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_something: Callable[[], None]
) -> None:
    with pytest.raises(DiskSpaceError) as caught:
        write_something()
    message = f"p.h5: the disk ran full (1.5 kB free in {tmp_path}); make room and run again"
    assert message in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("while_open", [True, False])
def test_disk_that_runs_full(tmp_path, monkeypatch, while_open):
    """While a file is written, and when HDF5 closes it; what else comes of that is not told."""
    leave_free(monkeypatch, 1500)

    def write_something() -> None:
        with create_artefact(tmp_path / "p.h5", "profiles", CONFIG, MADE_FROM) as file:
            fill(monkeypatch)
            file["numbers"] = np.arange(100_000)
            if while_open:
                file.sink.check()

    assert_full_disk_is_told(tmp_path, monkeypatch, write_something)


def fill(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PatientFile, data: object) -> int:
        self.error = OSError(errno.ENOSPC, "No space left on device")
        return len(memoryview(data).cast("B"))  # type: ignore[arg-type]

    monkeypatch.setattr(PatientFile, "write", fail)


def test_a_file_that_cannot_be_begun_says_so(tmp_path):
    (tmp_path / "p.h5.part").mkdir()
    with (
        pytest.raises(IsADirectoryError, match=r"p\.h5\.part"),
        create_artefact(tmp_path / "p.h5", "profiles", CONFIG, MADE_FROM),
    ):
        pass


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345_678, "12.3 MB"), (7 * 10**9, "7.0 GB"),
     (3 * 10**12, "3.0 TB"), (5 * 10**15, "5000.0 TB")],
)  # fmt: skip
def test_format_bytes(amount, text):
    assert format_bytes(amount) == text


# ---- axes ----


def test_axes_have_names_and_scales(tmp_path):
    path = tmp_path / "p.h5"
    with create_artefact(path, "profiles", CONFIG, MADE_FROM) as file:
        images = write_scale(file, "images", ["a/é.jpg", "b.jpg"])
        units = write_scale(file, "unit", np.arange(3))
        file["peak"] = np.zeros((2, 3))
        label_axes(file["peak"], ("image", "unit"), {"image": images, "unit": units})
        file["other"] = np.zeros(3)
        label_axes(file["other"], ("unit",))
    with open_artefact(path, "profiles") as file:
        peak = file["peak"]
        assert [dim.label for dim in peak.dims] == ["image", "unit"]
        assert read_strings(peak.dims[0][0]) == ["a/é.jpg", "b.jpg"]
        assert peak.dims[1]["unit"][:].tolist() == [0, 1, 2]
        assert file["other"].dims[0].label == "unit"
        assert len(file["other"].dims[0]) == 0
