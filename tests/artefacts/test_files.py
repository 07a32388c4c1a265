"""The files between stages: whole or not there, and refused when they are not what they should."""

import datetime
import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from dissect_embed.artefacts import contents, headers
from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import (
    mark_derived,
    mark_rows,
    read_array,
    read_strings,
    row_digests,
)
from dissect_embed.artefacts.disk import PatientFile, check_disk_space, format_bytes
from dissect_embed.artefacts.files import (
    atomic_path,
    check_expected,
    check_made_from,
    create_artefact,
    layer_names,
    open_artefact,
    read_config,
    read_made_from,
)
from dissect_embed.artefacts.kinds import KINDS
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

NUMBERS = np.arange(6).reshape(2, 3)
CONTENT = {"numbers": NUMBERS, "trees": ["maple", "oak"]}


def fingerprint(
    folder: Path,
    content: dict[str, Any] = CONTENT,
    kind: str = "profiles",
    config: dict[str, Any] = CONFIG,
    made_from: dict[str, str] = MADE_FROM,
    then: Callable[[h5py.File], object] = lambda file: None,
) -> str:
    """Return that of a file of some datasets, with which something was done before it was whole."""
    path = folder / "sealed.h5"
    with create_artefact(path, kind, config, made_from) as file:
        for name, values in content.items():
            if isinstance(values, list):
                write_scale(file, name, values)
            else:
                file[name] = values
        then(file)
    with open_artefact(path, kind) as file:
        return str(file.attrs["fingerprint"])


def test_fingerprint_heeds_neither_settings_nor_sources_nor_order(tmp_path):
    found = fingerprint(tmp_path)
    assert len(found) == 64
    assert fingerprint(tmp_path, config={"layers": ["layer1"], "quantile": 0.01}) == found
    assert fingerprint(tmp_path, made_from={"activations": "abd"}) == found
    assert fingerprint(tmp_path, dict(reversed(CONTENT.items()))) == found


def test_fingerprint_heeds_neither_time_nor_versions(tmp_path, monkeypatch):
    with h5py.File(write(tmp_path / "a.h5")) as file:
        before = dict(file.attrs)
    later = SimpleNamespace(now=lambda zone: datetime.datetime(2036, 2, 29, tzinfo=zone))
    monkeypatch.setattr(headers, "datetime", SimpleNamespace(UTC=datetime.UTC, datetime=later))
    monkeypatch.setattr(headers, "_software", lambda: {"torch": "9.9"})
    with h5py.File(write(tmp_path / "b.h5")) as file:
        after = dict(file.attrs)
    differ = {name for name in before if before[name] != after[name]}
    assert before.keys() == after.keys()
    assert differ == {"created", "software"}
    assert after["created"] == "2036-02-29T00:00:00+00:00"


@pytest.mark.parametrize(
    "content",
    [
        CONTENT | {"numbers": np.array([[0, 1, 2], [3, 4, 6]])},
        CONTENT | {"numbers": NUMBERS.astype(np.float64)},
        CONTENT | {"numbers": NUMBERS.astype(np.int32)},
        CONTENT | {"numbers": NUMBERS.reshape(3, 2)},
        CONTENT | {"trees": ["maple", "ash"]},
        CONTENT | {"trees": ["oak", "maple"]},
        CONTENT | {"trees": ["maple"]},
        CONTENT | {"more": np.zeros(0)},
        CONTENT | {"more": 1.5},
        {"digits": NUMBERS, "trees": CONTENT["trees"]},
        {"layers/a/numbers": NUMBERS, "trees": CONTENT["trees"]},
        {"trees": CONTENT["trees"]},
    ],
)
def test_other_numbers_names_and_types_have_another_fingerprint(tmp_path, content):
    assert fingerprint(tmp_path, content) != fingerprint(tmp_path)


def test_another_kind_or_version_has_another_fingerprint(tmp_path, monkeypatch):
    found = [fingerprint(tmp_path), fingerprint(tmp_path, kind="similarity")]
    monkeypatch.setitem(KINDS, "profiles", KINDS["profiles"]._replace(version=99))
    found.append(fingerprint(tmp_path))
    assert len(set(found)) == 3


def test_what_follows_from_other_numbers_does_not_count(tmp_path):
    derived = {
        fingerprint(
            tmp_path, CONTENT | {"sum": np.float64(s)}, then=lambda file: mark_derived(file["sum"])
        )
        for s in (15.0, 15.1)
    }
    assert derived == {fingerprint(tmp_path)}
    with open_artefact(tmp_path / "sealed.h5", "profiles") as file:
        assert "digest" in file["numbers"].attrs
    assert fingerprint(tmp_path, CONTENT | {"sum": 15.0}) not in derived


