"""Networks of one's own for distillation: built by name, and checked against what the zoo's are.

What such a network needs is told in ``zoo``.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from dissect_embed.distillation.outputs import Network, Outputs
from dissect_embed.errors import ModelError
from dissect_embed.networks.sources import import_function

# How a name of one's own looks, in messages.
OWN = "package.module:function"
CONTRACT = "dissect_embed.distillation.zoo tells what a network of one's own needs"


def is_own(name: str) -> bool:
    """Whether a name is ``package.module:function``, and not one of the zoo's."""
    return ":" in name


def build_own(name: str, n_classes: int) -> Network:
    """Return what ``package.module:function`` makes, in training mode.

    Parameters
    ----------
    n_classes
        The function gets it as ``num_classes``.

    Raises
    ------
    ModelError
        If it cannot be imported or called, or returns something that lacks what the zoo's have;
        what is missing is named.
    """
    make = import_function(name, "network")
    try:
        network = make(num_classes=n_classes)
    except Exception as error:  # whatever the network's own code raises
        msg = f"network: {name}(num_classes={n_classes}) failed ({type(error).__name__}: {error})"
        raise ModelError(msg) from error
    if not isinstance(network, nn.Module):
        msg = f"network: {name} returned {type(network).__name__}, expected a torch.nn.Module"
        raise ModelError(msg)
    _check_attributes(name, network)
    return cast("Network", network.train())


def check_own(name: str, network: nn.Module, n_classes: int, size: tuple[int, int]) -> None:
    """Check that a network of one's own gives what is trained on, on images of (height, width).

    Raises
    ------
    ModelError
        If ``outputs`` fails or gives something else, or training draws random numbers.
    """
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    probe: Any = copy.deepcopy(network).cpu().eval()
    try:
        with torch.no_grad():
            logits, outputs = probe(images), probe.outputs(images)
    except Exception as error:  # whatever the network's own code raises
        msg = (
            f"network: {name} failed on images of {size[0]} × {size[1]} pixels "
            f"({type(error).__name__}: {error})"
        )
        raise ModelError(msg) from error
    _check_outputs(name, outputs, logits, n_classes, len(probe.stage_names))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        probe.train().outputs(images)
        if not torch.equal(before, torch.get_rng_state()):
            msg = (
                f"network: {name} draws random numbers in training (dropout?), so that a training "
                "could be neither repeated nor resumed; leave that out, or set p=0"
            )
            raise ModelError(msg)


def _check_attributes(name: str, network: nn.Module) -> None:
    lacking = [key for key in ("stage_names", "outputs") if not hasattr(network, key)]
    if lacking:
        msg = f"network: what {name} returns lacks {' and '.join(lacking)}; {CONTRACT}"
        raise ModelError(msg)
    names: Any = network.stage_names
    if isinstance(names, str) or not all(isinstance(stage, str) for stage in names):
        msg = f"network: stage_names of {name} is {names!r}; expected names of modules; {CONTRACT}"
        raise ModelError(msg)
    if len(names) < 2:
        msg = (
            f"network: stage_names of {name} names {len(names)} modules; expected the stem and at "
            f"least one stage; {CONTRACT}"
        )
        raise ModelError(msg)
    known = dict(network.named_modules())
    for stage in names:
        if stage not in known:
            top = ", ".join(key for key, _ in network.named_children())
            msg = f"network: stage_names of {name} has {stage!r}, no module of it; there are {top}"
            raise ModelError(msg)


def _check_outputs(name: str, outputs: Any, logits: Tensor, n_classes: int, n_stages: int) -> None:
    if not isinstance(outputs, Outputs):
        got = type(outputs).__name__
        msg = f"network: outputs(images) of {name} gives {got}, expected Outputs; {CONTRACT}"
        raise ModelError(msg)
    for key, found in (("maps", outputs.maps), ("before_relu", outputs.before_relu)):
        shapes = [tuple(x.shape) for x in found]
        if len(shapes) != n_stages or any(len(shape) != 4 for shape in shapes):
            msg = (
                f"network: {key} of {name}'s outputs are {shapes}; expected (image, unit, y, x) of "
                f"each of the {n_stages} stage_names"
            )
            raise ModelError(msg)
    if outputs.pooled.dim() != 2 or outputs.logits.shape != (2, n_classes):
        shapes = [tuple(outputs.logits.shape), tuple(outputs.pooled.shape)]
        msg = (
            f"network: logits and pooled of {name}'s outputs are {shapes[0]} and {shapes[1]} for 2 "
            f"images; expected (2, {n_classes}) and (2, features)"
        )
        raise ModelError(msg)
    if logits.shape != outputs.logits.shape or not torch.allclose(
        logits, outputs.logits, rtol=1e-3, atol=1e-4
    ):
        msg = f"network: the logits of {name}'s forward and outputs differ; both must be the same"
        raise ModelError(msg)
