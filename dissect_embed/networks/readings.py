"""How the layers of a network are read: found out by running it, and said where it cannot be."""

import logging
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.axes import FEWER, IMAGES, LARGER, UnreadableError, find_reading
from dissect_embed.networks.grids import Grid, known_grids
from dissect_embed.networks.hooks import describe, matches, probe
from dissect_embed.networks.inputs import Input, blank
from dissect_embed.networks.maps import Reading

logger = logging.getLogger(__name__)

# Where images of the data set's size are refused, others are tried, to say what would do.
USUAL_SIZES = (224, 299, 256, 384, 32, 28, 64, 96, 112, 128, 160, 192, 240, 288, 320, 448, 512)


def read_layers(
    model: nn.Module,
    layers: Sequence[str],
    given: Input,
    axes: Mapping[str, str],
    prefix_tokens: int | None,
) -> dict[str, Reading]:
    """Return how the output of each layer is read as maps of units.

    Raises
    ------
    ModelError
        If the network does not run on such images, or a layer does not run or cannot be read.
    """
    calls: dict[str, int] = {}

    def keep(layer: str, output: Any) -> Any:
        calls[layer] = calls.get(layer, 0) + 1
        return shape_or_text(output)

    # Of a layer that names one of a module's calls, all calls are counted as well.
    bare = [re.sub(r"#\d+", "", layer) for layer in layers]
    with probe(model, list(dict.fromkeys([*layers, *bare])), keep) as outputs:
        first = dict(run_or_explain(model, given, outputs))
        counted = dict(calls)
        second, second_size = run_larger(model, given, outputs)
    grids = known_grids(model)
    seen: list[Grid] = []
    readings = {}
    for layer, name in zip(layers, bare, strict=True):
        if layer not in first:
            often = f" so often (it runs {counted[name]} times)" if name in counted else ""
            msg = (
                f"model.layers: {layer!r} does not run{often} in evaluation mode; choose "
                "another ('dissect-embed layers' lists those that do)"
            )
            raise ModelError(msg)
        asked = next((value for name, value in axes.items() if matches(name, layer)), None)
        shapes = first[layer], second[layer], given, second_size[layer]
        try:
            try:
                readings[layer] = read_shapes(*shapes, grids, asked, prefix_tokens)
            except UnreadableError:
                # Where it fits two grids, other layers may tell which one the network has.
                seen = seen or grids_seen(read_shapes_of_all(model, given)[0])
                readings[layer] = read_shapes(*shapes, [*grids, *seen], asked, prefix_tokens)
        except UnreadableError as error:
            msg = (
                f"model.layers: the output of {layer!r} for {IMAGES} images is {first[layer]}, "
                f"which {error}; {_remedy(first[layer], layer)}"
            )
            raise ModelError(msg) from error
    for layer in layers:
        if (n := counted[layer]) > 1:
            logger.info(
                "%s: runs %d times in a pass; the last is read, %s#1 is the first", layer, n, layer
            )
    return readings


def _remedy(shape: Any, layer: str) -> str:
    if isinstance(shape, str):
        return f"name a part of it, as {layer + '[0]'!r}, or another layer"
    return f"say which axis is which, model.axes: {{{layer}: …}}, or choose another layer"


def read_shapes(
    first: Any,
    second: Any,
    given: Input,
    second_size: tuple[int, int],
    grids: Sequence[Any],
    axes: str | None = None,
    prefix: int | None = None,
) -> Reading:
    """Return how an output is read, of which ``shape_or_text`` was kept in two passes.

    Raises
    ------
    UnreadableError
        If it cannot be.
    """
    if not isinstance(first, tuple) or not isinstance(second, tuple):
        msg = "is no tensor of numbers"
        raise UnreadableError(msg)
    return find_reading(
        first, second, given.size, second_size, grids=grids, axes=axes, prefix=prefix
    )


