"""Read the tensors of a file of weights, whatever else it holds, and run none of its code.

A pickle names functions and classes, and what it says about them is run. Here it may name what
puts a tensor together; every other name stands for an inert object that takes whatever is done
to it. (torch's own reader for weights alone gives up at the first such name, at subclasses of
dictionaries and at pickles of protocol 3 and above.)
"""

import pickle
import re
import types
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dissect_embed.errors import ModelError, first_of

# How torch.save began before it wrote zip archives: a number, in a pickle of its own.
LEGACY = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# Tables of tensors are looked for in so many dictionaries, one within the other.
DEPTH = 3
AGAIN = "fetch or copy it again"
SAVE = "save what network.state_dict() returns, with torch.save"

# What else comes under such names: how it begins, what it is, and what to do.
STRANGERS = [
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file", "run 'git lfs pull'"),
    (rb"(\xef\xbb\xbf)?\s*<", "a web page, as failed downloads leave behind", AGAIN),
    (rb'\s*\{[^\0]*"weight_map"', "the index of weights in several files", "join these in one"),
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes", SAVE),
    (rb"\x93NUMPY", "an array of NumPy", SAVE),
    (rb"(?s).{4}TFL3", "a network for TensorFlow Lite", SAVE),
    (rb"(?s)\x08\x01\x12|\n.{1,2}\n[\x01-\x7f]", "a graph of TensorFlow", SAVE),
    (rb"\x08[\x02-\x1f][\x12\x1a\x22\x3a]", "a network in ONNX", SAVE),
    (rb"GGUF", "weights in GGUF", SAVE),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|\x28\xb5\x2f\xfd|Rar!", "an archive", "unpack it"),
    (
        rb"(?s).{257}ustar",
        "a tar archive",
        "unpack it; what torch 0.1 wrote, save again with a newer",
    ),
    (rb"\x80[\x01-\x05]", "a pickle that torch.save did not write", SAVE),
]
TENSORFLOW = re.compile(r"[.](data-\d+-of-\d+|index|meta|pb)$")


