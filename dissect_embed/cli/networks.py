"""Commands that show what a network is, before anything is run with it."""

from typing import Annotated

import typer

from dissect_embed.cli.options import Arguments, Given, read_yaml
from dissect_embed.networks.settings import Model, ModelInput


def layers(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help=Model.model_fields["name"].description)
    ],
    arguments: Arguments = "",
    given: Given = "",
    only: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only layers such as 'blocks.*'.")
    ] = "*",
) -> None:
    """List the layers of a network that can be dissected; a star where a stage ends."""
    from dissect_embed.inspection.networks import show_layers

    settings = Model(
        name=model, weights="random", arguments=read_yaml(arguments, "--arguments"),
        input=ModelInput(**read_yaml(given, "--input")),
    )  # fmt: skip
    show_layers(settings, None if only == "*" else only)
