"""Make the same network faster for inference.

In evaluation mode a batch normalisation is an affine map a channel, which the convolution before it
can do on its way: a third less time. Outputs change by rounding (1e-6 of their size). An activation
can overwrite what it is given where nothing else reads that: less memory to pass through. And a
processor's convolutions want weights in an order of their own, which can be kept.
"""

import operator
import platform
import types
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.fx import Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# What puts its output into memory of its own, and does not look at it again.
FRESH = (*CONVOLUTIONS, *NORMALISATIONS, nn.Linear)
# Weights are packed on x86 processors.
CAN_PACK = torch.backends.mkldnn.is_available() and platform.machine() in ("x86_64", "AMD64")


def fold_batch_norm(model: nn.Module, layers: Sequence[str]) -> int:
    """Fold every batch normalisation that directly follows a convolution, in place.

    Both stay what they are, for the network may look at them: the convolution has other weights,
    the batch normalisation passes on what it is given.

    Parameters
    ----------
    model
        In evaluation mode.
    layers
        The modules whose output is read: convolutions among them are left alone, and those that
        end one of them, with the batch normalisation outside.

    Returns
    -------
    How many were folded. A network that ``torch.fx`` cannot trace (its path depends on its input)
    stays as it is.
    """
    nodes = _trace(model)
    modules = dict(model.named_modules())
    # A module that is called twice cannot take over its neighbour's work.
    calls = Counter(id(modules[n.target]) for n in nodes if n.op == "call_module")
    folded = 0
    for node in nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        conv, norm = modules[str(before.target)], modules[str(node.target)]
        if (
            _is_plain(conv, CONVOLUTIONS)
            and _is_plain(norm, NORMALISATIONS)
            and norm.running_var is not None
            and not _ends_layer(str(before.target), str(node.target), layers)
            and calls[id(conv)] == calls[id(norm)] == 1
        ):
            with torch.no_grad():
                fused = fuse_conv_bn_eval(conv, norm)
            conv.weight, conv.bias = fused.weight, fused.bias
            norm.forward = types.MethodType(_pass_on, norm)
            folded += 1
    return folded


def _is_plain(module: nn.Module, kinds: Sequence[type[nn.Module]]) -> bool:
    """Say whether a module is just what its type says: subclasses and hooks may do more."""
    return (
        type(module) in kinds
        and not module.training
        and "forward" not in vars(module)
        and not module._forward_hooks
        and not module._forward_pre_hooks
    )


def _ends_layer(conv: str, norm: str, layers: Sequence[str]) -> bool:
    """Say whether the output of a convolution is, or may be, that of a layer that is read."""
    inside = [layer for layer in layers if conv == layer or conv.startswith(f"{layer}.")]
    return any(not norm.startswith(f"{layer}.") for layer in inside)


def _pass_on(self: nn.Module, images: Tensor) -> Tensor:
    return images


def activate_in_place(model: nn.Module) -> int:
    """Let activations overwrite their input where nothing else reads it.

    A hook that keeps the output of a layer must then copy it, as ``hooks.probe`` does.

    Parameters
    ----------
    model
        In evaluation mode, and run without gradients.

    Returns
    -------
    How many modules now work in place. A network that ``torch.fx`` cannot trace stays as it is.
    """
    modules = dict(model.named_modules())
    calls: dict[nn.Module, list[Node]] = {}
    for node in _trace(model):
        if node.op == "call_module" and hasattr(modules[node.target], "inplace"):
            calls.setdefault(modules[node.target], []).append(node)
    # A module that is called in several places must be safe in all.
    safe = [m for m, nodes in calls.items() if all(_alone(n.args[0], modules) for n in nodes)]
    for module in safe:
        module.inplace = True  # type: ignore[assignment]
    return len(safe)


def _alone(value: object, modules: Mapping[str, nn.Module]) -> bool:
    """Say whether one operation reads a value, and no other name leads to its memory."""
    if not isinstance(value, Node) or len(value.users) != 1:
        return False
    if value.op == "call_module":
        module = modules[str(value.target)]
        if isinstance(module, nn.Identity) or "forward" in vars(module):
            return len(value.args) == 1 and _alone(value.args[0], modules)
        return type(module) in FRESH
    # ``torch.fx`` sees ``y += x``, which is y's memory, as ``y + x``.
    if value.target in (operator.add, operator.iadd):
        return _alone(value.args[0], modules)
    return value.target is torch.add and "out" not in value.kwargs


def pack_convolutions(model: nn.Module) -> int:
    """Put the weights of convolutions in order once, not again in every forward pass.

    Parameters
    ----------
    model
        On the processor, run without gradients; it is changed in place, and cannot be moved after.

    Returns
    -------
    How many convolutions were packed: none unless ``CAN_PACK``, nor in bfloat16 on a processor
    whose kernels lack it.
    """
    half = any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    if not CAN_PACK or (half and not torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return 0
    plain = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        and _is_plain(module, [nn.Conv2d])
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ]
    for module in plain:
        # What torch's own compiler uses; there is no public name for it.
        module.packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
            module.weight.detach().to_mkldnn(),
            module.padding, module.stride, module.dilation, module.groups,
        )  # fmt: skip
        module.forward = types.MethodType(_convolve_packed, module)  # type: ignore[method-assign]
    return len(plain)


def _convolve_packed(self: nn.Conv2d, images: Tensor) -> Tensor:
    """Convolve as the module itself does, but for the last bit or two."""
    packed: Tensor = torch.ops.mkldnn._convolution_pointwise(
        images, self.packed, self.bias, self.padding, self.stride, self.dilation, self.groups,
        "none", [], "",
    )  # fmt: skip
    return packed


def _trace(model: nn.Module) -> list[Node]:
    """Return the operations of a network; none where ``torch.fx`` cannot follow it."""
    try:
        return list(symbolic_trace(model).graph.nodes)
    except Exception:  # whatever a network's own code raises when it meets a symbol
        return []
