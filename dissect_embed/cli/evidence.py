"""Commands of ``pipelines/evidence.smk``: what units stand for without masks."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dissect_embed.cli.options import (
    Chosen,
    Data,
    Device,
    Log,
    Name,
    Out,
    RunFolder,
    Split,
    Threads,
    log_to,
    read_dataset,
    read_yaml,
    setting,
)
from dissect_embed.config import Words


def words(
    dataset: Data,
    output: Out,
    file: str = setting(Words, "file"),
    model: str = setting(Words, "model"),
    arguments: Annotated[
        str, typer.Option(metavar="YAML", help=Words.model_fields["arguments"].description)
    ] = "",
    name: Name = "",
    split: Split = "all",
    subset: Chosen = "",
    device: Device = "auto",
    threads: Threads = None,
    log: Log = None,
) -> None:
    """Measure how alike images and words are, by a joint text-image model."""
    from dissect_embed.words import write_words

    log_to(log)
    settings = Words(file=file, model=model, arguments=read_yaml(arguments, "--arguments"))
    data = read_dataset(dataset, split, subset)
    write_words(output, data, settings, name=name, device=device, n_threads=threads)
    logging.info("%s: done", output)


def evidence(
    run: RunFolder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="By default RUN/evidence.csv.")
    ] = None,
    words: Annotated[bool, typer.Option(help="Use RUN/words.h5, if it is there.")] = True,
    log: Log = None,
) -> None:
    """Write what each unit stands for by labelled pixels, labelled images, and words."""
    from dissect_embed.artefacts.folder import RunFolder as Folder
    from dissect_embed.evidence import write_evidence

    log_to(log)
    output = output or run / "evidence.csv"
    write_evidence(Folder(run), output, words=words)
    logging.info("%s: done", output)
