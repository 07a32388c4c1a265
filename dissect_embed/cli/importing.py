"""Commands that turn labelled images of other formats into a data set in Broden's format."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from dissect_embed.cli.options import Log, Threads, log_to, setting
from dissect_embed.datasets.settings import Import

Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")]
Images = Annotated[Path, typer.Argument(help="Folder of the images, also in folders below.")]
Masks = Annotated[Path, typer.Argument(help="Folder of the masks, in the same folders below.")]
ImageEnding = Annotated[
    str, typer.Option(help="How images' names end, as '_leftImg8bit.png'; any image if not said.")
]
MaskEnding = Annotated[str, typer.Option(help="How masks' names end, as '_gtFine_labelIds.png'.")]
SkipUnlabelled = Annotated[
    bool, typer.Option("--skip-unlabelled", help="Leave out images without a mask.")
]

app = typer.Typer(
    no_args_is_help=True,
    help="Turn labelled images of another format into a data set in Broden's format.",
)


def _make(
    write: Callable[..., None], root: Path, *what: Any, settings: dict[str, Any], **more: Any
) -> None:
    from dissect_embed.datasets.broden import load_broden

    write(root, *what, Import(**settings), **more)
    made = load_broden(root)
    logging.info("%s: %d images, %d concepts", root, len(made.rows), len(made.concepts))
