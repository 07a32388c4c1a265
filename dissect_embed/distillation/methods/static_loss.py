"""Static knowledge distillation: a student's units are to relate as the teacher's vectors do.

Eq. 2 and 3 of [HAN22] (Han et al., arXiv 2211.07647): for one layer
``-(1/C) Σ_ij p_ij log q_ij``, p constant and row-stochastic, and q the softmax over j of the
cosines d_ij of a sample's maps; then the mean over samples and layers.

Value and gradient are written out. With E = exp(d), which is symmetric, and Z its row sums,

    loss = (1/C) [Σ_i log Z_i - ½ Σ_ij (p + pᵀ)_ij d_ij],
    ∂loss/∂d, made symmetric: W_ij / 2C with W_ij = E_ij (1/Z_i + 1/Z_j) - (p + pᵀ)_ij,
    gradient at unit rows X: W X / C, of which only what is orthogonal to a row turns it:
    the diagonal of W would stretch rows, and is left out,

so there is neither a log-softmax nor a graph of (image, C, C) matrices. A few images at a time keep
the matrices in the processor's cache, and of units and positions the fewer are scaled: with
K = A Aᵀ a cosine is K_ij / |A_i| |A_j|, and the gradient is M A with a (C, C) matrix M.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from dissect_embed.errors import ModelError

# A row of this norm or less is a dead unit.
DEAD = 1e-6
# Entries of the (C, C) matrices of the images that are in work at once, for each thread: 1 MiB.
CACHED = 1 << 18
# exp(d / temperature) and its sums stay far below the largest float32, e^88, up to this exponent.
SAFE_EXPONENT = 64.0


def static_loss(
    maps: Sequence[Float[Tensor, "image _ _ _"]],
    targets: Sequence[Float[Tensor, "_ _"]],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Return eq. 2 and 3 of [HAN22], the mean over images and layers, in nats.

    A dead unit, whose map is 0, has cosine 0 with every unit, itself included, and gets no
    gradient. Maps of half precision are computed with in float32, under autocast too. The gradient
    cannot be differentiated again.

    Parameters
    ----------
    maps
        A_n of each layer, (image, unit, y, x); contiguous or channels last.
    targets
        p of each layer, (unit, unit): each row sums to 1. It is constant: it gets no gradient.
    temperature
        Divides the cosines of q; not in [HAN22], where it is 1. The caller makes p alike.

    Raises
    ------
    ModelError
        If the layers or the units of maps and targets differ in number.
    ValueError
        If the temperature is not positive.

    Examples
    --------
    Two units that never fire together, and a p that asks for it: each row of q is (e, 1) / (e + 1).

    >>> maps = torch.eye(2).reshape(1, 2, 1, 2)
    >>> static_loss([maps], [torch.eye(2)])
    tensor(0.3133)
    """
    if len(maps) != len(targets) or not maps:
        msg = f"SKD: {len(maps)} layers of maps, {len(targets)} targets; give one target a layer"
        raise ModelError(msg)
    for n, (layer, target) in enumerate(zip(maps, targets, strict=True)):
        if target.shape != (layer.shape[1], layer.shape[1]):
            msg = (
                f"SKD: layer {n} has {layer.shape[1]} units, its target is {tuple(target.shape)}; "
                "a student's layer needs as many units as its teacher's"
            )
            raise ModelError(msg)
    if not temperature > 0:
        msg = f"SKD: temperature {temperature!r}; expected a positive number"
        raise ValueError(msg)
    losses = []
    for layer, target in zip(maps, targets, strict=True):
        with torch.autocast(layer.device.type, enabled=False):
            exact = layer if layer.dtype == torch.float64 else layer.float()
            symmetric = (target + target.mT).to(exact.dtype)
            losses.append(_StaticLoss.apply(exact, symmetric, float(temperature)))
    return torch.stack(losses).mean()


