"""All that the Snakefile asks of the package; loads neither torch nor h5py.

Snakemake sees files by their time and rules by their settings. What it would not see, another
picture in a folder, other weights under an old date, is told to it as a setting: a short text that
changes with them.
"""

import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash

from dissect_embed.artefacts.kinds import KINDS
from dissect_embed.config import is_path, read_config
from dissect_embed.distillation import TRAINING_VERSION
from dissect_embed.distillation.results.names import (
    ROW_PATTERN,
    list_pairs,
    list_rows,
    own_teacher,
    prior_paths,
    read_network,
    row_inputs,
    row_options,
    student_path,
    teacher_path,
    write_network,
)
from dissect_embed.errors import ConfigError

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
        found = sorted(_walk(path)) if path.is_dir() else [(path.name, *_stat(path))]
        for name, size, time in found:
            digest.update(f"{name}\0{size}\0{time}\n".encode())
    return digest.hexdigest()[:16]


def content_state(paths: Iterable[str | Path]) -> str:
    """Return a text that changes with what some files hold, whatever their dates.

    For files of weights: half a gigabyte takes a fraction of a second.
    """
    digest = xxhash.xxh3_128()
    for path in map(Path, paths):
        if path.is_file():
            with path.open("rb") as file:
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


def network_state(name: str) -> str:
    """Return a text that changes with the source of a network ``package.module:function``."""
    if ":" not in name:
        return ""
    top, *parts = name.partition(":")[0].split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    if spec is None or spec.origin is None:
        return ""
    source = Path(spec.origin)
    if parts:
        inner = source.parent.joinpath(*parts)
        source = inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py")
    return hashlib.sha256(source.read_bytes()).hexdigest()[:16] if source.is_file() else ""


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


def _walk(folder: Path) -> Iterator[tuple[str, int, int]]:
    stack = [(folder, "")]
    while stack:
        path, prefix = stack.pop()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    stack.append((Path(entry.path), f"{prefix}{entry.name}/"))
                else:
                    stat = entry.stat()
                    yield prefix + entry.name, stat.st_size, stat.st_mtime_ns


def _stat(path: Path) -> tuple[int, int]:
    if not path.exists():
        return -1, 0  # whoever reads it says so
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


__all__ = [
    "ROW_PATTERN", "TRAINING_VERSION", "VERSIONS", "ConfigError", "content_state", "data_state",
    "file_state", "find_snakefile", "is_path", "list_pairs", "list_rows", "load_config",
    "network_state", "own_teacher", "prior_paths", "read_network", "row_inputs", "row_options",
    "student_path", "teacher_path", "write_network",
]  # fmt: skip
