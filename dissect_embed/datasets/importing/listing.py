"""What COCO's JSON files have in common: categories, and the images that they list."""

from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from dissect_embed.datasets.importing.documents import index_by_id, read_document, read_field
from dissect_embed.errors import DatasetError


class Listing(NamedTuple):
    """A JSON file of COCO's."""

    source: str  # for people
    document: dict[str, Any]
    classes: dict[str, str]  # each name, without others
    categories: dict[int, int]  # which of the classes, from 1, each category is, by its id
    images: dict[int, Any]  # by their ids


class Listed(NamedTuple):
    """An image of a JSON file."""

    number: int  # its id
    name: str  # without its ending
    path: Path
    size: tuple[int, int]  # height and width, in pixels, as the JSON file says


def read_listing(annotations: Path) -> Listing:
    """Return what a JSON file lists.

    Raises
    ------
    DatasetError
        If it is broken, or a category or an image has no id, or another's, or no name.
    """
    document, source = read_document(annotations), str(annotations)
    categories = index_by_id(source, document, "categories")
    names = {
        n: read_field(f"{source}: category {n}", c, "name", str) for n, c in categories.items()
    }
    classes = dict.fromkeys(names.values(), "")
    place = {name: n for n, name in enumerate(classes, start=1)}
    numbers = {n: place[name] for n, name in names.items()}
    return Listing(source, document, classes, numbers, index_by_id(source, document, "images"))


def find_images(listing: Listing, folder: Path) -> list[Listed]:
    """Return the images of a JSON file, by name.

    Raises
    ------
    DatasetError
        If one has no size or no name, or any is missing.
    """
    found = []
    for number, image in listing.images.items():
        where = f"{listing.source}: image {number}"
        size = read_field(where, image, "height", int), read_field(where, image, "width", int)
        file = read_field(where, image, "file_name", str).replace("\\", "/")
        name = str(PurePosixPath(file).with_suffix(""))
        found.append(Listed(number, name, folder / file, size))
    missing = [image.path for image in found if not image.path.is_file()]
    if missing:
        msg = (
            f"{listing.source}: {len(missing)} of its {len(found)} images are not below {folder} "
            f"(the first: {missing[0].name}); name the folder that holds them"
        )
        raise DatasetError(msg)
    return sorted(found, key=lambda image: image.name)
