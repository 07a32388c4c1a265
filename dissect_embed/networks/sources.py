"""Where networks come from: torchvision, timm, or a function of one's own."""

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from dissect_embed.errors import ModelError

# Networks whose torchvision weights want an input that the network itself changes once more. (Also
# the two that warn unless told how to initialise themselves.)
TRANSFORMS_INPUT = ("googlenet", "inception_v3")


def construct(
    name: str,
    arguments: Mapping[str, Any] = {},
    *,
    seed: int = 0,
    n_classes: int | None = None,
) -> nn.Module:
    """Return a network by its name, initialised by a seed.

    Parameters
    ----------
    name
        A torchvision classifier, ``timm:NAME``, or ``package.module:function``.
    arguments
        Passed by name to the function that makes it.
    n_classes
        Width of the classifier of a torchvision or timm network; by default its own.

    Raises
    ------
    ModelError
        If it is unknown, cannot be imported or made, or is no ``torch.nn.Module``.
    """
    options: dict[str, Any] = dict(arguments)
    if n_classes is not None and has_classes(name):
        options.setdefault("num_classes", n_classes)
    make: Callable[..., Any]
    if name.startswith("timm:"):
        make = _of_timm(name.removeprefix("timm:"))
        options["pretrained"] = False
    elif ":" in name:
        make = import_function(name, "model.name")
    else:
        check_name(name)
        make = torchvision.models.get_model_builder(name)
        if name in TRANSFORMS_INPUT:
            options.setdefault("init_weights", True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = make(**options)
        except ModelError:
            raise
        except (Exception, SystemExit) as error:  # whatever the network's own code raises
            given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            msg = (
                f"model.name: {name}({given}) failed ({type(error).__name__}: {error}); what it is "
                "called with stands in model.arguments"
            )
            raise ModelError(msg) from error
    if not isinstance(model, nn.Module):
        msg = f"model.name: {name} returned {type(model).__name__}, expected a torch.nn.Module"
        raise ModelError(msg)
    return model


def has_classes(name: str) -> bool:
    """Say whether a network of a name can be made for any number of classes."""
    return ":" not in name or name.startswith("timm:")


def import_function(name: str, setting: str) -> Callable[..., Any]:
    """Return what ``package.module:function`` means, of an installed package or a working folder.

    Raises
    ------
    ModelError
        If it cannot be imported, or is nothing that can be called; ``setting`` is named.
    """
    module, _, function = name.partition(":")
    # After all others, so that no file there stands in front of an installed package.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # whatever the module's own code raises
        what = str(error) if isinstance(error, ImportError | AttributeError) else repr(error)
        msg = (
            f"{setting}: cannot import {name!r} ({what}); expected 'package.module:function', of a "
            f"package that is installed, in a folder of PYTHONPATH or in {Path.cwd()}"
        )
        raise ModelError(msg) from error
    if not callable(found):
        msg = f"{setting}: {name} is {type(found).__name__}, expected a function"
        raise ModelError(msg)
    return found  # type: ignore[no-any-return]


def check_name(name: str) -> None:
    """Check that torchvision has a classifier of a name.

    Raises
    ------
    ModelError
        If not; those that come near are named.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, n=5)) or "resnet18, vgg16, …"
        msg = (
            f"model.name: torchvision has no classifier {name!r}; did you mean {near}? One of timm "
            "is 'timm:NAME', a network of your own 'package.module:function'"
        )
        raise ModelError(msg)


def import_timm() -> Any:
    """Return the package timm.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        msg = (
            f"model.name: networks 'timm:NAME' need the package timm ({error}); install it with "
            "pip install 'dissect-embed[networks]'"
        )
        raise ModelError(msg) from error


def _of_timm(name: str) -> Callable[..., Any]:
    timm = import_timm()
    if not timm.is_model(name):
        known = timm.list_models()
        near = ", ".join(difflib.get_close_matches(name.partition(".")[0], known, n=5))
        hint = f"did you mean {near}?" if near else "timm.list_models() lists them"
        msg = f"model.name: timm has no network {name!r}; {hint}"
        raise ModelError(msg)

    def make(**options: Any) -> Any:
        return timm.create_model(name, **options)

    return make
