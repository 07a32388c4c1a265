"""The HDF5 files that stages exchange: provenance, atomic writing, opening them checked.

Every file carries, as attributes of its root:

``schema``, ``schema_version``
    what it is, e.g. ``profiles`` and 3. The version rises when the meaning of a number changes.
``config``
    JSON: every setting that had a say in it, also those of the stages before. To be read; two files
    of other settings and the same numbers are the same.
``made_from``
    JSON: the fingerprints of what it was made from.
``fingerprint``
    what it holds, attested (``contents``): two files with one fingerprint hold the same numbers.
``software``, ``created``
    JSON of versions; UTC time.

A file is written under a ``.part`` name beside its place, synced to disk and renamed into it when
whole. So what has the final name is complete; what an interrupted run leaves is overwritten by the
next.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from dissect_embed.artefacts.contents import seal
from dissect_embed.artefacts.disk import PatientFile, full_disk_message
from dissect_embed.artefacts.headers import check_version, describe
from dissect_embed.artefacts.kinds import KINDS, remedy
from dissect_embed.errors import ArtefactError, DiskSpaceError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    On an error the temporary file is removed, and what stood at ``path`` stays.
    """
    if path.is_dir():
        msg = f"{path}: is a folder; name a file in it"
        raise ArtefactError(msg)
    part = _part_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


@contextmanager
def create_artefact(
    path: Path, schema: str, config: Mapping[str, Any], made_from: Mapping[str, str]
) -> Iterator[h5py.File]:
    """Open a new HDF5 file for writing; it gets its name when the block ends without an error.

    Whatever goes wrong until it is closed and on the disk, it does not get its name.

    Raises
    ------
    ArtefactError
        If another process is writing the same file, or it cannot be written.
    DiskSpaceError
        If the disk ran full on the way.
    """
    _refuse_second_writer(path)
    with atomic_path(path) as part, PatientFile(part) as sink:
        try:
            with h5py.File(sink, "w") as file:
                file.sink = sink
                for name, value in describe(schema, config, made_from).items():
                    is_text = isinstance(value, str | int)
                    file.attrs[name] = value if is_text else json.dumps(value, sort_keys=True)
                yield file
                file.attrs["fingerprint"] = seal(file, schema)
            sink.check()
        except Exception as error:
            # Whatever came of it, a write that failed is the cause.
            if sink.error is None:
                raise
            if sink.error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskSpaceError(full_disk_message(path)) from error
            msg = f"{path}: cannot be written ({sink.error.strerror}); see to the disk"
            raise ArtefactError(msg) from error


@contextmanager
def open_artefact(path: Path, schema: str) -> Iterator[h5py.File]:
    """Open a file of a given schema for reading, checked.

    Raises
    ------
    ArtefactError
        If it is missing, no HDF5 file, truncated, of another schema or version, or a view of a part
        that is missing or another than it was made of.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path}: missing; make it with 'dissect-embed {KINDS[schema].rule}' or snakemake"
        raise ArtefactError(msg)
    with open_hdf5(path, remedy(schema)) as file:
        check_version(path, file.attrs, schema)
        for name, attested in json.loads(file.attrs.get("parts", "{}")).items():
            _check_part(path, path.parent / name, attested)
        yield file


@contextmanager
def open_hdf5(path: Path, remedy: str) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; what hinders is told by its cause.

    Raises
    ------
    ArtefactError
        If it cannot be opened; ``remedy`` is told where its content is at fault.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = str(error)
        if isinstance(error, BlockingIOError):
            msg = f"{path}: another process is writing it; wait for that one or stop it"
        elif error.errno == errno.ENOLCK or f"errno = {errno.ENOLCK}" in reason:
            msg = (
                f"{path}: its file system has no locks, which HDF5 asks for; set the environment "
                "variable HDF5_USE_FILE_LOCKING=FALSE and run again"
            )
        elif error.errno is not None:
            msg = f"{path}: cannot be read ({error.strerror or reason}); see to its rights and disk"
        else:
            msg = f"{path}: no HDF5 file, or a damaged one ({reason}); {remedy}"
        raise ArtefactError(msg) from error
    with file:
        yield file


def _check_part(path: Path, part: Path, attested: str) -> None:
    """Check a file that another is a view of: HDF5 shows zeros where one is missing."""
    try:
        with open_hdf5(part, "run snakemake again, which makes that part anew") as file:
            found = file.attrs.get("fingerprint")
    except ArtefactError as error:
        what = "which is missing" if not part.is_file() else "which cannot be read"
        msg = f"{path}: a view of {part}, {what}: {error}"
        raise ArtefactError(msg) from error
    if found != attested:
        msg = (
            f"{path}: a view of {part}, which holds other numbers than when they were put "
            "together; run 'snakemake --forcerun activations'"
        )
        raise ArtefactError(msg)


def read_config(file: h5py.File) -> dict[str, Any]:
    """Return the settings a file was made with."""
    return dict(json.loads(file.attrs["config"]))


def read_made_from(file: h5py.File) -> dict[str, str]:
    """Return the fingerprints of what a file was made from."""
    return dict(json.loads(file.attrs["made_from"]))


def check_made_from(file: h5py.File, source: str, expected: str, expected_file: str) -> None:
    """Check that a file was made from a given other one.

    Raises
    ------
    ArtefactError
        If the fingerprints differ; both files are named.
    """
    if read_made_from(file).get(source) != expected:
        schema = str(file.attrs["schema"])
        msg = f"{file.filename}: made from another {source} than {expected_file}; {remedy(schema)}"
        raise ArtefactError(msg)


def check_expected(file: h5py.File, expected: Mapping[str, Any]) -> None:
    """Check settings that a file was made with against what the caller's config says.

    Parameters
    ----------
    file
        An open artefact.
    expected
        Dotted keys of its config, e.g. ``{"model.weights": "trained", "layers": "layer1,layer2"}``;
        lists are compared as their items joined by commas.

    Raises
    ------
    ArtefactError
        If a value differs; file, key and both values are named.
    """
    config = read_config(file)
    for key, value in expected.items():
        found: Any = config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        found = ",".join(map(str, found)) if isinstance(found, list) else str(found)
        if found != str(value):
            msg = (
                f"{file.filename}: made with {key} = {found!r}, the config says {value!r}; "
                f"{remedy(str(file.attrs['schema']))}"
            )
            raise ArtefactError(msg)


def layer_names(file: h5py.File) -> list[str]:
    """Return the layers of an artefact, in the order in which they were asked for."""
    return [str(name) for name in read_config(file)["layers"]]


def _part_path(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _refuse_second_writer(path: Path) -> None:
    """Raise if another process holds HDF5's lock on the temporary file.

    To open it for writing anew would not do as a test: HDF5 empties a file before it locks it.
    """
    part = _part_path(path)
    if not part.exists():
        return
    try:
        h5py.File(part, "r+").close()
    except BlockingIOError as error:
        msg = f"{path}: another process is writing it; wait for that one or stop it"
        raise ArtefactError(msg) from error
    except OSError:
        pass  # what an interrupted run left: it is written anew
