"""Find, look up and add up places of tensors, as fast as the device allows.

On the processor NumPy and SciPy do these four to seven times faster than torch (measured on 131,072
elements); a tensor there shares its memory with an array, so nothing is copied.
"""

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from scipy.sparse import csr_array
from torch import Tensor


def flat_nonzero(mask: Bool[Tensor, "*any"]) -> Int[Tensor, " found"]:
    """Return the places, in the flattened tensor, that hold.

    Examples
    --------
    >>> flat_nonzero(torch.tensor([[True, False], [False, True]]))
    tensor([0, 3])
    """
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def take(values: Shaped[Tensor, " n"], index: Int[Tensor, " found"]) -> Shaped[Tensor, " found"]:
    """Return the values at some places.

    Examples
    --------
    >>> take(torch.tensor([5, 6, 7]), torch.tensor([2, 2, 0]))
    tensor([7, 7, 5])
    """
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().take(index.numpy()))
    return values[index]


def split_index(
    index: Int[Tensor, " found"], size: int
) -> tuple[Int[Tensor, " found"], Int[Tensor, " found"]]:
    """Return quotient and remainder of places that are not negative.

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


def add_rows(
    total: Int[Tensor, "row column"],
    row: Int[Tensor, " pair"],
    source: Int[Tensor, "source column"],
    source_row: Int[Tensor, " pair"],
) -> None:
    """Add rows of one matrix to rows of another, in place, pair by pair.

    Examples
    --------
    >>> total = torch.zeros((2, 2), dtype=torch.int64)
    >>> source = torch.tensor([[1, 2], [10, 20]])
    >>> add_rows(total, torch.tensor([0, 0, 1]), source, torch.tensor([0, 1, 1]))
    >>> total
    tensor([[11, 22],
            [10, 20]])
    """
    if total.device.type == "cpu":
        # Only the rows that get anything: few of all concepts are in a batch of images.
        rows, place = np.unique(row.numpy(), return_inverse=True)
        shape = (len(rows), len(source))
        ones = np.ones(len(place), dtype=np.int64)
        adding = csr_array((ones, (place, source_row.numpy())), shape=shape)
        total.numpy()[rows] += adding @ source.numpy()
    else:
        total.index_add_(0, row, source[source_row])
