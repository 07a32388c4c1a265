"""The command that makes one data set of several."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import Log, Threads, log_to


def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Folders with index.csv, or NAME=FOLDER; images go below the source's name.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    synonyms: Annotated[
        Path | None,
        typer.Option(help="CSV of concepts to rename: name,concept[,source], as couch,sofa."),
    ] = None,
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Make one data set in Broden's format of several; concepts of one name are one."""
    from dissect_embed.datasets.merging import merge_datasets, name_sources

    log_to(log)
    n_images = merge_datasets(output, name_sources(sources), synonyms, threads)
    logging.info("%s: %d images", output, n_images)
