"""Train the vectors of every layer, without labels and supervised: ``embedding.h5``.

``/layers/<layer>`` and ``/supervised/layers/<layer>`` hold ``vectors (seed, C, K)``, their
``trajectory (seed, epoch, C, K)`` from the random start to the end, and the ``loss (seed, epoch)``.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dissect_embed.artefacts.embedding import _write_trained
from dissect_embed.artefacts.files import (
    check_expected,
    check_made_from,
    create_artefact,
    layer_names,
    open_artefact,
    read_made_from,
    write_scale,
)
from dissect_embed.artefacts.profiles import Profiles, open_profiles
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
from dissect_embed.parallel import keep_freed_memory, map_in_threads, one_torch_thread


def write_embedding(
    path: Path,
    similarity_path: Path,
    profiles_path: Path,
    *,
    activations_path: Path | None = None,
    dim: int = 16,
    target: str = "mean",
    schedule: Schedule | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    batch_size: int = 64,
    expected: Mapping[str, Any] | None = None,
    device: str | None = None,
    n_threads: int | None = None,
) -> None:
    """Train the vectors of every layer, without labels and supervised, and write ``embedding.h5``.

    Parameters
    ----------
    activations_path
        Needed for ``target="minibatch"`` alone.
    target
        ``mean``: p is the mean target P. ``minibatch``: p comes batch by batch, as published.
    batch_size
        Images a minibatch.

    Raises
    ------
    ArtefactError
        If a file is damaged, or the files do not come from the same activations.
    FloatingPointError
        If training diverges.
    """
    keep_freed_memory()
    schedule = schedule or Schedule()
    device = choose_device(device)
    settings: dict[str, Any] = {"dim": dim, "target": target, "seeds": list(seeds)}
    settings |= schedule._asdict()
    with ExitStack() as stack:
        similarity = stack.enter_context(open_artefact(similarity_path, "similarity"))
        profiles = stack.enter_context(open_profiles(profiles_path))
        check_expected(similarity, expected or {})
        origin = read_made_from(similarity)["activations"]
        check_made_from(profiles.file, "activations", origin, str(similarity_path))
        layers = layer_names(similarity)
        tasks = _mean_tasks(similarity, profiles, layers, device)
        if target == "minibatch":
            settings["batch_size"] = batch_size
            if activations_path is None:
                msg = "target minibatch replays the activations: name activations.h5 as well"
                raise ArtefactError(msg)
            activations = stack.enter_context(open_artefact(activations_path, "activations"))
            if activations.attrs["fingerprint"] != origin:
                msg = f"{activations_path}: {similarity_path} was made from other activations"
                raise ArtefactError(msg)
            for layer in layers:
                if "activations" not in activations[f"layers/{layer}"]:
                    msg = (
                        f"{activations_path}: the maps of {layer} are not cached, and target "
                        "minibatch replays them; set activations.cache to all"
                    )
                    raise ArtefactError(msg)
                maps = activations[f"layers/{layer}/activations"]
                targets = minibatch_targets(maps, batch_size, seeds[0], device)
                tasks[f"layers/{layer}"] = (targets, maps.shape[1])
        config = profiles.config | {"embedding": settings}
        made_from = {
            "similarity": str(similarity.attrs["fingerprint"]),
            "profiles": profiles.fingerprint,
        }
        trained = train_layers(tasks, dim, schedule, seeds, device, n_threads)
        with create_artefact(path, "embedding", config, made_from) as file:
            seed = write_scale(file, "seeds", np.array(seeds, dtype=np.int64))
            for name in tasks:
                _write_trained(file.create_group(name), trained[name], seed)


# The targets of every step and the number of units, by the group that the result is written to.
Tasks = dict[str, tuple[Callable[[int], Tensor], int]]


def _mean_tasks(
    similarity: h5py.File, profiles: Profiles, layers: Sequence[str], device: str
) -> Tasks:
    tasks: Tasks = {}
    for layer in layers:
        p = torch.from_numpy(similarity[f"layers/{layer}/target"][:])
        t = profile_target(profiles[layer].iou)
        for name, value in (("layers", p), ("supervised/layers", t)):
            tasks[f"{name}/{layer}"] = constant_target(value.float().to(device)), len(p)
    return tasks


def constant_target(value: Tensor) -> Callable[[int], Tensor]:
    """Return a function of the step that gives one target for all steps."""
    return lambda step: value


def train_layers(
    tasks: Tasks,
    dim: int,
    schedule: Schedule,
    seeds: Sequence[int],
    device: str,
    n_threads: int | None = None,
) -> dict[str, Trained]:
    """Train all tasks side by side, each with all its seeds in one computation."""
    # The widest layers first: they take longest, so that no core is left waiting for one.
    names = sorted(tasks, key=lambda name: -tasks[name][1])
    epochs = len(tasks) * schedule.epochs
    with (
        one_torch_thread(),
        arithmetic("float32"),
        tqdm(total=epochs, desc="embed", unit=" epochs", disable=None) as bar,
    ):

        def train(name: str) -> Trained:
            targets, n_units = tasks[name]
            start = initial_vectors(n_units, dim, seeds).to(device)
            return train_vectors(start, targets, schedule, on_epoch=bar.update)

        return dict(zip(names, map_in_threads(train, names, n_threads=n_threads), strict=True))
