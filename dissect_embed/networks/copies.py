"""Copies of a network, with weights of their own or shared."""

import copy
import types
from typing import Any

import torch
from torch import Tensor, nn


def copy_network(model: nn.Module, *, share: bool = False) -> nn.Module:
    """Return a network with a tree of modules of its own.

    What a network keeps on ``self`` from one step of a pass to the next lies in that tree: passes
    that run side by side each need one.

    Parameters
    ----------
    share
        Whether the copy has the same tensors: weights, buffers, whatever lies on a module.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        held = (*module._parameters.values(), *module._buffers.values(), *vars(module).values())
        for value in held:
            if isinstance(value, Tensor) and share:
                memo[id(value)] = value
            elif isinstance(value, Tensor) and not value.is_leaf:
                # Made from others, as under weight_norm: torch copies no such tensor itself.
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)


def evaluated(model: nn.Module) -> nn.Module:
    """Return a network in evaluation mode, without what compiled it, whose hooks would not run."""
    inner = getattr(model, "_orig_mod", None)
    network = inner if isinstance(inner, nn.Module) else model
    network.eval()  # which some override, and return nothing
    return network


def run_on_one_device(model: nn.Module) -> nn.Module:
    """Let every ``DataParallel`` in a network call what it holds, in place; the network.

    By itself it would spread a batch over all CUDA devices, and copies of modules call no hook.
    """
    for module in model.modules():
        if isinstance(module, nn.DataParallel):
            module.forward = types.MethodType(_call_held, module)  # type: ignore[method-assign]
    return model


def _call_held(self: nn.DataParallel[Any], *inputs: Any, **options: Any) -> Any:
    return self.module(*inputs, **options)


def in_float32(model: nn.Module) -> bool:
    """Say whether all numbers of a network that are no integers are float32."""
    values = (*model.parameters(), *model.buffers())
    return all(v.dtype == torch.float32 for v in values if v.is_floating_point())
