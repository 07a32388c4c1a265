"""Commands of ``pipelines/data.smk``: data sets, rendered, fetched, described."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import (
    Chosen,
    Data,
    Log,
    Name,
    Out,
    Split,
    Threads,
    log_to,
    read_dataset,
    read_yaml,
    setting,
)
from dissect_embed.datasets.settings import Dataset, Subset


def mini(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    images: int = setting(Dataset, "images"),
    seed: int = 0,
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Render the embedded data set in Broden's format."""
    from dissect_embed.datasets.mini import render_mini

    log_to(log)
    images = Dataset(images=images).images
    render_mini(output, n_images=images, seed=seed, n_jobs=threads or -1)
    logging.info("%s: %d images", output, images)


def fetch(
    source: Annotated[list[str], typer.Option(help="URL or path; repeat for mirrors.")],
    archive: Annotated[Path, typer.Option(help="Where the zip file goes.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    sha256: str = setting(Dataset, "sha256"),
    rows: int | None = setting(Dataset, "rows"),
    log: Log = None,
) -> None:
    """Fetch a data set in Broden's format, unpack it and check it."""
    from dissect_embed.datasets.broden import load_broden
    from dissect_embed.datasets.fetch import fetch_file
    from dissect_embed.datasets.unpack import unpack_zip
    from dissect_embed.errors import DatasetError

    log_to(log)
    settings = Dataset(sha256=sha256, rows=rows)
    fetch_file(source, archive, sha256=settings.sha256 or None, size=None)
    unpack_zip(archive, output)
    found = len(load_broden(output).rows)
    if settings.rows is not None and found != settings.rows:
        msg = f"{output / 'index.csv'}: {found} rows, expected {rows}; fetch the archive again"
        raise DatasetError(msg)
    logging.info("%s: %d images", output, found)


def dataset(
    dataset: Data,
    output: Out,
    name: Name = "",
    split: Split = "all",
    subset: Chosen = "",
    log: Log = None,
) -> None:
    """Describe a data set, checked: what the stages that read it depend on."""
    from dissect_embed.artefacts.dataset import write_dataset_file

    log_to(log)
    data = read_dataset(dataset, split, subset)
    write_dataset_file(output, data, name)
    logging.info("%s: %d images, %d concepts", output, len(data.rows), len(data.concepts))


def describe(
    dataset: Annotated[Path, typer.Argument(help="Folder with index.csv.")],
    split: Split = "all",
    subset: Chosen = "",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A folder for describe.json, contact.jpg and index.html."
        ),
    ] = None,
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Show what a data set holds: splits, sources, strata, concepts and how much they cover."""
    from dissect_embed.datasets.describing import describe_dataset, write_description
    from dissect_embed.errors import DatasetError
    from dissect_embed.inspection.datasets import show_dataset

    log_to(log)
    try:
        data = read_dataset(dataset, split, subset)
        told = describe_dataset(data, threads)
    except DatasetError as error:
        if not (dataset / "index.csv").is_file():
            raise
        msg = f"{error} (whatever else is wrong: 'dissect-embed check {dataset}')"
        raise DatasetError(msg) from error
    show_dataset(told)
    if output is not None:
        write_description(output, data, told)
        logging.info("%s: describe.json, contact.jpg, index.html", output)


def check(
    dataset: Annotated[Path, typer.Argument(help="Folder with index.csv.")],
    subset: Chosen = "",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Say everything that is wrong with a data set, file by file; exit status 1 if anything is."""
    from dissect_embed.datasets.checking import check_dataset

    log_to(log)
    choice = Subset(**read_yaml(subset, "--subset"))
    faults = check_dataset(dataset, choice, threads)
    for fault in faults:
        print(fault)
    logging.info("%s: %s", dataset, f"{len(faults)} faults" if faults else "nothing is wrong")
    if faults:
        raise typer.Exit(1)
