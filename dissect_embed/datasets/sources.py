"""Where labelled images come from: class folders, tar files of them, CIFAR's pickles.

Each is read to entries in no particular order: a class folder, or an image in one, which is decoded
elsewhere (`cifar`). Hidden files and folders, and what file managers leave (``Thumbs.db``,
``__MACOSX``), are passed over.
"""

import codecs
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import UInt8

from dissect_embed.datasets.classes import SPLITS
from dissect_embed.datasets.folders import is_junk
from dissect_embed.errors import DatasetError

# What tarfile and its decompressors raise on a damaged archive.
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)


class Entry(NamedTuple):
    """A class folder, or an image in it."""

    split: str
    class_name: str
    name: str  # of the image's file; empty for the folder
    place: str  # where it was found, for people
    content: Path | bytes | UInt8[np.ndarray, "y x 3"] | None  # None for the folder


class _Pickles(NamedTuple):
    """How CIFAR's authors name files and keys."""

    names_file: str
    names_key: str
    labels_key: str
    files: dict[str, tuple[str, ...]]


_PICKLES: Final = {
    "cifar-100-python": _Pickles(
        "meta", "fine_label_names", "fine_labels", {"train": ("train",), "test": ("test",)}
    ),
    "cifar-10-batches-py": _Pickles(
        "batches.meta",
        "label_names",
        "labels",
        {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)},
    ),
}
# What an honest pickle of arrays, lists and strings refers to; a hostile one refers to more.
_HARMLESS: Final = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # bytes, where Python 3 writes as Python 2 did
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
}


def read_source(source: Path) -> Iterator[Entry]:
    """Yield the class folders and the images of one source.

    Raises
    ------
    DatasetError
        If it does not exist, is none of the forms known here, or is damaged.
    """
    if source.is_file():
        yield from _read_tar(source)
    elif found := _find_pickles(source):
        yield from _read_pickles(*found)
    elif any((source / split).is_dir() for split in SPLITS):
        yield from _read_folder(source)
    elif tars := sorted(p for p in source.glob("*.tar*") if not p.name.startswith(".")):
        for path in tars:
            yield from _read_tar(path)
    elif source.is_dir():
        inside = ", ".join(sorted(p.name for p in source.iterdir())[:5]) or "nothing"
        msg = (
            f"{source}: expected train/ and test/ with a folder for each class, tar files of such "
            f"folders, or {' or '.join(_PICKLES)}, got {inside}; name the folder that holds them"
        )
        raise DatasetError(msg)
    else:
        msg = f"{source}: no such file or folder; correct --source"
        raise DatasetError(msg)


def _hidden(part: str) -> bool:
    return part.startswith(".") or is_junk(part)


def _read_folder(root: Path) -> Iterator[Entry]:
    for split in SPLITS:
        inside = (root / split).iterdir() if (root / split).is_dir() else ()
        entries = [path for path in inside if not _hidden(path.name)]
        folders = [path for path in entries if path.is_dir()]
        if entries and not folders:
            raise DatasetError(_without_classes(root, split, len(entries)))
        for folder in folders:
            yield Entry(split, folder.name, "", str(folder), None)
            for path in folder.iterdir():
                if _hidden(path.name):
                    continue
                if path.is_dir():
                    raise DatasetError(_too_deep(str(path), root))
                yield Entry(split, folder.name, path.name, str(path), path)


def _without_classes(root: Path, split: str, n_files: int) -> str:
    tables = sorted(path.name for path in root.glob("*abel*.csv"))
    # Kaggle packs CIFAR so; the table has the columns id,label.
    told = f", as {tables[0]} says" if tables else ""
    return (
        f"{root / split}: {n_files} files and no class folder; expected {split}/<class>/<image>: "
        f"move each image into a folder of its class{told}"
    )


def _too_deep(place: str, source: Path) -> str:
    return (
        f"{place}: lies deeper than {source} / train or test / class / image; "
        "move its images into the folder of their class"
    )


def _read_tar(path: Path) -> Iterator[Entry]:
    """Yield what a tar file holds, below a top folder or without one."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                parts = PurePosixPath(member.name).parts
                # Also with another top folder, as archives have it.
                if parts and parts[0] not in SPLITS:
                    parts = parts[1:]
                if len(parts) < 2 or parts[0] not in SPLITS or any(map(_hidden, parts)):
                    continue
                place = f"{path}: {member.name}"
                if member.isdir() and len(parts) == 2:
                    yield Entry(parts[0], parts[1], "", place, None)
                elif len(parts) > 3 or (member.isdir() and len(parts) == 3):
                    raise DatasetError(_too_deep(place, path))
                elif len(parts) == 3:
                    yield Entry(*parts, place, _read_member(tar, member, place))
            _check_end(tar)
    except DatasetError:
        raise
    except _DAMAGED as error:
        msg = f"{path}: no tar file, or not a whole one ({error}); fetch or pack it again"
        raise DatasetError(msg) from error


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> bytes:
    if not member.isreg():
        msg = f"{place}: is a link or a device; pack the images themselves (tar --dereference)"
        raise DatasetError(msg)
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _check_end(tar: tarfile.TarFile) -> None:
    """Check for the empty block after the last file: tarfile takes any other end for it, too."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        msg = "its end is missing"
        raise tarfile.ReadError(msg)


def _find_pickles(source: Path) -> tuple[Path, _Pickles] | None:
    for name, pickles in _PICKLES.items():
        for folder in (source, source / name):
            if (folder / pickles.names_file).is_file():
                return folder, pickles
    return None


def _read_pickles(folder: Path, pickles: _Pickles) -> Iterator[Entry]:
    class_names = _unpickle(folder / pickles.names_file, pickles.names_key)[0]
    for split, files in pickles.files.items():
        for name in class_names:
            yield Entry(split, name, "", str(folder / files[0]), None)
        for path in (folder / file for file in files):
            pixels, labels, names = _unpickle(path, "data", pickles.labels_key, "filenames")
            if pixels.shape != (len(labels), 3072) or len(names) != len(labels):
                raise DatasetError(_damaged(path, f"{pixels.shape} pixels, {len(labels)} labels"))
            images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            for row, (label, name) in enumerate(zip(labels, names, strict=True)):
                if not 0 <= label < len(class_names):
                    raise DatasetError(_damaged(path, f"row {row} has label {label}"))
                # Unlike files in a folder, rows may share a name.
                yield Entry(
                    split, class_names[label], f"{name}.{row:05d}", f"{path}: row {row}",
                    images[row],
                )  # fmt: skip


class _HarmlessUnpickler(pickle.Unpickler):
    """Reads arrays, lists and strings; what else a pickle asks for could run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            msg = f"it refers to {module}.{name}: do not trust it"
            raise pickle.UnpicklingError(msg)
        return _HARMLESS[module, name]


def _unpickle(path: Path, *keys: str) -> list[Any]:
    try:
        with path.open("rb") as file:
            # Python 2 wrote them.
            content = _HarmlessUnpickler(file, encoding="latin1").load()
        return [content[key] for key in keys]
    except FileNotFoundError as error:
        raise DatasetError(_damaged(path, "missing")) from error
    except KeyError as error:
        raise DatasetError(_damaged(path, f"it has no {error}")) from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError) as error:
        raise DatasetError(_damaged(path, str(error))) from error


def _damaged(path: Path, what: str) -> str:
    return f"{path}: not as CIFAR's authors made it ({what}); fetch the archive and unpack it again"
