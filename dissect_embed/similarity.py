"""How alike a layer's units fire, image by image and over all images: ``similarity.h5``.

[HAN22] Han, Wang, Böhm, Shao, An Interpretable Neuron Embedding for Static Knowledge Distillation,
arXiv 2211.07647.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.files import check_expected, create_artefact
from dissect_embed.artefacts.similarity import write_targets
from dissect_embed.device import choose_device
from dissect_embed.mathematics.similarities import SimilaritySums
from dissect_embed.networks.replay import add_up


def write_similarity(
    path: Path,
    activations_path: Path,
    *,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write each layer's targets P, by both similarities, to ``similarity.h5``.

    By ``image`` P is the mean over images of h(d(A_n, A_n)) ([HAN22] eq. 1). The loss of eq. 1 is
    linear in p and the vectors do not touch the network, so the gradient averaged over an epoch is
    exactly the gradient at P. By ``dataset`` it is h(d(A, A)), with the maps of all images laid end
    to end in A. Both come of one pass.

    Raises
    ------
    ArtefactError
        If the activations are damaged or were not made as ``expected`` says.
    FloatingPointError
        If a unit's output exceeds all bounds on some image; layer and unit are named.
    """
    device = choose_device(device)
    with open_activations(activations_path) as source:
        check_expected(source.file, expected or {})
        stored = [layer for layer in source.layers if layer not in source.uncached]
        sums = SimilaritySums({layer: source[layer].magnitude for layer in stored})
        if stored:
            add_up(sums, source, stored, None, device, n_threads, desc="similarity")
        made_from = {"activations": source.fingerprint}
        with create_artefact(path, "similarity", source.config, made_from) as file:
            for layer in source.layers:
                total = source[layer].sums or sums.totals[layer]
                targets = total.targets(len(source))
                shown = total if source.shard else None
                write_targets(file, layer, targets, len(source), sums=shown)
