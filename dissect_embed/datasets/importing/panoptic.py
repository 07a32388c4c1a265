"""COCO's panoptic segmentation: a PNG an image, whose colours number segments, and a JSON of these.

A segment's number is ``red + 256·green + 65536·blue`` (https://cocodataset.org/#format-data); 0 is
unlabelled. Things and stuff are concepts alike.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dissect_embed.datasets.decoding import decode_colours
from dissect_embed.datasets.folders import check_replaceable
from dissect_embed.datasets.importing.documents import index_by_id, read_field
from dissect_embed.datasets.importing.files import decode_picture
from dissect_embed.datasets.importing.listing import Listing, find_images, read_listing
from dissect_embed.datasets.importing.writing import Labelled, Source, check_size, write_dataset
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import DatasetError


def import_panoptic(
    root: Path,
    images: Path,
    annotations: Path,
    settings: Import = Import(),
    *,
    masks: Path | None = None,
    n_threads: int | None = None,
) -> int:
    """Make a data set in Broden's format of COCO's panoptic segmentation; return its images.

    The segments of a category are one concept. The images are those that the JSON file lists.

    Parameters
    ----------
    root
        The folder to make.
    images
        The folder below which the images have their ``file_name``.
    annotations
        A JSON file of segments, such as ``panoptic_val2017.json``.
    masks
        The folder of PNGs, by default that named as the JSON file, beside it.

    Raises
    ------
    DatasetError
        If the JSON file is broken or of instances, an image or a PNG is missing or has another size
        than the JSON file says, or the segments of both are not the same.
    DiskSpaceError
        If the data set will not fit on the disk.
    """
    masks = masks or annotations.with_suffix("")
    check_replaceable(root, images, masks)
    listing = read_listing(annotations)
    source = listing.source
    found = _read_annotations(listing)
    _check_masks(source, [file for _, file, _ in found.values()], masks)
    listed = find_images(listing, images)

    def read(n: int) -> Labelled:
        number, _, path, size = listed[n]
        where, file, said = found[number]
        pixels = decode_picture(path, settings)
        check_size(pixels.shape[:2], size, path, f"{source}: image {number}")
        red, green, blue = decode_colours(masks / file).transpose(2, 0, 1)
        check_size(pixels.shape[:2], red.shape, path, masks / file)
        return Labelled(
            pixels, [_label(where, masks / file, red + 256 * green + 65536 * blue, said)]
        )

    note = {
        "format": "panoptic", "source": str(images), "labels": source, "masks": str(masks)
    }  # fmt: skip
    files = [(image.path, masks / found[image.number][1]) for image in listed]
    names = [image.name for image in listed]
    data = Source(names, listing.classes, read, note, files, [annotations])
    write_dataset(root, data, settings, n_threads)
    return len(listed)


def _read_annotations(listing: Listing) -> dict[int, tuple[str, str, dict[int, int]]]:
    """Return of each image where its annotation is, its PNG, and the class of each segment."""
    found = {}
    source, images = listing.source, listing.images
    annotations = read_field(source, listing.document, "annotations", list)
    for n, annotation in enumerate(annotations, start=1):
        where = f"{source}: annotation {n}"
        if isinstance(annotation, dict) and "segmentation" in annotation:
            msg = (
                f"{where}: an instance with its own polygons or run lengths: the file is of "
                "instances; import it as that ('import coco')"
            )
            raise DatasetError(msg)
        number = read_field(where, annotation, "image_id", int)
        if number not in images or number in found:
            what = "has an annotation already" if number in found else "is not in the file"
            msg = f"{where}: image_id {number} {what}; drop the annotation"
            raise DatasetError(msg)
        segments = {}
        for segment in index_by_id(where, annotation, "segments_info").values():
            category = read_field(f"{where}: segment {segment['id']}", segment, "category_id", int)
            if category not in listing.categories:
                msg = (
                    f"{where}: segment {segment['id']}: category_id {category} is not in the file; "
                    "add the category, or drop the annotation"
                )
                raise DatasetError(msg)
            segments[segment["id"]] = listing.categories[category]
        found[number] = where, read_field(where, annotation, "file_name", str), segments
    without = [number for number in images if number not in found]
    if without:
        msg = (
            f"{source}: {len(without)} of its {len(images)} images have no annotation (the first: "
            f"image {without[0]}); take them out of its images"
        )
        raise DatasetError(msg)
    return found


def _check_masks(source: str, files: list[str], masks: Path) -> None:
    """Check that there is a PNG of each annotation, and one alone."""
    missing = [file for file in files if not (masks / file).is_file()]
    if missing:
        msg = (
            f"{source}: {len(missing)} of its {len(files)} PNGs are not in {masks} (the first: "
            f"{missing[0]}); name the folder that holds them (--masks)"
        )
        raise DatasetError(msg)
    file, n = Counter(files).most_common(1)[0] if files else ("", 1)
    if n > 1:
        msg = f"{source}: {n} annotations have the PNG {file}; give each image its own"
        raise DatasetError(msg)


def _label(
    where: str, mask: Path, segment: Int[np.ndarray, "y x"], said: Mapping[int, int]
) -> Int[np.ndarray, "y x"]:
    """Return the class of each pixel's segment, 0 where there is none."""
    present, place, n_pixels = np.unique(segment, return_inverse=True, return_counts=True)
    counts = {n: pixels for n, pixels in zip(present.tolist(), n_pixels.tolist(), strict=True) if n}
    if unknown := [n for n in counts if n not in said]:
        y, x = np.argwhere(segment == unknown[0])[0].tolist()
        msg = (
            f"{mask}: pixel {x}, {y} (column, row): segment {unknown[0]} is not in {where} "
            f"(segments_info); {len(unknown)} of {len(counts)} segments are not, "
            f"{sum(counts[n] for n in unknown)} pixels in all; take the PNG that belongs to it"
        )
        raise DatasetError(msg)
    if absent := [n for n in said if n not in counts]:
        msg = (
            f"{mask}: no pixel of segment {absent[0]}, which {where} (segments_info) lists, as of "
            f"{len(absent)} of its {len(said)} segments; take the PNG that belongs to it"
        )
        raise DatasetError(msg)
    classes = np.array([said.get(n, 0) for n in present.tolist()])
    return classes[place].reshape(segment.shape)
