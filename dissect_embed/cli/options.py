"""What the commands share: options, checks, and where notes go."""

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.errors import ModelError

Layers = Annotated[list[str], typer.Option("--layer", help="A module to probe; repeat for more.")]
Out = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
Log = Annotated[Path | None, typer.Option(help="Write notes to this file as well.")]
Data = Annotated[Path, typer.Option("--dataset", help="Folder with index.csv.")]
Split = Annotated[str, typer.Option(help="Split of the index, or 'all'.")]
Weights = Annotated[
    str, typer.Option(help="'random', 'trained', 'IMAGENET1K_V1', or a file of weights.")
]
Device = Annotated[
    str, typer.Option(help="'cpu', 'cuda', 'cuda:1', …, or 'auto': a CUDA device if there is one.")
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="The file made by 'train', for --weights trained.")
]
Expect = Annotated[
    list[str],
    typer.Option("--expect", help="KEY=VALUE that the input must have been made with."),
]


def log_to(path: Path | None) -> None:
    """Send notes to the terminal, and to a file if one is named."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)


def read_expected(pairs: list[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dictionary."""
    for pair in pairs:
        if "=" not in pair:
            msg = f"--expect {pair}: expected KEY=VALUE, for example model.weights=random"
            raise typer.BadParameter(msg)
    return dict(pair.split("=", 1) for pair in pairs)


def read_network(model: str, weights: str, checkpoint: Path | None) -> Any:
    """Build the network that ``--model``, ``--weights`` and ``--checkpoint`` name."""
    from dissect_embed.networks.models import build_model

    if weights == "trained" and checkpoint is None:
        msg = "--weights trained needs --checkpoint, the file that 'dissect-embed train' makes"
        raise ModelError(msg)
    return build_model(model, str(checkpoint) if checkpoint else weights)
