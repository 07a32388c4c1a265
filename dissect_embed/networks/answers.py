"""Ask a network what is in labelled images, with units of a layer at their means."""

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.examination import Examination
from dissect_embed.datasets.pixels import read_image
from dissect_embed.networks.inputs import to_input
from dissect_embed.networks.maps import from_maps
from dissect_embed.networks.replay import Replay, map_batches
from dissect_embed.networks.rest import Rest, Units, layer_output, run_sets
from dissect_embed.parallel import map_in_threads

# Bytes of scores held at once: where there are more, images are gone through several times.
MEMORY = 1 << 30

Batches = Callable[[Int[np.ndarray, " image"]], Iterator[Tensor]]


def mean_activations(
    source: Activations, layer: str, replay: Replay | None
) -> Float[Tensor, " unit"]:
    """Return each unit's mean over all images of the data set and all positions."""
    sums = map_batches(
        source, [layer], replay,
        lambda _, batch: batch[layer].maps.sum(dim=(0, 2, 3), dtype=torch.float64).cpu(),
    )  # fmt: skip
    _, height, width = source[layer].shape
    # One after the other, so that the same files give the same bits.
    return (functools.reduce(torch.add, sums) / (len(source) * height * width)).float()


def find_batches(
    source: Activations,
    rest: Rest,
    asked: Examination,
    data: Broden | None,
    device: str,
) -> Batches:
    """Return what yields, for some of the labelled images, what ``run_sets`` takes.

    Parameters
    ----------
    data
        Needed where images of the data set are, which stored maps do not spare.
    """
    size = rest.network.batch_size
    of_layer = source[rest.layer]
    places, read = asked.places, asked.read

    def from_file(images: Int[np.ndarray, " image"]) -> Iterator[Tensor]:
        assert places is not None, "stored maps are those of the data set's images"
        for start in range(0, len(images), size):
            maps, _ = source.read_maps(rest.layer, places[images[start : start + size]])
            yield from_maps(torch.from_numpy(maps).to(device).float(), rest.reading)

    def read_pixels(image: int) -> np.ndarray:
        if read is not None:
            return read(image)
        assert data is not None, "it was opened, for images are needed"
        assert places is not None, "only class folders have images from elsewhere"
        return read_image(data, data.rows[places[image]])

    def compute(images: Int[np.ndarray, " image"]) -> Iterator[Tensor]:
        # A thread or two that decode images are enough: each is looked at with every unit.
        pixels = map_in_threads(read_pixels, images.tolist(), n_threads=2, ahead=2 * size)
        for start in range(0, len(images), size):
            batch = [next(pixels) for _ in images[start : start + size]]
            x = to_input(torch.from_numpy(np.stack(batch)).to(device), rest.network.input)
            yield layer_output(rest, x) if rest.tail else x

    is_stored = rest.takes_maps and of_layer.maps is not None and places is not None
    return from_file if is_stored else compute


def answer(
    rest: Rest,
    means: Float[Tensor, " unit"],
    asked: Examination,
    batches: Batches,
    images: Int[np.ndarray, " image"],
    sets: Sequence[Units],
) -> Iterator[np.ndarray]:
    """Yield of each set of units what is kept of the scores of some images.

    The best output of each image where it has one class, else the scores of the classes.
    """
    n_numbers = len(images) * (1 if asked.exclusive else len(asked.classes))
    at_once = max(1, MEMORY // (8 * n_numbers))
    outputs = torch.from_numpy(asked.outputs)
    with tqdm(total=len(sets) * len(images), desc=rest.layer, unit=" images", disable=None) as bar:
        for start in range(0, len(sets), at_once):
            some = sets[start : start + at_once]
            kept = []
            for batch in batches(images):
                scores = run_sets(rest, batch, some, means).cpu()
                kept.append(scores.argmax(dim=2) if asked.exclusive else scores[..., outputs])
                bar.update(scores.shape[0] * scores.shape[1])
            yield from torch.cat(kept, dim=1).numpy()
