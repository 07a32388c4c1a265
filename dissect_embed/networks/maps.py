"""From a layer's output to maps of units, and back."""

from typing import NamedTuple

from torch import Tensor


class Reading(NamedTuple):
    """How a layer's output is read as maps of units."""

    axes: str  # one of settings.AXES
    prefix: int  # class and register tokens before those of the image
    units: int
    grid: tuple[int, int]  # height and width


def to_maps(output: Tensor, reading: Reading) -> Tensor:
    """Return a layer's output as (image, unit, y, x): a view of it.

    Examples
    --------
    >>> import torch
    >>> tokens = torch.arange(10.0).view(1, 5, 2)  # a class token, then four of the image
    >>> to_maps(tokens, Reading("image token unit", 1, 2, (2, 2)))[0, 0]
    tensor([[2., 4.],
            [6., 8.]])
    """
    maps = output
    if reading.axes == "image y x unit":
        maps = output.permute(0, 3, 1, 2)
    elif reading.axes == "image unit":
        maps = output[:, :, None, None]
    elif reading.axes == "image token unit":
        maps = output[:, reading.prefix :].transpose(1, 2).unflatten(2, reading.grid)
    elif reading.axes == "token image unit":
        maps = output[reading.prefix :].permute(1, 2, 0).unflatten(2, reading.grid)
    elif reading.axes == "image unit token":
        maps = output[:, :, reading.prefix :].unflatten(2, reading.grid)
    return maps


def from_maps(maps: Tensor, reading: Reading) -> Tensor:
    """Return the output of a layer from its maps, where it has nothing else: no class token.

    Examples
    --------
    >>> import torch
    >>> from_maps(torch.arange(8.0).view(1, 2, 2, 2), Reading("image token unit", 0, 2, (2, 2)))
    tensor([[[0., 4.],
             [1., 5.],
             [2., 6.],
             [3., 7.]]])
    """
    output = maps
    if reading.axes == "image y x unit":
        output = maps.permute(0, 2, 3, 1)
    elif reading.axes == "image unit":
        output = maps[:, :, 0, 0]
    elif reading.axes == "image token unit":
        output = maps.flatten(2).transpose(1, 2)
    elif reading.axes == "token image unit":
        output = maps.flatten(2).permute(2, 0, 1)
    elif reading.axes == "image unit token":
        output = maps.flatten(2)
    return output


def fits(output: Tensor, reading: Reading) -> bool:
    """Say whether an output has the shape that a reading is of, whatever the number of images.

    Examples
    --------
    >>> import torch
    >>> fits(torch.zeros(1, 5, 2), Reading("image token unit", 1, 2, (2, 2)))
    True
    >>> fits(torch.zeros(1, 6, 2), Reading("image token unit", 1, 2, (2, 2)))
    False
    """
    names = reading.axes.split()
    if len(names) != output.ndim:
        return False
    h, w = reading.grid
    expected = {"unit": reading.units, "y": h, "x": w, "token": reading.prefix + h * w}
    return all(expected.get(k, n) == n for k, n in zip(names, output.shape, strict=True))
