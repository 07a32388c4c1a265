"""Images of which it is known what a network should say, matched with what it puts out.

Those of the data set with its own labels, for a network that tells which concepts are present, or
class folders: a folder of images for each class.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from dissect_embed.artefacts.labels import Labels
from dissect_embed.datasets.folders import is_junk
from dissect_embed.datasets.pixels import read_picture
from dissect_embed.errors import DatasetError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm",
    *(ending for ending in (".jp2", ".avif") if ending in Image.registered_extensions()),
)  # fmt: skip


class Examination(NamedTuple):
    """Labelled images, and what a network should say of each."""

    classes: list[str]  # of which there is an image
    present: Bool[np.ndarray, "image class"]
    outputs: Int[np.ndarray, " class"]  # of the network
    exclusive: bool  # whether an image has one class, which should get the highest score
    places: Int[np.ndarray, " image"] | None  # among the images of the run; None: from elsewhere
    read: Callable[[int], UInt8[np.ndarray, "y x 3"]] | None  # decodes those from elsewhere
    made_from: dict[str, str]  # fingerprints


def examine_concepts(labels: Labels, limit: int, seed: int, n_outputs: int) -> Examination:
    """Return images of a data set, with its concepts, for a network that has an output for each.

    Parameters
    ----------
    limit
        Images at most, drawn by the seed.

    Raises
    ------
    DatasetError
        If the network has not as many outputs as there are concepts.
    """
    if n_outputs != len(labels.names):
        msg = (
            f"ablation.images: the network has {n_outputs} outputs, which are not the "
            f"{len(labels.names)} concepts of the data set; name labelled images, a folder of them "
            "for each of its classes (--images FOLDER)"
        )
        raise DatasetError(msg)
    places = _draw(len(labels.images), limit, seed)
    present = labels.concept_presence[places]
    some = np.flatnonzero(present.any(axis=0))
    names = [labels.names[n] for n in some]
    made_from = {"labels": labels.fingerprint}
    return Examination(names, present[:, some], some, False, places, None, made_from)


def examine_classes(
    folders: "ClassFolders",
    outputs: Int[np.ndarray, " class"],
    size: tuple[int, int],
    limit: int,
    seed: int,
    *,
    exclusive: bool,
) -> Examination:
    """Return images of class folders, in the size in which a network is given them.

    Parameters
    ----------
    outputs
        Of the network, for each folder (``find_outputs``).
    size
        Height and width, pixels; what juts out of a picture is cut off.
    limit
        Images at most, drawn by the seed.
    exclusive
        Whether the class of an image should get the highest of all scores. Else, as of a network
        that tells which concepts are present, its images should get the highest for this class.
    """
    chosen = _draw(len(folders.paths), limit, seed)
    label = folders.label[chosen]
    some = np.unique(label)
    paths = [folders.paths[n] for n in chosen]
    return Examination(
        [folders.classes[n] for n in some],
        label[:, None] == some,
        outputs[some],
        exclusive,
        None,
        functools.partial(_read, paths, size),
        {"images": folders.fingerprint()},
    )


def _read(paths: Sequence[Path], size: tuple[int, int], image: int) -> UInt8[np.ndarray, "y x 3"]:
    return read_picture(paths[image], size)


def _draw(n_images: int, limit: int, seed: int) -> Int[np.ndarray, " image"]:
    order = np.random.default_rng([seed, 0]).permutation(n_images)
    return np.sort(order[:limit])


class ClassFolders(NamedTuple):
    """The images of class folders, class after class, each in the order of its file names."""

    classes: list[str]  # sorted
    paths: list[Path]
    label: Int[np.ndarray, " image"]  # the class of each image

    def fingerprint(self) -> str:
        """Return a SHA-256 of all classes and what their files hold."""
        digest = hashlib.sha256()
        for path, label in zip(self.paths, self.label.tolist(), strict=True):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{self.classes[label]}\0{path.name}\0{content}\n".encode())
        return digest.hexdigest()


def find_class_folders(root: Path) -> ClassFolders:
    """Return the images in a folder of class folders; hidden files are passed over.

    Raises
    ------
    DatasetError
        If there is no such folder, no class in it, or a class has no image.
    """
    if not root.is_dir():
        msg = f"{root}: no such folder; name one that holds a folder of images for each class"
        raise DatasetError(msg)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not _hidden(p))
    if len(folders) < 2:
        found = ", ".join(p.name for p in folders) or "none"
        msg = f"{root}: expected a folder of images for each of several classes, found {found}"
        raise DatasetError(msg)
    paths: list[Path] = []
    label: list[int] = []
    for number, folder in enumerate(folders):
        inside = sorted(p for p in folder.iterdir() if not _hidden(p))
        images = [p for p in inside if p.suffix.lower() in SUFFIXES]
        if not images:
            deeper = next((p.name for p in inside if p.is_dir()), None)
            hint = (
                f"its folder {deeper!r} lies deeper; name {folder} if that is a class"
                if deeper
                else f"expected files such as {', '.join(SUFFIXES[:3])}; remove the folder"
            )
            msg = f"{folder}: no image in it; {hint}"
            raise DatasetError(msg)
        paths += images
        label += [number] * len(images)
    return ClassFolders([folder.name for folder in folders], paths, np.array(label))


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or is_junk(path.name)


def read_class_names(path: Path, n_outputs: int) -> list[str]:
    """Return the class of each output of a network, from a file with one a line.

    Raises
    ------
    DatasetError
        If it is missing, no text, or has not as many lines as there are outputs.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        msg = f"{path}: no such file; name one with the class of each output, one a line"
        raise DatasetError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path}: no text in UTF-8 ({error}); expected the class of each output, one a line"
        raise DatasetError(msg) from error
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if len(names) != n_outputs:
        msg = (
            f"{path}: {len(names)} lines, but the network has {n_outputs} outputs; name the class "
            "of each, one a line"
        )
        raise DatasetError(msg)
    return names


def find_outputs(
    classes: Sequence[str], names: Sequence[str] | None, n_outputs: int, root: Path
) -> Int[np.ndarray, " class"]:
    """Return the output of a network that stands for each class folder.

    Parameters
    ----------
    classes
        The names of the folders, sorted.
    names
        The class of each output; None where nothing names them: then the folders must be as many.

    Raises
    ------
    DatasetError
        If a folder is none of the classes, or the name of several; if nothing names the outputs
        and the folders are not as many.

    Examples
    --------
    >>> find_outputs(["cat", "dog"], ["dog", "fish", "cat"], 3, Path("pictures"))
    array([2, 0])
    """
    if names is None:
        if len(classes) != n_outputs:
            msg = (
                f"{root}: {len(classes)} class folders, but the network has {n_outputs} outputs, "
                "and nothing says which stand for which; name the class of each output in a file, "
                "one a line (--classes FILE)"
            )
            raise DatasetError(msg)
        return np.arange(n_outputs)
    count = Counter(names)
    for name in classes:
        if count[name] != 1:
            what = f"the name of {count[name]} of" if count[name] else "none of"
            some = ", ".join(list(dict.fromkeys(names))[:3])
            msg = (
                f"{root / name}: {what} the network's {n_outputs} classes ({some}, …); rename the "
                "folder, or name the class of each output as the folders are (--classes FILE)"
            )
            raise DatasetError(msg)
    place = {name: n for n, name in enumerate(names)}
    return np.array([place[name] for name in classes])
