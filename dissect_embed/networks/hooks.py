"""Read what named layers of a network put out."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.inputs import normalise


def check_layers(model: nn.Module, layers: Sequence[str]) -> None:
    """Check that all layers are modules of a network.

    Raises
    ------
    ModelError
        If one is not, naming those that come near, or if a layer is named twice.
    """
    known = [name for name, _ in model.named_modules() if name]
    for layer in layers:
        if layer not in known:
            near = difflib.get_close_matches(layer, known, n=5, cutoff=0.5)
            top = [name for name in known if "." not in name]
            hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(top)}"
            msg = f"model.layers: {type(model).__name__} has no layer {layer!r}; {hint}"
            raise ModelError(msg)
    doubled = [layer for n, layer in enumerate(layers) if layer in layers[:n]]
    if doubled or not layers:
        what = f"{doubled[0]!r} is named twice" if doubled else "no layer is named"
        msg = f"model.layers: {what}; name each layer once"
        raise ModelError(msg)


def _copy(layer: str, output: Any) -> Any:
    # The next layer may add to the output in place, as residual blocks do.
    return output.clone() if isinstance(output, Tensor) else output


@contextmanager
def probe(
    model: nn.Module, layers: Sequence[str], keep: Callable[[str, Any], Any] = _copy
) -> Iterator[dict[str, Any]]:
    """Collect the outputs of layers: after each forward pass the yielded dict holds them.

    Parameters
    ----------
    keep
        Takes a layer's name and output, and returns what is to be kept of it: no view of it, for
        the next layer may write to it.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    >>> with probe(net, ["1"]) as outputs:
    ...     _ = net(torch.zeros(2, 3, 8, 8))
    ...     tuple(outputs["1"].shape)
    (2, 5, 6, 6)
    """
    check_layers(model, layers)
    outputs: dict[str, Any] = {}

    def store(layer: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs[layer] = keep(layer, output)

        return hook

    modules = dict(model.named_modules())
    handles = [modules[layer].register_forward_hook(store(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def layer_shapes(
    model: nn.Module, layers: Sequence[str], image_size: tuple[int, int]
) -> dict[str, tuple[int, int, int]]:
    """Return (units, height, width) of each layer's output for one image.

    Raises
    ------
    ModelError
        If a layer does not exist, or its output is no stack of activation maps.
    """
    device = next(model.parameters()).device
    image = torch.zeros((1, *image_size, 3), dtype=torch.uint8, device=device)
    with torch.inference_mode(), probe(model, layers) as outputs:
        try:
            model(normalise(image))
        except Exception as error:  # whatever the network's own code raises
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            msg = (
                f"{type(model).__name__}: cannot take images of {image_size[0]} × {image_size[1]} "
                f"pixels ({reason}); resize the data set"
            )
            raise ModelError(msg) from error
    shapes = {}
    for layer in layers:
        output = outputs.get(layer)
        if not isinstance(output, Tensor) or output.ndim != 4:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            msg = (
                f"model.layers: the output of {layer!r} is {found}, "
                "expected (image, unit, y, x); choose a layer with activation maps"
            )
            raise ModelError(msg)
        shapes[layer] = (output.shape[1], output.shape[2], output.shape[3])
    return shapes
