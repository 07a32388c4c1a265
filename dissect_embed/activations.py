"""Run a network over a data set and keep what its layers put out: ``activations.h5``.

``/images (N,)`` names the images. ``/layers/<layer>/activations (N, C, h, w)`` holds the activation
maps, in float16 by default: its rounding (3 to 4 digits) moves an IoU by less than 0.002, and the
file is half the size. ``/layers/<layer>/peak (N, C)`` holds each map's largest value, in float32:
a unit whose peak on an image is at most its threshold cannot fire there. ``/layers/<layer>/top``
holds how often each unit takes each of its highest values (``thresholds.TopCounts``), from which
its quantile follows without reading the maps again.

Of a layer that is not cached the maps are left out; ``/layers/<layer>/similarity_sum (C, C)`` has
what the embedding needs of them (``similarity.similarity_sum``). Dissection then runs the network a
second time.
"""

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import (
    activation_bytes,
    compression_options,
    create_layers,
    write_top,
)
from dissect_embed.artefacts.disk import check_disk_space, format_bytes, sync_early
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.shards import shard_span
from dissect_embed.datasets.broden import Broden
from dissect_embed.errors import ModelError
from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.mathematics.thresholds import TopCounts, guess_floor
from dissect_embed.networks.forward import (
    Float16OverflowError,
    Maps,
    Network,
    forward_maps,
    prepare_network,
)
from dissect_embed.networks.models import hash_weights
from dissect_embed.parallel import keep_freed_memory

logger = logging.getLogger(__name__)

# Images, spread over the data set, from which the highest values of each unit are guessed: with 16
# the guess was too high for units of three of a trained network's four layers, with 32 for none.
SAMPLE = 32


def write_activations(
    path: Path,
    dataset: Broden,
    model: nn.Module,
    layers: Sequence[str],
    *,
    config: Mapping[str, Any],
    batch_size: int = 16,
    dtype: str = "float16",
    compression: str = "none",
    precision: str = "float32",
    cached: Sequence[str] | None = None,
    shard: str | None = None,
    weights_provenance: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write the activation maps of some layers on every image of a data set.

    A layer with values that float16 cannot hold (above 65,504) is written in float32; the run then
    starts over, so that no layer is a mixture.

    Parameters
    ----------
    path
        Where ``activations.h5`` goes.
    config
        The settings to record (see ``cache``): ``dataset``, ``model``, ``layers`` and
        ``activations``.
    batch_size
        Images a forward pass.
    precision
        ``float32`` or ``bfloat16``: what the network computes in.
    cached
        The layers whose maps are stored, by default all.
    shard
        ``2-of-7``: only the second of seven parts of the images, each of whole batches.
    weights_provenance
        Notes on where the weights come from, kept as an attribute.

    Raises
    ------
    ArtefactError
        If an activation is NaN or infinite; layer, unit and image are named.
    ModelError, DatasetError, DiskSpaceError
        If a layer cannot be read, the batch size is below 1, an image is damaged, or the disk is
        too small.
    """
    keep_freed_memory()
    cached = layers if cached is None else cached
    unknown = [layer for layer in cached if layer not in layers]
    if unknown:
        msg = f"activations.cache: {unknown[0]!r} is none of the layers ({', '.join(layers)})"
        raise ModelError(msg)
    dtypes = dict.fromkeys(layers, dtype)
    made_from = {"dataset": dataset.fingerprint, "weights": hash_weights(model)}
    network = prepare_network(
        model, layers, dataset.image_size,
        batch_size=batch_size, precision=precision, device=device,
    )  # fmt: skip
    span = shard_span(len(dataset.rows), batch_size, shard)
    config = {**config, "shard": shard} if shard else config
    while True:
        n_bytes = activation_bytes(len(span), network.shapes, dtypes, cached)
        free = check_disk_space(path, n_bytes)
        logger.info(
            "%s will take %s%s; %s are free",
            path,
            "at most " if compression != "none" else "",
            format_bytes(n_bytes),
            format_bytes(free),
        )
        try:
            with create_artefact(path, "activations", config, made_from) as file:
                file.attrs["first_image"] = span.start
                if weights_provenance:
                    file.attrs["weights_provenance"] = json.dumps(weights_provenance)
                images = [dataset.rows[n].image for n in span]
                create_layers(
                    file, images, network.shapes, dtypes, cached, compression_options(compression)
                )
                _fill(file, dataset, network, span, dtypes, n_threads)
            return
        except Float16OverflowError as overflow:
            logger.info("%s: values above 65504; starting over with float32", overflow.layer)
            dtypes[overflow.layer] = "float32"


def _fill(
    file: h5py.File,
    dataset: Broden,
    network: Network,
    span: range,
    dtypes: Mapping[str, str],
    n_threads: int | None,
) -> None:
    groups = {layer: file[f"layers/{layer}"] for layer in dtypes}
    # Opened once: a dataset that is closed brings to disk what it holds.
    peaks = {layer: group["peak"] for layer, group in groups.items()}
    cached = {k: group["activations"] for k, group in groups.items() if "activations" in group}
    spread = np.unique(np.linspace(span.start, span.stop - 1, SAMPLE).astype(int)).tolist()
    # Small batches, so that no core is left without one.
    small = network._replace(batch_size=8)
    samples = list(
        forward_maps(small, dataset, spread, dtypes, lambda _, maps: maps, n_threads=n_threads)
    )
    top = {
        layer: TopCounts(guess_floor(torch.cat([sample[layer].maps for sample in samples])))
        for layer in dtypes
    }
    del samples
    sums: dict[str, torch.Tensor] = {}
    one_at_a_time = threading.Lock()

    def store(start: int, kept: dict[str, Maps]) -> int:
        parts = {k: similarity_sum(v.maps) for k, v in kept.items() if k not in cached}
        for layer, (maps, _) in kept.items():
            top[layer].add(maps)
        with one_at_a_time:
            for layer, (maps, peak) in kept.items():
                place = slice(start, start + len(maps))
                peaks[layer][place] = peak.cpu().numpy()
                if layer in parts:
                    sums[layer] = sums[layer] + parts[layer] if layer in sums else parts[layer]
                else:
                    cached[layer][place] = maps.cpu().numpy()
                    written(maps.nbytes)
        return len(peak)

    stored = forward_maps(network, dataset, span, dtypes, store, n_threads=n_threads)
    with (
        sync_early(file.sink) as written,
        tqdm(total=len(span), desc="activations", unit=" images", disable=None) as bar,
    ):
        for done in stored:
            bar.update(done)
    for layer, counts in top.items():
        write_top(groups[layer], counts)
    for layer, total in sums.items():
        groups[layer]["similarity_sum"] = total.cpu().numpy()
