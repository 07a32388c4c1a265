"""Commands of ``pipelines/embedding.smk``: vectors, and what they are worth."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import (
    Device,
    Expect,
    Log,
    Out,
    RunFolder,
    Threads,
    log_to,
    option,
    read_expected,
    setting,
)
from dissect_embed.config import Embedding


def similarity(
    activations: Path,
    output: Out,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Measure how alike the units of each layer fire, on each image and over all: P."""
    from dissect_embed.similarity import write_similarity

    log_to(log)
    write_similarity(
        output, activations, expected=read_expected(expect), device=device, n_threads=threads
    )
    logging.info("%s: done", output)


def embed(
    targets: Annotated[Path, typer.Argument(metavar="SIMILARITY")],
    profiles: Path,
    output: Out,
    activations: Annotated[Path | None, typer.Option(help="For --target minibatch.")] = None,
    similarity: list[str] = option(Embedding, "similarity", "--similarity"),
    dim: int = setting(Embedding, "dim"),
    target: str = setting(Embedding, "target"),
    epochs: int = setting(Embedding, "epochs"),
    steps_per_epoch: int = setting(Embedding, "steps_per_epoch"),
    lr: float = setting(Embedding, "lr"),
    momentum: float = setting(Embedding, "momentum"),
    weight_decay: float = setting(Embedding, "weight_decay"),
    milestone: list[int] = option(Embedding, "milestones", "--milestone"),
    seed: list[int] = option(Embedding, "seeds", "--seed"),
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Learn a vector for every unit, without labels and supervised."""
    from dissect_embed.embedding import write_embedding

    log_to(log)
    settings = Embedding(
        similarity=similarity, dim=dim, target=target, epochs=epochs,
        steps_per_epoch=steps_per_epoch, lr=lr, momentum=momentum, weight_decay=weight_decay,
        milestones=milestone, seeds=seed,
    )  # fmt: skip
    write_embedding(
        output, targets, profiles, settings, activations_path=activations,
        expected=read_expected(expect), device=device, n_threads=threads,
    )  # fmt: skip
    logging.info("%s: done", output)


def score(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/scores.csv.")
    ] = None,
    controls: Annotated[
        Path | None, typer.Option(help="By default controls.csv beside OUTPUT.")
    ] = None,
    expect: Expect = [],  # noqa: B006
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Score the vectors against the profiles along training, beside what chance gives."""
    from dissect_embed.artefacts.folder import RunFolder as Folder
    from dissect_embed.scoring import write_scores

    log_to(log)
    output = output or run / "scores.csv"
    controls = controls or output.with_name("controls.csv")
    write_scores(Folder(run), output, controls, expected=read_expected(expect), n_threads=threads)
    logging.info("%s, %s: done", output, controls)
