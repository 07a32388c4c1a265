"""Read what named layers of a network put out.

A layer is a module by its name in ``named_modules()``, as far as it goes. Where a module runs more
than once in a pass, ``relu#1`` is the first of its calls; without a number it is the last. Of what
is no tensor, ``block[0]`` and ``out["aux"]`` name a part.
"""

import copy
import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import Tensor, nn

from dissect_embed.errors import ModelError

_PART = r"\[(?:\d+|\"[^\"\[\]]+\"|'[^'\[\]]+')\]"
_LAYER = re.compile(rf"(?P<module>[^#\[\]]+)(?:#(?P<call>[1-9]\d*))?(?P<parts>(?:{_PART})*)")


class Layer(NamedTuple):
    """What the name of a layer says."""

    module: str
    call: int | None  # which of the module's calls in a pass, from 1; None: the last
    parts: tuple[int | str, ...]  # which part of its output


def parse_layer(text: str) -> Layer:
    """Read the name of a layer.

    Raises
    ------
    ModelError
        If it is malformed.

    Examples
    --------
    >>> parse_layer("layer1.0.relu#2")
    Layer(module='layer1.0.relu', call=2, parts=())
    >>> parse_layer('body["out"][0]').parts
    ('out', 0)
    """
    match = _LAYER.fullmatch(text)
    if match is None:
        msg = (
            f"model.layers: cannot read {text!r}; expected the name of a module, with '#2' for the "
            "second of its calls, and '[0]' or '[\"key\"]' for a part of its output"
        )
        raise ModelError(msg)
    parts = [part[1:-1] for part in re.findall(_PART, match["parts"])]
    return Layer(
        match["module"],
        int(match["call"]) if match["call"] else None,
        tuple(int(part) if part.isdigit() else part[1:-1] for part in parts),
    )


def find_layer(model: nn.Module, text: str) -> Layer:
    """Read the name of a layer of a network: a module's own first, whatever signs are in it."""
    if any(name == text for name, _ in model.named_modules(remove_duplicate=False)):
        return Layer(text, None, ())
    return parse_layer(text)


def find_layers(model: nn.Module, names: Sequence[str]) -> list[str]:
    """Return the layers that names and patterns mean, in the network's order within a pattern.

    ``*`` stands for any part of a name without a dot: ``blocks.*`` are the blocks, not what is in
    them.

    Raises
    ------
    ModelError
        If there is no such module, naming those that come near, or if a layer is named twice.

    Examples
    --------
    >>> net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU()))
    >>> find_layers(net, ["*.0", "1"])
    ['0.0', '1.0', '1']
    """
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    found: list[str] = []
    for text in names:
        if "*" not in text:
            _check_module(model, known, text)
            found.append(text)
            continue
        matching = [name for name in known if matches(text, name)]
        if not matching:
            top = ", ".join(name for name in known if "." not in name)
            msg = (
                f"model.layers: no module of {type(model).__name__} matches {text!r} ('*' stands "
                f"for no dot); there are {top}, and what is in them: 'dissect-embed layers' lists "
                "all"
            )
            raise ModelError(msg)
        found += [name for name in matching if name not in found]
    doubled = [layer for n, layer in enumerate(found) if layer in found[:n]]
    if doubled or not found:
        what = f"{doubled[0]!r} is named twice" if doubled else "no layer is named"
        msg = f"model.layers: {what}; name each layer once"
        raise ModelError(msg)
    return found


def matches(pattern: str, name: str) -> bool:
    """Say whether a name is what a pattern says, in which ``*`` stands for no dot.

    Examples
    --------
    >>> matches("blocks.*", "blocks.11"), matches("blocks.*", "blocks.11.attn")
    (True, False)
    """
    return re.fullmatch("[^.]*".join(map(re.escape, pattern.split("*"))), name) is not None


def _check_module(model: nn.Module, known: Sequence[str], text: str) -> None:
    name = text if text in known or not text else parse_layer(text).module
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    top = [name for name in known if "." not in name]
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(top)}"
    msg = f"model.layers: {type(model).__name__} has no layer {text!r}; {hint}"
    raise ModelError(msg)


def _copy(layer: str, output: Any) -> Any:
    # The next layer may add to the output in place, as residual blocks do.
    return output.clone() if isinstance(output, Tensor) else output


