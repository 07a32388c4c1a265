"""Build a network and load its weights.

A network is a name and weights. The name is one of torchvision's classifiers, or
``package.module:function`` for a network of your own: the function is called without arguments and
returns a ``torch.nn.Module``. The weights are one of torchvision's (``IMAGENET1K_V1``), ``random``,
or the path of a file that holds them.
"""

import difflib
import hashlib
import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torchvision
from torch import nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.checkpoints import read_weights
from dissect_embed.networks.weights import count_classes, find_head, fit_weights
from dissect_embed.settings import is_path

logger = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A network with weights from a file."""

    model: nn.Module
    missing: tuple[str, ...]  # names of weights that the file lacks
    note: str  # which of the file's tensors were taken


def build_model(
    name: str, weights: str, *, seed: int = 0, n_classes: int | None = None
) -> nn.Module:
    """Return a network with its weights, in evaluation mode.

    Parameters
    ----------
    name
        A torchvision classifier, or ``package.module:function``.
    weights
        ``random`` (initialised with ``seed``), a name of torchvision's weights for this network
        (fetched once, hash checked by torchvision), or the path of a file that holds them, as
        training scripts write it or as safetensors.
    seed
        For ``random``.
    n_classes
        Width of the classifier; by default that of the weights, which no probed layer depends on.

    Raises
    ------
    ModelError
        If the name or the weights are unknown, do not fit, or are not whole.
    """
    if weights == "random":
        model = _construct(name, seed, n_classes)
    elif is_path(weights):
        model, missing, _ = load_file(name, Path(weights), seed=seed, n_classes=n_classes)
        _check_whole(missing, weights, name)
    else:
        model = _fetch(name, weights)
    for module in model.modules():
        # An activation in place would overwrite the output of the layer before it, which may be
        # the one that is read.
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return model.eval()


def load_file(name: str, path: Path, *, seed: int = 0, n_classes: int | None = None) -> Loaded:
    """Return a network with the weights that a file holds for it, in whatever form.

    Weights that the file lacks keep their initial values (by ``seed``); whether that matters is
    for the caller to say, see ``gaps.check_missing``.

    Raises
    ------
    ModelError
        If the name is unknown, or the file holds no weights of this network.
    """
    tables = read_weights(path)
    if ":" in name or n_classes is not None:
        model = _construct(name, seed, n_classes)
        fit = fit_weights(model.state_dict(), tables, path=path, name=name)
    else:
        own, head = find_head(lambda n: _construct(name, seed, n))
        fit = fit_weights(own, tables, path=path, name=name, head=head)
        model = _construct(name, seed, count_classes(fit, head))
    model.load_state_dict(fit.state, strict=False)
    logger.info("%s: %s", path, fit.note)
    return Loaded(model, fit.missing, fit.note)


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _construct(name: str, seed: int, n_classes: int | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if ":" in name:
            return _own_network(name)
        _check_name(name)
        options = {} if n_classes is None else {"num_classes": n_classes}
        # Three old networks warn unless told how to initialise themselves.
        if name in ("googlenet", "inception_v3"):
            options |= {"init_weights": True}
        model: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return model


def _check_name(name: str) -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=5)) or "resnet18, vgg16, …"
        msg = (
            f"model.name: torchvision has no classifier {name!r}; did you mean {near}? "
            "A network of your own is 'package.module:function'"
        )
        raise ModelError(msg)


def _own_network(name: str) -> nn.Module:
    module_name, _, function = name.partition(":")
    try:
        construct = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as error:
        msg = f"model.name: cannot import {name!r} ({error}); expected 'package.module:function'"
        raise ModelError(msg) from error
    try:
        model = construct()
    except Exception as error:  # whatever the network's own code raises
        msg = f"model.name: {name}() failed ({error}); it must work without arguments"
        raise ModelError(msg) from error
    if not isinstance(model, nn.Module):
        msg = f"model.name: {name} returned {type(model).__name__}, expected a torch.nn.Module"
        raise ModelError(msg)
    return model


def _fetch(name: str, weights: str) -> nn.Module:
    known: list[str] = []
    if ":" not in name:
        _check_name(name)
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
    model = _construct(name, 0, len(chosen.meta["categories"]))
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
