"""What ``dissect-embed layers`` prints: the layers of a network that can be dissected."""

from typing import Any

from torch import nn

from dissect_embed.errors import ModelError
from dissect_embed.inspection.tables import describe, open_console, pairs, table
from dissect_embed.networks.hooks import matches
from dissect_embed.networks.inputs import Input, UnknownColoursError, find_input
from dissect_embed.networks.layers import list_layers
from dissect_embed.networks.maps import Reading
from dissect_embed.networks.models import build_model
from dissect_embed.networks.settings import Model


def show_layers(settings: Model, pattern: str | None = None) -> None:
    """Print name, units, grid, axes and size of each layer that can be dissected, as it runs.

    Raises
    ------
    ModelError
        If the network cannot be made, does not run on images of its size, or no layer matches.
    """
    network = build_model(settings.name, "random", settings.arguments)
    given, has_colours = _input_of(network, settings)
    rows = list_layers(network, given)
    shown = [row for row in rows if pattern is None or matches(pattern, row.layer)]
    if not shown:
        msg = (
            f"{settings.name}: no layer that can be dissected matches {pattern!r} ('*' stands for "
            "no dot)"
            if rows
            else f"{settings.name}: puts out no maps, tokens or vectors in any module"
        )
        raise ModelError(msg)
    console = open_console()
    console.print(
        pairs([("network", type(network).__name__), ("input", _describe(given, has_colours))])
    )
    console.print()
    console.print(
        table(
            ("", "layer", "units>", "grid>", "axes", "MB an image>", "calls>"),
            [
                (
                    "*" if row.is_stage_end else "", row.layer, row.reading.units,
                    f"{row.reading.grid[0]}×{row.reading.grid[1]}", _axes(row.reading),
                    f"{row.megabytes:.3f}", row.calls if row.calls > 1 else "",
                )
                for row in shown
            ],
        )
    )  # fmt: skip
    console.print("\n* the end of a stage: what model.layers: auto takes. MB in float16, cached.")


def _input_of(network: nn.Module, settings: Model) -> tuple[Input, bool]:
    """Return what the network is given, and whether it is known in which colours.

    Where nobody says, they may be any.
    """
    asked = settings.input
    size = (asked.size[0], asked.size[1]) if asked.size else None
    # As weights that know their own size.
    options: dict[str, Any] = {"name": settings.name, "weights": "stated"}
    try:
        return find_input(network, asked, size, **options), True
    except UnknownColoursError:
        n = asked.channels or 3
        given = asked.model_copy(update={"mean": (0.0,) * n, "std": (1.0,) * n})
        return find_input(network, given, size, **options), False


def _describe(given: Input, has_colours: bool) -> str:
    shape = f"{given.channels} × {given.size[0]} × {given.size[1]}"
    if not has_colours:
        return f"{shape}; mean and std are not stated: name them in model.input"
    return f"{shape}; {describe({k: v for k, v in given.as_settings().items() if k != 'size'})}"


def _axes(reading: Reading) -> str:
    words = reading.axes.replace(" ", ", ")
    return f"({words}), {reading.prefix} before" if reading.prefix else f"({words})"
