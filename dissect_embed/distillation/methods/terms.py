"""What a method adds to the cross-entropy, with what it trains: regressors, paraphrasers, ...

A term looks at the outputs of both networks, in any precision, and compares them in float32. The
teacher's come detached, and autocast is off (``method.Method`` sees to both).
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from dissect_embed.distillation.methods.losses import (
    boundary_loss,
    correlation_loss,
    factor_loss,
    flow_loss,
    gaussian_loss,
)
from dissect_embed.distillation.outputs import Outputs

Maps = Float[Tensor, "image _ _ _"]
Comparison = Callable[[Tensor, Tensor], Tensor]


class Term(nn.Module):
    """A comparison of student and teacher, which may have parameters and a first stage."""

    # The learning rate of the first stage; none: the schedule's first one.
    lr_before: float | None = None

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the loss beside the cross-entropy, not yet weighted."""
        raise NotImplementedError

    def before(self, student: Outputs | None, teacher: Outputs) -> Float[Tensor, ""]:
        """Return the loss of the first stage."""
        raise NotImplementedError

    def parameters_before(self) -> list[nn.Parameter]:
        """Return the term's own parameters that the first stage trains."""
        return []

    def parameters_beside(self) -> list[nn.Parameter]:
        """Return the term's own parameters that are trained with the student."""
        return list(self.parameters())


def stages(outputs: Outputs) -> list[Maps]:
    """Return f1, f2, ..., all maps but the stem's, in float32."""
    return [maps.float() for maps in outputs.maps[1:]]


class OnStages(Term):
    """A loss of maps, summed over f1, f2, ..."""

    def __init__(self, loss: Comparison) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the sum over stages."""
        pairs = zip(stages(student), stages(teacher), strict=True)
        return torch.stack([self.loss(s, t) for s, t in pairs]).sum()


class OnLast(Term):
    """A loss of the last maps."""

    def __init__(self, loss: Comparison) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the loss of the last maps."""
        return self.loss(student.maps[-1].float(), teacher.maps[-1].float())


class OnPooled(Term):
    """A loss of the pooled features."""

    def __init__(self, loss: Comparison) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the loss of the pooled features."""
        return self.loss(student.pooled.float(), teacher.pooled.float())


class Hint(Term):
    """FitNet: a regressor from the student's f2 to the teacher's, and their mean squared error.

    Romero et al., *FitNets: Hints for Thin Deep Nets*, ICLR 2015. The paper trains on hints first
    and then on labels; CRD's code on both at once.
    """

    def __init__(self, student: Outputs, teacher: Outputs) -> None:
        super().__init__()
        n_units = teacher.maps[2].shape[1]
        self.regressor = nn.Sequential(
            nn.Conv2d(student.maps[2].shape[1], n_units, 1), nn.BatchNorm2d(n_units), nn.ReLU()
        )

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the hint."""
        return F.mse_loss(self.regressor(student.maps[2].float()), teacher.maps[2].float())


class Correlation(Term):
    """CC: pooled features of both networks through linear maps to the same dimension."""

    def __init__(self, student: Outputs, teacher: Outputs, dim: int = 128) -> None:
        super().__init__()
        self.embed_student = nn.Linear(student.pooled.shape[1], dim)
        self.embed_teacher = nn.Linear(teacher.pooled.shape[1], dim)

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return ``correlation_loss`` of the embedded features."""
        return correlation_loss(
            self.embed_student(student.pooled.float()), self.embed_teacher(teacher.pooled.float())
        )


class Variational(Term):
    """VID: the teacher's maps as Gaussians around what the student's maps predict.

    A stage's prediction are three 1×1 convolutions; each unit of the teacher has one variance,
    softplus(ρ) + eps, for all images and pixels.
    """

    def __init__(
        self, student: Outputs, teacher: Outputs, variance: float = 5.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.eps = eps
        self.regressors = nn.ModuleList()
        self.rho = nn.ParameterList()
        for s, t in zip(student.maps[1:], teacher.maps[1:], strict=True):
            n_units = t.shape[1]
            self.regressors.append(
                nn.Sequential(
                    nn.Conv2d(s.shape[1], n_units, 1, bias=False),
                    nn.ReLU(),
                    nn.Conv2d(n_units, n_units, 1, bias=False),
                    nn.ReLU(),
                    nn.Conv2d(n_units, n_units, 1, bias=False),
                )
            )
            self.rho.append(torch.full((n_units,), math.log(math.expm1(variance - eps))))

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return the sum over stages of ``gaussian_loss``."""
        parts = zip(self.regressors, self.rho, stages(student), stages(teacher), strict=True)
        return torch.stack(
            [gaussian_loss(f(s), t, F.softplus(rho) + self.eps) for f, rho, s, t in parts]
        ).sum()


