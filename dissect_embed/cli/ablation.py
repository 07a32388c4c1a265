"""The command of ``pipelines/ablation.smk``: what the network loses without a unit."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import (
    Device,
    Expect,
    Log,
    Moved,
    RunFolder,
    Threads,
    log_to,
    option,
    read_expected,
    setting,
)
from dissect_embed.config import Ablation


def ablate(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/importance.csv.")
    ] = None,
    statistics: Annotated[
        Path | None, typer.Option(help="By default ablation.csv beside OUTPUT.")
    ] = None,
    layer: list[str] = option(Ablation, "layers", "--layer"),
    images: str = setting(Ablation, "images"),
    classes: str = setting(Ablation, "classes"),
    limit: int = setting(Ablation, "limit"),
    top: int = setting(Ablation, "top"),
    seed: int = setting(Ablation, "seed"),
    dataset: Moved = None,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Set units to their means, one by one and the most important together: which classes fail."""
    from dissect_embed.ablation import write_ablation
    from dissect_embed.run import Run

    log_to(log)
    output = output or run / "importance.csv"
    statistics = statistics or output.with_name("ablation.csv")
    settings = Ablation(
        layers=layer, images=images, classes=classes, limit=limit, top=top, seed=seed
    )
    write_ablation(
        Run(run), output, statistics, settings,
        dataset=dataset, expected=read_expected(expect), device=device, n_threads=threads,
    )  # fmt: skip
    logging.info("%s, %s: done", output, statistics)
