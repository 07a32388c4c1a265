"""A network made ready to be probed: fast where that is proven to change nothing.

In its order: what the network puts out as it stands; how each layer's output is read; then the fast
copy, which must put out the same on two images, alone and side by side. Where it does not, the
network runs as it stands, and a note says so.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from dissect_embed.device import choose_device
from dissect_embed.errors import ModelError
from dissect_embed.networks.copies import (
    copy_network,
    evaluated,
    in_float32,
    run_on_one_device,
)
from dissect_embed.networks.demands import check_alone, check_can_run, check_same_again
from dissect_embed.networks.gaps import check_missing
from dissect_embed.networks.hooks import find_layer
from dissect_embed.networks.inputs import Input, made_up, takes, to_input
from dissect_embed.networks.layers import resolve_layers
from dissect_embed.networks.maps import Reading
from dissect_embed.networks.proof import (
    Difference,
    Outputs,
    differs,
    noise,
    run_in_lock_step,
    run_once,
)
from dissect_embed.networks.readings import read_layers
from dissect_embed.networks.speedups import activate_in_place, fold_batch_norm, pack_convolutions

logger = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
# How far a prepared network's maps may lie from the network's own, in parts of their largest value.
BOUNDS = {"float32": 1e-3, "tf32": 1e-2, "bfloat16": 0.1}


class Network(NamedTuple):
    """A network made ready to be probed."""

    model: nn.Module
    readings: Mapping[str, Reading]  # of each layer to probe: how its output is read as maps
    input: Input
    batch_size: int
    device: str
    precision: str  # that the network computes in, one of PRECISIONS
    # Whether passes may run side by side, each in a copy of its own.
    can_share: bool
    channels_last: bool  # how its input lies in memory

    def give(self, images: UInt8[Tensor, "image y x 3"]) -> Tensor:
        """Return the network's input, of images on its device."""
        given = to_input(images, self.input).to(PRECISIONS[self.precision])
        return given if self.channels_last else given.contiguous()

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(units, h, w) of each layer."""
        return {layer: (r.units, *r.grid) for layer, r in self.readings.items()}


def prepare_network(
    model: nn.Module,
    layers: Sequence[str],
    given: Input,
    *,
    batch_size: int,
    precision: str = "float32",
    device: str | None = None,
    axes: Mapping[str, str] | None = None,
    prefix_tokens: int | None = None,
    missing: Sequence[str] = (),
) -> Network:
    """Return a network that runs as fast as it can and puts out what it did.

    Parameters
    ----------
    model
        Left as it is, but where its passes cannot be copied: then it runs itself.
    layers
        Names, patterns, or ``auto``.
    given
        What it is given.
    precision
        ``float32``; ``bfloat16``: about twice as fast where the processor has it, 3 digits; or
        ``tf32``: convolutions on CUDA devices round what they multiply to 4 digits.
    axes, prefix_tokens
        What the user says of layers and patterns, and of tokens before those of the image.
    missing
        Names of weights that the network's file lacks.

    Raises
    ------
    ModelError
        If the network does not run on such images, puts out something else each time, or differs
        too much in this precision; if a layer cannot be read or depends on missing weights, the
        batch size is below 1, or the device has no TF32.
    """
    if batch_size < 1:
        msg = f"activations.batch_size: {batch_size}, expected at least 1"
        raise ModelError(msg)
    device = choose_device(device, for_network=True)
    if precision == "tf32" and not device.startswith("cuda"):
        msg = "activations.precision: only CUDA devices have tf32; choose float32 or bfloat16"
        raise ModelError(msg)
    was_training = {module: module.training for module in model.modules()}
    try:
        return _prepare(
            evaluated(model), layers, given, batch_size, precision, device, axes or {},
            prefix_tokens, missing,
        )  # fmt: skip
    finally:
        for module, training in was_training.items():
            module.training = training


def _prepare(
    model: nn.Module,
    layers: Sequence[str],
    given: Input,
    batch_size: int,
    precision: str,
    device: str,
    axes: Mapping[str, str],
    prefix_tokens: int | None,
    missing: Sequence[str],
) -> Network:
    name = type(model).__name__
    check_can_run(model)
    fresh = _try_copy(model)
    # What the network puts out as it stands, on the processor.
    plain_model = _in_one_piece(model, given)
    layers = resolve_layers(plain_model, layers, given)
    readings = read_layers(plain_model, layers, given, axes, prefix_tokens)
    if missing:
        check_missing(plain_model, missing, layers, made_up(given, 1))
    pictures = [noise(given, seed) for seed in (0, 1)]
    expected = [run_once(plain_model, picture, layers, given) for picture in pictures]
    check_same_again(plain_model, fresh, pictures[0], expected[0], readings, given)
    del fresh
    if batch_size > 1:
        check_alone(plain_model, pictures, expected, readings, given)

    modules = [find_layer(plain_model, layer).module for layer in layers]
    plain = Network(
        plain_model, readings, given, batch_size, device, "float32",
        can_share=True, channels_last=False,
    )  # fmt: skip
    fast = _try(lambda: _speed_up(plain_model, modules, device, precision))
    prepared = plain._replace(model=fast, channels_last=True)
    if why := _is_unlike(prepared, pictures, expected, BOUNDS["float32"]):
        logger.info("%s: runs as it stands, for prepared it would differ: %s", name, why)
        copy = _try(lambda: copy_network(plain_model).to(device))
        prepared = plain._replace(model=copy)
        why = _is_unlike(prepared, pictures, expected, BOUNDS["float32"])
    if why:
        logger.info("%s: one pass at a time, for a copy would differ: %s", name, why)
        prepared = plain._replace(model=plain_model.to(device), can_share=False)
        why = _is_unlike(prepared, pictures, expected, BOUNDS["float32"])
    if why:
        msg = f"{name}: puts out something else on {device} than on the processor: {why}"
        raise ModelError(msg)
    if precision == "float32":
        return prepared
    if not prepared.can_share:
        msg = (
            f"activations.precision: {name} cannot be copied, so it runs as it stands; choose "
            f"float32 instead of {precision}"
        )
        raise ModelError(msg)
    prepared = _in_precision(prepared, precision)
    if why := _is_unlike(prepared, pictures, expected, BOUNDS[precision]):
        msg = (
            f"activations.precision: in {precision} {name} puts out something else than in "
            f"float32: {why}; choose float32"
        )
        raise ModelError(msg)
    return prepared


class _Failed(nn.Module):
    """Stands for a copy that could not be made."""

    def __init__(self, why: Exception) -> None:
        super().__init__()
        self.why = why

    def forward(self, x: Tensor) -> Tensor:
        raise self.why


def _try(make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except Exception as error:  # locks, files, generators: not everything can be copied
        return _Failed(error)


def _try_copy(model: nn.Module) -> nn.Module | None:
    copy = _try(lambda: copy_network(model))
    return None if isinstance(copy, _Failed) else copy


def _in_one_piece(model: nn.Module, given: Input) -> nn.Module:
    """Return a network that takes float32 and runs on one device; itself, if it does."""
    wrapped = any(isinstance(module, nn.DataParallel) for module in model.modules())
    if not wrapped and (in_float32(model) or takes(model, given)):
        return model
    return run_on_one_device(copy_network(model)).float()


def _speed_up(model: nn.Module, modules: Sequence[str], device: str, precision: str) -> nn.Module:
    """Return a copy that runs as fast as it can, whose modules of these names put out the same."""
    fast: nn.Module = copy_network(model)
    fold_batch_norm(fast, modules)
    activate_in_place(fast)
    fast = fast.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device == "cpu" and precision != "bfloat16":
        pack_convolutions(fast)
    return fast


def _in_precision(network: Network, precision: str) -> Network:
    model = network.model.to(PRECISIONS[precision])
    if network.device == "cpu":
        pack_convolutions(model)
    return network._replace(model=model, precision=precision)


def _is_unlike(
    network: Network, pictures: Sequence[torch.Tensor], expected: Sequence[Outputs], bound: float
) -> Difference | None:
    """Return where a prepared network differs from what it was, or None."""
    dtype = PRECISIONS[network.precision]
    layers, given = list(network.readings), network.input
    try:
        # The second first: what a copy kept of the pass before would show.
        for picture, right in reversed(list(zip(pictures, expected, strict=True))):
            found = run_once(
                network.model, picture, layers, given, network.device, dtype, network.precision,
                channels_last=network.channels_last,
            )  # fmt: skip
            if change := differs(found, right, bound):
                return change
        if network.can_share:
            side_by_side = run_in_lock_step(
                network.model, pictures, layers, given, network.device, dtype, network.precision,
                channels_last=network.channels_last,
            )  # fmt: skip
            for found, right in zip(side_by_side, expected, strict=True):
                if change := differs(found, right, bound):
                    return change._replace(what="side by side")
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a network's code raises where a part is not what it was
        return Difference(f"{type(error).__name__}: {error}".splitlines()[0], float("nan"), "")
    return None
