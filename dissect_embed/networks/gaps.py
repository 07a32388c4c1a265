"""What a file of weights lacks: whether it matters to what is probed.

A backbone is often saved without its classifier. What comes after the last probed layer may have
any numbers, so such a file will do; a gap before it is another network.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from dissect_embed.errors import ModelError


def check_missing(
    model: nn.Module,
    missing: Sequence[str],
    layers: Sequence[str],
    run_once: Callable[[nn.Module], Any],
) -> None:
    """Check that weights which a file lacks come after all that is probed.

    Parameters
    ----------
    missing
        Names of weights.
    layers
        Modules, each perhaps with what tells its outputs apart: ``relu#2``, ``pool[0]``.
    run_once
        Runs the network on an image.

    Raises
    ------
    ModelError
        If a module that lacks weights begins before the last probed layer has finished. One that
        does not run at all, as the classifiers that help in training, is none.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    probed = [re.split(r"[\[#]", layer)[0] for layer in layers]
    clock = itertools.count()
    started: dict[nn.Module, int] = {}
    finished: dict[nn.Module, int] = {}

    def start(module: nn.Module, _: Any) -> None:
        started.setdefault(module, next(clock))

    def finish(module: nn.Module, *_: Any) -> None:
        finished[module] = next(clock)

    handles = [module.register_forward_pre_hook(start) for module in model.modules()]
    handles += [module.register_forward_hook(finish) for module in model.modules()]
    try:
        with torch.inference_mode():
            run_once(model)
    finally:
        for handle in handles:
            handle.remove()
    last = max((finished.get(modules[layer], -1) for layer in probed), default=-1)

    def is_needed(key: str) -> bool:
        owner = key.rpartition(".")[0]
        # Lists of parameters are read by the module that holds them.
        while isinstance(modules[owner], nn.ParameterList | nn.ParameterDict):
            owner = owner.rpartition(".")[0]
        if any(module in started for module in modules[owner].modules()):
            return started.get(modules[owner], -1) < last
        # It was not called. Attention reads weights of such a module by itself, so whoever holds
        # it is asked; but not whoever holds the layers as well, who has begun in any case.
        while modules[owner] not in started and owner:
            owner = owner.rpartition(".")[0]
        holds_all = all(f"{layer}.".startswith(f"{owner}." if owner else "") for layer in probed)
        return not holds_all and started.get(modules[owner], -1) < last

    needed = [key for key in missing if is_needed(key)]
    if needed:
        shown = ", ".join(map(repr, needed[:3]))
        shown += f", … ({len(needed)} keys)" if len(needed) > 3 else ""
        msg = (
            f"model.weights: the file lacks {shown}, on which probed layers "
            f"({', '.join(layers)}) may depend; take whole weights, or layers before"
        )
        raise ModelError(msg)
