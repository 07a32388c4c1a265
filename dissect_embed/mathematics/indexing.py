"""Find and look up indices of tensors, as fast as the device allows.

On the processor NumPy does these four to seven times faster than torch (measured on 131,072
elements); a tensor there shares its memory with an array, so nothing is copied.
"""

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor


def flat_nonzero(values: Shaped[Tensor, "*any"]) -> Int[Tensor, " found"]:
    """Return the indices, in the flattened tensor, that are not zero or false.

    Examples
    --------
    >>> flat_nonzero(torch.tensor([[True, False], [False, True]]))
    tensor([0, 3])
    """
    if values.device.type == "cpu":
        array = values.numpy()
        # NumPy finds true values three times as fast as numbers.
        return torch.from_numpy(np.flatnonzero(array if array.dtype == bool else array != 0))
    return values.flatten().nonzero().squeeze(1)


def flat_greater(a: Shaped[Tensor, "*any"], b: Shaped[Tensor, "*other"]) -> Int[Tensor, " found"]:
    """Return the indices, in the flattened result, where one tensor exceeds another.

    Examples
    --------
    >>> flat_greater(torch.tensor([[1, 5], [7, 2]]), torch.tensor([[4], [5]]))
    tensor([1, 2])
    """
    if a.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(a.numpy() > b.numpy()))
    return flat_nonzero(a > b)


def take(
    values: Shaped[Tensor, "*any n"], index: Int[Tensor, " found"]
) -> Shaped[Tensor, "*any found"]:
    """Return the values at some indices of the last axis.

    Examples
    --------
    >>> take(torch.tensor([5, 6, 7]), torch.tensor([2, 2, 0]))
    tensor([7, 7, 5])
    """
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().take(index.numpy(), axis=-1))
    return values[..., index]


def split_index(
    index: Int[Tensor, " found"], size: int
) -> tuple[Int[Tensor, " found"], Int[Tensor, " found"]]:
    """Return quotient and remainder of indices that are not negative.

    Examples
    --------
    >>> split_index(torch.tensor([5, 13]), 5)
    (tensor([1, 2]), tensor([0, 3]))
    """
    if index.device.type == "cpu":
        quotient = torch.from_numpy(index.numpy() // size)
    else:
        quotient = index // size
    return quotient, index - quotient * size


def repeated(times: Int[Tensor, " n"]) -> Int[Tensor, " total"]:
    """Return each number from 0 to n - 1 as often as is said, in order.

    Examples
    --------
    >>> repeated(torch.tensor([2, 0, 1]))
    tensor([0, 0, 2])
    """
    end = times.cumsum(0)
    total = int(end[-1]) if len(end) else 0
    # How many begin at each index, added up: three times as fast as torch's or NumPy's own repeat.
    return torch.bincount(end[:-1], minlength=total + 1)[:total].cumsum(0)
