"""What IoU chance gives: masks laid on the labels of other images: ``chance.h5``.

An artefact of its own: no count, vector or setting of another stage depends on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.chance import write_counts, write_draws, write_strata
from dissect_embed.artefacts.files import check_expected, check_made_from, create_artefact
from dissect_embed.artefacts.labels import Labels, open_labels
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.config import Chance
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.cells import Cover, cover_of
from dissect_embed.mathematics.draws import BLOCK, Draws, add_strata
from dissect_embed.mathematics.null import (
    FRACTIONS,
    PARTS,
    Drawn,
    draw_partners,
    find_strata,
)
from dissect_embed.networks.replay import add_up, prepare_replay
from dissect_embed.parallel import map_in_threads

# Bytes of counts held at once: what needs more is counted in several passes over the maps.
MEMORY = 2 << 30
# A mean of draws lies further than so many standard errors from what is expected once in 10^8.
ERRORS = 6


def write_chance(
    path: Path,
    activations_path: Path,
    labels_path: Path,
    profiles_path: Path,
    settings: Chance = Chance(),
    *,
    model: nn.Module | None = None,
    dataset: Broden | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Lay the masks of every unit on the labels of other images, and write ``chance.h5``.

    Parameters
    ----------
    activations_path
        Of all images, or of a shard of them.
    profiles_path
        Of all images: it has the thresholds, and the pixels of each concept.
    model, dataset
        Needed for layers that are not cached: the network runs once more.
    expected
        Settings that the activations must have been made with (``files.check_expected``).

    Raises
    ------
    ArtefactError
        If a file is damaged or made from something else, or the draws are not what was meant.
    """
    device = choose_device(device)
    with (
        open_activations(activations_path) as source,
        open_labels(labels_path) as labels,
        open_profiles(profiles_path) as profiles,
    ):
        check_expected(source.file, expected or {})
        check_made_from(source.file, "dataset", labels.dataset, str(labels_path))
        check_made_from(profiles.file, "labels", labels.fingerprint, str(labels_path))
        if "shard" in profiles.config:
            msg = f"{profiles_path}: of a shard; name the profiles of all shards, gathered"
            raise ArtefactError(msg)
        if not source.shard:
            origin = source.fingerprint
            check_made_from(profiles.file, "activations", origin, str(activations_path))
        config = {**source.config, "chance": settings.model_dump(mode="json")}
        made_from = {"activations": source.fingerprint, "profiles": profiles.fingerprint}
        thresholds = {layer: profiles[layer].threshold for layer in source.layers}
        stratum = find_strata(labels.size, labels.presence)
        partners = draw_partners(stratum, settings.draws, settings.seed)
        covers = _read_covers(labels, n_threads)
        strata = add_strata(covers, stratum, device)
        replay = prepare_replay(source, model, dataset, device)
        totals: dict[str, list[np.ndarray]] = {layer: [] for layer in source.layers}
        with create_artefact(path, "chance", config, made_from) as file:
            labelled = bool(labels.presence.any())
            write_strata(file, stratum, settings.draws, labelled=labelled)
            n_units = sum(map(len, thresholds.values()))
            at_once = _draws_at_once(n_units, len(labels.names))
            for begin in range(0, settings.draws, at_once):
                found = Draws(
                    covers, labels.presence, labels.size, stratum, strata,
                    partners[begin : begin + at_once], thresholds, len(labels.names),
                    source.first_image, device,
                )  # fmt: skip
                add_up(found, source, source.layers, replay, device, n_threads, desc="chance")
                for first, counts in found.blocks():
                    if source.shard:
                        write_counts(file, begin + first, counts)
                    else:
                        write_draws(file, profiles.concept_table, begin + first, counts)
                    for layer, drawn in counts.items():
                        totals[layer].append(drawn.intersection.sum(axis=(0, 2)) / PARTS)
            for layer, drawn in counts.items():
                _check_draws(path, layer, np.concatenate(totals[layer]), drawn)


def _draws_at_once(n_units: int, n_concepts: int) -> int:
    """Return how many draws, in whole blocks, are counted in one pass over the maps.

    Examples
    --------
    >>> _draws_at_once(960, 1197), _draws_at_once(100_000, 10_000)
    (225, 25)
    """
    return BLOCK * max(1, MEMORY // (8 * n_units * n_concepts * BLOCK))


def _read_covers(labels: Labels, n_threads: int | None) -> list[Cover]:
    def read(image: int) -> Cover:
        return cover_of(labels.regions(image))

    images: Sequence[int] = range(len(labels.size))
    read_all = map_in_threads(read, images, n_threads=n_threads)
    bar = tqdm(read_all, "labels", len(images), unit=" images", disable=None)
    return list(bar)


def _check_draws(path: Path, layer: str, totals: np.ndarray, drawn: Drawn) -> None:
    """Check that draws are spread around what is expected of them, which needs no draw.

    Raises
    ------
    ArtefactError
        If their mean lies elsewhere.
    """
    expected = float(drawn.expected.sum()) / FRACTIONS
    error = totals.std(ddof=1) / np.sqrt(len(totals))
    if abs(totals.mean() - expected) > ERRORS * error + 1 + 1e-6 * expected:
        msg = (
            f"{path}: in {layer} the draws share {totals.mean():,.1f} pixels with labels on "
            f"average, where {expected:,.1f} are expected: partners are not drawn evenly; please "
            "report this"
        )
        raise ArtefactError(msg)
