"""The families of the zoo's networks: what they have in common, and how each is put together."""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dissect_embed.distillation.blocks import (
    PreActivationBlock,
    ResidualBlock,
    Stage,
    convolution,
)
from dissect_embed.distillation.outputs import Network, Outputs


class Trunk(Network):
    """A trunk of named modules one after the other, the mean over positions, and a linear head.

    ``stage_names`` names the modules whose outputs are f0, f1, f2, …
    """

    def __init__(
        self,
        trunk: Mapping[str, nn.Module],
        stage_names: Sequence[str],
        head: nn.Linear,
        head_name: str = "fc",
    ) -> None:
        """Take the modules; they are attributes by their names."""
        super().__init__()
        self.stage_names = tuple(stage_names)
        self._trunk = tuple(trunk)
        self._head = head_name
        for name, module in [*trunk.items(), (head_name, head)]:
            self.add_module(name, module)

    def forward(self, images: Float[Tensor, "image 3 y x"]) -> Float[Tensor, "image cls"]:
        """Return the logits."""
        x = images
        for name in self._trunk:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.get_submodule(self._head)(x.mean(dim=(2, 3)))
        return logits

    def outputs(self, images: Float[Tensor, "image 3 y x"]) -> Outputs:
        """Return the logits and all on the way to them; forward hooks of stages are not called.

        ``before_relu`` is what CRD's code gives with ``preact=True``: it leaves f0 as it is.
        """
        x = images
        maps: list[Tensor] = []
        before_relu: list[Tensor] = []
        for name in self._trunk:
            module = self.get_submodule(name)
            before = module.before_relu(x) if isinstance(module, Stage) else None
            x = module(x) if before is None else F.relu(before)
            if name in self.stage_names:
                before_relu.append(before if maps and before is not None else x)
                maps.append(x)
        return self._outputs(x, maps, before_relu)

    def _outputs(self, x: Tensor, maps: list[Tensor], before_relu: list[Tensor]) -> Outputs:
        pooled = x.mean(dim=(2, 3))
        logits = self.get_submodule(self._head)(pooled)
        return Outputs(logits, pooled, tuple(maps), tuple(before_relu))


class WideResNet(Trunk):
    """A network of pre-activation blocks, whose maps are signed."""

    def outputs(self, images: Float[Tensor, "image 3 y x"]) -> Outputs:
        """Return the logits and all on the way to them; forward hooks of stages are not called.

        A stage's ``before_relu`` is the batch norm that comes next. CRD's code computes it twice,
        which moves the running statistics twice; here once.
        """
        stem, *stages = self.stage_names
        x = self.get_submodule(stem)(images)
        maps = [x]
        before_relu = []
        for name in stages:
            first, *rest = self.get_submodule(f"{name}.layer").children()
            assert isinstance(first, PreActivationBlock)
            before_relu.append(first.bn1(x))
            x = first.after_norm(x, before_relu[-1])
            for block in rest:
                x = block(x)
            maps.append(x)
        before_relu.append(self.get_submodule("bn1")(x))
        x = F.relu(before_relu[-1])
        before_relu[0] = maps[0]
        return self._outputs(x, maps, before_relu)


def _initialise(network: Network) -> Network:
    """Draw weights as CRD does; linear layers are as torch makes them, unless changed later."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def resnet(widths: Sequence[int], n_blocks: int, n_classes: int) -> Network:
    """Return a ResNet: three stages of ``n_blocks`` blocks; maps are after ReLU."""
    trunk: dict[str, nn.Module] = {
        "conv1": convolution(3, widths[0]),
        "bn1": nn.BatchNorm2d(widths[0]),
        "relu": nn.ReLU(),
    }
    for stage in (1, 2, 3):
        blocks = []
        for n in range(n_blocks):
            n_in, n_out = widths[stage - 1 if n == 0 else stage], widths[stage]
            stride = 2 if n == 0 and stage > 1 else 1
            projection = None
            if n_in != n_out:
                projection = nn.Sequential(
                    convolution(n_in, n_out, stride, 1), nn.BatchNorm2d(n_out)
                )
            is_last = n == n_blocks - 1
            blocks.append(ResidualBlock(n_in, n_out, stride, projection, is_last=is_last))
        trunk[f"layer{stage}"] = Stage(*blocks)
    stage_names = ("relu", "layer1", "layer2", "layer3")
    return _initialise(Trunk(trunk, stage_names, nn.Linear(widths[3], n_classes)))


def wide_resnet(widths: Sequence[int], n_blocks: int, n_classes: int) -> Network:
    """Return a wide ResNet, of pre-activation blocks; maps are signed."""
    trunk: dict[str, nn.Module] = {"conv1": convolution(3, widths[0])}
    for stage in (1, 2, 3):
        layer = nn.Sequential()
        for n in range(n_blocks):
            n_in = widths[stage - 1 if n == 0 else stage]
            stride = 2 if n == 0 and stage > 1 else 1
            layer.append(PreActivationBlock(n_in, widths[stage], stride))
        trunk[f"block{stage}"] = nn.Sequential()
        trunk[f"block{stage}"].add_module("layer", layer)
    trunk |= {"bn1": nn.BatchNorm2d(widths[3]), "relu": nn.ReLU()}
    head = nn.Linear(widths[3], n_classes)
    stage_names = ("conv1", "block1", "block2", "block3")
    network = _initialise(WideResNet(trunk, stage_names, head))
    nn.init.zeros_(head.bias)
    return network


def vgg(n_convs: Sequence[int], n_classes: int) -> Network:
    """Return a VGG: five stages of ``n_convs`` convolutions, whose maps are before pooling."""
    trunk: dict[str, nn.Module] = {}
    n_in = 3
    for stage, (n, n_out) in enumerate(zip(n_convs, (64, 128, 256, 512, 512), strict=True)):
        modules: list[nn.Module] = []
        for _ in range(n):
            modules += [convolution(n_in, n_out, bias=True), nn.BatchNorm2d(n_out), nn.ReLU()]
            n_in = n_out
        trunk[f"block{stage}"] = Stage(*modules[:-1])
        if stage < 3:  # f4 has the grid of f3
            trunk[f"pool{stage}"] = nn.MaxPool2d(2)
    head = nn.Linear(n_in, n_classes)
    stage_names = [f"block{stage}" for stage in range(5)]
    network = _initialise(Trunk(trunk, stage_names, head, "classifier"))
    nn.init.normal_(head.weight, 0, 0.01)
    nn.init.zeros_(head.bias)
    return network