def test_a_digest_does_not_depend_on_how_much_is_read_at_once(tmp_path, monkeypatch):
    content = CONTENT | {"numbers": np.arange(600.0).reshape(50, 12)}
    found = fingerprint(tmp_path, content)
    for block in (1, 13, 25, 599):
        monkeypatch.setattr(contents, "BLOCK", block)
        assert fingerprint(tmp_path, content) == found


def test_a_view_of_parts_has_the_fingerprint_of_the_whole(tmp_path):
    """Rows with digests of their own count by these, wherever their numbers lie."""
    maps = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float16)
    for name, rows in (("one", maps[:2]), ("two", maps[2:])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["maps"] = rows

    def whole(file: h5py.File, values: np.ndarray = maps) -> None:
        file["maps"], file["digest"] = values, row_digests(values)
        mark_rows(file["maps"])

    def view(file: h5py.File) -> None:
        layout = h5py.VirtualLayout(maps.shape, maps.dtype)
        layout[:2] = h5py.VirtualSource("one.h5", "maps", (2, 3, 4))
        layout[2:] = h5py.VirtualSource("two.h5", "maps", (3, 3, 4))
        mark_rows(file.create_virtual_dataset("maps", layout))
        file["digest"] = np.concatenate([row_digests(maps[:2]), row_digests(maps[2:])])

    found = fingerprint(tmp_path, then=whole)
    assert fingerprint(tmp_path, then=view) == found
    with open_artefact(tmp_path / "sealed.h5", "profiles") as file:
        np.testing.assert_array_equal(read_array(file["maps"]), maps)
    for other in (maps + (maps == maps[4, 2, 3]), maps[[1, 0, 2, 3, 4]], maps.astype(np.float32)):
        assert fingerprint(tmp_path, then=lambda file, o=other: whole(file, o)) != found
    assert fingerprint(tmp_path) != found


def test_digests_of_rows_of_several_arrays():
    maps, peak = np.arange(6.0).reshape(3, 2), np.array([[1], [3], [5]], dtype=np.float32)
    found = row_digests(maps, peak)
    assert found.dtype == np.uint64
    assert len(set(found.tolist())) == 3
    np.testing.assert_array_equal(row_digests(maps[::-1], peak[::-1]), found[::-1])
    np.testing.assert_array_equal(row_digests(np.asfortranarray(maps), peak), found)
    assert (row_digests(maps, peak + 1) != found).all()
    assert (row_digests(maps) != found).all()


# ---- reading what is not right ----


def refusal(path: Path, schema: str = "profiles") -> str:
    """Return what is told of a file that is not opened."""
    with pytest.raises(ArtefactError) as caught, open_artefact(path, schema):
        pass
    return str(caught.value)


def test_missing_file(tmp_path):
    for path in (tmp_path / "none.h5", tmp_path):
        told = f"{path}: missing; make it with 'dissect-embed dissect' or snakemake"
        assert refusal(path) == told


def test_file_of_another_kind_is_never_to_be_deleted(tmp_path):
    path = write(tmp_path / "p.h5")
    known = KINDS["profiles"].version
    wanted = f"expected similarity version {KINDS['similarity'].version}"
    told = f"{path}: {wanted}, found profiles version {known}; name a file of 'similarity'"
    assert refusal(path, "similarity") == told
    with h5py.File(tmp_path / "plain.h5", "w"):
        pass
    found = refusal(tmp_path / "plain.h5")
    assert found.endswith(
        f"plain.h5: expected profiles version {known}, found None version None; "
        "name a file of 'dissect'"
    )


def test_file_of_an_older_version(tmp_path):
    path = write(tmp_path / "old.h5", schema_version=0)
    version = KINDS["profiles"].version
    told = f"{path}: expected profiles version {version}, found profiles version 0; delete it"
    assert refusal(path) == f"{told} and run 'snakemake --forcerun dissect'"


def test_file_of_a_later_version_is_never_to_be_deleted(tmp_path):
    version = KINDS["profiles"].version
    path = write(tmp_path / "new.h5", schema_version=version + 1)
    told = f"{path}: expected profiles version {version}, found profiles version {version + 1}"
    assert refusal(path) == f"{told}; it is of a later version of dissect-embed: update this one"


def test_truncated_and_foreign_files(tmp_path):
    path = write(tmp_path / "p.h5")
    content = path.read_bytes()
    message = r"p\.h5: no HDF5 file, or a damaged one \(.+\); delete it and run .*forcerun dissect"
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert re.search(message, refusal(path))
    path.write_text("unit,concept\n" * 100)
    assert re.search(message, refusal(path))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOLCK, "No locks available"), "HDF5_USE_FILE_LOCKING=FALSE and run again"),
        (
            OSError("Unable to open file (unable to lock file, errno = 37, error message = 'No')"),
            "HDF5_USE_FILE_LOCKING=FALSE and run again",
        ),
        (BlockingIOError(errno.EAGAIN, "in use"), "another process is writing it; wait for that"),
        (PermissionError(errno.EACCES, "Permission denied"), r"cannot be read (Permission denied)"),
        (OSError(errno.EIO, "Input/output error"), "see to its rights and disk"),
    ],
)
def test_what_is_not_the_fault_of_a_file_never_asks_to_delete_it(
    tmp_path, monkeypatch, error, told
):
    path = write(tmp_path / "p.h5")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(h5py, "File", fail)
    found = refusal(path)
    assert found.startswith(f"{path}: ")
    assert told in found
    assert "delete" not in found


