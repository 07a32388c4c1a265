"""Commands that show results."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import Log, Out, log_to


def figure4(scores: Path, profiles: Path, output: Out, log: Log = None) -> None:
    """Draw Figure 4; OUTPUT names the SVG, the PNG lies beside it."""
    from dissect_embed.figures.figure4 import draw_figure4

    log_to(log)
    draw_figure4(scores, profiles, output.with_suffix(""))
    logging.info("%s: done", output)


def detectors(profiles: Path, output: Out, log: Log = None) -> None:
    """Draw the concepts that units detect; OUTPUT names the SVG, PNG and CSV lie beside it."""
    from dissect_embed.figures.detectors import draw_detectors

    log_to(log)
    draw_detectors(profiles, output.with_suffix(""))
    logging.info("%s: done", output)


def inspect(
    file: Annotated[Path, typer.Argument(help="An HDF5 file of a run, e.g. profiles.h5.")],
    concept: Annotated[
        str | None,
        typer.Option(help="Units (profiles.h5) or images (activations.h5) that have it."),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(help="LAYER:UNIT. Its concepts (profiles.h5) or top images (activations.h5)."),
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="The labels, for --concept on activations.h5.")
    ] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Rows of an answer, by default 10.")
    ] = None,
) -> None:
    """Say what a file is and holds, or what it knows of a unit or a concept."""
    from dissect_embed.inspection import print_inspection

    log_to(None)
    print_inspection(file, concept=concept, unit=unit, dataset=dataset, top=top)


def summary(run: Annotated[Path, typer.Argument(help="results/<run>")]) -> None:
    """Print where a run's files are, and a line a layer."""
    from dissect_embed.scoring import summarise

    lines = summarise(run / "scores.csv")
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.parent.name != "logs"):
        typer.echo(str(path))
    typer.echo(lines)
