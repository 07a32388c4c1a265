"""Build a network and load its weights.

A network is a name and weights. The name is one of torchvision's classifiers, ``timm:NAME``, or
``package.module:function`` for a network of your own: the function returns a ``torch.nn.Module``.
The weights are one of torchvision's (``IMAGENET1K_V1``), timm's ``pretrained``, ``random``, or the
path of a file of weights.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.checkpoints import read_weights
from dissect_embed.networks.sources import (
    TRANSFORMS_INPUT,
    check_name,
    construct,
    has_classes,
    import_timm,
)
from dissect_embed.networks.weights import count_classes, find_head, fit_weights
from dissect_embed.settings import is_path

logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A network with its weights, in evaluation mode."""

    model: nn.Module
    missing: tuple[str, ...] = ()  # names of weights that the file lacks
    note: str = ""  # which of the file's tensors were taken


def load_network(
    name: str,
    weights: str,
    arguments: Mapping[str, Any] = {},
    *,
    seed: int = 0,
    n_classes: int | None = None,
    trained: bool = False,
) -> Loaded:
    """Return a network with its weights, and what a file of weights lacks.

    Parameters
    ----------
    name
        A torchvision classifier, ``timm:NAME``, or ``package.module:function``.
    weights
        ``random`` (initialised with ``seed``), ``pretrained`` for one of timm, a name of
        torchvision's weights for this network (fetched once, hash checked by torchvision), or the
        path of a file that holds them, as training scripts write it or as safetensors. Those that
        the file lacks keep their initial values (by ``seed``); whether that matters is for the
        caller to say (``gaps.check_missing``).
    arguments
        Passed by name to the function that makes the network.
    n_classes
        Width of the classifier; by default that of the weights, which no probed layer depends on.
    trained
        Whether ``weights`` is the file that 'train' made.

    Raises
    ------
    ModelError
        If the name or the weights are unknown, or the file holds no weights of this network.
    """
    if weights == "random":
        loaded = Loaded(construct(name, arguments, seed=seed, n_classes=n_classes))
    elif is_path(weights):
        if not trained:
            _check_transform(name, weights, arguments)
        loaded = _load_file(name, Path(weights), arguments, seed, n_classes)
    elif name.startswith("timm:"):
        loaded = Loaded(_fetch_timm(name, weights, arguments))
    else:
        loaded = Loaded(_fetch(name, weights, arguments))
    loaded.model.eval()
    return loaded


def build_model(
    name: str,
    weights: str,
    arguments: Mapping[str, Any] = {},
    *,
    seed: int = 0,
    n_classes: int | None = None,
) -> nn.Module:
    """Return a network with all of its weights, in evaluation mode: as ``load_network`` does.

    Raises
    ------
    ModelError
        If the name or the weights are unknown, do not fit, or are not whole.
    """
    loaded = load_network(name, weights, arguments, seed=seed, n_classes=n_classes)
    _check_whole(loaded.missing, weights, name)
    return loaded.model


def _load_file(
    name: str, path: Path, arguments: Mapping[str, Any], seed: int, n_classes: int | None
) -> Loaded:
    """Return a network with the weights that a file holds for it, in whatever form."""

    def make(n: int | None) -> nn.Module:
        return construct(name, arguments, seed=seed, n_classes=n)

    tables = read_weights(path)
    if not has_classes(name) or n_classes is not None or "num_classes" in arguments:
        model = make(n_classes)
        fit = fit_weights(model.state_dict(), tables, path=path, name=name)
    else:
        own, head = find_head(make)
        fit = fit_weights(own, tables, path=path, name=name, head=head)
        model = make(count_classes(fit, head))
    model.load_state_dict(fit.state, strict=False)
    logger.info("%s: %s", path, fit.note)
    return Loaded(model, fit.missing, fit.note)


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
            "or the path of a file ('trained' is made by snakemake's rule train)"
        )
        raise ModelError(msg)
    chosen = torchvision.models.get_weight(
        f"{torchvision.models.get_model_weights(name).__name__}.{weights}"
    )
    options = {"transform_input": True} if name in TRANSFORMS_INPUT else {}
    model = construct(name, {**options, **arguments}, n_classes=len(chosen.meta["categories"]))
    try:
        state = chosen.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        msg = (
            f"model.weights: {weights} cannot be fetched from {chosen.url} ({error}); get that "
            "file by other means and give its path as model.weights"
        )
        raise ModelError(msg) from error
    fit = fit_weights(model.state_dict(), {"": state}, path=chosen.url, name=name)
    _check_whole(fit.missing, chosen.url, name)
    model.load_state_dict(fit.state, strict=False)
    return model


def _check_whole(missing: Sequence[str], path: str, name: str) -> None:
    if missing:
        msg = (
            f"{path}: lacks {len(missing)} weights of {name}, as {missing[0]!r}; check model.name, "
            "or take whole weights"
        )
        raise ModelError(msg)
