"""Learn a short vector for every unit, so that units that fire alike lie alike: ``embedding.h5``.

Eq. 1 of [HAN22] (Han et al., arXiv 2211.07647): for one layer ``-(1/C) Σ_ij p_ij log q_ij`` with
``q = h(d(S, S))``. S (C, K) is drawn from N(0, 1) and trained by
SGD with momentum and weight decay, as published. Here p is by default the mean target P over all
images (``similarity``), at which the gradient is exactly that of a whole epoch.

The supervised bound is the same computation at another target: h(d(T, T)) of the IoU profiles T.
Its loss is the score KL(T, S) itself, up to a constant.

[HAN22] minimises the mean over layers. Layers share no parameter, so that only divides the learning
rate by their number. Here each layer minimises its own loss: its vectors do not depend on which
other layers are probed.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from dissect_embed.cache import (
    check_expected,
    check_made_from,
    create_artefact,
    label_axes,
    layer_names,
    open_artefact,
    read_config,
    read_made_from,
    write_scale,
)
from dissect_embed.errors import ArtefactError
from dissect_embed.parallel import keep_freed_memory, map_in_threads, one_torch_thread
from dissect_embed.similarity import cosine_similarity, row_softmax, similarity_sum


class Schedule(NamedTuple):
    """How SGD runs, as published but for momentum, which [HAN22] does not state.

    ``lr`` is multiplied by 0.1 at the start of each epoch in ``milestones``, counted from 0.
    """

    epochs: int = 100
    steps_per_epoch: int = 100
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = (50, 75, 90)


class Trained(NamedTuple):
    """What training leaves: vectors at the start and after every epoch, and each epoch's loss."""

    trajectory: Float[Tensor, "run epoch unit dim"]  # E + 1 epochs: 0 is the start
    loss: Float[Tensor, "run epoch"]  # nats, the mean over an epoch's steps


