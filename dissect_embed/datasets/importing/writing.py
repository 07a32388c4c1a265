"""Write a data set in Broden's format of labelled images from anywhere."""

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps

from dissect_embed import __version__
from dissect_embed.datasets.broden import load_broden
from dissect_embed.datasets.decoding import write_label_png
from dissect_embed.datasets.fetch import check_room
from dissect_embed.datasets.folders import check_origin, check_replaceable, move_into_place
from dissect_embed.datasets.importing.names import check_names
from dissect_embed.datasets.index import INDEX_COLUMNS, ImageRow, format_size
from dissect_embed.datasets.mini.colors import name_colors
from dissect_embed.datasets.mini.concepts import CONCEPTS, NUMBERS
from dissect_embed.datasets.progress import keep_progress, make_images, stamp_files
from dissect_embed.datasets.settings import Import, Subset
from dissect_embed.datasets.subsets import choose_images
from dissect_embed.datasets.tables import Entry, write_tables
from dissect_embed.errors import DatasetError, first_of

# Names of colours have the first numbers, 1 to 11, classes those after them.
COLORS = {name: NUMBERS[name] for name in CONCEPTS["color"]}
# What folders are called that hold a split.
SPLITS = {
    "train": "train", "training": "train", "val": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
VAL = 0.2
# In a map: unlabelled, and not of the rest either, for nobody knows what is there.
UNKNOWN = -1
# What to do about images in which nothing is labelled, for people.
NAME_REST = "name what is there instead (--rest NAME)"
LABEL_REST = "label what is there instead, as a class"


Label: TypeAlias = Int[np.ndarray, "y x"] | int


class Labelled(NamedTuple):
    """An image and what is labelled in it."""

    pixels: UInt8[np.ndarray, "y x 3"]
    # Maps, in which 0 is unlabelled (as is UNKNOWN) and k the k-th class, and classes of the whole
    # image. All hold at once, a pixel has a class in one of them.
    labels: Sequence[Label]
    others: Mapping[str, Sequence[Label]] = {}  # of further categories, the same in each image


class Source(NamedTuple):
    """Labelled images of some format."""

    names: list[str]  # sorted: the images' paths in the source, with '/', without their suffix
    classes: dict[str, str]  # each class, and its other names, joined by ';'
    read: Callable[[int], Labelled]  # decodes the n-th image
    # Where it comes from (`format`, `source`, `labels`, `masks`: a data set of others is not
    # replaced), and whatever else says what `read` makes of the files.
    note: Mapping[str, object]
    files: Sequence[Sequence[Path]]  # those of each image
    tables: Sequence[Path] = ()  # those of all
    # Looks at the labels of images together, before the first of them is made.
    check: Callable[[Sequence[int]], None] = lambda places: None
    others: Sequence[str] = ()  # further categories
    has_rest: bool = False  # what is labelled as 0 is known to be none of the classes
    remedy: str = ""  # where nothing is labelled, for people; empty: as `has_rest` says


def write_dataset(
    root: Path, source: Source, settings: Import = Import(), n_threads: int | None = None
) -> None:
    """Make a data set in Broden's format.

    Images get their short side to the size that is asked for, and what juts out is cut off, the
    same on both sides; label maps likewise, by nearest neighbour. Beside the classes each pixel has
    the name of its colour. Classes of which no pixel is left are left out. The folder is made under
    another name beside `root` and renamed when it is whole.

    Raises
    ------
    DatasetError
        If `root` holds something else, or a data set of another source; names will not do, some
        images lie in a folder of a split and others do not, nothing is labelled, another process
        makes it, or whatever `source.read` and `source.check` raise.
    DiskSpaceError
        If it will not fit on the disk, or this runs full.
    """
    check_replaceable(root)
    check_origin(root, source.note)
    source = _add_rest(source, settings.rest)
    check_names(
        str(source.note["source"]), source.names, source.classes, COLORS, settings.category,
        source.others,
    )  # fmt: skip
    splits = _choose_splits(source.names, settings)
    made_of = {
        "settings": settings.model_dump(mode="json"),
        "source": source.note,
        "classes": list(source.classes.items()),
        "names": hashlib.sha256("\n".join(source.names).encode()).hexdigest(),
        "files": stamp_files(source.tables),
    }
    with keep_progress(root, made_of, source.files) as progress:
        part, left = progress.part, progress.left
        # A JPEG of noise takes about a byte a pixel, most take less.
        room = settings.size**2 + settings.label_side**2
        check_room(root, len(left) * room)
        source.check(left)

        def write(place: int) -> Entry:
            name = source.names[place]
            return _write_image(part / "images", name, splits[name], source.read(place), settings)

        entries = make_images(progress, write, "import", n_threads)
        _write_tables(part, entries, source, settings)
        load_broden(part)
        note = {
            **source.note,
            **settings.model_dump(mode="json", exclude_defaults=True),
            "images": len(entries),
            "version": __version__,
        }
        move_into_place(part, root, note)


def _add_rest(source: Source, rest: str) -> Source:
    """Give what has none of the classes one of its own, if it has a name."""
    if not rest or not source.classes:
        return source
    if not source.has_rest:
        msg = f"{source.note['source']}: --rest {rest} does not go with this format; leave it out"
        raise DatasetError(msg)
    if rest in source.classes:
        msg = f"{source.note['source']}: {rest!r} is a class already; call the rest otherwise"
        raise DatasetError(msg)
    number = len(source.classes) + 1

    def read(place: int) -> Labelled:
        labelled = source.read(place)
        return labelled._replace(labels=fill_rest(labelled.labels, number))

    return source._replace(classes={**source.classes, rest: ""}, read=read)


def fill_rest(labels: Sequence[Label], number: int) -> Sequence[Label]:
    """Return labels with a number for what has none: an image, or pixels that are 0 in all maps."""
    if not labels:
        return [number]
    if any(isinstance(said, int) for said in labels):
        return labels  # of the whole image
    free = np.all([said == 0 for said in labels], axis=0)
    return [np.where(free, number, labels[0]), *labels[1:]]


def check_size(
    found: tuple[int, ...], size: tuple[int, ...], image: Path | str, labels: Path | str
) -> None:
    """Check that an image has the height and width that its labels are for.

    Raises
    ------
    DatasetError
        If it has not.
    """
    if found != size:
        msg = (
            f"{labels}: labels of {format_size(size)} pixels, but {image} has "
            f"{format_size(found)} (height × width); take the image that was labelled, in its "
            "full size"
        )
        raise DatasetError(msg)


def _choose_splits(names: list[str], settings: Import) -> dict[str, str]:
    """Return the split of each image: of its folder, or drawn."""
    found = {
        name: next((SPLITS[p] for p in PurePosixPath(name.lower()).parts[:-1] if p in SPLITS), "")
        for name in names
    }
    if settings.val is None and any(found.values()):
        lacking = [name for name, split in found.items() if not split]
        if lacking:
            msg = (
                f"{lacking[0]}: in no folder of a split ({', '.join(SPLITS)}), as are "
                f"{len(lacking)} of {len(names)} images, but others are; move them into one, or "
                f"say which share is 'val' (--val {VAL})"
            )
            raise DatasetError(msg)
        return found
    share = VAL if settings.val is None else settings.val
    rows = [ImageRow(name, "", (1, 1), (1, 1), ()) for name in names]
    n_val = round(share * len(names))
    chosen = choose_images(rows, Subset(limit=n_val, seed=settings.seed)) if n_val else ()
    val = {row.image for row in chosen}
    return {name: "val" if name in val else "train" for name in names}


def _write_image(images: Path, name: str, split: str, labelled: Labelled, made: Import) -> Entry:
    """Write the files of one image."""
    size, side = made.size, made.label_side
    (images / name).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labelled.pixels)
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    # In memory first: Pillow takes a file that a full disk cut short for a whole one.
    jpeg = io.BytesIO()
    fitted.save(jpeg, "JPEG", quality=90, subsampling=0)
    (images / f"{name}.jpg").write_bytes(jpeg.getvalue())
    # A colour is named for each two by two pixels.
    even = fitted.resize((2 * side, 2 * side), Image.Resampling.BOX)
    row: dict[str, str | int] = {"image": f"{name}.jpg", "split": split}
    row |= {"ih": size, "iw": size, "sh": side, "sw": side}
    pixels: Counter[tuple[str, int]] = Counter()

    def write(category: str, suffix: str, numbers: Int[np.ndarray, "side side"]) -> str:
        file = f"{name}_{category}{suffix}.png"
        write_label_png(images / file, numbers)
        counts = np.bincount(numbers.ravel())
        pixels.update({(category, int(n)): int(counts[n]) for n in np.flatnonzero(counts) if n})
        return file

    row["color"] = write("color", "", name_colors(np.asarray(even)).astype(np.int64))
    for category, labels in {made.category: labelled.labels, **labelled.others}.items():
        cell = []
        for depth, said in enumerate(labels, start=1):
            if isinstance(said, int):
                pixels[category, said + len(COLORS)] += side * side
                cell.append(str(said + len(COLORS)))
            else:
                label = Image.fromarray(said.astype(np.int32))
                near = np.asarray(ImageOps.fit(label, (side, side), Image.Resampling.NEAREST))
                near = np.where(near > 0, near.astype(np.int64) + len(COLORS), 0)
                cell.append(write(category, f"_{depth}" if len(labels) > 1 else "", near))
        row[category] = ";".join(cell)
    return Entry(row, dict(pixels))


