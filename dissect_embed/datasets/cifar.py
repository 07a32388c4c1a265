"""CIFAR-100, and whatever comes as it does: a folder a class, packed or not, decoded once.

A source is one of

- torchvision's download of CIFAR-100 or CIFAR-10: a folder of pickles, or the folder it lies in;
- a folder with ``train/<class>/<image>`` and ``test/<class>/<image>``;
- a tar file of such folders, compressed or not; or a folder of such tar files.

Several sources make one data set. Images are put in the order of their classes and then of their
names without endings, so that CIFAR-100 gives the same file whatever it was packed in.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import UInt8
from joblib import cpu_count
from tqdm import tqdm

from dissect_embed.datasets.classes import SPLITS, ClassCounts, ClassSplit, write_classes
from dissect_embed.datasets.decoding import Orientation, decode_image
from dissect_embed.datasets.sources import Entry, read_source
from dissect_embed.errors import DatasetError, first_of
from dissect_embed.processes import map_in_processes

_CHUNK = 500  # images that a process decodes at a time


def decode_classes(
    sources: Sequence[Path],
    output: Path,
    name: str,
    n_jobs: int | None = None,
    *,
    background: Sequence[int] = (),
    orientation: Orientation = "refuse",
) -> ClassCounts:
    """Decode a data set of classes into ``classes.h5``.

    Everything is held in memory on the way: 300 MB for CIFAR-100.

    Parameters
    ----------
    sources
        Folders and tar files, see above.
    output
        The file to write; its layout is said in ``datasets.classes``.
    n_jobs
        Processes to decode with, by default one for each core.
    name
        What the data set is called in files made from it.
    background, orientation
        How images that are partly transparent or stored turned are read
        (``decoding.decode_image``).

    Raises
    ------
    DatasetError
        If a source is missing or damaged, a split, a class or a class's images are missing, or an
        image cannot be decoded or has another size than the first; the file is named.
    DiskSpaceError
        If the images do not fit on the disk.
    """
    images, folders = _collect(sources)
    classes = _check_classes(sources, images, folders)
    images.sort(key=_order)
    _check_unique(images)
    reading = {"background": tuple(background), "orientation": orientation}
    pixels = _decode_all(images, n_jobs, reading)
    number = {class_name: n for n, class_name in enumerate(classes)}
    labels = np.array([number[entry.class_name] for entry in images], np.int64)
    n_train = sum(entry.split == "train" for entry in images)
    splits = {
        "train": ClassSplit(pixels[:n_train], labels[:n_train]),
        "test": ClassSplit(pixels[n_train:], labels[n_train:]),
    }
    return write_classes(output, name, classes, splits, {"images": reading})


def download_cifar100(folder: Path) -> Path:
    """Fetch CIFAR-100 into a folder through torchvision, and return the folder.

    Raises
    ------
    DatasetError
        If it cannot be fetched.
    """
    from torchvision.datasets import CIFAR100

    try:
        CIFAR100(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        msg = (
            f"{folder}: CIFAR-100 cannot be fetched ({error}); unpack cifar-100-python.tar.gz "
            "there by hand and name the folder with --source"
        )
        raise DatasetError(msg) from error
    return folder


def _collect(sources: Sequence[Path]) -> tuple[list[Entry], list[Entry]]:
    """Return the images and the class folders of all sources."""
    images, folders = [], []
    with tqdm(desc="read", unit=" images", disable=None) as bar:
        for source in sources:
            for entry in read_source(source):
                if entry.name:
                    images.append(entry)
                    bar.update()
                else:
                    folders.append(entry)
    return images, folders


def _check_classes(
    sources: Sequence[Path], images: Sequence[Entry], folders: Sequence[Entry]
) -> list[str]:
    """Return the names of the classes, the same in both splits, each with an image in both."""
    where = ", ".join(map(str, sources))
    n_images = Counter((entry.split, entry.class_name) for entry in images)
    for split in SPLITS:
        if not any(entry.split == split for entry in (*images, *folders)):
            msg = (
                f"{where}: no {split} split; expected {split}/<class>/<image>, in one of the "
                "sources (rename val/ to test/)"
            )
            raise DatasetError(msg)
    for entry in folders:
        if not n_images[entry.split, entry.class_name]:
            msg = (
                f"{entry.place}: no image of class {entry.class_name!r} in {entry.split}; "
                "add some, or delete the class from both splits"
            )
            raise DatasetError(msg)
    train, test = ({c for s, c in n_images if s == split} for split in SPLITS)
    for lacking, names in (("test", train - test), ("train", test - train)):
        if names:
            msg = (
                f"{where}: {len(names)} of {len(train | test)} classes are missing in {lacking}/ "
                f"({first_of(sorted(names))}); name all parts of the data set with --source"
            )
            raise DatasetError(msg)
    if len(train) < 2:
        msg = f"{where}: only one class ({', '.join(train)}); expected at least two"
        raise DatasetError(msg)
    return sorted(train)


def _order(entry: Entry) -> tuple[int, str, str, str]:
    stem = PurePosixPath(entry.name).stem
    return SPLITS.index(entry.split), entry.class_name, stem, entry.name


def _check_unique(images: Sequence[Entry]) -> None:
    """Check entries in order for two of the same split, class and name."""
    for before, entry in pairwise(images):
        if before[:3] == entry[:3]:
            msg = f"{entry.place}: is in {before.place} as well; name each source once"
            raise DatasetError(msg)


def _decode_all(
    images: Sequence[Entry], n_jobs: int | None, reading: Mapping[str, Any]
) -> UInt8[np.ndarray, "image y x 3"]:
    """Decode images, all of the size of the first, in their order."""
    first = _decode(images[0], reading)
    pixels = np.empty((len(images), *first.shape), np.uint8)
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    # Threads would wait for one another: around so small an image most of the work is Python's.
    arguments = ((chunk, images[0].place, first.shape, reading) for chunk in chunks)
    work = map_in_processes(_decode_chunk, arguments, min(n_jobs or cpu_count(), len(chunks)))
    with tqdm(desc="decode", total=len(images), unit=" images", disable=None) as bar:
        for start, chunk in zip(range(0, len(images), _CHUNK), work, strict=True):
            pixels[start : start + len(chunk)] = chunk
            bar.update(len(chunk))
    return pixels


def _decode_chunk(
    entries: Sequence[Entry], first: str, shape: tuple[int, ...], reading: Mapping[str, Any]
) -> UInt8[np.ndarray, "image y x 3"]:
    decoded = []
    for entry in entries:
        pixels = _decode(entry, reading)
        if pixels.shape != shape:
            msg = (
                f"{entry.place}: {pixels.shape[0]}×{pixels.shape[1]} pixels, {first} has "
                f"{shape[0]}×{shape[1]}; scale all images to one size"
            )
            raise DatasetError(msg)
        decoded.append(pixels)
    return np.stack(decoded)


def _decode(entry: Entry, reading: Mapping[str, Any]) -> UInt8[np.ndarray, "y x 3"]:
    if isinstance(entry.content, np.ndarray):
        return entry.content
    assert entry.content is not None
    content = entry.content if isinstance(entry.content, bytes) else entry.content.read_bytes()
    return decode_image(io.BytesIO(content), entry.place, setting="--{}", **reading)
