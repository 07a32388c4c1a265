"""The whole of ADE20K: objects, parts and scenes, with all of its classes.

As the release of 2021 has them (https://github.com/CSAILVision/ADE20K): beside ``x.jpg`` lie
``x_seg.png``, whose pixels are ``red // 10 · 256 + green`` (blue numbers instances), the same of
parts in ``x_parts_1.png``, of their parts in ``x_parts_2.png`` and so on, and ``x.json``, which
names the numbers. As in Broden, objects, parts and scenes are three categories, and a scene has
``-s`` behind its name. The challenge's 150 classes are read as ``masks``.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int, UInt8
from tqdm import tqdm

from dissect_embed.datasets.decoding import decode_colours
from dissect_embed.datasets.folders import check_replaceable
from dissect_embed.datasets.importing.documents import read_document, read_field
from dissect_embed.datasets.importing.files import Pairs, decode_picture, pair_files
from dissect_embed.datasets.importing.writing import Labelled, Source, check_size, write_dataset
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError
from dissect_embed.parallel import map_in_threads


def import_ade20k(
    root: Path,
    folder: Path,
    settings: Import = Import(),
    *,
    skip_unlabelled: bool = False,
    n_threads: int | None = None,
) -> int:
    """Make a data set in Broden's format of ADE20K with all its classes; return its images.

    A class has the first of its names, or all of them where other classes have the same first.

    Parameters
    ----------
    root
        The folder to make.
    folder
        Below which the files are.
    skip_unlabelled
        Leave out images without ``_seg.png``.

    Raises
    ------
    DatasetError
        If files are missing, broken or of other sizes, masks have numbers that no JSON file names,
        or two name one number otherwise.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    check_replaceable(root, folder)
    hint = "put what is missing beside the rest"
    images, masks = pair_files(Pairs(folder, folder, ".jpg", "_seg.png", skip_unlabelled, hint))
    order = sorted(images)
    whole, scenes = _read_notes([masks[name] for name in order], n_threads)
    names, synonyms = _name_classes(whole)
    classes = {**synonyms, **dict.fromkeys(sorted(scenes), "")}
    place = {name: n for n, name in enumerate(classes, start=1)}
    said = {number: place[name] for number, name in names.items()}

    def read(n: int) -> Labelled:
        image, mask = images[order[n]], masks[order[n]]
        pixels = decode_picture(image, settings)
        objects = _read_map(mask, said, pixels, image)
        parts: list[Int[np.ndarray, "y x"]] = []
        for file in _find_parts(mask):
            part = _read_map(file, said, pixels, image)
            for above in parts:
                part[part == above] = 0  # is labelled already
            parts.append(part)
        return Labelled(pixels, [objects], {"part": parts, "scene": [place[scenes[n]]]})

    files = [
        [images[name], masks[name], _beside(masks[name], ".json"), *_find_parts(masks[name])]
        for name in order
    ]
    note = {"format": "ade20k", "source": str(folder)}
    data = Source(order, classes, read, note, files, others=("part", "scene"))
    write_dataset(root, data, settings, n_threads)
    return len(order)


def _beside(mask: Path, ending: str) -> Path:
    return mask.with_name(mask.name[: -len("_seg.png")] + ending)


def _find_parts(mask: Path) -> list[Path]:
    """Return the masks of parts, of their parts and so on."""
    found: list[Path] = []
    while (file := _beside(mask, f"_parts_{len(found) + 1}.png")).is_file():
        found.append(file)
    return found


def _read_notes(masks: list[Path], n_threads: int | None) -> tuple[dict[int, str], list[str]]:
    """Return the names of each number, with commas between them, and the scene of each image."""
    paths = [_beside(mask, ".json") for mask in masks]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        msg = (
            f"{missing[0]}: missing, as are {len(missing)} of {len(masks)} JSON files, which name "
            "the classes; the release of 2016 has none (but _atr.txt): fetch that of 2021"
        )
        raise DatasetError(msg)
    whole: dict[int, tuple[str, Path]] = {}
    scenes = []
    work = map_in_threads(_read_note, paths, n_threads=n_threads)
    notes = tqdm(work, "read JSON", len(paths), unit=" files", disable=None)
    for path, (names, scene) in zip(paths, notes, strict=True):
        for number, name in sorted(names):
            other, before = whole.setdefault(number, (name, path))
            if name != other:
                msg = (
                    f"{path}: number {number} is {name!r}, but {other!r} in {before}; they are of "
                    "two releases, or one was changed: fetch them again"
                )
                raise DatasetError(msg)
        scenes.append(f"{scene}-s")
    return {number: name for number, (name, _) in whole.items()}, scenes


def _read_note(path: Path) -> tuple[set[tuple[int, str]], str]:
    """Return the numbers and names in a JSON file, and the scene."""
    # Some are in UTF-8, some are not.
    document = read_document(path, "latin-1")
    annotation = read_field(str(path), document, "annotation", dict)
    objects = read_field(str(path), annotation, "object", (list, dict))
    names = set()
    # MATLAB, which wrote them, makes one object of a list of one.
    for n, said in enumerate([objects] if isinstance(objects, dict) else objects, start=1):
        where = f"{path}: object {n}"
        number = read_field(where, said, "name_ndx", int)
        names.add((number, read_field(where, said, "name", str).strip()))
    return names, PurePosixPath(read_field(str(path), annotation, "folder", str)).name


def _name_classes(whole: Mapping[int, str]) -> tuple[dict[int, str], dict[str, str]]:
    """Return the class of each number, and of each class its other names, joined by ``;``."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for number, name in sorted(whole.items()):
        numbers[name.split(",")[0].strip()].append(number)
    names = {
        number: name if len(same) == 1 else whole[number]
        for name, same in numbers.items()
        for number in same
    }
    synonyms = {}
    for number, name in sorted(names.items()):
        others = [] if name == whole[number] else whole[number].split(",")[1:]
        synonyms[name] = ";".join(other.strip() for other in others)
    return names, synonyms


def _read_map(
    mask: Path, said: Mapping[int, int], pixels: UInt8[np.ndarray, "y x 3"], image: Path
) -> Int[np.ndarray, "y x"]:
    """Return the class of each pixel; 0 where there is none."""
    red, green, _ = decode_colours(mask).transpose(2, 0, 1)
    numbers = red // 10 * 256 + green
    check_size(pixels.shape[:2], numbers.shape, image, mask)
    counts = np.bincount(numbers.ravel())
    unknown = [n for n in np.flatnonzero(counts).tolist() if n and n not in said]
    if unknown:
        y, x = np.argwhere(numbers == unknown[0])[0].tolist()
        msg = (
            f"{mask}: pixel {x}, {y} (column, row): number {unknown[0]} (red // 10 · 256 + green) "
            f"is in no JSON file, as are {len(unknown)} of its numbers, "
            f"{int(counts[unknown].sum())} pixels in all; if these masks are the challenge's 150 "
            "classes, import them as 'masks'"
        )
        raise DatasetError(msg)
    classes = np.zeros(len(counts), dtype=np.int64)
    for number in np.flatnonzero(counts).tolist():
        classes[number] = said.get(number, 0)
    return np.asarray(classes[numbers])
