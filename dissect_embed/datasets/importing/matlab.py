"""Label maps in MATLAB's files: a variable, or a field of one, with the number of each pixel."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from jaxtyping import Int

from dissect_embed.datasets.decoding import LARGEST
from dissect_embed.datasets.index import format_size
from dissect_embed.errors import DatasetError

# What SciPy raises on a damaged file.
_DAMAGED = (
    OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, EOFError,
    struct.error, zlib.error, scipy.io.matlab.MatReadError,
)  # fmt: skip


def read_label_map(path: Path, variable: str = "") -> Int[np.ndarray, "y x"]:
    """Return the label number of every pixel.

    Parameters
    ----------
    path
        A ``.mat`` file, also of version 7.3.
    variable
        The map's name, with that of its structure before a point (``GTcls.Segmentation``); not
        needed where there is one alone.

    Raises
    ------
    DatasetError
        If it is damaged, or has no such variable, none or several that may be the map, or one
        whose values are no label numbers.
    """
    maps = dict(_find_maps(path))
    listed = ", ".join(f"{name} ({format_size(value.shape)})" for name, value in maps.items())
    if variable and variable not in maps:
        msg = f"{path}: no label map {variable!r}; there are {listed or 'none'} (--variable)"
        raise DatasetError(msg)
    if len(maps) != 1 and not variable:
        what = "several may be the label map" if maps else "no variable is a label map"
        remedy = f"{listed}; say which (--variable)" if maps else "expected a matrix of numbers"
        msg = f"{path}: {what}: {remedy}"
        raise DatasetError(msg)
    name = variable or next(iter(maps))
    numbers = maps[name]
    # MATLAB's numbers are floating, if it was not told otherwise.
    if not (numbers.size and 0 <= numbers.min() <= numbers.max() <= LARGEST) or (numbers % 1).any():
        msg = (
            f"{path}: {name} has values of {numbers.min()} to {numbers.max()}; a label map holds "
            f"whole numbers of 0 to {LARGEST}; save what has none, as -1 for unlabelled, as 255"
        )
        raise DatasetError(msg)
    return np.asarray(numbers.astype(np.int64))


def _find_maps(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield name and values of all matrices of numbers that may be a label map."""
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                yield from _walk_hdf5(file)
        else:
            content = scipy.io.loadmat(path)
            for name, value in content.items():
                if not name.startswith("__"):
                    yield from _walk(name, value)
    except _DAMAGED as error:
        msg = f"{path}: cannot be read as a file of MATLAB ({error}); save or fetch it again"
        raise DatasetError(msg) from error


def _walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
        for field in value.dtype.names:
            yield from _walk(f"{name}.{field}", value[field].item())
    elif isinstance(value, np.ndarray) and value.dtype.kind in "uifb" and _is_map(value.shape):
        yield name, value


def _walk_hdf5(file: Any) -> Iterator[tuple[str, Any]]:
    """Yield those of a file of version 7.3, which is HDF5, with axes in MATLAB's order."""
    found: list[str] = []
    file.visit(found.append)
    for name in found:
        item = file[name]
        if (
            isinstance(item, h5py.Dataset)
            and not name.startswith("#")
            and item.attrs.get("MATLAB_class", b"") != b"char"
            and item.dtype.kind in "uifb"
            and _is_map(item.shape)
        ):
            yield name.replace("/", "."), item[()].T


def _is_map(shape: tuple[int, ...]) -> bool:
    # A row or column is a list of something.
    return len(shape) == 2 and min(shape) > 1
