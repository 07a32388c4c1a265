"""The command that turns labelled images of other formats into a data set in Broden's format."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.cli.options import Log, Threads, log_to, setting
from dissect_embed.datasets.settings import Import
from dissect_embed.errors import ConfigError

# Of each format: what its labels are, and the options that are its own.
_PAIRS = ("classes", "image_ending", "mask_ending", "skip_unlabelled")
FORMATS = {
    "masks": (
        "the folder of masks",
        ("first", "number_column", "ignore", "variable", "rest", *_PAIRS),
    ),
    "colours": ("the folder of masks", _PAIRS),
    "labelme": ("", ("rest",)),
    "coco": ("the JSON file of annotations", ("rest",)),
    "panoptic": ("the JSON file of annotations", ("masks",)),
    "ade20k": ("", ("skip_unlabelled",)),
    "folders": ("", ()),
    "table": ("the table of labels", ("rest", "skip_unlabelled")),
}


def import_(
    format: Annotated[
        str,
        typer.Argument(
            help="masks: numbers in PNGs, as of ADE20K's challenge, Cityscapes, VOC; colours: "
            "colours in PNGs; labelme: its JSON files; coco: polygons and runs in one JSON; "
            "panoptic: COCO's segments, a JSON and PNGs; ade20k: the whole of it, with parts and "
            "scenes; folders: a folder a class; table: images and their labels in a CSV."
        ),
    ],
    images: Annotated[
        Path,
        typer.Argument(help="Folder of images (labelme: of JSON files), also in folders below."),
    ],
    labels: Annotated[
        Path | None, typer.Argument(help="Folder of masks, the JSON file of COCO, or the table.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    classes: Annotated[
        Path | None,
        typer.Option(
            help="masks: CSV, TSV or lines of number and name, or names alone; colours: CSV of "
            "red,green,blue,name."
        ),
    ] = None,
    first: Annotated[
        int | None, typer.Option(help="masks: the number of the first of names alone.")
    ] = None,
    number_column: Annotated[
        str,
        typer.Option(
            help="masks: the column of the class list that has the masks' numbers, where several "
            "could, as 'trainId'."
        ),
    ] = "",
    ignore: Annotated[
        list[int] | None,
        typer.Option(
            help="masks: a number that means unlabelled; repeat for more. 0 and 255 do anyhow, if "
            "no class has them."
        ),
    ] = None,
    image_ending: Annotated[
        str, typer.Option(help="masks, colours: how images' names end, as '_leftImg8bit.png'.")
    ] = "",
    mask_ending: Annotated[
        str, typer.Option(help="masks, colours: how masks' names end, by default '.png'.")
    ] = "",
    skip_unlabelled: Annotated[
        bool,
        typer.Option(
            "--skip-unlabelled",
            help="masks, colours, ade20k, table: leave out images without a mask or a row.",
        ),
    ] = False,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="panoptic: the folder of PNGs, by default that named as the JSON file, beside it."
        ),
    ] = None,
    variable: Annotated[
        str,
        typer.Option(
            help="masks: what holds the numbers in MATLAB's files (--mask-ending .mat), as "
            "'GTcls.Segmentation'; not needed where there is one matrix alone."
        ),
    ] = "",
    size: int = setting(Import, "size"),
    label_size: int | None = setting(Import, "label_size"),
    val: float | None = setting(Import, "val"),
    seed: int = setting(Import, "seed"),
    category: str = setting(Import, "category"),
    rest: str = setting(Import, "rest"),
    licence: str = setting(Import, "licence"),
    background: list[int] = setting(Import, "background"),
    orientation: str = setting(Import, "orientation"),
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Turn labelled images of another format into a data set in Broden's format."""
    from dissect_embed.datasets.importing.ade20k import import_ade20k
    from dissect_embed.datasets.importing.coco import import_coco
    from dissect_embed.datasets.importing.files import Pairs
    from dissect_embed.datasets.importing.image_labels import import_folders, import_table
    from dissect_embed.datasets.importing.labelme import import_labelme
    from dissect_embed.datasets.importing.masks import import_colours, import_masks
    from dissect_embed.datasets.importing.panoptic import import_panoptic

    log_to(log)
    settings = Import(
        size=size, label_size=label_size, val=val, seed=seed, category=category, rest=rest,
        licence=licence, background=tuple(background), orientation=orientation,
    )  # fmt: skip
    own: dict[str, Any] = {
        "classes": classes, "first": first, "number_column": number_column,
        "ignore": tuple(ignore or ()),
        "image_ending": image_ending, "mask_ending": mask_ending,
        "skip_unlabelled": skip_unlabelled, "masks": masks,
        "variable": variable, "rest": rest,
    }  # fmt: skip
    labels = _check_arguments(format, images, labels, own)
    if format == "labelme":
        n_images = import_labelme(output, images, settings, n_threads=threads)
    elif format == "coco":
        n_images = import_coco(output, images, labels, settings, n_threads=threads)
    elif format == "panoptic":
        n_images = import_panoptic(output, images, labels, settings, masks=masks, n_threads=threads)
    elif format == "ade20k":
        n_images = import_ade20k(
            output, images, settings, skip_unlabelled=skip_unlabelled, n_threads=threads
        )
    elif format == "folders":
        n_images = import_folders(output, images, settings, n_threads=threads)
    elif format == "table":
        n_images = import_table(
            output, images, labels, settings, skip_unlabelled=skip_unlabelled, n_threads=threads
        )
    else:
        pairs = Pairs(images, labels, image_ending, mask_ending or ".png", skip_unlabelled)
        if format == "masks":
            n_images = import_masks(
                output, pairs, own["classes"], settings,
                first=first, number_column=number_column, ignore=own["ignore"],
                variable=variable, n_threads=threads,
            )  # fmt: skip
        else:
            n_images = import_colours(output, pairs, own["classes"], settings, n_threads=threads)
    logging.info("%s: %d images", output, n_images)


def _check_arguments(format: str, images: Path, labels: Path | None, own: dict[str, Any]) -> Path:
    """Check that what is given goes with the format, whole; return where the labels are."""
    if format not in FORMATS:
        msg = f"import {format}: no such format; there are {', '.join(FORMATS)}"
        raise ConfigError(msg)
    what, options = FORMATS[format]
    if bool(what) != (labels is not None):
        msg = (
            f"import {format}: name {what} after that of the images"
            if what
            else f"import {format} {labels}: one folder is enough, that which holds all"
        )
        raise ConfigError(msg)
    for name, value in own.items():
        option = f"--{name.replace('_', '-')}"
        if value not in (None, "", (), False) and name not in options:
            msg = f"import {format}: {option} does not go with this format; leave it out"
            raise ConfigError(msg)
    if "classes" in options and own["classes"] is None:
        msg = f"import {format}: say what the pixels of masks mean (--classes FILE)"
        raise ConfigError(msg)
    return labels or images