class _StaticLoss(torch.autograd.Function):
    """The loss of one layer; what its gradient needs is made beside the value."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, symmetric: Tensor, temperature: float) -> Tensor:
        flat = maps.flatten(2)
        n_images, n_units, n_positions = flat.shape
        ctx.grid, ctx.by_gram = maps.shape[2:], n_units <= n_positions
        block = n_images
        if maps.device.type == "cpu":
            block = max(1, CACHED * torch.get_num_threads() // n_units**2)
        compute = _by_gram if ctx.by_gram else _by_rows
        value, kept = compute(flat, symmetric, temperature, min(block, n_images))
        scale = 1 / (n_units * n_images)
        kept *= scale
        ctx.save_for_backward(kept, *([flat] if ctx.by_gram else []))
        return value * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        kept, *flat = ctx.saved_tensors
        with torch.autocast(kept.device.type, enabled=False):
            pull = kept * grad
            if flat:
                m, pull = pull, torch.empty_like(flat[0])
                _product(m, flat[0], pull)
        return pull.unflatten(2, ctx.grid), None, None


def _by_gram(
    flat: Tensor, symmetric: Tensor, temperature: float, block: int
) -> tuple[Tensor, Tensor]:
    """Return C times the summed loss, and C·M of each image: the gradient is M A."""
    n_images, n_units, _ = flat.shape
    kept = flat.new_empty((n_images, n_units, n_units))
    work = flat.new_empty((2, block, n_units, n_units))
    value = flat.new_zeros(())
    for part, w in zip(flat.split(block), kept.split(block), strict=True):
        d, spare = work[:, : len(part)]
        torch.bmm(part, part.mT, out=d)
        inverse = _inverse(d.diagonal(dim1=1, dim2=2).sqrt()) / math.sqrt(temperature)
        d *= torch.mul(inverse[:, :, None], inverse[:, None], out=spare)
        pulled = torch.mv(d.flatten(1), symmetric.flatten())
        log_z, share = _exponentiate(d, w, inverse > 0, temperature)
        value += log_z - pulled.sum() / 2
        w *= torch.add(share[:, :, None], share[:, None], out=spare)
        w -= symmetric
        w.diagonal(dim1=1, dim2=2).zero_()
        turning = torch.mul(w, d, out=spare).sum(dim=2) * temperature
        w.diagonal(dim1=1, dim2=2).copy_(-turning)
        w *= torch.mul(inverse[:, :, None], inverse[:, None], out=spare)
    return value, kept


def _by_rows(
    flat: Tensor, symmetric: Tensor, temperature: float, block: int
) -> tuple[Tensor, Tensor]:
    """Return C times the summed loss, and C times the gradient.

    Here W itself would cost more than the products with E, of X and of X / Z at once.
    """
    _, n_units, n_positions = flat.shape
    inverse = _inverse(flat.norm(dim=2))
    alive = inverse > 0
    rows = flat.mT.contiguous() * inverse[:, None]  # image, position, unit
    diagonal = symmetric.diagonal()
    pull = (rows.flatten(0, 1) @ (diagonal.diag() - symmetric)).view_as(rows)
    value = ((pull * rows).sum() - (alive * diagonal).sum()) / (2 * temperature)
    work = flat.new_empty((block, n_units, n_units))
    both = flat.new_empty((block, 2 * n_positions, n_units))
    for x, toward, lives in zip(
        rows.split(block), pull.split(block), alive.split(block), strict=True
    ):
        e, pair = work[: len(x)], both[: len(x)]
        torch.bmm(x.mT, x, out=e)
        if temperature != 1:
            e /= temperature
        log_z, share = _exponentiate(e, e, lives, temperature)
        value += log_z
        e.diagonal(dim1=1, dim2=2).zero_()
        pair[:, :n_positions] = x
        torch.mul(x, share[:, None], out=pair[:, n_positions:])
        by_row, by_column = torch.bmm(pair, e).chunk(2, dim=1)
        toward.addcmul_(by_row, share[:, None]).add_(by_column)
    pull -= (pull * rows).sum(dim=1, keepdim=True) * rows
    pull *= inverse[:, None] / temperature
    return value, torch.empty_like(flat).copy_(pull.mT)


def _exponentiate(
    d: Tensor, out: Tensor, alive: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Write E to ``out``, which may be d; return Σ log Z, and 1 / Z of units that are not dead."""
    # Below this temperature the largest exponent, 1 / temperature, is taken off.
    shift = 1 / temperature if temperature * SAFE_EXPONENT < 1 else 0.0
    if shift:
        torch.sub(d, shift, out=out).exp_()
    else:
        torch.exp(d, out=out)
    z = out.sum(dim=2)
    log_z = torch.where(alive, z.log() + shift, math.log(d.shape[1]))
    # A dead unit's 1 / Z meets only zeros, but may be infinite where exp(-shift) is 0.
    return log_z.sum(), torch.where(alive, 1 / z, 0)


def _inverse(norm: Tensor) -> Tensor:
    return torch.where(norm > DEAD, 1 / norm, 0)


def _product(w: Tensor, rows: Tensor, out: Tensor) -> None:
    """Write W X for a symmetric W, laid out in memory as X is: contiguous or channels last."""
    if rows.stride(1) == 1:
        torch.bmm(rows.mT, w, out=out.mT)
    else:
        torch.bmm(w, rows, out=out)
