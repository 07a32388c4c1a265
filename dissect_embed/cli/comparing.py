"""The command that reads several runs; a config names one, so no rule calls it."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import Log, log_to, setting
from dissect_embed.config import Dissection


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Folders of finished runs.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The folder, by default compare/<run>-<run> beside the first."
        ),
    ] = None,
    detector_iou: float = setting(Dissection, "detector_iou"),
    log: Log = None,
) -> None:
    """Set runs side by side: detectors, gains, how alike layers and units are; a page shows it."""
    from dissect_embed.comparing import write_comparison

    log_to(log)
    folder = write_comparison(runs, output, Dissection(detector_iou=detector_iou))
    logging.info("%s: done", folder / "index.html")
