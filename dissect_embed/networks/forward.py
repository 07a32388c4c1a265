"""The forward pass over a data set: what layers put out, in the form in which it is stored."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.device import arithmetic, current_device, send
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.mathematics.running import Maps
from dissect_embed.networks.hooks import probe
from dissect_embed.networks.maps import fits, to_maps
from dissect_embed.networks.preparation import Network
from dissect_embed.networks.trees import tree_a_thread
from dissect_embed.parallel import available_cores, map_in_threads

DTYPES = {"float16": torch.float16, "float32": torch.float32}
# Forward passes at once: each takes the memory of a batch.
MAX_PASSES = 4

Result = TypeVar("Result")


class Float16Error(Exception):
    """A layer's values do not fit float16; the text says why."""

    def __init__(self, layer: str, why: str) -> None:
        super().__init__(why)
        self.layer = layer


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
    Float16Error
        If a layer that is wanted in float16 does not fit it.
    """
    here = threading.local()

    def keep(layer: str, output: Tensor) -> None:
        # Of a module's calls the last counts; others may have other shapes.
        if not fits(output, network.readings[layer]):
            here.maps.pop(layer, None)
            return
        maps = to_maps(output, network.readings[layer])
        here.maps[layer] = _to_stored(maps, layer, DTYPES[dtypes[layer]], here.names)

    def run(start: int) -> Result:
        model = tree()
        rows = [dataset.rows[n] for n in numbers[start : start + network.batch_size]]
        here.names, here.maps = [row.image for row in rows], {}
        images = torch.from_numpy(np.stack([read_image(dataset, row) for row in rows]))
        with torch.no_grad(), current_device(torch.device(network.device)):
            model(network.give(send(images, network.device)))
            for layer in dtypes:
                maps = here.maps.get(layer)
                if maps is None or len(maps.peak) != len(rows):
                    msg = (
                        f"{layer}: does not run, or puts out another shape, on an image of "
                        f"{here.names[0]} to {here.names[-1]}; only a layer that runs alike on "
                        "every image can be dissected"
                    )
                    raise ModelError(msg)
            # In the file's order of axes.
            maps = {name: Maps(m.contiguous(), peak) for name, (m, peak) in here.maps.items()}
            if network.device == "mps":  # what adds up of them needs float64, which it lacks
                maps = {name: Maps(m.cpu(), peak.cpu()) for name, (m, peak) in maps.items()}
        return then(start, maps)

    cores = n_threads or available_cores()
    workers = min(cores, MAX_PASSES) if network.can_share else 1
    starts = range(0, len(numbers), network.batch_size)
    trees = tree_a_thread(network.model, list(dtypes), keep, can_share=network.can_share)
    with trees as tree, arithmetic(network.precision):
        yield from map_in_threads(
            run, starts, n_threads=workers, torch_threads=max(1, cores // workers)
        )


def forward_picture(
    network: Network, pixels: UInt8[np.ndarray, "y x 3"]
) -> Float[Tensor, "1 unit h w"]:
    """Return what the only layer that a network was prepared for puts out on a picture."""
    (layer,) = network.readings
    # A copy: decoded pixels are read-only, which torch warns of.
    image = torch.from_numpy(pixels[None].copy()).to(network.device)
    with (
        torch.no_grad(),
        probe(network.model, [layer]) as outputs,
        arithmetic(network.precision),
    ):
        network.model.eval()(network.give(image))
    return to_maps(outputs[layer], network.readings[layer]).float().cpu()


def _to_stored(output: Tensor, layer: str, kind: torch.dtype, names: Sequence[str]) -> Maps:
    """Return maps in the type they are stored in, and the peaks of what is stored."""
    stored = output.to(kind, copy=True)
    high, low = _extremes(stored)
    # The extremes tell of NaN and of infinities at once.
    if not bool((torch.isfinite(high) & torch.isfinite(low)).all()):
        bad = ~torch.isfinite(output).flatten(2).all(dim=2)
        if not bad.any():
            raise Float16Error(layer, f"{layer}: values above 65504")
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
