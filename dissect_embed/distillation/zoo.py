"""The small networks for images of 32 × 32 that methods of distillation are compared on.

Architectures, initialisation and the names of parameters are those of Tian et al., *Contrastive
Representation Distillation*, ICLR 2020 (CRD; github.com/HobbitLong/RepDistiller), so that weights
trained by either load into the other. A stage's map is the output of a module, ``stage_names``:
the ordinary ``activations`` command probes them, with ``dissect_embed.distillation.zoo:resnet20``
as the network's name.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dissect_embed.distillation.blocks import (
    PreActivationBlock,
    ResidualBlock,
    Stage,
    convolution,
)
from dissect_embed.distillation.outputs import Outputs
from dissect_embed.errors import ModelError


class Network(nn.Module):
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


class WideResNet(Network):
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


def build_network(name: str, n_classes: int = 100, seed: int | None = None) -> Network:
    """Return a network of the zoo as CRD initialises it, in training mode.

    Parameters
    ----------
    name
        ``resnet20``, ``wrn-16-2``, …: a key of ``NETWORKS``.
    seed
        Of the weights; None draws from torch's generator.

    Raises
    ------
    ModelError
        If the name is unknown; all known are named.

    Examples
    --------
    >>> outputs = build_network("resnet20", seed=0).outputs(torch.zeros(2, 3, 32, 32))
    >>> [tuple(units.shape[1:]) for units in outputs.maps]
    [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    """
    if name not in NETWORKS:
        msg = f"network: unknown {name!r}; choose one of {', '.join(NETWORKS)}"
        raise ModelError(msg)
    if seed is None:
        return NETWORKS[name](n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](n_classes)


def map_shapes(network: Network, size: int = 32) -> tuple[tuple[int, int, int], ...]:
    """Return (units, height, width) of f0, f1, … on images of ``size`` × ``size`` pixels."""
    training = network.training
    parameter = next(network.parameters())
    image = torch.zeros((1, 3, size, size), dtype=parameter.dtype, device=parameter.device)
    network.eval()  # or the image would enter the running statistics
    try:
        with torch.no_grad():
            maps = network.outputs(image).maps
    finally:
        network.train(training)
    return tuple((x.shape[1], x.shape[2], x.shape[3]) for x in maps)


def pair_maps(
    teacher: Network, student: Network, size: int = 32
) -> tuple[tuple[int, int, int], ...]:
    """Return the (units, height, width) that teacher and student share, stage by stage.

    Raises
    ------
    ModelError
        If the numbers of stages differ, or the shapes of a stage; both are named.
    """
    theirs, ours = map_shapes(teacher, size), map_shapes(student, size)
    if len(theirs) != len(ours):
        msg = (
            f"student: it has {len(ours)} stages, the teacher {len(theirs)}; "
            "choose a student of the teacher's family"
        )
        raise ModelError(msg)
    for n, (expected, got) in enumerate(zip(theirs, ours, strict=True)):
        if expected != got:
            msg = (
                f"student: f{n} ({student.stage_names[n]}) is {_shape(got)}, the teacher's "
                f"({teacher.stage_names[n]}) {_shape(expected)}; units and grid must agree: "
                "choose another student"
            )
            raise ModelError(msg)
    return ours


def _shape(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} units on {shape[1]} × {shape[2]}"


def _initialise(network: Network) -> Network:
    """Draw weights as CRD does; linear layers are as torch makes them, unless changed later."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def _resnet(widths: Sequence[int], n_blocks: int, n_classes: int) -> Network:
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
    return _initialise(Network(trunk, stage_names, nn.Linear(widths[3], n_classes)))


def _wide_resnet(widths: Sequence[int], n_blocks: int, n_classes: int) -> Network:
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


def _vgg(n_convs: Sequence[int], n_classes: int) -> Network:
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
    network = _initialise(Network(trunk, stage_names, head, "classifier"))
    nn.init.normal_(head.weight, 0, 0.01)
    nn.init.zeros_(head.bias)
    return network


_NARROW, _WIDE, _FOURFOLD = (16, 16, 32, 64), (16, 32, 64, 128), (32, 64, 128, 256)
NETWORKS: dict[str, Callable[[int], Network]] = {
    "resnet20": functools.partial(_resnet, _NARROW, 3),
    "resnet32": functools.partial(_resnet, _NARROW, 5),
    "resnet56": functools.partial(_resnet, _NARROW, 9),
    "resnet110": functools.partial(_resnet, _NARROW, 18),
    "resnet8x4": functools.partial(_resnet, _FOURFOLD, 1),
    "resnet32x4": functools.partial(_resnet, _FOURFOLD, 5),
    "wrn-16-2": functools.partial(_wide_resnet, _WIDE, 2),
    "wrn-40-2": functools.partial(_wide_resnet, _WIDE, 6),
    "vgg8": functools.partial(_vgg, (1, 1, 1, 1, 1)),
    "vgg13": functools.partial(_vgg, (2, 2, 2, 2, 2)),
}

# For 'package.module:function', which is called without arguments.
resnet20 = functools.partial(build_network, "resnet20")
resnet32 = functools.partial(build_network, "resnet32")
resnet56 = functools.partial(build_network, "resnet56")
resnet110 = functools.partial(build_network, "resnet110")
resnet8x4 = functools.partial(build_network, "resnet8x4")
resnet32x4 = functools.partial(build_network, "resnet32x4")
wrn_16_2 = functools.partial(build_network, "wrn-16-2")
wrn_40_2 = functools.partial(build_network, "wrn-40-2")
vgg8 = functools.partial(build_network, "vgg8")
vgg13 = functools.partial(build_network, "vgg13")
