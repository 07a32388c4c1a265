"""Labels of whole images: of the folders they lie in, or of a table.

They become numbers in the index, which label every pixel, as Broden's scenes and textures do.
"""

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dissect_embed.datasets.examination import SUFFIXES
from dissect_embed.datasets.folders import check_replaceable, list_files
from dissect_embed.datasets.importing.classes import read_rows
from dissect_embed.datasets.importing.files import decode_picture, find_files
from dissect_embed.datasets.importing.writing import SPLITS, Labelled, Source, write_dataset
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError

IMAGE_COLUMNS = ("image", "filename", "file_name", "file", "path", "image_id", "imageid", "id")
# As label, labels, label_2, class, classes, category, tags.
LABEL_COLUMN = re.compile(r"(label|class|category|tag)(s|es)?[ _]?\d*|categories")

YES, NO = ("1", "1.0"), ("0", "0.0", "-1", "")


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
    said, outside = {}, []
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
        raise DatasetError(msg)
    return _import(root, found, said, {"source": str(images)}, (), settings, n_threads)


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

    A row has an image and its labels: in one cell or several, several in a cell with ``;`` between
    them, or as 0 and 1 below the labels' names. Rows of one image add up. Images are named with
    their path below the folder, or without its folders, its ending, or both, where that can be
    meant of one image alone.

    Parameters
    ----------
    root
        The folder to make.
    images
        The folder below which the images are.
    table
        Cells with commas, tabs or semicolons between them, in UTF-8. Its header names the columns
        (``IMAGE_COLUMNS``, else the first; ``LABEL_COLUMN``, else what is left if it is one, or 0
        and 1). Where the first row has an image already, all others are labels.
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
    said = _read_table(table, found, images)
    without = [found[name] for name in found if name not in said]
    if without and not skip_unlabelled:
        msg = (
            f"{images}: {len(without)} of {len(found)} images have no row in {table} (the first: "
            f"{without[0].name}); add them, or leave them out (--skip-unlabelled)"
        )
        raise DatasetError(msg)
    note = {"source": str(images), "labels": str(table)}
    return _import(root, found, said, note, [table], settings, n_threads)


def _find_images(folder: Path) -> dict[str, Path]:
    found = find_files(folder, SUFFIXES, "take one of them out")
    others = Counter(
        PurePosixPath(file).suffix.lower() or PurePosixPath(file).name
        for file in sorted(list_files(folder))
        if not file.lower().endswith(SUFFIXES)
    )
    if others:
        kinds = ", ".join(f"{n} {ending}" for ending, n in others.most_common(5))
        logging.info("%s: passed over, being no images: %s", folder, kinds)
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
    write_dataset(root, Source(names, classes, read, note, files, tables), settings, n_threads)
    return len(names)


class _Columns(NamedTuple):
    """Where a table has what."""

    image: int
    labels: Sequence[int]
    marked: bool = False  # the header has the labels, below which is 1 or 0


def _read_table(table: Path, found: Mapping[str, Path], images: Path) -> dict[str, list[str]]:
    """Return the labels of each image that the table has, by its name."""
    rows = read_rows(table)
    header = [cell.strip() for cell in rows[0][1]]
    for line, cells in rows:
        if len(cells) != len(header) or len(cells) < 2:
            msg = (
                f"{table}:{line}: {len(cells)} cells, the first row has {len(header)}, expected an "
                "image and its labels; a name with a comma must be in double quotes"
            )
            raise DatasetError(msg)
    names = _index_names(found, images.resolve().name)
    if _look_up(names, header[0]) or header[0].lower().endswith(SUFFIXES):
        columns = _Columns(0, range(1, len(header)))  # there is no header
    else:
        rows = rows[1:]
        columns = _read_header(table, header, rows)
    said: dict[str, dict[str, None]] = {}
    lost = []
    for line, cells in rows:
        where = f"{table}:{line}: {cells[columns.image]!r}"
        meant = _look_up(names, cells[columns.image])
        if len(meant) > 1:
            msg = (
                f"{where} may be any of {len(meant)} images ({meant[0]}, {meant[1]} …); name it "
                "with its folder and its ending"
            )
            raise DatasetError(msg)
        if meant:
            labels = said.setdefault(meant[0], {})
            labels.update(dict.fromkeys(_read_labels(columns, header, cells)))
        else:
            lost.append(where)
    if lost:
        msg = (
            f"{lost[0]}: no such image below {images}, as of {len(lost)} of {len(rows)} rows; "
            "name the folder that holds them, or take the rows out"
        )
        raise DatasetError(msg)
    return {name: list(labels) for name, labels in said.items()}


def _read_header(table: Path, header: list[str], rows: Sequence[tuple[int, list[str]]]) -> _Columns:
    """Return what the columns are."""
    names = [name.lower() for name in header]
    image = next((names.index(name) for name in IMAGE_COLUMNS if name in names), 0)
    rest = [n for n in range(len(names)) if n != image]
    if labels := [n for n in rest if LABEL_COLUMN.fullmatch(names[n])]:
        return _Columns(image, labels)
    if all(cells[n].strip() in (*YES, *NO) for _, cells in rows for n in rest):
        return _Columns(image, rest, marked=True)
    if len(rest) > 1:
        msg = (
            f"{table}:1: the header is {','.join(header)!r}, and which columns are labels cannot "
            "be told; call them label, label_2 …, or leave the others out"
        )
        raise DatasetError(msg)
    return _Columns(image, rest)


def _read_labels(columns: _Columns, header: Sequence[str], cells: Sequence[str]) -> list[str]:
    """Return the labels of a row."""
    if columns.marked:
        return [header[n] for n in columns.labels if cells[n].strip() in YES]
    parts = [part.strip() for n in columns.labels for part in cells[n].split(";")]
    return [part for part in parts if part]


def _index_names(found: Mapping[str, Path], folder: str) -> list[dict[str, list[str]]]:
    """Return the images' names by what a table may call them, what is most exact first."""
    levels: list[dict[str, list[str]]] = [defaultdict(list) for _ in range(4)]
    for name, path in found.items():
        whole = name + path.suffix
        short = (path.name, path.name[: -len(path.suffix)])
        for level, keys in enumerate(((whole, f"{folder}/{whole}"), (name, f"{folder}/{name}"))):
            for key in keys:
                levels[level][_fold(key)].append(name)
        for level, key in enumerate(short, start=2):
            levels[level][_fold(key)].append(name)
    return levels


def _look_up(levels: Sequence[Mapping[str, list[str]]], text: str) -> list[str]:
    """Return the images that a text may mean."""
    return next((level[_fold(text)] for level in levels if _fold(text) in level), [])


def _fold(name: str) -> str:
    # Windows has other separators, macOS takes letters from their dots, neither minds capitals.
    name = unicodedata.normalize("NFC", name.strip().replace("\\", "/")).casefold()
    return name.removeprefix("./")
