"""Commands that make a data set, a network, and its activations."""

import json
import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import Data, Log, Out, log_to


def mini(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    images: Annotated[int, typer.Option(min=10)] = 2000,
    seed: int = 0,
    log: Log = None,
) -> None:
    """Render the embedded data set in Broden's format."""
    from dissect_embed.datasets.mini import render_mini

    log_to(log)
    render_mini(output, n_images=images, seed=seed)
    logging.info("%s: %d images", output, images)


def fetch(
    source: Annotated[list[str], typer.Option(help="URL or path; repeat for mirrors.")],
    archive: Annotated[Path, typer.Option(help="Where the zip file goes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    sha256: str | None = None,
    rows: Annotated[int | None, typer.Option(help="Rows that the index must have.")] = None,
    log: Log = None,
) -> None:
    """Fetch a data set in Broden's format, unpack it and check it."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.datasets.fetch import fetch_file
    from dissect_embed.datasets.unpack import unpack_zip
    from dissect_embed.errors import DatasetError

    log_to(log)
    fetch_file(source, archive, sha256=sha256 or None, size=None)
    unpack_zip(archive, output)
    found = len(load_broden(output).rows)
    if rows is not None and found != rows:
        msg = f"{output / 'index.csv'}: {found} rows, expected {rows}; fetch the archive again"
        raise DatasetError(msg)
    logging.info("%s: %d images", output, found)


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


def train(
    dataset: Data,
    output: Out,
    model: str = "resnet18",
    epochs: int = 3,
    seed: int = 0,
    log: Log = None,
) -> None:
    """Train a network on the data set's train split to tell which concepts are present."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.errors import DatasetError
    from dissect_embed.pretraining import train_model

    log_to(log)
    split = load_broden(dataset, "train")
    try:
        val = load_broden(dataset, "val")
    except DatasetError:
        val = None  # no split to hold out: the provenance says so
    done = train_model(output, model, split, val, epochs=epochs, seed=seed)
    logging.info("%s: %s", output, json.dumps(done))
