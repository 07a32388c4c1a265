"""Train the vectors of every layer, without labels and supervised: ``embedding.h5``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from dissect_embed.artefacts.activations import Activations, open_activations
from dissect_embed.artefacts.embedding import SUPERVISED, write_trained
from dissect_embed.artefacts.files import check_expected, check_made_from, create_artefact
from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.artefacts.similarity import Similarity, open_similarity
from dissect_embed.config import Embedding
from dissect_embed.device import arithmetic, choose_device
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.vectors import (
    Schedule,
    Trained,
    initial_vectors,
    minibatch_targets,
    profile_target,
    train_vectors,
)
from dissect_embed.parallel import map_in_threads, one_torch_thread

# Images of a minibatch, as published.
BATCH = 64


def write_embedding(
    path: Path,
    similarity_path: Path,
    profiles_path: Path,
    settings: Embedding = Embedding(),
    *,
    activations_path: Path | None = None,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Train the vectors of every layer, without labels and supervised, and write ``embedding.h5``.

    Parameters
    ----------
    activations_path
        Needed for the target ``minibatch`` alone, which is that of the similarity ``image``; of
        the similarity ``dataset`` there is only the mean target.

    Raises
    ------
    ArtefactError
        If a file is damaged, or the files do not come from the same activations.
    FloatingPointError
        If training diverges.
    """
    device = choose_device(device)
    seeds = list(settings.seeds)
    recorded: dict[str, Any] = settings.model_dump(mode="json")
    with ExitStack() as stack:
        similarity = stack.enter_context(open_similarity(similarity_path))
        profiles = stack.enter_context(open_profiles(profiles_path))
        check_expected(similarity.file, expected or {})
        origin = similarity.made_from["activations"]
        check_made_from(profiles.file, "activations", origin, str(similarity_path))
        tasks = _mean_tasks(similarity, profiles, settings.similarity, device)
        if replays(settings):
            recorded["batch_size"] = BATCH
            if activations_path is None:
                msg = "target minibatch replays the activations: name activations.h5 as well"
                raise ArtefactError(msg)
            activations = stack.enter_context(open_activations(activations_path))
            if activations.fingerprint != origin:
                msg = f"{activations_path}: {similarity_path} was made from other activations"
                raise ArtefactError(msg)
            tasks |= _minibatch_tasks(activations, seeds[0], device)
        config = profiles.config | {"embedding": recorded}
        made_from = {"similarity": similarity.fingerprint, "profiles": profiles.fingerprint}
        trained = train_layers(tasks, settings.dim, schedule_of(settings), seeds, device, n_threads)
        with create_artefact(path, "embedding", config, made_from) as file:
            write_trained(file, seeds, {key: trained[key] for key in tasks})


def replays(settings: Embedding) -> bool:
    """Say whether training goes through the activations, batch by batch."""
    return settings.target == "minibatch" and "image" in settings.similarity


def schedule_of(settings: Embedding) -> Schedule:
    """Return how SGD runs by a run's settings."""
    return Schedule(*(getattr(settings, name) for name in Schedule._fields))


# The targets of every step and the number of units, by layer and method.
Tasks = dict[tuple[str, str], tuple[Callable[[int], Tensor], int]]


def _mean_tasks(
    similarity: Similarity, profiles: Profiles, similarities: Sequence[str], device: str
) -> Tasks:
    tasks: Tasks = {}
    for layer in similarity.layers:
        values = {k: torch.from_numpy(similarity.target(layer, k)) for k in similarities}
        values[SUPERVISED] = profile_target(profiles[layer].iou)
        for method, value in values.items():
            tasks[layer, method] = constant_target(value.float().to(device)), len(value)
    return tasks


def _minibatch_tasks(activations: Activations, seed: int, device: str) -> Tasks:
    tasks: Tasks = {}
    for layer in activations.layers:
        of_layer = activations[layer]
        if of_layer.maps is None:
            msg = (
                f"{activations.path}: the maps of {layer} are not cached, and target minibatch "
                "replays them; set activations.cache to all"
            )
            raise ArtefactError(msg)

        def read(rows: Int[np.ndarray, " chosen"], layer: str = layer) -> np.ndarray:
            return activations.read_maps(layer, rows)[0]

        targets = minibatch_targets(read, len(activations), BATCH, seed, device)
        tasks[layer, "image"] = targets, of_layer.n_units
    return tasks


def constant_target(value: Tensor) -> Callable[[int], Tensor]:
    """Return a function of the step that gives one target for all steps."""
    return lambda step: value


Key = TypeVar("Key")


def train_layers(
    tasks: Mapping[Key, tuple[Callable[[int], Tensor], int]],
    dim: int,
    schedule: Schedule,
    seeds: Sequence[int],
    device: str,
    n_threads: int | None = None,
) -> dict[Key, Trained]:
    """Train all tasks side by side, each with all its seeds in one computation."""
    # The widest layers first: they take longest, so that no core is left waiting for one.
    names = sorted(tasks, key=lambda name: -tasks[name][1])
    epochs = len(tasks) * schedule.epochs
    with (
        one_torch_thread(),
        arithmetic("float32"),
        tqdm(total=epochs, desc="embed", unit=" epochs", disable=None) as bar,
    ):

        def train(name: Key) -> Trained:
            targets, n_units = tasks[name]
            start = initial_vectors(n_units, dim, seeds).to(device)
            return train_vectors(start, targets, schedule, on_epoch=bar.update)

        return dict(zip(names, map_in_threads(train, names, n_threads=n_threads), strict=True))