class Boundaries(Term):
    """AB: the student's units learn, before all else, on which side of zero the teacher's are.

    Where student and teacher have different units, a 1×1 convolution connects them: trained in the
    first stage, and done with after it. From the last stage backwards, weights halve.
    """

    def __init__(self, student: Outputs, teacher: Outputs) -> None:
        super().__init__()
        self.connectors = nn.ModuleList()
        for s, t in zip(student.before_relu[1:], teacher.before_relu[1:], strict=True):
            n_units = t.shape[1]
            connector = nn.Sequential(nn.Conv2d(s.shape[1], n_units, 1), nn.BatchNorm2d(n_units))
            self.connectors.append(nn.Identity() if s.shape[1] == n_units else connector)

    def before(self, student: Outputs | None, teacher: Outputs) -> Float[Tensor, ""]:
        """Return 0.003 (... + ¼ boundary_loss(f1) + ½ boundary_loss(f2) + boundary_loss(f3))."""
        assert student is not None
        parts = zip(self.connectors, student.before_relu[1:], teacher.before_relu[1:], strict=True)
        losses = torch.stack([boundary_loss(f(s.float()), t.float()) for f, s, t in parts])
        weights = [0.003 * 2.0**-i for i in range(len(losses))][::-1]
        return torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum()

    def parameters_before(self) -> list[nn.Parameter]:
        """Return the connectors' parameters."""
        return list(self.parameters())

    def parameters_beside(self) -> list[nn.Parameter]:
        """Return nothing."""
        return []


class Flow(Term):
    """FSP: the student learns the teacher's flow between f0 and f1, f1 and f2, ... first."""

    def before(self, student: Outputs | None, teacher: Outputs) -> Float[Tensor, ""]:
        """Return the sum of ``flow_loss`` over neighbouring maps."""
        assert student is not None
        s, t = ([maps.float() for maps in outputs.maps] for outputs in (student, teacher))
        pairs = range(1, len(s))
        return torch.stack([flow_loss((s[i - 1], s[i]), (t[i - 1], t[i])) for i in pairs]).sum()


class Factors(Term):
    """FT: the student's last map is translated to a paraphrase of the teacher's.

    The paraphraser is an autoencoder of the teacher's last map with half the units in the middle
    (k = 0.5). The first stage trains it, without the student; then it is fixed, and the translator
    trained with the student.
    """

    def __init__(self, student: Outputs, teacher: Outputs, k: float = 0.5) -> None:
        super().__init__()
        n_units, n_teacher = student.maps[-1].shape[1], teacher.maps[-1].shape[1]
        n_factors = int(n_teacher * k)
        conv, back = nn.Conv2d, nn.ConvTranspose2d
        self.encoder = _three(conv, [n_teacher, n_teacher, n_factors, n_factors])
        self.decoder = _three(back, [n_factors, n_factors, n_teacher, n_teacher])
        self.translator = _three(conv, [n_units, n_units, n_factors, n_factors], normalise=True)
        # As CRD's code has it; its VGGs, which have a stage more, keep the schedule's.
        self.lr_before = 0.01 if len(student.maps) == 4 else None

    def forward(
        self, student: Outputs, teacher: Outputs, images: Int64[Tensor, " image"]
    ) -> Float[Tensor, ""]:
        """Return ``factor_loss`` of the translated and the paraphrased maps."""
        with torch.no_grad():
            factors = self.encoder(teacher.maps[-1].float())
        return factor_loss(self.translator(student.maps[-1].float()), factors)

    def before(self, student: Outputs | None, teacher: Outputs) -> Float[Tensor, ""]:
        """Return the mean squared error of the paraphraser's reconstruction."""
        maps = teacher.maps[-1].float()
        return F.mse_loss(self.decoder(self.encoder(maps)), maps)

    def parameters_before(self) -> list[nn.Parameter]:
        """Return the paraphraser's parameters."""
        return [*self.encoder.parameters(), *self.decoder.parameters()]

    def parameters_beside(self) -> list[nn.Parameter]:
        """Return the translator's parameters."""
        return list(self.translator.parameters())


def _three(
    convolution: Callable[..., nn.Module], n_units: list[int], *, normalise: bool = False
) -> nn.Sequential:
    """Return three 3×3 convolutions, each with a leaky ReLU."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(n_units):
        layers.append(convolution(n_in, n_out, 3, padding=1))
        layers += [nn.BatchNorm2d(n_out)] * normalise
        layers.append(nn.LeakyReLU(0.1))
    return nn.Sequential(*layers)
