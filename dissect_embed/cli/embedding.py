"""Commands that learn vectors and score them."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import Device, Expect, Log, Out, log_to, read_expected


def similarity(
    activations: Path,
    output: Out,
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Measure how alike the units of each layer fire: the mean target P."""
    from dissect_embed.similarity import write_similarity

    log_to(log)
    write_similarity(output, activations, expected=read_expected(expect), device=device)
    logging.info("%s: done", output)


def embed(
    similarity: Path,
    profiles: Path,
    output: Out,
    activations: Annotated[Path | None, typer.Option(help="For --target minibatch.")] = None,
    dim: int = 16,
    target: str = "mean",
    epochs: int = 100,
    steps_per_epoch: int = 100,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    milestone: list[int] = [50, 75, 90],  # noqa: B006
    seed: list[int] = [0, 1, 2],  # noqa: B006
    expect: Expect = [],  # noqa: B006
    device: Device = "auto",
    log: Log = None,
) -> None:
    """Learn a vector for every unit, without labels and supervised."""
    from dissect_embed.embedding import write_embedding
    from dissect_embed.mathematics.vectors import Schedule

    log_to(log)
    schedule = Schedule(epochs, steps_per_epoch, lr, momentum, weight_decay, tuple(milestone))
    write_embedding(
        output, similarity, profiles, activations_path=activations, dim=dim, target=target,
        schedule=schedule, seeds=seed, expected=read_expected(expect), device=device,
    )  # fmt: skip
    logging.info("%s: done", output)


def controls(
    profiles: Path,
    similarity: Path,
    embedding: Path,
    output: Out,
    expect: Expect = [],  # noqa: B006
    log: Log = None,
) -> None:
    """Set the vectors beside what chance gives: permutations of the units."""
    from dissect_embed.scoring import write_controls

    log_to(log)
    write_controls(output, profiles, similarity, embedding, expected=read_expected(expect))
    logging.info("%s: done", output)


def score(
    profiles: Path,
    similarity: Path,
    embedding: Path,
    controls: Path,
    output: Out,
    expect: Expect = [],  # noqa: B006
    log: Log = None,
) -> None:
    """Score the vectors against the profiles along training."""
    from dissect_embed.scoring import write_scores

    log_to(log)
    write_scores(output, profiles, similarity, embedding, controls, expected=read_expected(expect))
    logging.info("%s: done", output)
