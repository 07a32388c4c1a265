"""Run a network over a data set and keep what its layers put out: ``activations.h5``.

Of a layer that is not cached only what is needed of its maps is kept (see
``artefacts.activations``); the stages that look at maps then run the network a second time.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations as ActivationFile
from dissect_embed.artefacts.contents import row_digests
from dissect_embed.artefacts.disk import check_disk_space, format_bytes, sync_early
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.layout import activation_bytes, compression_options, create_layers
from dissect_embed.artefacts.shards import shard_span
from dissect_embed.config import Activations
from dissect_embed.datasets.broden import Broden
from dissect_embed.mathematics.running import Maps
from dissect_embed.mathematics.similarities import SimilaritySums, guess_magnitude
from dissect_embed.mathematics.thresholds import Highest, TopCounts, guess_floor
from dissect_embed.networks.forward import DTYPES, Float16Error, forward_maps
from dissect_embed.networks.inputs import find_input
from dissect_embed.networks.layers import check_axes
from dissect_embed.networks.models import hash_weights
from dissect_embed.networks.preparation import Network, prepare_network
from dissect_embed.networks.settings import Model

logger = logging.getLogger(__name__)

# Below 6e-5 float16 has steps of 6e-8, and nothing below those: a layer without a larger value than
# this would lose its small ones.
SMALL = 1e-3
# Images, spread over the data set, from which the highest values of each unit are guessed: with 16
# the guess was too high for units of three of a trained network's four layers, with 32 for none.
SAMPLE = 32


def write_activations(
    path: Path,
    dataset: Broden,
    network: nn.Module,
    model: Model,
    settings: Activations = Activations(),
    *,
    name: str = "",
    missing: Sequence[str] = (),
    shard: str | None = None,
    weights_provenance: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write the activation maps of some layers on every image of a data set.

    A layer with values that float16 cannot hold (above 65,504) is written in float32; the run then
    starts over, so that no layer is a mixture. So is one whose values are all so small that float16
    would lose them (none above ``SMALL`` on a sample of the images).

    Parameters
    ----------
    path
        Where ``activations.h5`` goes.
    network
        As ``model`` says, with its weights.
    model
        Which layers are probed, what the network is given; name and weights are recorded.
    name
        The data set's, by default that of its folder.
    missing
        Names of weights that the network's file lacks: they must come after all layers.
    shard
        ``2-of-7``: only the second of seven parts of the images, each of whole batches.
    weights_provenance
        Notes on where the weights come from, kept as an attribute.

    Raises
    ------
    ArtefactError
        If an activation is NaN or infinite; layer, unit and image are named.
    ModelError, DatasetError, DiskSpaceError, ConfigError
        If a layer cannot be read or is not known, an image is damaged, or the disk is too small.
    """
    made_from = {"dataset": dataset.fingerprint, "weights": hash_weights(network)}
    given = find_input(
        network, model.input, dataset.image_size, name=model.name, weights=model.weights
    )
    prepared = prepare_network(
        network, model.layers, given,
        batch_size=settings.batch_size, precision=settings.precision, device=device,
        axes=model.axes, prefix_tokens=model.prefix_tokens, missing=missing,
    )  # fmt: skip
    layers = list(prepared.readings)
    check_axes(model.axes, layers)
    cached = settings.cached(layers)
    dtypes: dict[str, str] = dict.fromkeys(layers, settings.dtype)
    span = shard_span(len(dataset.rows), settings.batch_size, shard)
    config: dict[str, Any] = {
        "dataset": dataset.settings(name),
        "model": model.model_dump(mode="json", exclude={"epochs"}) | {"input": given.as_settings()},
        "layers": layers,
        "readings": {layer: r._asdict() for layer, r in prepared.readings.items()},
        "activations": settings.model_dump(mode="json"),
    } | ({"shard": shard} if shard else {})
    while True:
        n_bytes = activation_bytes(len(span), prepared.shapes, dtypes, cached)
        free = check_disk_space(path, n_bytes)
        logger.info(
            "%s will take %s%s; %s are free",
            path,
            "at most " if settings.compression != "none" else "",
            format_bytes(n_bytes),
            format_bytes(free),
        )
        try:
            with create_artefact(path, "activations", config, made_from) as file:
                file.attrs["first_image"] = span.start
                if weights_provenance:
                    file.attrs["weights_provenance"] = json.dumps(weights_provenance)
                images = [dataset.rows[n].image for n in span]
                options = compression_options(settings.compression)
                create_layers(file, images, prepared.shapes, dtypes, cached, options)
                _fill(ActivationFile(file), dataset, prepared, span, dtypes, n_threads)
            return
        except Float16Error as unfit:
            logger.info("%s; starting over with float32", unfit)
            dtypes[unfit.layer] = "float32"


