"""Which device computes, and in what arithmetic."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from dissect_embed.errors import DeviceError
from dissect_embed.parallel import available_cores

# What cuBLAS needs to give the same bits every time; torch looks once, at the first product.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Threads that feed a CUDA device. More wait for one another, since Python asks for one operation at
# a time (benchmarks/README.md).
FEEDERS = 4


def choose_device(name: str | None = None, *, for_network: bool = False) -> str:
    """Return the device that a name means: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Parameters
    ----------
    name
        ``auto`` or None: the CUDA device if there is one, else the processor.
    for_network
        Whether only a network runs there: ``mps`` has no float64, in which all else adds up.

    Raises
    ------
    DeviceError
        If the name is unknown, or there is no such device.

    Examples
    --------
    >>> choose_device("cpu")
    'cpu'
    """
    if name in (None, "auto"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    assert name is not None
    if name == "mps":
        if not torch.backends.mps.is_available():
            msg = "--device mps: torch finds no such device here; choose auto or cpu"
            raise DeviceError(msg)
        if not for_network:
            msg = "--device mps: only a network runs on it, in 'activations'; choose cpu for this"
            raise DeviceError(msg)
        return name
    kind, _, index = name.partition(":")
    if name != "cpu" and (kind != "cuda" or (":" in name and not index.isdecimal())):
        msg = f"--device: unknown {name!r}; choose one of auto, cpu, cuda, cuda:1, …, mps"
        raise DeviceError(msg)
    if kind == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not n_devices:
            msg = f"--device {name}: torch finds no CUDA device here; choose auto or cpu"
            raise DeviceError(msg)
        if int(index or 0) >= n_devices:
            there = "only cuda:0" if n_devices == 1 else f"cuda:0 to cuda:{n_devices - 1}"
            msg = f"--device {name}: there is {there}; choose one of these, auto or cpu"
            raise DeviceError(msg)
    return name


def count_threads(device: str, n_threads: int | None) -> int:
    """Return how many threads work side by side: as many as are asked for, else what serves."""
    cores = n_threads or available_cores()
    return cores if device == "cpu" else min(cores, FEEDERS)


def send(images: Tensor, device: str) -> Tensor:
    """Return a tensor of the processor's memory on a device.

    For CUDA by way of pinned memory, so that the copy goes on beside the work of other threads.
    """
    if device.startswith("cuda"):
        return images.pin_memory().to(device, non_blocking=True)
    return images.to(device)


def current_device(device: torch.device) -> AbstractContextManager[Any]:
    """Make a CUDA device the current one: streams and graphs take that, wherever tensors lie."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """Compute float32 as such on CUDA, whatever was set, and set it back afterwards.

    There, cuDNN's convolutions round to TF32 (10 bits of 23) unless told otherwise, and matrix
    products do where the user allowed it. The setting holds for all threads.

    Parameters
    ----------
    precision
        ``tf32`` lets convolutions, and only these, use TF32; anything else does not. What is
        computed from their outputs, thresholds and similarities, stays in float32.
    """
    backends: Any = torch.backends
    convolution, product = backends.cudnn.conv, backends.cuda.matmul
    before = convolution.fp32_precision, product.fp32_precision
    convolution.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    product.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolution.fp32_precision, product.fp32_precision = before