def _write_tables(part: Path, entries: list[Entry], source: Source, made: Import) -> None:
    """Write the tables, of the concepts that are there."""
    present = {key for entry in entries for key in entry.pixels}
    classes = {name: n for n, name in enumerate(source.classes, start=len(COLORS) + 1)}
    concepts: dict[str, dict[str, int]] = {}
    for category in (c for c in entries[0].row if c not in INDEX_COLUMNS):
        names = COLORS if category == "color" else classes
        concepts[category] = {name: n for name, n in names.items() if (category, n) in present}
    kept = {name for category in concepts if category != "color" for name in concepts[category]}
    if not kept:
        msg = (
            f"{source.note['source']}: none of its {len(classes)} classes is in any of the "
            f"{len(entries)} images made; check that the labels are these images'"
        )
        raise DatasetError(msg)
    if len(kept) < len(classes):
        absent = [name for name in classes if name not in kept]
        logging.info(
            "left out, being in no image: %d of %d classes (%s)", len(absent), len(classes),
            first_of(absent),
        )  # fmt: skip
    remedy = source.remedy or (NAME_REST if source.has_rest else LABEL_REST)
    for category in sorted(concepts.keys() - {"color"}):
        without = sum(all(c != category for c, _ in entry.pixels) for entry in entries)
        if without and concepts[category]:
            logging.info(
                "%d of %d images have nothing of %r: they count as unlabelled there, not as "
                "without it; %s", without, len(entries), category, remedy,
            )  # fmt: skip
    # Nor is a category of which nothing is left.
    entries = [
        Entry({k: v for k, v in row.items() if concepts.get(k, True)}, pixels)
        for row, pixels in entries
    ]
    concepts = {category: names for category, names in concepts.items() if names}
    write_tables(part, entries, concepts, source.classes)
