"""Where the stages after the forward pass find activation maps: stored, or computed once more."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.files import check_made_from
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import arithmetic, count_threads
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.running import Maps, Running
from dissect_embed.networks.forward import forward_maps
from dissect_embed.networks.inputs import Input
from dissect_embed.networks.models import hash_weights
from dissect_embed.networks.preparation import Network, prepare_network
from dissect_embed.parallel import map_in_threads, one_torch_thread

# Images read at once: some 50 MB of ResNet18's activations in float16.
BATCH = 64


Result = TypeVar("Result")


class Replay(NamedTuple):
    """What computes the maps of layers that are not stored."""

    network: Network
    dataset: Broden


def prepare_replay(
    source: Activations, model: nn.Module | None, dataset: Broden | None, device: str
) -> Replay | None:
    """Return what computes maps that an ``activations.h5`` lacks; None where it has all.

    Raises
    ------
    ArtefactError
        If maps are lacking and network or data set are not given, or are not those of the file.
    """
    if not source.uncached:
        return None
    if model is None or dataset is None:
        msg = (
            f"{source.path}: the maps of {source.uncached[0]} are not cached; name the data set "
            "and the network, which then runs once more (--dataset, --model, --weights, "
            "--checkpoint)"
        )
        raise ArtefactError(msg)
    check_made_from(source.file, "dataset", dataset.fingerprint, str(dataset.root))
    network = prepare_again(source, model, source.uncached, device)
    return Replay(network, dataset)


def prepare_again(
    source: Activations,
    model: nn.Module,
    layers: Sequence[str],
    device: str,
) -> Network:
    """Return the network that an ``activations.h5`` was made with, ready to run as it did then.

    Raises
    ------
    ArtefactError
        If it has other weights.
    """
    check_made_from(source.file, "weights", hash_weights(model), "the weights named")
    settings = source.config["activations"]
    recorded = source.config["model"]
    return prepare_network(
        model, layers, Input.of_settings(recorded["input"]),
        batch_size=settings["batch_size"], precision=settings["precision"], device=device,
        axes=recorded["axes"], prefix_tokens=recorded["prefix_tokens"],
    )  # fmt: skip


def add_up(
    running: Running,
    source: Activations,
    layers: Sequence[str],
    replay: Replay | None,
    device: str,
    n_threads: int | None = None,
    *,
    desc: str,
) -> None:
    """Let something that adds up over images go through those of an ``activations.h5``.

    In several threads, each with a batch of its own, whose maps are brought to the device.

    Parameters
    ----------
    desc
        What the progress bar says.

    Raises
    ------
    ArtefactError
        If stored maps are damaged, or computed ones not what they were.
    """

    def add(start: int, batch: dict[str, Maps]) -> int:
        on_device = {
            layer: Maps(maps.to(device), peak.to(device)) for layer, (maps, peak) in batch.items()
        }
        running.add(start, on_device)
        return len(peak_of(batch))

    with (
        one_torch_thread(),
        arithmetic("float32"),
        tqdm(total=len(source), desc=desc, unit=" images", disable=None) as bar,
    ):
        for n in map_batches(source, layers, replay, add, count_threads(device, n_threads)):
            bar.update(n)


def peak_of(batch: Mapping[str, Maps]) -> Tensor:
    """Return the peaks of any layer of a batch: as many rows as it has images."""
    return next(iter(batch.values())).peak


def map_batches(
    source: Activations,
    layers: Sequence[str],
    replay: Replay | None,
    then: Callable[[int, dict[str, Maps]], Result],
    n_threads: int | None = None,
) -> Iterator[Result]:
    """Yield what ``then`` returns for each batch of images, in order.

    ``then`` is called in several threads, with the index of a batch's first image in the file and
    each layer's maps. What is not stored is computed.

    Raises
    ------
    ArtefactError
        If stored maps are damaged, or computed ones not what they were.
    """
    stored = [layer for layer in layers if source[layer].maps is not None]
    dtypes = {layer: source[layer].dtype for layer in layers if layer not in stored}

    def read(start: int, stop: int) -> dict[str, Maps]:
        return {
            layer: Maps(*map(torch.from_numpy, source.read_maps(layer, slice(start, stop))))
            for layer in stored
        }

    if not dtypes:
        yield from map_in_threads(
            lambda start: then(start, read(start, min(start + BATCH, len(source)))),
            range(0, len(source), BATCH), n_threads=n_threads,
        )  # fmt: skip
        return
    assert replay is not None, "prepare_replay gives one where maps are lacking"

    def join(start: int, computed: dict[str, Maps]) -> Result:
        for layer, (_, peak) in computed.items():
            source.check_peaks(layer, start, peak.cpu().numpy())
        n = len(peak_of(computed))
        return then(start, read(start, start + n) | computed)

    span = range(source.first_image, source.first_image + len(source))
    yield from forward_maps(replay.network, replay.dataset, span, dtypes, join, n_threads=n_threads)
