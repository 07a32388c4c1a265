"""Labels of whole images: of the folders they lie in, or of a table.

They become numbers in the index, which label every pixel, as Broden's scenes and textures do.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.folders import check_replaceable, list_files
from dissect_embed.datasets.importing.files import decode_picture, find_files
from dissect_embed.datasets.importing.image_tables import read_image_table
from dissect_embed.datasets.importing.writing import (
    SPLITS,
    Labelled,
    Source,
    write_dataset,
)
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError

UNREADABLE = {".avif", ".cr2", ".dng", ".heic", ".heif", ".jxl", ".nef", ".psd", ".raw", ".svg"}


def import_folders(
    root: Path, images: Path, settings: Import = Import(), *, n_threads: int | None = None
) -> int:
    """Make a data set in Broden's format of a folder for each class; return its images.

    The class of an image is the outermost folder that it lies in, but for one of a split (train,
    val, test). What is no image (Thumbs.db) is passed over, and it is said how much.

    Parameters
    ----------
    root
        The folder to make.
    images
        The folder that holds those of the classes, or of the splits with these in them.

    Raises
    ------
    DatasetError
        If images lie in no class's folder, or one cannot be read.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    check_replaceable(root, images)
    found = _find_images(images)
    said: dict[str, tuple[str]] = {}
    outside: list[Path] = []
    tops = {PurePosixPath(name).parts[0] for name in found if "/" in name}
    taken = sorted(top for top in tops if top.lower() in SPLITS)
    for name in found:
        folders = PurePosixPath(name).parts[:-1]
        # A class may well be called 'test', inside of a split.
        within = folders[1:] if folders and folders[0].lower() in SPLITS else folders
        if within:
            said[name] = (within[0],)
        else:
            outside.append(found[name])
    if outside:
        msg = (
            f"{images}: {len(outside)} of {len(found)} images lie in no folder of a class (the "
            f"first: {outside[0].name}); move each into one, whose name is its class, or name the "
            "labels in a table ('import table')"
        )
        if taken:
            msg += (
                f"; {', '.join(taken)} are taken for splits: a class of such a name needs another"
            )
        raise DatasetError(msg)
    if taken and (beside := sorted(tops - {*taken})):
        msg = (
            f"{images}: {taken[0]} is taken for a split, {beside[0]} beside it is none; if "
            f"{taken[0]} is a class, rename its folder, else move {beside[0]} into a split"
        )
        raise DatasetError(msg)
    _check_level(images, said, taken)
    return _import(
        root, found, said, {"format": "folders", "source": str(images)}, (), settings, n_threads
    )


def _check_level(images: Path, said: Mapping[str, Sequence[str]], splits: Sequence[str]) -> None:
    """Refuse what is one class alone but holds several folders, which may be the classes."""
    classes = {labels[0] for labels in said.values()}
    if len(classes) > 1:
        return
    (alone,) = classes
    depth = 2 if splits else 1
    inside = {p[depth] for name in said if len(p := PurePosixPath(name).parts) > depth + 1}
    if len(inside) > 1:
        remedy = f"move them out of {alone}" if splits else f"name {images / alone}"
        msg = (
            f"{images}: all images lie in {alone}, which would be the one class, and in it in "
            f"{len(inside)} folders ({', '.join(sorted(inside)[:3])} …); if these are the classes, "
            f"{remedy}, else take the images out of them"
        )
        raise DatasetError(msg)
    logging.info("%s: one class alone, %r", images, alone)


def import_table(
    root: Path,
    images: Path,
    table: Path,
    settings: Import = Import(),
    *,
    skip_unlabelled: bool = False,
    n_threads: int | None = None,
) -> int:
    """Make a data set in Broden's format of images and a table of their labels; return its images.

    Parameters
    ----------
    root
        The folder to make.
    images
        The folder below which the images are.
    table
        Of images and labels (``image_tables.read_image_table``).
    skip_unlabelled
        Leave out images of which the table has no row.

    Raises
    ------
    DatasetError
        If the table or an image cannot be read, it cannot be told what a column means, a row's
        image is not there or may be several, or an image has no row.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    check_replaceable(root, images)
    found = _find_images(images)
    said = read_image_table(table, found, images)
    without = [found[name] for name in found if name not in said]
    if without and not skip_unlabelled:
        msg = (
            f"{images}: {len(without)} of {len(found)} images have no row in {table} (the first: "
            f"{without[0].name}); add them, or leave them out (--skip-unlabelled)"
        )
        raise DatasetError(msg)
    note = {"format": "table", "source": str(images), "labels": str(table)}
    return _import(root, found, said, note, [table], settings, n_threads)


def _find_images(folder: Path) -> dict[str, Path]:
    found = find_files(folder, SUFFIXES, "take one of them out")
    others = Counter(
        PurePosixPath(file).suffix.lower() or PurePosixPath(file).name
        for file in sorted(list_files(folder))
        if not file.lower().endswith(SUFFIXES)
    )
    for why, endings in (
        ("images of kinds that cannot be read here; save them as PNG", others.keys() & UNREADABLE),
        ("being no images", others.keys() - UNREADABLE),
    ):
        kinds = Counter({ending: others[ending] for ending in sorted(endings)}).most_common(5)
        if kinds:
            listed = ", ".join(f"{n} {ending}" for ending, n in kinds)
            logging.info("%s: passed over, %s: %s", folder, why, listed)
    return found


def _import(
    root: Path,
    found: Mapping[str, Path],
    said: Mapping[str, Sequence[str]],
    note: Mapping[str, object],
    tables: Sequence[Path],
    settings: Import,
    n_threads: int | None,
) -> int:
    names = sorted(said)
    classes = dict.fromkeys(sorted({label for labels in said.values() for label in labels}), "")
    place = {label: n for n, label in enumerate(classes, start=1)}

    def read(n: int) -> Labelled:
        image = found[names[n]]
        pixels = decode_picture(image, settings)
        return Labelled(pixels, [place[label] for label in said[names[n]]])

    files = [[found[name]] for name in names]
    # A table may say of an image that it has no label; a folder cannot.
    source = Source(names, classes, read, note, files, tables, has_rest=bool(tables))
    write_dataset(root, source, settings, n_threads)
    return len(names)
