"""Learn a short vector for every unit, so that units that fire alike lie alike.

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

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax, similarity_sum


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
    read: Callable[[Int[np.ndarray, " chosen"]], Float[np.ndarray, "chosen unit y x"]],
    n_images: int,
    batch_size: int,
    seed: int,
    device: str,
) -> Callable[[int], Float[Tensor, "unit unit"]]:
    """Return the targets as published: each step's p is the mean over a batch of images.

    Every epoch of N / batch_size steps sees each image once, in an order drawn from the seed; the
    last, smaller batch of an epoch is kept.

    Parameters
    ----------
    read
        Returns the maps of images by their indices, in ascending order.
    """
    starts = range(0, n_images, batch_size)

    def target(step: int) -> Float[Tensor, "unit unit"]:
        epoch, index = divmod(step, len(starts))
        order = np.random.default_rng([seed, epoch]).permutation(n_images)
        chosen = np.sort(order[starts[index] : starts[index] + batch_size])
        batch = torch.from_numpy(read(chosen)).to(device)
        return (similarity_sum(batch) / len(chosen)).float()

    return target


def profile_target(iou: Float[np.ndarray, "unit concept"]) -> Float[Tensor, "unit unit"]:
    """Return t = h(d(T, T)) of the IoU profiles T, in float64 ([HAN22] section 3.4)."""
    return row_softmax(cosine_similarity(torch.from_numpy(iou).double()))
