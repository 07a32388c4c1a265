"""Images with one class each, decoded once: the file that distillation trains on.

``classes.h5`` is a file like those of the stages (``artefacts.files``): schema ``classes``, and

``/classes (n,)``
    the names, sorted; their indices are the labels;
``/train/images (N, y, x, 3)``, ``/train/labels (N,)``
    uint8 pixels and int64 labels, class after class, each class in the order of its file names;
``/test/images``, ``/test/labels``
    the same of the images to test on.

``made_from`` carries a SHA-256 of all pixels, labels and names.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import h5py
import numpy as np
from jaxtyping import Int64, UInt8

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_array, read_strings
from dissect_embed.artefacts.files import create_artefact, open_artefact, read_config
from dissect_embed.datasets.fetch import check_room
from dissect_embed.errors import DatasetError

SPLITS: Final = ("train", "test")


class ClassSplit(NamedTuple):
    """The images of one split and the class of each."""

    images: UInt8[np.ndarray, "image y x 3"]
    labels: Int64[np.ndarray, " image"]


class ClassImages(NamedTuple):
    """A split of a data set of classes, in memory."""

    images: UInt8[np.ndarray, "image y x 3"]
    labels: Int64[np.ndarray, " image"]
    classes: list[str]  # a label is an index into this list
    name: str  # of the data set
    fingerprint: str  # of the whole file


class ClassCounts(NamedTuple):
    """How much a data set of classes holds."""

    n_classes: int
    n_train: int  # images
    n_test: int
    height: int  # pixels
    width: int

    def __str__(self) -> str:
        """Return the counts for people."""
        return (
            f"{self.n_train:,} training and {self.n_test:,} test images of {self.n_classes:,} "
            f"classes, {self.height}×{self.width} pixels"
        )


def write_classes(
    path: Path,
    name: str,
    classes: list[str],
    splits: Mapping[str, ClassSplit],
    settings: Mapping[str, Any] | None = None,
) -> ClassCounts:
    """Write ``classes.h5``.

    Parameters
    ----------
    name
        Of the data set, such as cifar100.
    classes
        The names of the classes, sorted.
    splits
        ``train`` and ``test``, with images of one size.
    settings
        What else had a say in the images, for ``config``.

    Raises
    ------
    DiskSpaceError
        If the images do not fit on the disk.
    """
    train, test = (splits[split] for split in SPLITS)
    counts = ClassCounts(
        len(classes), len(train.images), len(test.images), *train.images.shape[1:3]
    )
    dataset = {"name": name, "classes": counts.n_classes, "train": counts.n_train,
               "test": counts.n_test, "size": [counts.height, counts.width]}  # fmt: skip
    config = {"dataset": dataset, **(settings or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    check_room(path, train.images.nbytes + test.images.nbytes)
    made_from = {"images": hash_classes(classes, splits)}
    with create_artefact(path, "classes", config, made_from) as file:
        write_scale(file, "classes", classes)
        for split in SPLITS:
            group = file.create_group(split)
            group["images"], group["labels"] = splits[split]
            label_axes(group["images"], ("image", "y", "x", "channel"))
            label_axes(group["labels"], ("image",))
    return counts


def hash_classes(classes: list[str], splits: Mapping[str, ClassSplit]) -> str:
    """Return the SHA-256 of names, labels and pixels, and of how they are laid out."""
    digest = hashlib.sha256()
    digest.update(repr(classes).encode())
    for split in SPLITS:
        images, labels = splits[split]
        digest.update(repr((split, images.shape)).encode())
        digest.update(np.ascontiguousarray(labels, "<i8").data)
        digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def load_classes(path: Path, split: str) -> ClassImages:
    """Read one split of ``classes.h5`` into memory.

    Parameters
    ----------
    split
        ``train`` or ``test``.

    Raises
    ------
    ArtefactError
        If the file is missing, damaged or another one.
    DatasetError
        If there is no such split.
    """
    if split not in SPLITS:
        msg = f"{path}: no split {split!r}; expected {' or '.join(SPLITS)}"
        raise DatasetError(msg)
    with open_artefact(path, "classes") as file:
        return ClassImages(
            images=read_array(file[f"{split}/images"]),
            labels=read_array(file[f"{split}/labels"]),
            classes=read_strings(file["classes"]),
            name=str(read_config(file)["dataset"]["name"]),
            fingerprint=str(file.attrs["fingerprint"]),
        )


def count_classes(file: h5py.File) -> ClassCounts:
    """Return how much an open ``classes.h5`` holds, without reading its images."""
    n_train, height, width, _ = file["train/images"].shape
    return ClassCounts(len(file["classes"]), n_train, len(file["test/images"]), height, width)
