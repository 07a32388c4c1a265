"""Where the stages after the forward pass find activation maps: stored, or computed once more."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import h5py
import torch
from torch import nn

from dissect_embed.artefacts.files import check_made_from, layer_names, read_config
from dissect_embed.datasets.broden import Broden
from dissect_embed.errors import ArtefactError
from dissect_embed.networks.forward import Maps, Network, forward_maps, prepare_network
from dissect_embed.networks.models import hash_weights
from dissect_embed.parallel import map_in_threads

# Images read at once: some 50 MB of ResNet18's activations in float16.
BATCH = 64


Result = TypeVar("Result")


class Replay(NamedTuple):
    """What computes the maps of layers that are not stored."""

    network: Network
    dataset: Broden


def prepare_replay(
    source: h5py.File, model: nn.Module | None, dataset: Broden | None, device: str
) -> Replay | None:
    """Return what computes maps that an ``activations.h5`` lacks; None where it has all.

    Raises
    ------
    ArtefactError
        If maps are lacking and network or data set are not given, or are not those of the file.
    """
    layers = [n for n in layer_names(source) if "activations" not in source[f"layers/{n}"]]
    if not layers:
        return None
    if model is None or dataset is None:
        msg = (
            f"{source.filename}: the maps of {layers[0]} are not cached; name the data set and the "
            "network, which then runs once more (--dataset, --model, --weights, --checkpoint)"
        )
        raise ArtefactError(msg)
    check_made_from(source, "dataset", dataset.fingerprint, str(dataset.root))
    check_made_from(source, "weights", hash_weights(model), "the weights named")
    settings = read_config(source)["activations"]
    network = prepare_network(
        model, layers, dataset.image_size, batch_size=settings["batch_size"],
        precision=settings.get("precision", "float32"), device=device,
    )  # fmt: skip
    return Replay(network, dataset)


def map_batches(
    source: h5py.File,
    layers: Sequence[str],
    replay: Replay | None,
    then: Callable[[int, dict[str, Maps]], Result],
    n_threads: int | None = None,
) -> Iterator[Result]:
    """Yield what ``then`` returns for each batch of images, in order.

    ``then`` is called in several threads, with the place of a batch's first image in the file and
    each layer's maps. What is not stored is computed.
    """
    groups = {layer: source[f"layers/{layer}"] for layer in layers}
    stored = {k: group["activations"] for k, group in groups.items() if "activations" in group}
    dtypes = {layer: str(groups[layer].attrs["dtype"]) for layer in layers if layer not in stored}
    n_images = len(source["images"])

    def read(start: int, stop: int) -> dict[str, Maps]:
        return {
            layer: Maps(
                torch.from_numpy(maps[start:stop]),
                torch.from_numpy(groups[layer]["peak"][start:stop]),
            )
            for layer, maps in stored.items()
        }

    if not dtypes:
        yield from map_in_threads(
            lambda start: then(start, read(start, start + BATCH)),
            range(0, n_images, BATCH), n_threads=n_threads,
        )  # fmt: skip
        return
    assert replay is not None, "prepare_replay gives one where maps are lacking"
    first = int(source.attrs["first_image"])

    def join(start: int, computed: dict[str, Maps]) -> Result:
        n = len(next(iter(computed.values())).peak)
        return then(start, read(start, start + n) | computed)

    span = range(first, first + n_images)
    yield from forward_maps(replay.network, replay.dataset, span, dtypes, join, n_threads=n_threads)
