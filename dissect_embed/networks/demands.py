"""What is demanded of a network, for its maps to be those of the images: tried, or refused."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.inputs import Input
from dissect_embed.networks.maps import Reading, to_maps
from dissect_embed.networks.proof import Outputs, differs, run_once

# How far an image's maps may lie from those that it has alone, where others are in its batch:
# another size of batch rounds otherwise, and networks with random weights can magnify that.
ALONE = 0.05


def check_can_run(model: nn.Module) -> None:
    """Check that a network has weights, and modules whose outputs can be read.

    Raises
    ------
    ModelError
        If it has not.
    """
    name = type(model).__name__
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        msg = (
            f"{name}: holds modules compiled by torch.jit, whose outputs cannot be read; give the "
            "network of Python that it was made of"
        )
        raise ModelError(msg)
    if any(value.is_meta for value in (*model.parameters(), *model.buffers())):
        msg = f"{name}: has no weights yet (device 'meta'); load them first"
        raise ModelError(msg)


def check_same_again(
    model: nn.Module,
    fresh: nn.Module | None,
    picture: Tensor,
    expected: Outputs,
    readings: Mapping[str, Reading],
    given: Input,
) -> None:
    """Check that a network puts out the same on an image whenever it is given it.

    Parameters
    ----------
    fresh
        A copy made before any pass, if one could be made.

    Raises
    ------
    ModelError
        If it draws at random, or keeps something from one pass to the next.
    """
    layers = list(readings)
    change = differs(run_once(model, picture, layers, given), expected, 0.0)
    if change is None and fresh is not None:
        try:
            change = differs(run_once(fresh, picture, layers, given), expected, 1e-4)
        except Exception:  # of a copy that is none: then it tells nothing
            return
    if change:
        msg = (
            f"{type(model).__name__}: puts out something else when given the same image again "
            f"({change}); units can be dissected only where it does not draw at random or keep "
            "anything between passes"
        )
        raise ModelError(msg)


def check_alone(
    model: nn.Module,
    pictures: Sequence[Tensor],
    expected: Sequence[Outputs],
    readings: Mapping[str, Reading],
    given: Input,
) -> None:
    """Check that an image's maps do not depend on which others are in its batch.

    Raises
    ------
    ModelError
        If they do, as with batch normalisations that keep no statistics.
    """
    for order in ([0, 1], [1, 0]):
        batch = torch.cat([pictures[n] for n in order])
        together = run_once(model, batch, list(readings), given)
        for place, n in enumerate(order):
            for layer, reading in readings.items():
                alone = to_maps(expected[n][layer], reading)
                beside = to_maps(together[layer], reading)
                if len(beside) != len(order):
                    continue  # which the pass over the data set says of the image
                here = {layer: beside[place : place + 1]}
                if change := differs(here, {layer: alone}, ALONE):
                    msg = (
                        f"{type(model).__name__}: the maps of an image depend on which others are "
                        f"in its batch ({change}); set activations.batch_size: 1, or mend that in "
                        "the network"
                    )
                    raise ModelError(msg)
