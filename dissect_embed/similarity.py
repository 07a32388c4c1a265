"""How alike a layer's units fire: the mean target P of [HAN22]: ``similarity.h5``.

[HAN22] Han, Wang, Böhm, Shao, An Interpretable Neuron Embedding for Static Knowledge Distillation,
arXiv 2211.07647.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations, open_activations
from dissect_embed.artefacts.files import check_expected, create_artefact
from dissect_embed.artefacts.similarity import write_target
from dissect_embed.device import arithmetic, choose_device, count_threads
from dissect_embed.mathematics.cosines import similarity_sum
from dissect_embed.parallel import map_in_threads, one_torch_thread

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
    device = choose_device(device)
    with open_activations(activations_path) as source:
        check_expected(source.file, expected or {})
        made_from = {"activations": source.fingerprint}
        with (
            create_artefact(path, "similarity", source.config, made_from) as file,
            one_torch_thread(),
            arithmetic("float32"),
        ):
            for layer in source.layers:
                total = source[layer].similarity_sum
                if total is None:
                    total = _similarity_sum(source, layer, device, n_threads)
                write_target(file, layer, total, len(source), shard=source.shard is not None)


def _similarity_sum(
    source: Activations, layer: str, device: str, n_threads: int | None
) -> Float[np.ndarray, "unit unit"]:
    def sum_batch(start: int) -> Float[Tensor, "unit unit"]:
        maps, _ = source.read_maps(layer, start, min(start + BATCH, len(source)))
        return similarity_sum(torch.from_numpy(maps).to(device))

    n_units = source[layer].n_units
    n_threads = count_threads(device, n_threads)
    total = torch.zeros((n_units, n_units), dtype=torch.float64, device=device)
    with tqdm(total=len(source), desc=f"{layer} similarity", unit=" images", disable=None) as bar:
        starts = range(0, len(source), BATCH)
        for part in map_in_threads(sum_batch, starts, n_threads=n_threads):
            total += part
            bar.update(min(BATCH, len(source) - bar.n))
    return total.cpu().numpy()
