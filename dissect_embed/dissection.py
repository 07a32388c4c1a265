"""Network Dissection: score every unit by its IoU with every concept: ``profiles.h5``.

[BAU17] Bau, Zhou, Khosla, Oliva, Torralba, Network Dissection, CVPR 2017, with exact thresholds and
exact counts. A unit's row of ``iou`` is its profile, the target semantic vector of [HAN22] (Han et
al., arXiv 2211.07647, section 3.4).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations, open_activations
from dissect_embed.artefacts.files import check_expected, check_made_from, create_artefact
from dissect_embed.artefacts.labels import open_labels
from dissect_embed.artefacts.profiles import ConceptTable, write_profile_file
from dissect_embed.artefacts.thresholds import open_thresholds, write_threshold_file
from dissect_embed.config import Dissection
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.pairings import Pairings
from dissect_embed.mathematics.running import Maps
from dissect_embed.mathematics.thresholds import compute_thresholds
from dissect_embed.networks.forward import DTYPES
from dissect_embed.networks.replay import Replay, add_up, map_batches, prepare_replay


def write_profiles(
    path: Path,
    activations_path: Path,
    labels_path: Path,
    settings: Dissection = Dissection(),
    *,
    thresholds_path: Path | None = None,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Dissect every layer of ``activations.h5`` and write ``profiles.h5``.

    Parameters
    ----------
    thresholds_path
        From ``write_thresholds``: needed where the activations are those of a shard.
    model, dataset
        Needed for layers that are not cached: the network runs once more.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If the activations are damaged or made from something else.
    """
    device = choose_device(device)
    with open_activations(activations_path) as source, open_labels(labels_path) as labels:
        check_expected(source.file, expected or {})
        check_made_from(source.file, "dataset", labels.dataset, str(labels_path))
        config = {**source.config, "dissection": {"quantile": settings.quantile}}
        made_from = {"activations": source.fingerprint, "labels": labels.fingerprint}
        replay = prepare_replay(source, model, dataset, device)
        if thresholds_path:
            thresholds = _read_thresholds(thresholds_path, source, settings.quantile)
        elif source.shard:
            msg = f"{activations_path}: a shard; name the thresholds of all (--thresholds)"
            raise ArtefactError(msg)
        else:
            thresholds = _find_thresholds(source, settings.quantile, replay, n_threads)
        found = Pairings(labels, thresholds, source.first_image, device)
        add_up(found, source, source.layers, replay, device, n_threads, desc="dissection")
        concepts = ConceptTable(
            labels.names, labels.numbers, labels.categories, labels.concept_category, found.pixels
        )
        with create_artefact(path, "profiles", config, made_from) as file:
            write_profile_file(file, concepts, thresholds, found.counts)


def write_thresholds(
    path: Path,
    activations_path: Path,
    settings: Dissection = Dissection(),
    *,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Write ``thresholds.h5``: what all shards are dissected with.

    Parameters and errors are those of ``write_profiles``.
    """
    device = choose_device(device)
    with open_activations(activations_path) as source:
        config = {**source.config, "dissection": {"quantile": settings.quantile}}
        made_from = {"activations": source.fingerprint, **source.parts}
        replay = prepare_replay(source, model, dataset, device)
        thresholds = _find_thresholds(source, settings.quantile, replay, n_threads)
    with create_artefact(path, "thresholds", config, made_from) as file:
        write_threshold_file(file, thresholds)


def _read_thresholds(
    path: Path, source: Activations, quantile: float
) -> dict[str, Float[np.ndarray, " unit"]]:
    with open_thresholds(path) as thresholds:
        if source.fingerprint not in thresholds.made_from.values():
            msg = (
                f"{path}: made from other activations than {source.path}; delete it and run "
                "'snakemake --forcerun thresholds'"
            )
            raise ArtefactError(msg)
        check_expected(thresholds.file, {"dissection.quantile": quantile})
        return {layer: thresholds[layer] for layer in source.layers}


def _find_thresholds(
    source: Activations, quantile: float, replay: Replay | None, n_threads: int | None
) -> dict[str, Float[np.ndarray, " unit"]]:
    found = {}
    for layer in source.layers:
        _, height, width = source[layer].shape

        def take_maps(_: int, kept: dict[str, Maps], layer: str = layer) -> Tensor:
            return kept[layer].maps

        def batches(layer: str = layer) -> Iterator[Tensor]:
            with tqdm(
                total=len(source), desc=f"{layer} thresholds", unit=" images", disable=None
            ) as bar:
                for maps in map_batches(source, [layer], replay, take_maps, n_threads):
                    bar.update(len(maps))
                    yield maps

        n_values = len(source) * height * width
        dtype = DTYPES[source[layer].dtype]
        found[layer] = compute_thresholds(batches, n_values, quantile, source[layer].top, dtype)
    return found