def read_weights(path: Path | str) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of a file, on the processor, without running any code that it carries.

    Parameters
    ----------
    path
        What ``torch.save`` wrote, ever, or a safetensors file; told apart by what they hold.

    Returns
    -------
    Each dictionary that holds tensors by name, by the keys that lead to it, joined by dots: ``""``
    for the outermost, ``state_dict``, ``model``, ….

    Raises
    ------
    ModelError
        If the file is missing, damaged, of another kind, or holds no tensors by name.

    Examples
    --------
    To take one of several networks out of a file::

        torch.save(read_weights("dino.pth")["teacher"], "teacher.pth")
    """
    path = Path(path)
    kind = _tell_kind(path)
    try:
        content = _read_safetensors(path) if kind == "safetensors" else _unpickle(path)
    except ImportError as error:
        msg = f"{path}: reading safetensors needs 'pip install safetensors'"
        raise ModelError(msg) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path}: damaged or cut short ({reason}); {AGAIN}"
        raise ModelError(msg) from error
    tables = dict(_find_tables(content))
    # A single number or a generator's state beside a whole network is not its weights.
    if all(value.ndim < 2 for table in tables.values() for value in table.values()):
        _refuse_network(path, content)
    if not tables:
        msg = f"{path}: {_describe(content)}"
        raise ModelError(msg)
    return tables


class _Inert(dict[Any, Any]):
    """Stands for an object of a class that is not known here, whose code is not run.

    It keeps items, for many are dictionaries with manners, and the state that it is given.
    """

    state: Any = None
    # What torch's reader of old files asks of the class of a network.
    dump_patches = False

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, _: Any) -> None:
        """Take an item of a list."""

    def add(self, _: Any) -> None:
        """Take an item of a set."""

    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Any:
    return torch._utils._rebuild_tensor(storage, offset, size, stride)


def _first(first: Any, *_: Any) -> Any:
    return first


def _inner(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    return function(*arguments)


# All that a pickle can call, beside classes derived from _Inert. None of them gets further than a
# tensor; gradients, hooks and attributes of tensors are left behind.
CALLABLE = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._tensor._rebuild_from_type_v2": _inner,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        return CALLABLE.get(full) or type(name, (_Inert,), {"__module__": module})


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def _unpickle(path: Path) -> Any:
    # In place of Python's module, which torch would take to read pickles.
    inert = types.SimpleNamespace(__name__=__name__, Unpickler=_Unpickler, load=_load)
    with path.open("rb") as file, warnings.catch_warnings():
        # Of the source code of a whole network, which is not looked at.
        warnings.simplefilter("ignore")
        # Texts of Python 2 may be in any code; latin1 reads all.
        return torch.load(
            file, map_location="cpu", pickle_module=inert, weights_only=False, encoding="latin1"
        )


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _tell_kind(path: Path) -> str:
    """Return how weights are stored; say of everything else what it is."""
    if path.is_dir():
        msg = f"{path}: a folder; name a file in it"
        raise ModelError(msg)
    if not path.is_file():
        msg = (
            f"{path}: no such file in {path.absolute().parent}; model.weights is the path of a "
            "file, 'random', or a name of the network's own weights"
        )
        raise ModelError(msg)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); see who may"
        raise ModelError(msg) from error
    if LEGACY in head[:64]:
        return "torch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        what, remedy = _tell_archive(path)
        if not what:
            return "torch"
    else:
        what, remedy = _tell_stranger(path, head)
    msg = f"{path}: {what}; {remedy}"
    raise ModelError(msg)


def _tell_archive(path: Path) -> tuple[str, str]:
    """Return what a zip archive is and what to do; nothing if torch.save wrote it."""
    try:
        # By the reader that torch.load has, which hands programs on to another.
        records = torch._C.PyTorchFileReader(str(path)).get_all_records()
    except RuntimeError:
        records = []
    if "constants.pkl" in records:
        return (
            "a TorchScript archive, which would have to run code",
            "save torch.jit.load(path).state_dict() with torch.save",
        )
    if "data.pkl" in records:
        return "", ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "cut short: the end of the archive is missing", AGAIN
    if all(name.endswith(".npy") for name in names):
        return "arrays of NumPy (.npz)", SAVE
    if "model.weights.h5" in names:
        return "a network of Keras", SAVE
    return "an archive that torch.save did not write", "unpack it and name the file of weights"


def _tell_stranger(path: Path, head: bytes) -> tuple[str, str]:
    if not head:
        return "empty", AGAIN
    for pattern, what, remedy in STRANGERS:
        if re.match(pattern, head):
            return what, remedy
    if TENSORFLOW.search(path.name):
        return "part of a checkpoint of TensorFlow", SAVE
    if head[:64].isascii() and head[:64].decode().replace("\n", " ").isprintable():
        return f"a text that begins with {head[:40].decode()!r}", AGAIN
    return f"no file of weights: it begins with {head[:8]!r}", SAVE


def _find_tables(
    content: Any, place: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield the dictionaries that hold tensors by name, each with the place where it is."""
    if isinstance(content, list | tuple):
        content = {str(n): v for n, v in enumerate(content) if not isinstance(v, Tensor)}
    if not isinstance(content, dict):
        return
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, Tensor)}
    if tensors:
        yield ".".join(place), tensors
    if len(place) < DEPTH:
        for key, value in named.items():
            yield from _find_tables(value, (*place, key))


def _refuse_network(path: Path, content: Any) -> None:
    items = content if isinstance(content, dict) else {}
    for key, value in [("", content), *items.items()]:
        state = value.state if isinstance(value, _Inert) else None
        if isinstance(state, dict) and "_modules" in state:
            where = f" under {key!r}" if key else ""
            msg = (
                f"{path}: holds a whole pickled network of class {_class_name(value)}{where}, "
                "which would have to run code; where its class is known, save network.state_dict() "
                "instead"
            )
            raise ModelError(msg)


def _describe(content: Any) -> str:
    """Say what a file holds in place of tensors by name."""
    items = content if isinstance(content, dict) else {}
    found = [f"{key!r} ({_class_name(value)})" for key, value in items.items()]
    what = first_of(found) or _class_name(content)
    return f"holds no tensors by name, found {what}; {SAVE}"


def _class_name(value: object) -> str:
    kind = type(value)
    if kind is dict and isinstance(value, dict) and value:
        return f"dict of {_class_name(next(iter(value.values())))}"
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
