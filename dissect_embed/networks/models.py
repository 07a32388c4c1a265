"""Build a network and load its weights.

A network is a name and weights. The name is one of torchvision's classifiers, ``timm:NAME``, or
``package.module:function`` for a network of your own: the function returns a ``torch.nn.Module``.
The weights are one of torchvision's (``IMAGENET1K_V1``), timm's ``pretrained``, ``random``, or the
path of a file of weights.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.sources import (
    TRANSFORMS_INPUT,
    check_name,
    construct,
    import_timm,
)
from dissect_embed.settings import is_path


def build_model(
    name: str,
    weights: str,
    arguments: Mapping[str, Any] = {},
    *,
    seed: int = 0,
    n_classes: int | None = None,
) -> nn.Module:
    """Return a network with its weights, in evaluation mode.

    Parameters
    ----------
    name
        A torchvision classifier, ``timm:NAME``, or ``package.module:function``.
    arguments
        Passed by name to the function that makes the network.
    weights
        ``random`` (initialised with ``seed``), ``pretrained`` for one of timm, a name of
        torchvision's weights for this network (fetched once, hash checked by torchvision), or the
        path of a state_dict. A checkpoint that holds it under the key ``state_dict`` will do too.
    seed
        For ``random``.
    n_classes
        Width of the classifier; by default that of the weights, which no probed layer depends on.

    Raises
    ------
    ModelError
        If the name or the weights are unknown, or the state_dict does not fit.
    """
    if weights == "random":
        model = construct(name, arguments, seed=seed, n_classes=n_classes)
    elif is_path(weights):
        _check_transform(name, weights, arguments)
        state = load_state_dict(Path(weights))
        model = construct(
            name, arguments, seed=seed, n_classes=n_classes or _n_classes(name, state)
        )
        _load(model, state, Path(weights), name)
    elif name.startswith("timm:"):
        model = _fetch_timm(name, weights, arguments)
    else:
        model = _fetch(name, weights, arguments)
    return model.eval()


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state_dict, without running any code that the file may carry.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or holds something else than tensors by name.
    """
    if not path.is_file():
        msg = (
            f"{path}: no such file; model.weights is a state_dict, 'random', or torchvision's name"
        )
        raise ModelError(msg)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged or unsafe file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = (
            f"{path}: cannot be read as weights ({reason}); save a state_dict with "
            "torch.save(model.state_dict(), path)"
        )
        raise ModelError(msg) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        msg = f"{path}: expected tensors by name, found {type(state).__name__}; save a state_dict"
        raise ModelError(msg)
    return dict(state)


def class_names(name: str, weights: str) -> list[str] | None:
    """Return the class of each output that torchvision's weights are for; None with others."""
    if ":" in name or weights in ("given", "random", "trained") or is_path(weights):
        return None
    return list(torchvision.models.get_model_weights(name)[weights].meta["categories"])


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_transform(name: str, weights: str, arguments: Mapping[str, Any]) -> None:
    """Check that it is said whether a file's weights are of a network that changes its input."""
    if name in TRANSFORMS_INPUT and "transform_input" not in arguments:
        msg = (
            f"model.arguments: {name} with weights of a file ({weights}) needs to know how they "
            "were trained: {transform_input: true} for those that torchvision publishes, "
            "{transform_input: false} for those trained with model.input's mean and std alone"
        )
        raise ModelError(msg)


def _fetch_timm(name: str, weights: str, arguments: Mapping[str, Any]) -> nn.Module:
    if weights != "pretrained":
        msg = (
            f"model.weights: {name} has no weights {weights!r}; choose 'pretrained' (others of the "
            "same network are named with it, as 'timm:resnet18.a1_in1k'), 'random', or the path of "
            "a file ('trained' is made by snakemake's rule train)"
        )
        raise ModelError(msg)
    construct(name, arguments)  # a wrong name or argument is not the network's fault
    timm = import_timm()
    try:
        model = timm.create_model(name.removeprefix("timm:"), **{**arguments, "pretrained": True})
    except Exception as error:  # of several libraries between here and there
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = (
            f"model.weights: the pretrained weights of {name} cannot be fetched ({reason}); get "
            "them by other means and give the file's path as model.weights"
        )
        raise ModelError(msg) from error
    return model  # type: ignore[no-any-return]


def _fetch(name: str, weights: str, arguments: Mapping[str, Any]) -> nn.Module:
    known: list[str] = []
    if ":" not in name:
        check_name(name)
        known = list(torchvision.models.get_model_weights(name).__members__)
    if weights not in known:
        choices = ", ".join([*known, "random"])
        msg = (
            f"model.weights: {name} has no weights {weights!r}; choose one of {choices}, "
            "or the path of a state_dict ('trained' is made by snakemake's rule train)"
        )
        raise ModelError(msg)
    chosen = torchvision.models.get_weight(
        f"{torchvision.models.get_model_weights(name).__name__}.{weights}"
    )
    options = {"transform_input": True} if name in TRANSFORMS_INPUT else {}
    model = construct(name, {**options, **arguments}, n_classes=len(chosen.meta["categories"]))
    try:
        model.load_state_dict(chosen.get_state_dict(progress=True, check_hash=True))
    except (OSError, RuntimeError) as error:
        msg = (
            f"model.weights: {weights} cannot be fetched from {chosen.url} ({error}); get that "
            "file by other means and give its path as model.weights"
        )
        raise ModelError(msg) from error
    return model


def _n_classes(name: str, state: dict[str, Tensor]) -> int | None:
    """Return the width of a torchvision classifier: the rows of its last matrix."""
    matrices = [v for k, v in state.items() if k.endswith(".weight") and v.ndim == 2]
    return None if ":" in name or not matrices else matrices[-1].shape[0]


def _load(model: nn.Module, state: dict[str, Tensor], path: Path, name: str) -> None:
    own = model.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    extra = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or extra or wrong:
        first = (
            f"it lacks {missing[0]!r}"
            if missing
            else f"it has {extra[0]!r}, which the network lacks"
            if extra
            else f"{wrong[0]!r} is {tuple(state[wrong[0]].shape)}, "
            f"expected {tuple(own[wrong[0]].shape)}"
        )
        msg = (
            f"{path}: these are no weights of {name}: {first} ({len(missing)} missing, "
            f"{len(extra)} unknown, {len(wrong)} of another shape); check model.name"
        )
        raise ModelError(msg)
    model.load_state_dict(state, strict=False)