HOLDER = """
import sys, h5py
with h5py.File(sys.argv[1], "r+"):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_file_that_another_process_writes_is_left_to_it(tmp_path):
    path = write(tmp_path / "p.h5")
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        told = refusal(path)
        holder.communicate(timeout=60)
    assert told == f"{path}: another process is writing it; wait for that one or stop it"
    with open_artefact(path, "profiles") as file:
        assert "numbers" in file


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read whatever it likes"
)
def test_a_file_without_rights_says_so(tmp_path):
    path = write(tmp_path / "p.h5")
    path.chmod(0)
    told = "cannot be read (Permission denied); see to its rights and disk"
    assert refusal(path) == f"{path}: {told}"


# ---- damage within ----

DAMAGED = "is damaged (its bytes are not those that were written)"
AGAIN = "delete it and run 'snakemake --forcerun dissect'"


def change_byte(path: Path, place: int) -> None:
    """Flip the lowest bit of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0, 17, 7999])
def test_one_bit_of_a_number_is_noticed(tmp_path, place):
    path = write(tmp_path / "p.h5")
    with h5py.File(path) as file:
        numbers = file["numbers"]
        assert numbers.chunks is None
        assert numbers.nbytes == 8000
        start = numbers.id.get_offset()
    change_byte(path, start + place)
    with open_artefact(path, "profiles") as file:
        assert (file["numbers"][:] != np.arange(1000)).sum() == 1  # HDF5 itself notices nothing
        with pytest.raises(ArtefactError) as caught:
            read_array(file["numbers"])
    assert str(caught.value) == f"{path}: /numbers {DAMAGED}; {AGAIN}"


@pytest.mark.parametrize("place", [0, 4])
def test_one_bit_of_a_name_is_noticed(tmp_path, place):
    fingerprint(tmp_path, {"labels/name": ["maple", "oak"], "labels/number": np.array([1, 2])})
    path = tmp_path / "sealed.h5"
    assert path.read_bytes().count(b"maple") == 1
    change_byte(path, path.read_bytes().index(b"maple") + place)
    with open_artefact(path, "profiles") as file:
        with pytest.raises(ArtefactError) as caught:
            read_strings(file["labels/name"])
        assert read_array(file["labels/number"]).tolist() == [1, 2]
    assert str(caught.value) == f"{path}: /labels/name {DAMAGED}; {AGAIN}"


def test_a_chunk_that_cannot_be_unpacked_is_named(tmp_path):
    path = tmp_path / "p.h5"
    with create_artefact(path, "profiles", CONFIG, MADE_FROM) as file:
        file.create_dataset("packed", data=np.arange(1000), compression="gzip")
    with h5py.File(path) as file:
        start = file["packed"].id.get_chunk_info(0).byte_offset
    change_byte(path, start)
    message = rf"p\.h5: /packed is damaged \(.+\); {AGAIN}"
    with open_artefact(path, "profiles") as file, pytest.raises(ArtefactError, match=message):
        read_array(file["packed"])


def test_what_is_whole_is_read_as_it_was_written(tmp_path):
    content = {
        "empty": np.zeros((0, 3)), "one": np.float16(2.5), "flags": np.array([True, False]),
        "none": np.array([np.nan, -0.0, np.inf]), "names": ["", "é", "a b", ""],
    }  # fmt: skip
    fingerprint(tmp_path, content)
    with open_artefact(tmp_path / "sealed.h5", "profiles") as file:
        assert read_strings(file["names"]) == content.pop("names")
        for name, values in content.items():
            np.testing.assert_array_equal(read_array(file[name]), values, strict=True)


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


def test_a_folder_is_no_place_for_a_file(tmp_path):
    (tmp_path / "there").mkdir()
    with (
        pytest.raises(ArtefactError, match=r"there: is a folder; name a file in it"),
        create_artefact(tmp_path / "there", "profiles", {}, {}),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["there"]
