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

from dissect_embed.artefacts.files import (
    check_expected,
    create_artefact,
    layer_names,
    open_artefact,
    read_config,
    whole_fingerprint,
)
from dissect_embed.artefacts.similarity import write_target
from dissect_embed.device import arithmetic, choose_device, count_threads
from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.parallel import keep_freed_memory, map_in_threads, one_torch_thread

# Images read at once.
BATCH = 64


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