@contextmanager
def probe(
    model: nn.Module, layers: Sequence[str], keep: Callable[[str, Any], Any] = _copy
) -> Iterator[dict[str, Any]]:
    """Collect the outputs of layers: after each forward pass the yielded dict holds them.

    Parameters
    ----------
    keep
        Takes a layer's name and output, and returns what is to be kept of it: no view of it, for
        the next layer may write to it.

    Raises
    ------
    ModelError
        If there is no such module; in a pass, if its output has no such part.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    >>> with probe(net, ["1"]) as outputs:
    ...     _ = net(torch.zeros(2, 3, 8, 8))
    ...     tuple(outputs["1"].shape)
    (2, 5, 6, 6)
    """
    find_layers(model, layers)
    outputs: dict[str, Any] = {}
    calls: dict[str, int] = {}

    def begin(module: nn.Module, inputs: Any) -> None:
        calls.clear()

    def store(text: str, layer: Layer) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            calls[text] = calls.get(text, 0) + 1
            if layer.call in (None, calls[text]):
                outputs[text] = keep(text, take_part(output, layer.parts, text))

        return hook

    handles = [model.register_forward_pre_hook(begin)]
    for text in layers:
        layer = find_layer(model, text)
        module = model.get_submodule(layer.module)
        handles.append(module.register_forward_hook(store(text, layer)))
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def change(
    model: nn.Module, layer: str, to: Callable[[Tensor], Tensor], n_calls: int = 1
) -> Iterator[None]:
    """Let a network go on with something else than what a layer put out.

    Parameters
    ----------
    to
        Takes the layer's output, or the part of it that the layer names, and returns what takes
        its place: another tensor, for others may read what it is given.
    n_calls
        How often the module runs in a pass (``count_calls``): the last is meant, as in ``probe``,
        unless the layer names one.

    Examples
    --------
    >>> import torch
    >>> net = nn.Sequential(nn.Identity(), nn.Flatten())
    >>> with change(net, "0", lambda output: output + 1):
    ...     net(torch.zeros(1, 2))
    tensor([[1., 1.]])
    """
    named = find_layer(model, layer)
    calls: list[int] = []

    def begin(module: nn.Module, inputs: Any) -> None:
        calls.clear()

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        calls.append(1)
        if len(calls) != (named.call or n_calls):
            return None
        return _with_part(output, named.parts, to(take_part(output, named.parts, layer)))

    handles = [
        model.register_forward_pre_hook(begin),
        model.get_submodule(named.module).register_forward_hook(hook),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def count_calls(model: nn.Module, layer: str, run: Callable[[], Any]) -> int:
    """Return how often the module of a layer runs in a pass."""
    calls: list[nn.Module] = []
    module = model.get_submodule(parse_layer(layer).module)
    handle = module.register_forward_hook(lambda module, *_: calls.append(module))
    try:
        run()
    finally:
        handle.remove()
    return len(calls)


def _with_part(output: Any, parts: Sequence[int | str], value: Tensor) -> Any:
    """Return what a module puts out with another tensor as one of its parts."""
    if not parts:
        return value
    first: Any = parts[0]
    inner = _with_part(output[first], parts[1:], value)
    if not isinstance(output, tuple):
        changed = copy.copy(output)
        changed[first] = inner
        return changed
    items = [inner if n == first else item for n, item in enumerate(output)]
    return type(output)(*items) if hasattr(output, "_fields") else tuple(items)


def take_part(output: Any, parts: Sequence[int | str], layer: str) -> Any:
    """Return a part of what a module puts out.

    Raises
    ------
    ModelError
        If there is none of that index or key; those there are named.
    """
    for part in parts:
        try:
            output = output[part]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            msg = f"model.layers: {layer!r}: no part {part!r} there; it puts out {describe(output)}"
            raise ModelError(msg) from error
    return output


def describe(output: Any) -> str:
    """Return in words what a module puts out.

    Examples
    --------
    >>> import torch
    >>> describe({"out": torch.zeros(2, 5), "aux": None})
    'a dict of "out": (2, 5), "aux": NoneType'
    """
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        inner = ", ".join(f'"{key}": {describe(value)}' for key, value in output.items())
        return f"a {type(output).__name__} of {inner}"
    if isinstance(output, tuple | list):
        inner = ", ".join(f"[{n}]: {describe(value)}" for n, value in enumerate(output))
        return f"a {type(output).__name__} of {inner}"
    return type(output).__name__
