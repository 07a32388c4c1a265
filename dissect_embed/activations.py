"""Run a network over a data set and keep what its layers put out: ``activations.h5``.

``/images (N,)`` names the images. ``/layers/<layer>/activations (N, C, h, w)`` holds the activation
maps, in float16 by default: its rounding (3 to 4 digits) moves an IoU by less than 0.002, and the
file is half the size. ``/layers/<layer>/peak (N, C)`` holds each map's largest value, in float32:
a unit whose peak on an image is at most its threshold cannot fire there. ``/layers/<layer>/top``
holds how often each unit takes each of its highest values (``thresholds.TopCounts``), from which
its quantile follows without reading the maps again.
"""

import copy
import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.cache import create_artefact, label_axes, write_scale
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.disk import check_disk_space, format_bytes
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.folding import fold_batch_norm
from dissect_embed.models import hash_weights
from dissect_embed.parallel import batched_map, keep_freed_memory, map_in_threads
from dissect_embed.probing import layer_shapes, normalise, probe
from dissect_embed.thresholds import TopCounts, guess_floor, write_top

logger = logging.getLogger(__name__)

# Chunks of this size were read and written fastest (benchmarks/README.md).
CHUNK_BYTES = 410_000
# Images, spread over the data set, from which the highest values of each unit are guessed.
SAMPLE = 32
# Zstandard and LZ4 need the package hdf5plugin, to write and to read.
COMPRESSIONS = ("none", "gzip", "lz4", "zstd")