def initial_vectors(n_units: int, dim: int, seeds: Sequence[int]) -> Float[Tensor, "seed unit dim"]:
    """Return S ~ N(0, 1), one draw a seed: the same for a seed whichever others are drawn."""
    return torch.stack(
        [
            torch.randn((n_units, dim), generator=torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
    )


def embedding_loss(
    p: Float[Tensor, "*batch unit unit"], s: Float[Tensor, "*batch unit dim"]
) -> Float[Tensor, "*batch"]:
    """Return eq. 1 for one layer, ``-(1/C) Σ_ij p_ij log q_ij``, in nats.

    Examples
    --------
    Two orthogonal units: each row of q is (e, 1) / (e + 1).

    >>> embedding_loss(torch.eye(2), torch.eye(2))
    tensor(0.3133)
    """
    log_q = torch.log_softmax(cosine_similarity(s), dim=-1)
    return -(p * log_q).sum(dim=(-2, -1)) / p.shape[-1]


def train_vectors(
    start: Float[Tensor, "run unit dim"],
    targets: Callable[[int], Float[Tensor, "*run unit unit"]],
    schedule: Schedule,
    *,
    on_epoch: Callable[[], object] = lambda: None,
) -> Trained:
    """Minimise eq. 1 by SGD, for several runs at once.

    The gradient is written out, since one step is too small for automatic differentiation to pay:
    with unit vectors u and E = exp(u uᵀ), which is symmetric, and r its row sums, the gradient of
    C·loss with respect to u is ``(E u) / r + E (u / r) - (p + pᵀ) u``.

    Parameters
    ----------
    start
        Initial vectors, one set a run.
    targets
        Returns p for a step, counted from 0: ``(C, C)`` for all runs, or ``(run, C, C)``.

    Raises
    ------
    FloatingPointError
        If the vectors diverge; the step is named.
    """
    vectors = start.clone()
    n_units = vectors.shape[1]
    velocity = torch.zeros_like(vectors)
    trajectory = [start.clone()]
    losses = []
    lr = schedule.lr
    symmetric: Tensor | None = None
    p: Tensor | None = None
    for epoch in range(schedule.epochs):
        lr = schedule.lr * 0.1 ** sum(epoch >= m for m in schedule.milestones)
        loss = torch.zeros(len(start), dtype=torch.float64, device=start.device)
        for step in range(epoch * schedule.steps_per_epoch, (epoch + 1) * schedule.steps_per_epoch):
            fresh = targets(step)
            if fresh is not p:
                p, symmetric = fresh, fresh + fresh.mT
            norm = vectors.norm(dim=2, keepdim=True).clamp_min(1e-12)
            unit = vectors / norm
            # In place: a fresh matrix a step costs more in page faults than the exponential.
            weight = (unit @ unit.mT).exp_()
            row = weight.sum(dim=2, keepdim=True)
            # Rows of p sum to 1, so the loss is mean log r - (1/C) Σ p·cosine.
            pulled = symmetric @ unit
            loss += row.log().mean(dim=(1, 2)) - (pulled * unit).sum(dim=(1, 2)) / (2 * n_units)
            both = weight @ torch.cat([unit, unit / row], dim=2)
            dim = unit.shape[2]
            gradient = both[..., :dim] / row + both[..., dim:] - pulled
            # Only what is orthogonal to a vector turns it.
            gradient -= (gradient * unit).sum(dim=2, keepdim=True) * unit
            gradient /= n_units * norm
            gradient += schedule.weight_decay * vectors
            velocity = schedule.momentum * velocity + gradient if step else gradient
            vectors = vectors - lr * velocity
        if not torch.isfinite(vectors).all():
            msg = (
                f"the vectors became NaN or infinite in epoch {epoch} (lr {lr:g}, momentum "
                f"{schedule.momentum:g}); lower embedding.lr"
            )
            raise FloatingPointError(msg)
        trajectory.append(vectors)
        losses.append(loss / schedule.steps_per_epoch)
        on_epoch()
    loss_table = torch.stack(losses, 1) if losses else torch.empty((len(start), 0))
    return Trained(torch.stack(trajectory, dim=1), loss_table)


def minibatch_targets(
    maps: h5py.Dataset, batch_size: int, seed: int, device: str
) -> Callable[[int], Float[Tensor, "unit unit"]]:
    """Return the targets as published: each step's p is the mean over a batch of images.

    Every epoch of N / batch_size steps sees each image once, in an order drawn from the seed; the
    last, smaller batch of an epoch is kept.
    """
    n_images = len(maps)
    starts = range(0, n_images, batch_size)

    def target(step: int) -> Float[Tensor, "unit unit"]:
        epoch, place = divmod(step, len(starts))
        order = np.random.default_rng([seed, epoch]).permutation(n_images)
        chosen = np.sort(order[starts[place] : starts[place] + batch_size])
        batch = torch.from_numpy(maps[chosen]).to(device)
        return (similarity_sum(batch) / len(chosen)).float()

    return target


def profile_target(iou: Float[np.ndarray, "unit concept"]) -> Float[Tensor, "unit unit"]:
    """Return t = h(d(T, T)) of the IoU profiles T, in float64 ([HAN22] section 3.4)."""
    return row_softmax(cosine_similarity(torch.from_numpy(iou).double()))


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
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    settings: dict[str, Any] = {"dim": dim, "target": target, "seeds": list(seeds)}
    settings |= schedule._asdict()
    with ExitStack() as stack:
        similarity = stack.enter_context(open_artefact(similarity_path, "similarity"))
        profiles = stack.enter_context(open_artefact(profiles_path, "profiles"))
        check_expected(similarity, expected or {})
        origin = read_made_from(similarity)["activations"]
        check_made_from(profiles, "activations", origin, str(similarity_path))
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
                maps = activations[f"layers/{layer}/activations"]
                targets = minibatch_targets(maps, batch_size, seeds[0], device)
                tasks[f"layers/{layer}"] = (targets, maps.shape[1])
        config = read_config(profiles) | {"embedding": settings}
        made_from = {
            "similarity": str(similarity.attrs["fingerprint"]),
            "profiles": str(profiles.attrs["fingerprint"]),
        }
        trained = _train_all(tasks, dim, schedule, seeds, device, n_threads)
        with create_artefact(path, "embedding", config, made_from) as file:
            seed = write_scale(file, "seeds", np.array(seeds, dtype=np.int64))
            for name in tasks:
                _write_trained(file.create_group(name), trained[name], seed)


# The targets of every step and the number of units, by the group that the result is written to.
Tasks = dict[str, tuple[Callable[[int], Tensor], int]]


def _mean_tasks(
    similarity: h5py.File, profiles: h5py.File, layers: Sequence[str], device: str
) -> Tasks:
    tasks: Tasks = {}
    for layer in layers:
        p = torch.from_numpy(similarity[f"layers/{layer}/target"][:])
        t = profile_target(profiles[f"layers/{layer}/iou"][:])
        for name, value in (("layers", p), ("supervised/layers", t)):
            tasks[f"{name}/{layer}"] = _always(value.float().to(device)), len(p)
    return tasks


def _always(value: Tensor) -> Callable[[int], Tensor]:
    """Return a function of the step that gives one target for all steps."""
    return lambda step: value


def _train_all(
    tasks: Tasks,
    dim: int,
    schedule: Schedule,
    seeds: Sequence[int],
    device: str,
    n_threads: int | None,
) -> dict[str, Trained]:
    """Train all tasks side by side, each with all its seeds in one computation."""
    # The widest layers first: they take longest, so that no core is left waiting for one.
    names = sorted(tasks, key=lambda name: -tasks[name][1])
    epochs = len(tasks) * schedule.epochs
    with one_torch_thread(), tqdm(total=epochs, desc="embed", unit=" epochs", disable=None) as bar:

        def train(name: str) -> Trained:
            targets, n_units = tasks[name]
            start = initial_vectors(n_units, dim, seeds).to(device)
            return train_vectors(start, targets, schedule, on_epoch=bar.update)

        return dict(zip(names, map_in_threads(train, names, n_threads=n_threads), strict=True))


def _write_trained(group: h5py.Group, trained: Trained, seed: h5py.Dataset) -> None:
    trajectory = trained.trajectory.cpu().numpy()
    unit = write_scale(group, "unit", np.arange(trajectory.shape[2]))
    epoch = write_scale(group, "epoch", np.arange(trajectory.shape[1]))
    scales = {"seed": seed, "unit": unit, "epoch": epoch}
    for name, values, axes in (
        ("vectors", trajectory[:, -1], ("seed", "unit", "dim")),
        ("trajectory", trajectory, ("seed", "epoch", "unit", "dim")),
        ("loss", trained.loss.cpu().numpy(), ("seed", "training_epoch")),
    ):
        label_axes(group.create_dataset(name, data=values), axes, scales)
