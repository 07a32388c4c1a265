"""Compare the HDF5 files of two runs, bit by bit."""

from pathlib import Path

import h5py
import numpy as np


def content(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of a file, by name."""
    found = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def differences(path: Path, other: Path) -> dict[str, str]:
    """Tell of every array in which two files are not the same bits how far they are apart."""
    ours, theirs = content(path), content(other)
    assert ours.keys() == theirs.keys()
    told = {}
    for name, a in ours.items():
        b = theirs[name]
        if a.dtype != b.dtype or a.shape != b.shape:
            told[name] = f"{a.dtype} {a.shape}, {b.dtype} {b.shape}"
        elif a.dtype == object and a.tolist() != b.tolist():
            told[name] = "other names"
        elif a.dtype != object and a.tobytes() != b.tobytes():
            most = np.abs(a.astype(float) - b.astype(float)).max()
            told[name] = f"{(a != b).sum()} of {a.size}, by {most:.3g} at most"
    return told
