"""Joint text-image models, images and words in one space: of open_clip, or one's own function.

A function ``package.module:function`` is called with ``words.arguments`` and returns two functions.
The first takes images ``(image, y, x, 3)``, uint8, red, green, blue, as they are in the data set,
and returns a vector each, ``(image, dim)``; the second takes a list of words and returns ``(word,
dim)``: arrays or tensors. Where they compute, and how they resize, is theirs to know.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from dissect_embed.errors import ModelError
from dissect_embed.networks.sources import import_function

OPEN_CLIP = "open_clip:"


class Joint(NamedTuple):
    """What brings images and words into one space."""

    images: Callable[[np.ndarray], Any]
    words: Callable[[list[str]], Any]


def load_joint(name: str, arguments: Mapping[str, Any] = {}, *, device: str = "cpu") -> Joint:
    """Return a joint text-image model by its name.

    Parameters
    ----------
    name
        ``open_clip:ARCH/TAG``, or ``package.module:function``.
    arguments
        Passed by name to the function that makes it.
    device
        Where a model of open_clip runs.

    Raises
    ------
    ModelError
        If it cannot be imported or made, or is no two functions.
    """
    make: Callable[..., Any]
    if name.startswith(OPEN_CLIP):
        make = _of_open_clip(name.removeprefix(OPEN_CLIP), device)
    elif ":" in name:
        make = import_function(name, "words.model")
    else:
        msg = (
            f"words.model: {name!r}, expected 'open_clip:ARCH/TAG', or 'package.module:function' "
            "that returns two functions, of images and of words"
        )
        raise ModelError(msg)
    try:
        found = make(**arguments)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:  # whatever its own code raises
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        msg = (
            f"words.model: {name}({given}) failed ({type(error).__name__}: {error}); what it is "
            "called with stands in words.arguments"
        )
        raise ModelError(msg) from error
    if not isinstance(found, tuple) or len(found) != 2 or not all(map(callable, found)):
        msg = (
            f"words.model: {name} returned {type(found).__name__}, expected a tuple of two "
            "functions, of images and of words"
        )
        raise ModelError(msg)
    return Joint(*found)


def embed(function: Callable[[Any], Any], given: Any, what: str) -> Float[np.ndarray, "item dim"]:
    """Return what one of the two functions makes of images or words, each row of length 1.

    Parameters
    ----------
    given
        Images or words.
    what
        Which they are, named in errors.

    Raises
    ------
    ModelError
        If it fails, or returns no vector for each, or one that is not finite or all 0.
    """
    try:
        found = function(given)
        found = found.detach().cpu().double() if isinstance(found, torch.Tensor) else found
        vectors = np.asarray(found, dtype=np.float64)
    except Exception as error:  # whatever its own code raises
        msg = (
            f"words.model: its function of {what} failed ({type(error).__name__}: {error}); it "
            f"was given {len(given)} of them"
        )
        raise ModelError(msg) from error
    if vectors.ndim != 2 or len(vectors) != len(given) or not vectors.shape[1]:
        msg = (
            f"words.model: its function of {what} returned an array of shape {vectors.shape} for "
            f"{len(given)} of them, expected ({len(given)}, dimensions)"
        )
        raise ModelError(msg)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = np.flatnonzero(~np.isfinite(length) | (length == 0))
    if len(wrong):
        msg = (
            f"words.model: its function of {what} returned a vector that is all 0 or not finite "
            f"(number {wrong[0]} of {len(given)}), which is like nothing; correct it"
        )
        raise ModelError(msg)
    return np.asarray(vectors / length)


def _import_open_clip() -> Any:
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        msg = (
            f"words.model: models 'open_clip:ARCH/TAG' need the package open_clip_torch ({error}); "
            "install it with pip install 'dissect-embed[clip]'"
        )
        raise ModelError(msg) from error


def _of_open_clip(name: str, device: str) -> Callable[..., Any]:
    """Return what makes a model of open_clip, with weights by their tag, or ``random`` ones."""
    open_clip = _import_open_clip()
    architecture, _, tag = name.partition("/")
    known = open_clip.list_models()
    if architecture not in known:
        near = ", ".join(difflib.get_close_matches(architecture, known, n=5)) or "ViT-B-32, …"
        msg = f"words.model: open_clip has no {architecture!r}; did you mean {near}?"
        raise ModelError(msg)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in (*tags, "random"):
        msg = (
            f"words.model: 'open_clip:ARCH/TAG', and for {architecture} no weights are called "
            f"{tag!r}; choose one of {', '.join((*tags, 'random'))}, or for a file of weights "
            "write a function of your own"
        )
        raise ModelError(msg)

    def make(**arguments: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, _, prepare = open_clip.create_model_and_transforms(
                architecture, pretrained=None if tag == "random" else tag, device=device,
                **arguments,
            )  # fmt: skip
        model.eval()
        tokenise = open_clip.get_tokenizer(architecture)

        def embed_images(images: np.ndarray) -> Any:
            batch = torch.stack([prepare(Image.fromarray(image)) for image in images])
            with torch.inference_mode():
                return model.encode_image(batch.to(device))

        def embed_words(words: list[str]) -> Any:
            with torch.inference_mode():
                return model.encode_text(tokenise(words).to(device))

        return embed_images, embed_words

    return make
