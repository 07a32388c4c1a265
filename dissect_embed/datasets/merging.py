"""Make one data set in Broden's format of several: a concept that several hold is one by its name.

As in Broden, an image is labelled in the categories of its own source alone; its cells of others
are empty. Images are copied byte for byte, below a folder that is called as their source.
"""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dissect_embed import __version__
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.datasets.decoding import decode_image, write_label_png
from dissect_embed.datasets.fetch import check_room
from dissect_embed.datasets.folders import (
    NOTE,
    check_origin,
    check_replaceable,
    list_files,
    move_into_place,
)
from dissect_embed.datasets.index import (
    INDEX_COLUMNS,
    MAX_NUMBER,
    ImageRow,
    format_size,
    split_cell,
)
from dissect_embed.datasets.pixels import read_label_png
from dissect_embed.datasets.progress import keep_progress, make_images, stamp_files
from dissect_embed.datasets.synonyms import Names, name_concepts, number_concepts
from dissect_embed.datasets.tables import Entry, read_table, write_tables
from dissect_embed.errors import ConfigError, DatasetError, first_of


class _Image(NamedTuple):
    """A row of a source's index."""

    source: str
    row: ImageRow
    cells: dict[str, list[int | str]]  # what each category of the source has


def merge_datasets(
    root: Path,
    sources: Mapping[str, Path],
    synonyms: Path | None = None,
    n_threads: int | None = None,
) -> int:
    """Make one data set of several in Broden's format; return its images.

    Splits are kept. Concepts of which no pixel is left are left out.

    Parameters
    ----------
    root
        The folder to make.
    sources
        Folders with ``index.csv``, by the names that their images' folders get.
    synonyms
        A table of concepts to rename (``synonyms.read_synonyms``).

    Raises
    ------
    DatasetError
        If a source or an image will not do, sources differ in the size of images, a concept is of
        different categories, the table of synonyms names what is not there, or `root` holds
        something else, or what was made of other sources.
    DiskSpaceError
        If it will not fit on the disk, or this runs full.
    """
    check_replaceable(root, *sources.values())
    check_origin(root, {"sources": [{"name": n, "folder": f} for n, f in sources.items()]})
    data = {name: load_broden(folder) for name, folder in sources.items()}
    _check_sizes(data)
    _tell_splits(data)
    categories = list(dict.fromkeys(c for source in data.values() for c in source.categories))
    names = name_concepts(data, synonyms)
    numbers = number_concepts(names, categories)
    lookup = {name: _look_up(source, names, name, numbers) for name, source in data.items()}
    images = [image for name, source in data.items() for image in _read_images(name, source)]
    sizes = {
        folder / file: size
        for folder in sources.values()
        for file, size in sorted(list_files(folder).items())
    }
    made_of = {
        "sources": [[name, str(folder)] for name, folder in sources.items()],
        "names": {name: sorted(of.items()) for name, of in names.merged.items()},
        "files": stamp_files(
            folder / file
            for folder in sources.values()
            for file in sorted(list_files(folder))
            if not file.startswith("images/")
        ),
    }
    files = [_files_of(image, sources[image.source] / "images") for image in images]
    with keep_progress(root, made_of, files) as progress:
        part, left = progress.part, len(progress.left) / len(images)
        # Files take whole blocks of the disk, which shows where there are many small ones.
        check_room(root, int(left * sum(-(-size // 4096) * 4096 for size in sizes.values())))

        def make(place: int) -> Entry:
            image = images[place]
            return _make_image(part / "images", image, data[image.source], lookup, categories)

        entries = make_images(progress, make, "merge", n_threads)
        _write_tables(part, entries, names, numbers, categories)
        _check_categories(load_broden(part), names)
        move_into_place(part, root, _make_note(data, names, len(images)))
    return len(images)


def name_sources(folders: Sequence[str]) -> dict[str, Path]:
    """Return the folders by name: that of the folder, or as NAME=FOLDER says.

    Raises
    ------
    ConfigError
        If two have one name, or a name cannot be a folder's.
    """
    sources: dict[str, Path] = {}
    for text in folders:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if name in sources:
            msg = (
                f"merge {text}: {sources[name]} has the name {name!r} as well; name one of them, "
                f"as in other={folder}"
            )
            raise ConfigError(msg)
        # As a folder's name, and in a cell of an index.
        if not name.strip() or name != name.strip() or name[0] == "." or set(name) & set(";/\\"):
            msg = f"merge {text}: {name!r} cannot name a source; name it, as in photos={folder}"
            raise ConfigError(msg)
        sources[name] = Path(folder)
    return sources


def _check_sizes(data: Mapping[str, Broden]) -> None:
    first, *others = data.values()
    for other in others:
        if other.image_size != first.image_size:
            msg = (
                f"{other.root}: images of {format_size(other.image_size)} pixels, {first.root} has "
                f"{format_size(first.image_size)}; all images of a data set must have one size: "
                "import one of them again (--size), or resize it"
            )
            raise DatasetError(msg)


def _tell_splits(data: Mapping[str, Broden]) -> None:
    """Say which splits there are, where sources name them otherwise."""
    splits = {name: sorted({row.split for row in source.rows}) for name, source in data.items()}
    if len({tuple(of) for of in splits.values()}) > 1:
        told = "; ".join(f"{name} has {', '.join(of)}" for name, of in splits.items())
        logging.info("splits stay as they are called: %s", told)


def _look_up(
    source: Broden, names: Names, name: str, numbers: Mapping[str, int]
) -> Int[np.ndarray, " number"]:
    """Return the number that each number of a source becomes."""
    table = np.zeros(len(source.concept_index), dtype=np.int64)
    for concept in source.concepts:
        table[concept.number] = numbers[names.merged[name][concept.name]]
    return table


def _read_images(name: str, source: Broden) -> list[_Image]:
    rows = read_table(source.root / "index.csv", source.categories)
    return [
        _Image(name, row, {category: split_cell(cells[category]) for category in source.categories})
        for row, (_, cells) in zip(source.rows, rows, strict=True)
    ]


def _files_of(image: _Image, folder: Path) -> list[Path]:
    entries = (entry for entries in image.cells.values() for entry in entries)
    return [folder / name for name in (image.row.image, *entries) if isinstance(name, str)]


def _make_image(
    images: Path,
    image: _Image,
    source: Broden,
    lookup: Mapping[str, Int[np.ndarray, " number"]],
    categories: Sequence[str],
) -> Entry:
    """Write the files of one image."""
    name, row, cells = image
    numbers = lookup[name]
    (images / name / row.image).parent.mkdir(parents=True, exist_ok=True)
    # A damaged one is refused; what is transparent or turned, settings of the merged one are for.
    path = source.root / "images" / row.image
    decode_image(path, path, background=(0, 0, 0), orientation="ignore")
    shutil.copyfile(path, images / name / row.image)
    (ih, iw), (sh, sw) = row.size, row.label_size
    written: dict[str, str | int] = {"image": f"{name}/{row.image}", "split": row.split}
    written |= {"ih": ih, "iw": iw, "sh": sh, "sw": sw, **dict.fromkeys(categories, "")}
    pixels: dict[tuple[str, int], int] = {}
    for category, entries in cells.items():
        cell: list[str] = []
        maps: list[Int[np.ndarray, " pixel"]] = []
        whole: set[int] = set()
        for entry in dict.fromkeys(entries):
            if isinstance(entry, int):
                whole.add(int(numbers[entry]))
                continue
            label = numbers[read_label_png(source, row, entry)]
            file = f"{name}/{entry}" + ".png" * (not entry.lower().endswith(".png"))
            (images / file).parent.mkdir(parents=True, exist_ok=True)
            write_label_png(images / file, label)
            cell.append(file)
            maps.append(label.ravel())
        written[category] = ";".join([*cell, *map(str, sorted(whole))])
        pixels.update({(category, n): k for n, k in _count_pixels(maps).items()})
        pixels.update(dict.fromkeys(((category, n) for n in whole), sh * sw))
    return Entry(written, pixels)


def _count_pixels(maps: Sequence[Int[np.ndarray, " pixel"]]) -> dict[int, int]:
    """Return how many pixels have each number, one that has it in several maps once."""
    if not maps:
        return {}
    found = maps[0]
    if len(maps) > 1:
        pixel = np.arange(len(found)) * (MAX_NUMBER + 1)
        said = np.unique(np.concatenate([pixel + numbers for numbers in maps]))
        found = said % (MAX_NUMBER + 1)
    counts = np.bincount(found)
    return {int(n): int(counts[n]) for n in np.flatnonzero(counts) if n}


def _write_tables(
    part: Path,
    entries: Sequence[Entry],
    names: Names,
    numbers: Mapping[str, int],
    categories: Sequence[str],
) -> None:
    """Write the tables, of the concepts and categories that are there."""
    present = {key for entry in entries for key in entry.pixels}
    concepts = {
        category: {name: n for name, n in numbers.items() if (category, n) in present}
        for category in categories
    }
    concepts = {category: of for category, of in concepts.items() if of}
    if not concepts:
        msg = f"{part}: none of its {len(numbers)} concepts is in any image; check the sources"
        raise DatasetError(msg)
    absent = [name for name in numbers if not any(name in of for of in concepts.values())]
    if absent:
        logging.info(
            "left out, being in no image: %d of %d concepts (%s)", len(absent), len(numbers),
            first_of(absent),
        )  # fmt: skip
    kept = (*INDEX_COLUMNS, *concepts)
    rows = [Entry({column: e.row[column] for column in kept}, e.pixels) for e in entries]
    write_tables(part, rows, concepts, names.synonyms)


def _check_categories(merged: Broden, names: Names) -> None:
    """Check that each concept covers most in the category in which its sources say it does."""
    for concept in merged.concepts:
        said = names.category[concept.name]
        if concept.category != said:
            msg = (
                f"concept {concept.name!r} covers most in {concept.category!r} by the label maps, "
                f"but in {said!r} by c_*.csv of its source; correct coverage there"
            )
            raise DatasetError(msg)


def _make_note(data: Mapping[str, Broden], names: Names, n_images: int) -> dict[str, object]:
    """Return where everything comes from, with the sources' own notes."""
    sources = []
    for name, source in data.items():
        note = source.root / NOTE
        renamed = {old: new for old, new in names.merged[name].items() if old != new}
        sources.append(
            {
                "name": name,
                "folder": str(source.root),
                "images": len(source.rows),
                "fingerprint": source.fingerprint,
                "renamed": renamed,
                "note": json.loads(note.read_text("utf-8")) if note.is_file() else {},
            }
        )
    return {"sources": sources, "images": n_images, "version": __version__}