class _Float16Overflow(Exception):
    """A layer's values do not fit float16."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


def write_activations(
    path: Path,
    dataset: Broden,
    model: nn.Module,
    layers: Sequence[str],
    *,
    config: Mapping[str, Any],
    batch_size: int = 32,
    dtype: str = "float16",
    compression: str = "none",
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
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if batch_size < 1:
        msg = f"activations.batch_size: {batch_size}, expected at least 1"
        raise ModelError(msg)
    keep_freed_memory()
    dtypes = {layer: np.dtype(dtype) for layer in layers}
    made_from = {"dataset": dataset.fingerprint, "weights": hash_weights(model)}
    model = copy.deepcopy(model).eval()
    fold_batch_norm(model, layers)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    shapes = layer_shapes(model, layers, dataset.image_size)
    while True:
        n_bytes = activation_bytes(len(dataset.rows), shapes, dtypes)
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
                if weights_provenance:
                    file.attrs["weights_provenance"] = json.dumps(weights_provenance)
                _create_datasets(file, dataset, shapes, dtypes, compression)
                _fill(file, dataset, model, dtypes, batch_size, device, n_threads)
            return
        except _Float16Overflow as overflow:
            logger.info("%s: values above 65504; starting over with float32", overflow.layer)
            dtypes[overflow.layer] = np.dtype(np.float32)


def activation_bytes(
    n_images: int, shapes: Mapping[str, tuple[int, int, int]], dtypes: Mapping[str, np.dtype]
) -> int:
    """Return the bytes that the activations and peaks of some layers take, uncompressed."""
    return n_images * sum(
        units * (height * width * dtypes[layer].itemsize + 4)
        for layer, (units, height, width) in shapes.items()
    )


def chunk_shape(shape: tuple[int, int, int], itemsize: int, n_images: int) -> tuple[int, ...]:
    """Return the chunk (images, units, h, w) of about 0.4 MB that divides the units evenly.

    Examples
    --------
    >>> chunk_shape((64, 56, 56), 2, 1000), chunk_shape((512, 7, 7), 2, 1000)
    ((1, 64, 56, 56), (8, 512, 7, 7))
    """
    units, height, width = shape
    map_bytes = height * width * itemsize
    divisors = [d for d in range(1, units + 1) if units % d == 0 and d * map_bytes <= CHUNK_BYTES]
    chunk_units = max(divisors, default=1)
    images = max(1, CHUNK_BYTES // (units * map_bytes)) if chunk_units == units else 1
    return min(images, n_images), chunk_units, height, width


def _create_datasets(
    file: h5py.File,
    dataset: Broden,
    shapes: Mapping[str, tuple[int, int, int]],
    dtypes: Mapping[str, np.dtype],
    compression: str,
) -> None:
    n_images = len(dataset.rows)
    images = write_scale(file, "images", [row.image for row in dataset.rows])
    for layer, shape in shapes.items():
        group = file.create_group(f"layers/{layer}")
        units = write_scale(group, "unit", np.arange(shape[0]))
        scales = {"image": images, "unit": units}
        maps = group.create_dataset(
            "activations",
            (n_images, *shape),
            dtypes[layer],
            chunks=chunk_shape(shape, dtypes[layer].itemsize, n_images),
            **_filter(compression),
        )
        label_axes(maps, ("image", "unit", "y", "x"), scales)
        peak = group.create_dataset("peak", (n_images, shape[0]), np.float32)
        label_axes(peak, ("image", "unit"), scales)


def _filter(compression: str) -> dict[str, Any]:
    if compression == "none":
        return {}
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1}
    try:
        import hdf5plugin
    except ImportError as error:
        msg = f"activations.compression: {compression} needs 'pip install hdf5plugin'"
        raise ModelError(msg) from error
    return dict(hdf5plugin.Zstd(clevel=1) if compression == "zstd" else hdf5plugin.LZ4())


def _fill(
    file: h5py.File,
    dataset: Broden,
    model: nn.Module,
    dtypes: Mapping[str, np.dtype],
    batch_size: int,
    device: str,
    n_threads: int | None,
) -> None:
    groups = {layer: file[f"layers/{layer}"] for layer in dtypes}
    spread = np.unique(np.linspace(0, len(dataset.rows) - 1, SAMPLE).astype(int))
    sample = next(_forward(dataset, model, dtypes, spread.tolist(), SAMPLE, device, n_threads))
    top = {layer: TopCounts(guess_floor(maps)) for layer, (maps, _) in sample[1].items()}

    def store(batch: _Batch) -> int:
        start, kept = batch
        for layer, (maps, peak) in kept.items():
            groups[layer]["activations"][start : start + len(maps)] = maps
            groups[layer]["peak"][start : start + len(maps)] = peak
            top[layer].add(maps)
        return len(maps)

    numbers = range(len(dataset.rows))
    batches = _forward(dataset, model, dtypes, numbers, batch_size, device, n_threads)
    with tqdm(total=len(numbers), desc="activations", unit=" images", disable=None) as bar:
        # One thread stores a batch while the network works at the next.
        for done in map_in_threads(store, batches, n_threads=1):
            bar.update(done)
    for layer, counts in top.items():
        write_top(groups[layer], counts)


# The place of a batch's first image, and (maps, peak) of each layer.
_Batch = tuple[int, dict[str, tuple[np.ndarray, np.ndarray]]]


def _forward(
    dataset: Broden,
    model: nn.Module,
    dtypes: Mapping[str, np.dtype],
    numbers: Sequence[int],
    batch_size: int,
    device: str,
    n_threads: int | None,
) -> Iterator[_Batch]:
    """Yield what the layers put out on some images of a data set, as it is stored."""
    rows = [dataset.rows[n] for n in numbers]
    start = 0
    with probe(model, list(dtypes)) as outputs:
        read = functools.partial(read_image, dataset)
        for images in batched_map(read, rows, batch_size, n_threads=n_threads):
            names = [row.image for row in rows[start : start + len(images)]]
            with torch.inference_mode():
                model(normalise(torch.from_numpy(np.stack(images)).to(device)))
                kept = {
                    layer: _to_disk_format(outputs[layer], layer, dtype, names)
                    for layer, dtype in dtypes.items()
                }
            yield start, kept
            start += len(images)


def _to_disk_format(
    output: Float[Tensor, "image unit y x"],
    layer: str,
    dtype: np.dtype,
    names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Return maps in the type they are stored in, and the peak of what is stored."""
    kind = torch.float16 if dtype == np.float16 else torch.float32
    # Rounding keeps the order, so the peak of what is stored is the stored peak.
    peak = output.amax(dim=(2, 3)).to(kind).float()
    # The extremes tell of NaN (which amax and amin pass on) and of infinities at once.
    trough = output.amin(dim=(2, 3)).to(kind)
    if not bool(torch.isfinite(peak).all() & torch.isfinite(trough).all()):
        bad = ~torch.isfinite(output).flatten(2).all(dim=2)
        if not bad.any():
            raise _Float16Overflow(layer)
        image, unit = (int(i) for i in bad.nonzero()[0])
        msg = (
            f"{layer}: unit {unit} is NaN or infinite on {names[image]}; "
            "check the weights (model.weights) and this image"
        )
        raise ArtefactError(msg)
    # From channels last to the file's order, and to its type, in one copy.
    kept = torch.empty(output.shape, dtype=kind, device=output.device).copy_(output)
    return kept.cpu().numpy(), peak.cpu().numpy()