def read_shapes_of_all(model: nn.Module, given: Input) -> tuple[dict[str, Reading], dict[str, int]]:
    """Return how all layers are read that can be, in the order in which they finish in a pass.

    Returns
    -------
    The readings, and how often each layer runs in a pass.

    Raises
    ------
    ModelError
        If the network does not run on such images.
    """
    calls: dict[str, int] = {}
    outputs: dict[str, Any] = {}

    def store(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for layer, part in _parts(name, output):
                calls[layer] = calls.get(layer, 0) + 1
                outputs.pop(layer, None)  # in the order of the last calls
                outputs[layer] = shape_or_text(part)

        return hook

    handles = [m.register_forward_hook(store(n)) for n, m in model.named_modules() if n]
    try:
        first = dict(run_or_explain(model, given, outputs))
        n_calls = dict(calls)
        second, sizes = run_larger(model, given, outputs)
    finally:
        for handle in handles:
            handle.remove()

    def read(grids: Sequence[Grid]) -> dict[str, Reading]:
        readings = {}
        for layer, shape in first.items():
            try:
                readings[layer] = read_shapes(shape, second.get(layer), given, sizes[layer], grids)
            except (UnreadableError, KeyError):
                continue
        return readings

    grids = known_grids(model)
    readings = read(grids)
    if len(readings) < len(first):
        readings = read([*grids, *grids_seen(readings)])
    return readings, n_calls


def grids_seen(readings: Mapping[str, Reading]) -> list[Grid]:
    """Return the grids that layers have."""
    return list(dict.fromkeys(Grid(*r.grid, r.prefix) for r in readings.values()))


def _parts(name: str, output: Any) -> list[tuple[str, Any]]:
    if isinstance(output, Mapping):
        inner = [
            (f"{name}[{key}]" if isinstance(key, int) else f'{name}["{key}"]', value)
            for key, value in output.items()
            if isinstance(key, int | str)
        ]
    elif isinstance(output, tuple | list):
        inner = [(f"{name}[{n}]", value) for n, value in enumerate(output)]
    else:
        return [(name, output)]
    return [part for name, value in inner for part in _parts(name, value)]


def shape_or_text(output: Any) -> tuple[int, ...] | str:
    """Return the shape of a tensor of numbers that are no integers; of all else, words."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            return tuple(output.shape)
        return f"{tuple(output.shape)} of {str(output.dtype).removeprefix('torch.')}"
    return describe(output)


def run_larger(
    model: nn.Module, given: Input, outputs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
    """Run a network on fewer, larger images; of layers that then do not run, on the same size.

    Returns
    -------
    What a probe kept in ``outputs``, and the size of the images that it is of.
    """
    height, width = given.size
    larger = given._replace(size=(height + LARGER[0], width + LARGER[1]))
    outputs.clear()
    # A network that takes one size only may end in an error; what ran before it tells its part.
    _try(lambda: _run(model, larger, FEWER))
    found, sizes = dict(outputs), dict.fromkeys(outputs, larger.size)
    outputs.clear()
    _run(model, given, FEWER)
    for layer, value in outputs.items():
        if layer not in found:
            found[layer], sizes[layer] = value, given.size
    return found, sizes


def run_or_explain(model: nn.Module, given: Input, outputs: dict[str, Any]) -> dict[str, Any]:
    """Run a network on black images, ``IMAGES`` of them, and return what a probe kept.

    Raises
    ------
    ModelError
        If it cannot: with what it takes, if a usual size or number of channels will do, and else
        with the line of its code.
    """
    try:
        _run(model, given, IMAGES)
    except ModelError:
        raise
    except Exception as error:  # whatever the network's own code raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        h, w = given.size
        shape = f"(image, {given.channels}, {h}, {w})"
        where = traceback.extract_tb(error.__traceback__)[-1]
        msg = (
            f"{type(model).__name__}: cannot run on images of {shape} "
            f"({type(error).__name__}: {reason}); {_what_would_do(model, given)}"
        )
        msg += "" if "it takes" in msg else f" ({where.filename}:{where.lineno})"
        raise ModelError(msg) from error
    return outputs


def _what_would_do(model: nn.Module, given: Input) -> str:
    n = 1 if given.channels == 3 else 3
    other = given._replace(channels=n, mean=(0.5,) * n, std=(0.5,) * n)
    channels = f"{n} channel{'s' if n > 1 else ''}"
    colours = f"channels: {n}, mean: …, std: … (of {channels})"
    for size in (given.size, *((size, size) for size in USUAL_SIZES)):
        pixels = f"{size[0]} × {size[1]} pixels"
        if _try(lambda size=size: _run(model, given._replace(size=size), 1)):  # type: ignore[misc]
            return f"it takes {pixels}: set model.input.size: {size[0]}"
        if _try(lambda size=size: _run(model, other._replace(size=size), 1)):  # type: ignore[misc]
            if size == given.size:
                return f"it takes {channels}: set model.input: {{{colours}}}"
            return (
                f"it takes {channels} of {pixels}: set model.input: {{size: {size[0]}, {colours}}}"
            )
    return "neither another number of channels nor another usual size helps: its own code fails"


def _try(run: Callable[[], Any]) -> bool:
    try:
        run()
    except Exception:  # whatever the network's own code raises
        return False
    return True


def _run(model: nn.Module, given: Input, n: int) -> None:
    with torch.inference_mode():
        model(blank(given, n, next(model.parameters(), None)))
