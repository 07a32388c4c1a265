"""What the networks of the zoo are made of; names of parameters are those of CRD's code."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def convolution(
    n_in: int, n_out: int, stride: int = 1, size: int = 3, *, bias: bool = False
) -> nn.Conv2d:
    """Return a convolution that keeps the grid, or halves it with a stride of 2."""
    return nn.Conv2d(n_in, n_out, size, stride, padding=size // 2, bias=bias)


class Stage(nn.Sequential):
    """Modules, and a ReLU at the end that can be left out."""

    def before_relu(self, x: Float[Tensor, "image _ _ _"]) -> Float[Tensor, "image _ _ _"]:
        """Return what the last ReLU is applied to."""
        total: Tensor = super().forward(x)  # type: ignore[no-untyped-call]  # torch has no types here
        return total

    def forward(self, x: Float[Tensor, "image _ _ _"]) -> Float[Tensor, "image _ _ _"]:
        """Return the stage's map."""
        return F.relu(self.before_relu(x))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; the last of a stage leaves its ReLU to the stage."""

    def __init__(
        self, n_in: int, n_out: int, stride: int, projection: nn.Module | None, *, is_last: bool
    ) -> None:
        """Take the shortcut's projection, where the shape changes."""
        super().__init__()
        self.conv1 = convolution(n_in, n_out, stride)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = convolution(n_out, n_out)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.downsample = projection
        self.is_last = is_last

    def forward(self, x: Float[Tensor, "image _ _ _"]) -> Float[Tensor, "image _ _ _"]:
        """Return the sum of both ways, after a ReLU unless it is the stage's."""
        inner = F.relu(self.bn1(self.conv1(x)), inplace=True)
        total = self.bn2(self.conv2(inner))
        total += x if self.downsample is None else self.downsample(x)
        return total if self.is_last else F.relu(total, inplace=True)


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two convolutions, and a raw sum at the end."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        """Project the shortcut where the number of units changes."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = convolution(n_in, n_out, stride)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = convolution(n_out, n_out)
        self.convShortcut = None if n_in == n_out else convolution(n_in, n_out, stride, 1)

    def forward(self, x: Float[Tensor, "image _ _ _"]) -> Float[Tensor, "image _ _ _"]:
        """Return the signed sum of both ways."""
        return self.after_norm(x, self.bn1(x))

    def after_norm(
        self, x: Float[Tensor, "image _ _ _"], normalised: Float[Tensor, "image _ _ _"]
    ) -> Float[Tensor, "image _ _ _"]:
        """Do the rest, given the output of the first batch norm."""
        active = F.relu(normalised)
        inner = F.relu(self.bn2(self.conv1(active)), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        total: Tensor = self.conv2(inner)
        total += shortcut
        return total
