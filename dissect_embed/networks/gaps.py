"""What a file of weights lacks: whether it matters to what is probed.

A backbone is often saved without its classifier. What comes after the last probed layer may have
any numbers, so such a file will do; a gap before it is another network.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.hooks import probe
from dissect_embed.networks.proof import differs


def check_missing(
    model: nn.Module, missing: Sequence[str], layers: Sequence[str], images: Tensor
) -> None:
    """Check that no probed layer depends on weights which a file lacks.

    They are made NaN for one pass: whatever depends on them shows it.

    Parameters
    ----------
    model
        In evaluation mode; left as it was.
    missing
        Names of weights.
    images
        What the network is given, on its device.

    Raises
    ------
    ModelError
        If a layer depends on them.
    """
    values = model.state_dict(keep_vars=True)
    lacking = [values[key] for key in missing if values[key].is_floating_point()]
    before = [value.detach().clone() for value in lacking]
    with torch.no_grad(), probe(model, layers) as outputs:
        model(images)
        expected = dict(outputs)
        try:
            for value in lacking:
                value.fill_(torch.nan)
            outputs.clear()
            model(images)
        finally:
            for value, old in zip(lacking, before, strict=True):
                value.copy_(old)
    depends = [layer for layer in layers if differs(outputs, {layer: expected[layer]}, 0.0)]
    if depends:
        shown = ", ".join(map(repr, missing[:3]))
        shown += f", … ({len(missing)} keys)" if len(missing) > 3 else ""
        msg = (
            f"model.weights: the file lacks {shown}, on which {', '.join(depends)} depends; take "
            "whole weights, or layers before"
        )
        raise ModelError(msg)
