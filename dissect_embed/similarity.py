"""How alike a layer's units fire: d, h and the mean target P of [HAN22]: ``similarity.h5``.

[HAN22] Han, Wang, Böhm, Shao, An Interpretable Neuron Embedding for Static Knowledge Distillation,
arXiv 2211.07647.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from dissect_embed.cache import (
    check_expected,
    create_artefact,
    label_axes,
    layer_names,
    open_artefact,
    read_config,
    whole_fingerprint,
    write_scale,
)
from dissect_embed.device import arithmetic, choose_device, count_threads
from dissect_embed.parallel import keep_freed_memory, map_in_threads, one_torch_thread

# Images read at once.
BATCH = 64
# Images whose similarities a device other than the processor computes at once.
TOGETHER = 16


def cosine_similarity(x: Float[Tensor, "*batch unit feature"]) -> Float[Tensor, "*batch unit unit"]:
    """Return d(x, x): the cosine of every two rows. A zero row has cosine 0, also with itself.

    Examples
    --------
    >>> cosine_similarity(torch.tensor([[3.0, 4.0], [4.0, 3.0], [0.0, 0.0]]))
    tensor([[1.0000, 0.9600, 0.0000],
            [0.9600, 1.0000, 0.0000],
            [0.0000, 0.0000, 0.0000]])
    """
    # Dividing by the largest value first keeps the squares of float16's extremes in range.
    scale = x.abs().amax(dim=-1, keepdim=True)
    x = x / scale.where(scale > 0, 1)
    norm = x.norm(dim=-1, keepdim=True)
    x = x / norm.where(norm > 0, 1)
    return x @ x.mT


def row_softmax(d: Float[Tensor, "*batch unit unit"]) -> Float[Tensor, "*batch unit unit"]:
    """Return h(d): softmax over each row at temperature 1, the diagonal included."""
    return torch.softmax(d, dim=-1)


def similarity_sum(maps: Float[Tensor, "image unit y x"]) -> Float[Tensor, "unit unit"]:
    """Return the sum over images of h(d(A_n, A_n)), in float64.

    The sum is exact, so sums of parts of a data set add up to that of the whole, in any order:
    cosines lie in [-1, 1], so an entry of p lies between 1 / e²C and e² / C and is, in float32, a
    whole multiple of 2^-24 / 2e²C; up to 9 million such entries fit the 53 bits of float64.
    """
    total = torch.zeros((maps.shape[1], maps.shape[1]), dtype=torch.float64, device=maps.device)
    if maps.device.type == "cpu":
        # Image by image: the matrices of one image fit the processor's cache, and no image's
        # rounding depends on which others are in its batch.
        for image in maps.flatten(2).float():
            total += row_softmax(cosine_similarity(image))
        return total
    for images in maps.flatten(2).float().split(TOGETHER):
        # Always so many images, some of them empty: which kernel computes depends on the number,
        # and an image's rounding on the kernel.
        full = torch.nn.functional.pad(images, (0, 0, 0, 0, 0, TOGETHER - len(images)))
        total += row_softmax(cosine_similarity(full))[: len(images)].double().sum(dim=0)
    return total


def write_similarity(
    path: Path,
    activations_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write each layer's mean target P to ``similarity.h5``.

    P is the mean over images of h(d(A_n, A_n)) ([HAN22] eq. 1). The loss of eq. 1 is linear in p
    and the vectors do not touch the network, so the gradient averaged over an epoch is exactly the
    gradient at P.

    Raises
    ------
    ArtefactError
        If the activations are damaged or were not made as ``expected`` says.
    """
    keep_freed_memory()
    device = choose_device(device)
    with open_artefact(activations_path, "activations") as source:
        check_expected(source, expected or {})
        config = read_config(source)
        n_images = len(source["images"])
        made_from = {"activations": whole_fingerprint(source)}
        with (
            create_artefact(path, "similarity", config, made_from) as file,
            one_torch_thread(),
            arithmetic("float32"),
        ):
            file.attrs["n_images"] = n_images
            for layer in layer_names(source):
                group = source[f"layers/{layer}"]
                if "activations" in group:
                    total = _similarity_sum(group["activations"], layer, device, n_threads)
                else:
                    total = group["similarity_sum"][:]
                write_target(file, layer, total, n_images, shard="shard" in config)


def write_target(
    file: h5py.File,
    layer: str,
    total: Float[np.ndarray, "unit unit"],
    n_images: int,
    *,
    shard: bool,
) -> None:
    """Write the mean target of a layer, and of a shard the sum, which adds up exactly."""
    group = file.create_group(f"layers/{layer}")
    unit = write_scale(group, "unit", np.arange(len(total)))
    for name, values in (("target", total / n_images), *([("sum", total)] if shard else [])):
        dataset = group.create_dataset(name, data=values)
        label_axes(dataset, ("unit", "unit"), {"unit": unit})


def _similarity_sum(
    maps: h5py.Dataset, layer: str, device: str, n_threads: int | None
) -> Float[np.ndarray, "unit unit"]:
    n_images, n_units = maps.shape[:2]

    def sum_batch(start: int) -> Float[Tensor, "unit unit"]:
        return similarity_sum(torch.from_numpy(maps[start : start + BATCH]).to(device))

    n_threads = count_threads(device, n_threads)
    total = torch.zeros((n_units, n_units), dtype=torch.float64, device=device)
    with tqdm(total=n_images, desc=f"{layer} similarity", unit=" images", disable=None) as bar:
        for part in map_in_threads(sum_batch, range(0, n_images, BATCH), n_threads=n_threads):
            total += part
            bar.update(min(BATCH, n_images - bar.n))
    return total.cpu().numpy()
