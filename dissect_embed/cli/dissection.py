"""Commands of ``pipelines/dissection.smk``: IoU of every unit with every concept."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import (
    Again,
    Arguments,
    Checkpoint,
    Chosen,
    Data,
    Device,
    Expect,
    Log,
    Moved,
    Name,
    Network,
    Out,
    RunFolder,
    Split,
    Threads,
    Weights,
    log_to,
    read_again,
    read_dataset,
    read_expected,
    setting,
)
from dissect_embed.config import Chance, Dissection


def labels(
    dataset: Data,
    output: Out,
    name: Name = "",
    split: Split = "all",
    subset: Chosen = "",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Decode all label maps of the data set, once for all networks."""
    from dissect_embed.labels import write_labels

    log_to(log)
    data = read_dataset(dataset, split, subset)
    write_labels(output, data, name=name, n_threads=threads)
    logging.info("%s: %d images, %d concepts", output, len(data.rows), len(data.concepts))


def thresholds(
    activations: Path,
    output: Out,
    quantile: float = setting(Dissection, "quantile"),
    dataset: Again = None,
    split: Split = "all",
    subset: Chosen = "",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    arguments: Arguments = "",
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Find the thresholds of all units, for shards to be dissected with."""
    from dissect_embed.dissection import write_thresholds

    log_to(log)
    settings = Dissection(quantile=quantile)
    again = read_again(dataset, split, subset, model, weights, checkpoint, arguments)
    write_thresholds(output, activations, settings, device=device, n_threads=threads, **again)
    logging.info("%s: done", output)


def dissect(
    activations: Path,
    labels: Path,
    output: Out,
    quantile: float = setting(Dissection, "quantile"),
    thresholds: Annotated[Path | None, typer.Option(help="For shards: those of all.")] = None,
    dataset: Again = None,
    split: Split = "all",
    subset: Chosen = "",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    arguments: Arguments = "",
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Score every unit by its IoU with every concept."""
    from dissect_embed.dissection import write_profiles

    log_to(log)
    settings = Dissection(quantile=quantile)
    again = read_again(dataset, split, subset, model, weights, checkpoint, arguments)
    write_profiles(
        output, activations, labels, settings, thresholds_path=thresholds,
        expected=read_expected(expect), device=device, n_threads=threads, **again,
    )  # fmt: skip
    logging.info("%s: done", output)


def chance(
    activations: Path,
    labels: Path,
    profiles: Path,
    output: Out,
    draws: int = setting(Chance, "draws"),
    seed: int = setting(Chance, "seed"),
    dataset: Again = None,
    split: Split = "all",
    subset: Chosen = "",
    model: Network = "resnet18",
    weights: Weights = "random",
    checkpoint: Checkpoint = None,
    arguments: Arguments = "",
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Lay the masks of every unit on the labels of other images: what IoU chance gives."""
    from dissect_embed.chance import write_chance

    log_to(log)
    settings = Chance(draws=draws, seed=seed)
    again = read_again(dataset, split, subset, model, weights, checkpoint, arguments)
    write_chance(
        output, activations, labels, profiles, settings,
        expected=read_expected(expect), device=device, n_threads=threads, **again,
    )  # fmt: skip
    logging.info("%s: done", output)


def units(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/units.csv.")
    ] = None,
    log: Log = None,
) -> None:
    """Write a table of the units and their best concepts."""
    from dissect_embed.artefacts.folder import RunFolder as Folder
    from dissect_embed.tally import write_units

    log_to(log)
    output = output or run / "units.csv"
    write_units(Folder(run), output)
    logging.info("%s: done", output)


def compositions(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/compositions.csv.")
    ] = None,
    dataset: Moved = None,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Find the formula of concepts (AND, OR, AND NOT) that each unit overlaps best."""
    from dissect_embed.compositions import write_compositions
    from dissect_embed.run import Run

    log_to(log)
    output = output or run / "compositions.csv"
    write_compositions(
        Run(run), output,
        dataset=dataset, expected=read_expected(expect), device=device, n_threads=threads,
    )  # fmt: skip
    logging.info("%s: done", output)
