"""What IoU chance gives: masks laid on the labels of other images: ``chance.h5``.

An artefact of its own: no count, vector or setting of another stage depends on it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.chance import write_chance_file
from dissect_embed.artefacts.files import check_expected, check_made_from, create_artefact
from dissect_embed.artefacts.labels import open_labels
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.config import Chance
from dissect_embed.datasets.broden import Broden
from dissect_embed.device import choose_device
from dissect_embed.mathematics.null import count_draws, draw_partners
from dissect_embed.mathematics.pairings import Pairings
from dissect_embed.networks.replay import add_up, prepare_replay


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
        If a file is damaged or made from something else.
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
        if not source.shard:
            origin = source.fingerprint
            check_made_from(profiles.file, "activations", origin, str(activations_path))
        config = {**source.config, "chance": settings.model_dump(mode="json")}
        made_from = {"activations": source.fingerprint, "profiles": profiles.fingerprint}
        thresholds = {layer: profiles[layer].threshold for layer in source.layers}
        draws = {layer: count_draws(len(values)) for layer, values in thresholds.items()}
        partners = draw_partners(labels.size, max(draws.values()), settings.seed)
        chosen = {layer: partners[:n] for layer, n in draws.items()}
        replay = prepare_replay(source, model, dataset, device)
        found = Pairings(labels, thresholds, chosen, source.first_image, device)
        add_up(found, source, source.layers, replay, device, n_threads, desc="chance")
        with create_artefact(path, "chance", config, made_from) as file:
            shard = source.shard is not None
            write_chance_file(file, profiles.concept_table, found.counts, shard=shard)
