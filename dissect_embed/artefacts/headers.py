"""What every file says of itself: how it is put together, read and checked."""

import datetime
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dissect_embed import __version__
from dissect_embed.artefacts.kinds import HDF5_KINDS, KINDS, remedy
from dissect_embed.errors import ArtefactError


def describe(
    schema: str, config: Mapping[str, Any], made_from: Mapping[str, str]
) -> dict[str, Any]:
    """Return what every file says of itself, but for its fingerprint."""
    return {
        "schema": schema,
        "schema_version": KINDS[schema].version,
        "config": dict(config),
        "made_from": dict(made_from),
        "software": _software(),
        "created": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
    }


def read_header(file: h5py.File) -> dict[str, Any]:
    """Return what an HDF5 file says of itself, of whatever version.

    Returns
    -------
    What ``describe`` put there, its ``fingerprint``, and ``notes``: further attributes, such as
    ``weights_provenance``.

    Raises
    ------
    ArtefactError
        If it is none of the files that the stages exchange, or does not say all of that.
    """
    schema = str(file.attrs.get("schema", ""))
    if schema not in HDF5_KINDS:
        found = f"schema {schema!r}" if schema else "it has no schema"
        msg = (
            f"{file.filename}: not a file that 'dissect-embed' made, or damaged ({found}); "
            f"expected {', '.join(HDF5_KINDS)}"
        )
        raise ArtefactError(msg)
    try:
        header: dict[str, Any] = {
            "schema": schema,
            "schema_version": int(file.attrs["schema_version"]),
            "fingerprint": str(file.attrs["fingerprint"]),
            "created": str(file.attrs["created"]),
        }
        for name in ("config", "made_from", "software"):
            header[name] = dict(json.loads(file.attrs[name]))
    except (KeyError, ValueError, TypeError) as error:
        msg = f"{file.filename}: damaged (its header: {error}); {remedy(schema)}"
        raise ArtefactError(msg) from error
    notes = {name: value for name, value in file.attrs.items() if name not in header}
    return header | {"notes": {name: _from_json(value) for name, value in notes.items()}}


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def check_version(path: Path, header: Mapping[str, Any], schema: str) -> None:
    """Check that a header is that of a kind of file, of the version that this program reads.

    Raises
    ------
    ArtefactError
        If it is not.
    """
    found, version = header.get("schema"), header.get("schema_version")
    known = KINDS[schema].version
    if (found, version) == (schema, known):
        return
    if found != schema:
        end = f"name a file of '{KINDS[schema].rule}'"
    elif isinstance(version, int | np.integer) and version > known:
        end = "it is of a later version of dissect-embed: update this one"
    else:
        end = remedy(schema)
    msg = f"{path}: expected {schema} version {known}, found {found} version {version}; {end}"
    raise ArtefactError(msg)


def _software() -> dict[str, str]:
    return {
        "dissect-embed": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "torch": metadata.version("torch"),
        "torchvision": metadata.version("torchvision"),
    }
