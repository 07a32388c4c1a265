"""What a trained student is asked at its end: how far its units are from the targets of SKD.

Accuracy alone does not tell whether a target was learned. So KL(p || q_n), the mean over units,
images and layers, is told of every student, whatever its method, and of every target: where that of
SKD's p is no lower for SKD than for the plain student, accuracy cannot depend on p.

p is constant, so all targets of a layer need but one matrix, the mean of log q_n over images:

    KL = (1/C) Σ_ij p_ij (log p_ij - mean_n log q_n,ij)
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dissect_embed.distillation.methods.static_loss import DEAD, static_loss
from dissect_embed.distillation.methods.static_module import Static
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.training.augmentation import normalise
from dissect_embed.distillation.training.step import Pixels
from dissect_embed.mathematics.cosines import cosine_similarity

# Training images that a student is looked at on.
N_IMAGES: Final = 1000
BATCH: Final = 50
# Entries of the (C, C) matrices, in float64, of the images that are in work at once: 32 MiB.
TOGETHER: Final = 1 << 22
# The share of unit maps, the weakest, whose part in the gradient is told.
WEAKEST: Final = 0.01


class Yardstick(NamedTuple):
    """What students are measured by: p of f1, f2, … of each target, and the prior they are of."""

    prior: str  # its fingerprint
    targets: Mapping[str, Sequence[Float[Tensor, "_ _"]]]


def measure_divergence(
    network: Network, pixels: Pixels, targets: Mapping[str, Sequence[Float[Tensor, "_ _"]]]
) -> dict[str, Any]:
    """Return KL(p || q) in nats of each target, by name: ``layers`` and their ``mean``.

    The network is left in evaluation mode, in which its maps are taken.

    Parameters
    ----------
    pixels
        The images, seen as they are.
    targets
        p of f1, f2, …, (unit, unit) each, at temperature 1.
    """
    means = mean_log_similarity(network, pixels)
    told = {}
    for name, layers in targets.items():
        found = [_divergence(p, log_q) for p, log_q in zip(layers, means, strict=True)]
        told[name] = {"mean": sum(found) / len(found), "layers": found}
    return told


def mean_log_similarity(network: Network, pixels: Pixels) -> list[Float[Tensor, "_ _"]]:
    """Return the mean over images of log h(d(A_n, A_n)) of f1, f2, …, in float64."""
    totals: list[Tensor] = []
    with torch.no_grad():
        for maps in _maps_of(network, pixels):
            sums = [_log_similarity_sum(layer) for layer in maps]
            totals = [a + b for a, b in zip(totals, sums, strict=True)] if totals else sums
    return [total / len(pixels.labels) for total in totals]


def share_of_weakest(network: Network, pixels: Pixels, static: Static) -> list[float | None]:
    """Return how much of eq. 2's squared gradient the weakest 1 % of living unit maps get.

    A cosine turns the more easily the weaker a map is, d cos / dA ~ 1 / |A|.

    Returns
    -------
    A share of f1, f2, …; None where there is no gradient at all.
    """
    norms: list[list[Tensor]] = []
    squares: list[list[Tensor]] = []
    for maps in _maps_of(network, pixels):
        leaves = [layer.detach().requires_grad_() for layer in maps]
        loss = static_loss(leaves, static.targets, static.temperature) * len(leaves[0])
        gradients = torch.autograd.grad(loss, leaves)
        norms.append([layer.detach().double().flatten(2).norm(dim=2) for layer in leaves])
        squares.append([g.double().flatten(2).square().sum(dim=2) for g in gradients])
    shares: list[float | None] = []
    for norm, square in zip(zip(*norms, strict=True), zip(*squares, strict=True), strict=True):
        strength, pull = torch.cat(norm).flatten(), torch.cat(square).flatten()
        living = strength > DEAD
        strength, pull = strength[living], pull[living]
        weakest = strength.argsort()[: -(-len(strength) // round(1 / WEAKEST))]
        total = float(pull.sum())
        shares.append(float(pull[weakest].sum()) / total if total else None)
    return shares


def _maps_of(network: Network, pixels: Pixels) -> Iterator[tuple[Tensor, ...]]:
    network.eval()
    for images in pixels.images.split(BATCH):
        with torch.no_grad():
            maps = network.outputs(normalise(images, pixels.mean, pixels.std)).maps[1:]
        yield maps


def _log_similarity_sum(maps: Float[Tensor, "image unit _ _"]) -> Float[Tensor, "unit unit"]:
    rows = maps.flatten(2).double()
    # As in the loss, a map as weak as that is dead.
    rows = rows * (rows.norm(dim=2, keepdim=True) > DEAD)
    n_units = rows.shape[1]
    total = torch.zeros((n_units, n_units), dtype=torch.float64, device=rows.device)
    for part in rows.split(max(1, TOGETHER // n_units**2)):
        total += torch.log_softmax(cosine_similarity(part), dim=2).sum(dim=0)
    return total


def _divergence(p: Float[Tensor, "unit unit"], mean_log_q: Float[Tensor, "unit unit"]) -> float:
    p = p.double().to(mean_log_q.device)
    return float((torch.xlogy(p, p) - p * mean_log_q).sum() / len(p))
