"""Commands that make the images with one class each that students are trained on."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import Log, Out, log_to


def classes(
    output: Out,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with train/<class>/* and test/<class>/*, tar file of such, or CIFAR's "
            "folder of pickles; repeat for several parts."
        ),
    ] = None,
    download: Annotated[
        Path | None, typer.Option(help="Fetch CIFAR-100 into this folder, and decode it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the data set; by default OUTPUT's folder's.")
    ] = None,
    log: Log = None,
) -> None:
    """Decode images in class folders, such as CIFAR-100, into one file to distil on."""
    from dissect_embed.datasets.cifar import decode_classes, download_cifar100

    log_to(log)
    sources = [*(source or []), *([download_cifar100(download)] if download else [])]
    if not sources:
        msg = "nothing to decode: add --source PATH, or --download FOLDER to fetch CIFAR-100"
        raise typer.BadParameter(msg)
    counts = decode_classes(sources, output, name or output.resolve().parent.name)
    logging.info("%s: %s", output, counts)


def shapes(
    output: Out,
    images_per_class: Annotated[int, typer.Option(min=1, help="To train on.")] = 100,
    test_images_per_class: Annotated[int, typer.Option(min=1, help="To test on.")] = 20,
    seed: int = 0,
    log: Log = None,
) -> None:
    """Render the embedded data set of 100 classes to distil on, in place of CIFAR-100."""
    from dissect_embed.datasets.shapes import render_shapes

    log_to(log)
    counts = render_shapes(output, images_per_class, test_images_per_class, seed=seed)
    logging.info("%s: %s", output, counts)
