"""All that the Snakefile asks of the package; loads neither torch nor h5py.

Snakemake sees files by their time and rules by their settings. What it would not see, another
picture in a folder, other weights under an old date, is told to it as a setting: a short text that
changes with them.
"""

import functools
import hashlib
import importlib.machinery
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from dissect_embed.artefacts.kinds import KINDS
from dissect_embed.config import read_config
from dissect_embed.datasets.folders import walk_files
from dissect_embed.distillation import TRAINING_VERSION
from dissect_embed.distillation.results.names import (
    ROW_PATTERN,
    own_teacher,
    prior_paths,
    read_network,
    student_path,
    teacher_path,
    write_network,
)
from dissect_embed.distillation.results.plan import (
    has_priors,
    list_pairs,
    list_rows,
    row_inputs,
    row_options,
)
from dissect_embed.errors import ConfigError
from dissect_embed.settings import is_path

VERSIONS = {name: kind.version for name, kind in KINDS.items()}


def load_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config, checked, with the default of what is not named.

    Raises
    ------
    ConfigError
        If a setting is unknown, of another type or out of bounds.
    """
    return read_config(values)


def file_state(paths: Iterable[str | Path]) -> str:
    """Return a text that changes when a file, or any below a folder, comes, goes or is changed.

    By name, size and time of change: cheap also for a million files.
    """
    digest = hashlib.sha256()
    for path in map(Path, paths):
        # What is not there whoever reads it says.
        alone = [(path.name, path.stat())] if path.is_file() else []
        for name, stat in sorted(walk_files(path)) if path.is_dir() else alone:
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


@functools.cache
def content_state(path: str) -> str:
    """Return a text that changes with what a file holds, whatever its date.

    For files of weights: half a gigabyte takes a fraction of a second.
    """
    digest = xxhash.xxh3_128()
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return str(digest.hexdigest())[:16]


def data_state(index: str) -> str:
    """Return a text that changes with any file of the data set that an ``index.csv`` belongs to.

    Raises
    ------
    FileNotFoundError
        If it is not there yet; Snakemake asks again once it is made.
    """
    Path(index).stat()
    return file_state([Path(index).parent])


@functools.cache
def source_state(name: str) -> str:
    """Return a text that changes with the source of a network ``package.module:function``."""
    if ":" not in name:
        return ""
    top, *parts = name.partition(":")[0].split(".")
    # As commands do, which look in the working folder last.
    path = [*sys.path, str(Path.cwd())]
    spec = importlib.machinery.PathFinder.find_spec(top, path)
    if spec is None or spec.origin is None:
        return ""
    source = Path(spec.origin)
    if parts:
        inner = source.parent.joinpath(*parts)
        source = inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")
    return hashlib.sha256(source.read_bytes()).hexdigest()[:16] if source.is_file() else ""


def network_state(name: str, weights: str) -> list[str]:
    """Return texts that change with a network's source, and with what its file of weights holds."""
    return [source_state(name), content_state(weights) if is_path(weights) else ""]


def find_snakefile() -> Path:
    """Return the Snakefile: of the checkout, or where the installed package keeps it.

    Raises
    ------
    ConfigError
        If there is none.
    """
    beside = Path(__file__).parents[1] / "Snakefile"
    installed = Path(sysconfig.get_path("data"), "share", "dissect-embed", "Snakefile")
    for path in (beside, installed):
        if path.is_file():
            return path
    msg = f"no Snakefile beside the package or in {installed.parent}; install dissect-embed again"
    raise ConfigError(msg)


__all__ = [
    "ROW_PATTERN", "TRAINING_VERSION", "VERSIONS", "ConfigError", "data_state", "file_state",
    "find_snakefile", "has_priors", "is_path", "list_pairs", "list_rows", "load_config",
    "network_state", "own_teacher", "prior_paths", "read_network", "row_inputs", "row_options",
    "source_state", "student_path", "teacher_path", "write_network",
]  # fmt: skip
