"""Networks with one peculiarity each, as users have them."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn


class StemOutside(nn.Module):
    """``conv1`` ends in a convolution, and its batch normalisation stands outside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
            nn.Conv2d(8, 16, 3, 1, 1, bias=False),
        )  # fmt: skip
        self.bn1, self.act1 = nn.BatchNorm2d(16), nn.ReLU(True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act1(self.bn1(self.conv1(x)))


class SharedRelu(nn.Module):
    """One ReLU in place, for two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.c2(self.relu(self.c1(x))))


class Normed(nn.Module):
    """A convolution whose weight is made from others, a batch normalisation behind it."""

    def __init__(self, norm: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.conv, self.bn = norm(nn.Conv2d(3, 8, 3, 2, 1)), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Stateful(nn.Module):
    """Keeps a tensor on itself between two steps of a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.mid = nn.Sequential(*[nn.Conv2d(8, 8, 3, 1, 1) for _ in range(4)])
        self.out = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.skip = self.down(x)
        return self.out(torch.cat([self.mid(torch.relu(self.skip)), self.skip], 1))


class HookedUNet(nn.Module):
    """A U-Net whose skips come from hooks that write to a place of its own, or of all copies."""

    def __init__(self, kept: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.up, self.out = nn.Upsample(scale_factor=2), nn.Conv2d(16, 6, 1)
        shared = {} if kept is None else kept
        self.kept = (lambda: shared) if kept is not None else None
        self.own: dict[str, Tensor] = {}
        self.one.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        (self.kept() if self.kept else self.own)["skip"] = output

    def forward(self, x: Tensor) -> Tensor:
        deep = self.up(self.two(torch.relu(self.one(x))))
        skip = (self.kept() if self.kept else self.own)["skip"]
        return self.out(torch.cat([deep, skip], 1))


class ClosureUNet(nn.Module):
    """The same by a closure, which a copy would share with the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.out = nn.Conv2d(16, 6, 1)
        self.kept: dict[str, Tensor] = {}
        # To this network's ``kept``, whichever copy runs.
        self.one.register_forward_hook(lambda m, i, o: self.kept.update(skip=o))

    def forward(self, x: Tensor) -> Tensor:
        deep = self.two(torch.relu(self.one(x)))
        return self.out(torch.cat([deep, self.kept["skip"]], 1))


class Reads(nn.Module):
    """Looks at its modules in a pass: their numbers of channels, types and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x[:, : self.conv.in_channels]))
        scale = self.bn.eps + self.bn.num_features if isinstance(self.bn, nn.BatchNorm2d) else 0
        return self.last(x * scale) * self.conv.weight.abs().mean()


class TwoNames(nn.Module):
    """A convolution that is called by another name than its first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.steps = nn.ModuleList([self.conv, self.bn])

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Heads(nn.Module):
    """Two heads, in a dictionary; a tuple within."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.heads = nn.Conv2d(3, 8, 3, 2, 1), _Heads()

    def forward(self, x: Tensor) -> Any:
        return self.heads(self.body(x))


class _Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 5, 3, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return {"out": self.a(x), "aux": (self.b(x), x.mean())}


class Digits(nn.Module):
    """For MNIST: one channel, one size."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.Linear(8 * 13 * 13, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class SparseAutoencoder(nn.Module):
    """A small transformer, and over its tokens an autoencoder of many units as a layer."""

    def __init__(self, n_units: int = 96, registers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 8, 8)
        self.class_token = nn.Parameter(torch.randn(1, 1 + registers, 24))
        self.block = nn.TransformerEncoderLayer(24, 2, 32, batch_first=True)
        self.encoder = nn.Sequential(nn.Linear(24, n_units), nn.ReLU())
        self.decoder = nn.Linear(n_units, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.block(torch.cat([self.class_token.expand(len(x), -1, -1), x], 1))
        return self.decoder(self.encoder(x))


class TokensFirst(nn.Module):
    """Tokens before images, as in older transformers; and units before tokens, as in mixers."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block, self.turn = nn.Conv2d(3, 12, 8, 8), nn.Linear(12, 10), Turn()

    def forward(self, x: Tensor) -> Tensor:
        return self.turn(self.block(self.patches(x).flatten(2).permute(2, 0, 1)))


class Turn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(1, 2, 0)


class Draws(nn.Module):
    """Drops at random, also in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.dropout(x, 0.5, training=True))


class Remembers(nn.Module):
    """Gives something of the pass before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.n = nn.Conv2d(3, 4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.n += 1
        return self.conv(x * self.n)


class OtherShapes(nn.Module):
    """One module for tokens, then for maps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 3, 2, 1), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        tokens = self.drop(x.flatten(2))
        return self.drop(tokens.view_as(x) + 1)


class NoParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


def lively(model: nn.Module) -> nn.Module:
    """Give batch normalisations statistics that matter."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.2, 3)  # type: ignore[arg-type]
            nn.init.uniform_(module.bias, -1, 1)
    return model.eval()


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a network, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return lively(make())


# What makes each, the layers to probe, and whether copies of it may run side by side.
ODD: dict[str, tuple[Callable[[], nn.Module], list[str], bool]] = {
    "stem": (StemOutside, ["conv1", "conv1.1", "bn1"], True),
    "shared relu": (SharedRelu, ["c1", "relu#1", "relu"], True),
    "weight norm, old": (lambda: Normed(nn.utils.weight_norm), ["conv", "bn"], True),
    "weight norm": (lambda: Normed(nn.utils.parametrizations.weight_norm), ["conv", "bn"], True),
    "spectral norm, old": (lambda: Normed(nn.utils.spectral_norm), ["conv", "bn"], True),
    "spectral norm": (
        lambda: Normed(nn.utils.parametrizations.spectral_norm), ["conv", "bn"], True,
    ),
    "stateful": (Stateful, ["out", "mid"], True),
    "U-Net with hooks": (HookedUNet, ["out", "up"], True),
    "U-Net with hooks to one place": (lambda: HookedUNet({}), ["out"], False),
    "U-Net with closures": (ClosureUNet, ["out"], False),
    "reads its modules": (Reads, ["conv", "bn", "last"], True),
    "two names": (TwoNames, ["bn"], True),
    "two heads": (Heads, ['heads["out"]', 'heads["aux"][0]'], True),
    "sparse autoencoder": (SparseAutoencoder, ["block", "encoder"], True),
    "tokens first": (TokensFirst, ["block", "turn"], True),
    "calls of other shapes": (OtherShapes, ["drop", "drop#1"], True),
    "no parameters": (NoParameters, ["pool"], True),
    "parallel": (
        lambda: nn.DataParallel(torchvision.models.resnet18()), ["module.layer1"], True,
    ),
    "half precision": (lambda: StemOutside().half(), ["bn1"], True),
    "resnet18": (functools.partial(torchvision.models.resnet18), ["conv1", "layer2", "fc"], True),
}  # fmt: skip
