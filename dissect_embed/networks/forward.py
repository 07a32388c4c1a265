"""The forward pass over a data set: what layers put out, in the form in which it is stored."""

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.device import arithmetic, choose_device
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.mathematics.running import Maps
from dissect_embed.networks.hooks import layer_shapes, probe
from dissect_embed.networks.inputs import normalise
from dissect_embed.networks.speedups import activate_in_place, fold_batch_norm, pack_convolutions
from dissect_embed.parallel import available_cores, map_in_threads

DTYPES = {"float16": torch.float16, "float32": torch.float32}
# Forward passes at once: each takes the memory of a batch.
MAX_PASSES = 4
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


Result = TypeVar("Result")


class Network(NamedTuple):
    """A network made ready to be probed."""

    model: nn.Module
    shapes: Mapping[str, tuple[int, int, int]]  # (units, h, w) of each layer to probe
    batch_size: int
    device: str
    precision: str  # that the network computes in, one of PRECISIONS


class Float16OverflowError(Exception):
    """A layer's values do not fit float16."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


def prepare_network(
    model: nn.Module,
    layers: Sequence[str],
    image_size: tuple[int, int],
    *,
    batch_size: int,
    precision: str = "float32",
    device: str | None = None,
) -> Network:
    """Return a copy of a network that runs as fast as it can: folded, channels last.

    Parameters
    ----------
    image_size
        Height and width in pixels.
    precision
        ``float32``; ``bfloat16``: about twice as fast where the processor has it, 3 digits; or
        ``tf32``: convolutions on CUDA devices round what they multiply to 4 digits.

    Raises
    ------
    ModelError
        If a layer cannot be read, the batch size is below 1, or the device has no TF32.
    """
    if batch_size < 1:
        msg = f"activations.batch_size: {batch_size}, expected at least 1"
        raise ModelError(msg)
    device = choose_device(device)
    if precision == "tf32" and device == "cpu":
        msg = "activations.precision: only CUDA devices have tf32; choose float32 or bfloat16"
        raise ModelError(msg)
    model = copy.deepcopy(model).eval()
    fold_batch_norm(model, layers)
    activate_in_place(model)
    shapes = layer_shapes(model, layers, image_size)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.to(PRECISIONS[precision])
    if device == "cpu":
        pack_convolutions(model)
    return Network(model, shapes, batch_size, device, precision)


def forward_maps(
    network: Network,
    dataset: Broden,
    numbers: Sequence[int],
    dtypes: Mapping[str, str],
    then: Callable[[int, dict[str, Maps]], Result],
    *,
    n_threads: int | None = None,
) -> Iterator[Result]:
    """Run a network over some images of a data set, batch by batch.

    Batches run side by side, each on a core or a few, and all that is done with one is done in one
    thread: so no core waits for another, as it would within the operations of a single pass.

    Parameters
    ----------
    numbers
        The indices of the images among the rows of the data set.
    dtypes
        The type in which each layer is wanted.
    then
        What to do with a batch, in the thread that computed it: called with the index in
        ``numbers`` of its first image, and each layer's maps.

    Yields
    ------
    What ``then`` returns, in the order of the batches.

    Raises
    ------
    ArtefactError
        If an activation is NaN or infinite; layer, unit and image are named.
    DatasetError
        If an image is damaged.
    Float16OverflowError
        If a layer that is wanted in float16 does not fit it.
    """
    current = threading.local()

    def keep(layer: str, output: Tensor) -> None:
        kept = _to_stored(output, layer, DTYPES[dtypes[layer]], current.names)
        current.maps[layer] = kept

    def run(start: int) -> Result:
        rows = [dataset.rows[n] for n in numbers[start : start + network.batch_size]]
        current.names, current.maps = [row.image for row in rows], {}
        images = torch.from_numpy(np.stack([read_image(dataset, row) for row in rows]))
        with torch.inference_mode():
            network.model(normalise(images.to(network.device)).to(PRECISIONS[network.precision]))
            # In the file's order of axes.
            maps = {name: Maps(m.contiguous(), peak) for name, (m, peak) in current.maps.items()}
        return then(start, maps)

    cores = n_threads or available_cores()
    workers = min(cores, MAX_PASSES)
    starts = range(0, len(numbers), network.batch_size)
    with probe(network.model, list(dtypes), keep), arithmetic(network.precision):
        yield from map_in_threads(
            run, starts, n_threads=workers, torch_threads=max(1, cores // workers)
        )


def forward_picture(
    network: Network, pixels: UInt8[np.ndarray, "y x 3"]
) -> Float[Tensor, "1 unit h w"]:
    """Return what the only layer that a network was prepared for puts out on a picture."""
    (layer,) = network.shapes
    # A copy: decoded pixels are read-only, which torch warns of.
    image = torch.from_numpy(pixels[None].copy()).to(network.device)
    with (
        torch.inference_mode(),
        probe(network.model, [layer]) as outputs,
        arithmetic(network.precision),
    ):
        network.model(normalise(image).to(PRECISIONS[network.precision]))
    maps: Tensor = outputs[layer].float().cpu()
    return maps


def _to_stored(output: Tensor, layer: str, kind: torch.dtype, names: Sequence[str]) -> Maps:
    """Return maps in the type they are stored in, and the peaks of what is stored."""
    stored = output.to(kind, copy=True)
    high, low = _extremes(stored)
    # The extremes tell of NaN and of infinities at once.
    if not bool((torch.isfinite(high) & torch.isfinite(low)).all()):
        bad = ~torch.isfinite(output).flatten(2).all(dim=2)
        if not bad.any():
            raise Float16OverflowError(layer)
        image, unit = (int(i) for i in bad.nonzero()[0])
        msg = (
            f"{layer}: unit {unit} is NaN or infinite on {names[image]}; "
            "check the weights (model.weights) and this image"
        )
        raise ArtefactError(msg)
    return Maps(stored, high)


def _extremes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest and the smallest value of each map, in float32; NaN where one is."""
    if maps.dtype == torch.float16:
        # Without a sign bit float16 is ordered as its bits are, infinity and NaN at the top, and
        # processors compare those much faster.
        bits = maps.view(torch.int16)
        high, low = bits.amax(dim=(2, 3)), bits.amin(dim=(2, 3))
        if bool((low >= 0).all()):
            return high.view(torch.float16).float(), low.view(torch.float16).float()
    return maps.amax(dim=(2, 3)).float(), maps.amin(dim=(2, 3)).float()
