"""Find images and the files of their labels, and decode images."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from dissect_embed.datasets.decoding import decode_image
from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.folders import list_files
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError


class Pairs(NamedTuple):
    """Where images and their masks lie, and which belong together."""

    images: Path
    masks: Path
    image_ending: str = ""  # of the files' names, as '_leftImg8bit.png'; empty: any image's
    mask_ending: str = ".png"
    skip_unlabelled: bool = False  # leave out images without a mask
    # What to do where they do not go together, for people.
    hint: str = "say how names end (--image-ending, --mask-ending)"


def pair_files(pairs: Pairs) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return image and mask of each name.

    Raises
    ------
    DatasetError
        If there are none, or an image without a mask, or a mask without an image.
    """
    masks = find_files(pairs.masks, (pairs.mask_ending,), pairs.hint)
    endings = (pairs.image_ending,) if pairs.image_ending else SUFFIXES
    # They may lie in one folder.
    images = find_files(pairs.images, endings, pairs.hint, frozenset(masks.values()))
    without = sorted(images.keys() - masks.keys())
    if len(without) == len(images) or (without and not pairs.skip_unlabelled):
        msg = (
            f"{pairs.images}: {len(without)} of {len(images)} images have no mask below "
            f"{pairs.masks} (the first: {images[without[0]].name}, expected "
            f"{without[0]}{pairs.mask_ending}); {pairs.hint}, or leave them "
            "out (--skip-unlabelled)"
        )
        raise DatasetError(msg)
    strays = sorted(masks.keys() - images.keys())
    if strays:
        msg = (
            f"{pairs.masks}: {len(strays)} of {len(masks)} masks have no image below "
            f"{pairs.images} (the first: {masks[strays[0]].name}); add the images, or take the "
            "masks out"
        )
        raise DatasetError(msg)
    return {name: images[name] for name in masks}, masks


def find_files(
    folder: Path, endings: Sequence[str], hint: str, leave_out: frozenset[Path] = frozenset()
) -> dict[str, Path]:
    """Return the files with one of some endings, by their path below the folder without it."""
    if not folder.is_dir():
        msg = f"{folder}: no such folder; name the one that the files are in"
        raise DatasetError(msg)
    found: dict[str, Path] = {}
    there = sorted(list_files(folder))
    for file in there:
        ending = next((e for e in endings if file.lower().endswith(e.lower())), None)
        if (
            ending is None
            or folder / file in leave_out
            or any(part.startswith(".") for part in file.split("/"))
        ):
            continue
        # macOS may have stored the accents of one of the two otherwise.
        name = unicodedata.normalize("NFC", file[: -len(ending)])
        if name in found:
            msg = (
                f"{folder}: {found[name].name} and {Path(file).name} have one name but for the "
                f"ending; rename one, or {hint}"
            )
            raise DatasetError(msg)
        found[name] = folder / file
    if not found:
        kinds = Counter(Path(file).suffix.lower() or file for file in there).most_common(3)
        others = ", ".join(f"{n} {ending}" for ending, n in kinds) or "nothing"
        msg = (
            f"{folder}: no file that ends in {', '.join(endings)}, but {others}; name the folder "
            "they are in, or save what is there so"
        )
        raise DatasetError(msg)
    return found


def decode_picture(image: Path, settings: Import) -> UInt8[np.ndarray, "y x 3"]:
    """Return the pixels of an image, as the settings of the import say.

    Raises
    ------
    DatasetError
        If it cannot be decoded (``decoding.decode_image``).
    """
    return decode_image(
        image, image, background=settings.background, orientation=settings.orientation,
        setting="--{}",
    )  # fmt: skip
