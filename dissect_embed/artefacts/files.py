"""The HDF5 files that stages exchange: provenance, atomic writing, validation.

Every file carries, as attributes of its root:

``schema``, ``schema_version``
    what it is, e.g. ``profiles`` and 1. The version rises when the meaning of a number changes.
``config``
    JSON: every setting that had a say in it, also those of the stages before.
``made_from``
    JSON: the fingerprints of what it was made from.
``fingerprint``
    SHA-256 of the four above: two files with one fingerprint hold the same numbers.
``software``, ``created``
    JSON of versions; UTC time. They are notes, not part of the fingerprint.

A file is written under a ``.part`` name beside its place, synced to disk and renamed into it when
whole. So what has the final name is complete; what an interrupted run leaves is overwritten by the
next.
"""

import datetime
import errno
import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dissect_embed import __version__
from dissect_embed.artefacts.disk import PatientFile, full_disk_message
from dissect_embed.errors import ArtefactError, DiskSpaceError

# Raise a version when the numbers in such a file change their meaning or their layout. The
# Snakefile passes it to the rules, so that files of an older version are made again.
SCHEMA_VERSIONS = {
    "labels": 1,
    "activations": 3,
    "thresholds": 1,
    "profiles": 2,
    "similarity": 1,
    "embedding": 1,
    "classes": 1,
    "prior": 1,
}

# The stage that makes each file, named in the remedy of an error.
RULES = {
    "labels": "labels",
    "activations": "activations",
    "thresholds": "thresholds",
    "profiles": "dissect",
    "similarity": "similarity",
    "embedding": "embed",
    "classes": "classes",
    "prior": "prior",
}


def fingerprint(
    schema: str, config: Mapping[str, Any], made_from: Mapping[str, str], version: int | None = None
) -> str:
    """Return the hash that stands for a file's content: what it is, its settings, its sources."""
    version = SCHEMA_VERSIONS[schema] if version is None else version
    content = json.dumps([schema, version, config, made_from], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to ``path``.

    On an error the temporary file is removed, and what stood at ``path`` stays.
    """
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
                file.attrs["schema"] = schema
                file.attrs["schema_version"] = SCHEMA_VERSIONS[schema]
                file.attrs["config"] = json.dumps(config, sort_keys=True)
                file.attrs["made_from"] = json.dumps(made_from, sort_keys=True)
                file.attrs["fingerprint"] = fingerprint(schema, config, made_from)
                file.attrs["software"] = json.dumps(_software(), sort_keys=True)
                file.attrs["created"] = datetime.datetime.now(datetime.UTC).isoformat(
                    "T", "seconds"
                )
                yield file
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
        If it is missing, no HDF5 file, truncated, of another schema or version.
    """
    path = Path(path)
    remedy = f"delete it and run 'snakemake --forcerun {RULES[schema]}'"
    if not path.is_file():
        msg = f"{path}: missing; make it with 'dissect-embed {RULES[schema]}' or snakemake"
        raise ArtefactError(msg)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        msg = f"{path}: no HDF5 file, or a damaged one ({error}); {remedy}"
        raise ArtefactError(msg) from error
    with file:
        found = file.attrs.get("schema"), file.attrs.get("schema_version")
        expected = schema, SCHEMA_VERSIONS[schema]
        if found != expected:
            msg = (
                f"{path}: expected {expected[0]} version {expected[1]}, "
                f"found {found[0]} version {found[1]}; {remedy}"
            )
            raise ArtefactError(msg)
        for part in json.loads(file.attrs.get("parts", "[]")):
            _check_part(path, path.parent / part)
        yield file


def _check_part(path: Path, part: Path) -> None:
    """Check a file that another is a view of: HDF5 shows zeros where one is missing."""
    try:
        h5py.File(part, "r").close()
    except OSError as error:
        msg = (
            f"{path}: a view of {part}, which is missing or damaged ({error}); run snakemake "
            "again, which makes that part anew"
        )
        raise ArtefactError(msg) from error


def whole_fingerprint(file: h5py.File) -> str:
    """Return the fingerprint that a file has or, of a shard, that of all shards put together."""
    config = read_config(file)
    config.pop("shard", None)
    return fingerprint(str(file.attrs["schema"]), config, read_made_from(file))


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
        schema = file.attrs["schema"]
        msg = (
            f"{file.filename}: made from another {source} than {expected_file}; "
            f"delete it and run 'snakemake --forcerun {RULES[schema]}'"
        )
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
                "delete it and run 'snakemake --forcerun activations'"
            )
            raise ArtefactError(msg)


def write_scale(group: h5py.Group, name: str, values: Any) -> h5py.Dataset:
    """Write a 1-d dataset that names the places of an axis (an HDF5 dimension scale)."""
    values = np.asarray(values)
    if values.dtype.kind in "OU":
        dataset = group.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
    else:
        dataset = group.create_dataset(name, data=values)
    dataset.make_scale(name)
    return dataset


def label_axes(
    dataset: h5py.Dataset, axes: tuple[str, ...], scales: Mapping[str, h5py.Dataset] | None = None
) -> None:
    """Name the axes of a dataset, and attach the scales that belong to them."""
    for place, axis in enumerate(axes):
        dataset.dims[place].label = axis
        if scales and axis in scales:
            dataset.dims[place].attach_scale(scales[axis])


def read_strings(dataset: h5py.Dataset) -> list[str]:
    """Return a dataset of strings as a list."""
    return list(dataset.asstr()[:])


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


def _software() -> dict[str, str]:
    return {
        "dissect-embed": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "torch": metadata.version("torch"),
        "torchvision": metadata.version("torchvision"),
    }