def _fill(
    target: ActivationFile,
    dataset: Broden,
    network: Network,
    span: range,
    dtypes: Mapping[str, str],
    n_threads: int | None,
) -> None:
    # Of all images, also where these are a shard's: floors and magnitudes are alike then, and so is
    # what a device makes of these images, by which shards made on devices that round otherwise are
    # known.
    spread = np.unique(np.linspace(0, len(dataset.rows) - 1, SAMPLE).astype(int)).tolist()
    # Small batches, so that no core is left without one.
    small = network._replace(batch_size=8)
    exact = dict.fromkeys(dtypes, "float32")
    samples = list(
        forward_maps(small, dataset, spread, exact, lambda _, maps: maps, n_threads=n_threads)
    )
    top, magnitudes, reference = {}, {}, []
    for layer, dtype in dtypes.items():
        sample = torch.cat([maps[layer].maps for maps in samples])
        largest = float(sample.abs().max())
        if dtype == "float16" and 0 < largest < SMALL:
            raise Float16Error(layer, f"{layer}: no value above {largest:.1g}")
        sample = sample.to(DTYPES[dtype])
        if not bool(torch.isfinite(sample).all()):
            raise Float16Error(layer, f"{layer}: values above 65504")
        top[layer] = TopCounts(guess_floor(sample))
        magnitudes[layer] = guess_magnitude(sample)
        reference.append(row_digests(sample.cpu().numpy()))
    target.file.attrs["reference"] = hashlib.sha256(np.concatenate(reference).tobytes()).hexdigest()
    del samples, sample
    # Opened once: a dataset that is closed brings to disk what it holds.
    layers = {layer: target[layer] for layer in dtypes}
    digests = {layer: np.zeros(len(span), dtype=np.uint64) for layer in dtypes}
    # What of all images is kept of every layer, and what of those whose maps are not.
    highest, sums = Highest(top), SimilaritySums(magnitudes)
    one_at_a_time = threading.Lock()

    def store(start: int, kept: dict[str, Maps]) -> int:
        chosen = slice(start, start + len(next(iter(kept.values())).peak))
        highest.add(start, kept)
        sums.add(start, {k: v for k, v in kept.items() if layers[k].maps is None})
        arrays = {}
        for layer, (maps, peak) in kept.items():
            arrays[layer] = maps.cpu().numpy(), peak.cpu().numpy()
            digests[layer][chosen] = row_digests(*arrays[layer])
        with one_at_a_time:
            for layer, (maps_array, peak_array) in arrays.items():
                layers[layer].peak[chosen] = peak_array
                if (stored := layers[layer].maps) is not None:
                    stored[chosen] = maps_array
                    written(maps_array.nbytes)
        return len(peak)

    batches = forward_maps(network, dataset, span, dtypes, store, n_threads=n_threads)
    with (
        sync_early(target.file.sink) as written,
        tqdm(total=len(span), desc="activations", unit=" images", disable=None) as bar,
    ):
        for done in batches:
            bar.update(done)
    for layer, of_layer in layers.items():
        of_layer.write_digests(digests[layer])
        of_layer.write_top(highest.top[layer])
        of_layer.write_magnitude(magnitudes[layer])
        if layer in sums.totals:
            of_layer.write_sums(sums.totals[layer])
