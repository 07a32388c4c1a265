"""SKD as a method beside the others: cross-entropy + β·static_loss, without a teacher."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dissect_embed.distillation.methods.method import Method, Recipe
from dissect_embed.distillation.methods.static_loss import static_loss
from dissect_embed.distillation.outputs import Outputs
from dissect_embed.errors import TrainingError


class StaticMethod(Method):
    """Eq. 2 and 3 of [HAN22] on f1, f2, …, beside the cross-entropy."""

    def __init__(
        self,
        targets: Sequence[Float[Tensor, "_ _"]],
        weight: float = 0.5,
        temperature: float = 1.0,
    ) -> None:
        """Take p of each stage, (unit, unit), β, and the temperature of q.

        Raises
        ------
        TrainingError
            If the rows of a target are no distributions.
        """
        super().__init__(Recipe("SKD"), None)
        self.weight = weight
        self.temperature = temperature
        self._names = [f"target{n}" for n, _ in enumerate(targets)]
        for name, target in zip(self._names, targets, strict=True):
            off = (target.sum(dim=1) - 1).abs().max().item()
            if not off < 1e-3:
                msg = f"SKD: rows of {name} sum to 1 ± {off:.3g}; give the softmax over each row"
                raise TrainingError(msg)
            self.register_buffer(name, target.detach().float().clone(), persistent=False)

    def forward(
        self,
        student: Outputs,
        teacher: Outputs | None,
        labels: Int64[Tensor, " image"],
        images: Int64[Tensor, " image"],
    ) -> Float[Tensor, ""]:
        """Return the weighted loss, cross-entropy included; there is no teacher."""
        entropy = super().forward(student, teacher, labels, images)
        targets = [self.get_buffer(name) for name in self._names]
        with torch.autocast(student.logits.device.type, enabled=False):
            return entropy + self.weight * static_loss(student.maps[1:], targets, self.temperature)
