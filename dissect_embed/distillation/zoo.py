"""The small networks for images of 32 × 32 that methods of distillation are compared on.

Architectures, initialisation and the names of parameters are those of Tian et al., *Contrastive
Representation Distillation*, ICLR 2020 (CRD; github.com/HobbitLong/RepDistiller), so that weights
trained by either load into the other. A stage's map is the output of a module, ``stage_names``:
the ordinary ``activations`` command probes them, with ``dissect_embed.distillation.zoo:resnet20``
as the network's name.

A network of one's own is named ``package.module:function``: the function is called with
``num_classes=`` and returns a module with

``stage_names``
    The names, as ``named_modules`` has them, of the modules whose outputs are f0 (the stem), f1,
    f2, …; AB and FSP need the last to be an attribute of the network;
``outputs(images)``
    ``Outputs`` of (image, 3, y, x): logits, the features that they are made of, (image, feature),
    the maps of ``stage_names``, (image, unit, y, x), and the same before the ReLU that ends a
    stage, which only AB looks at;
``forward(images)``
    The same logits.

Training it draws no random numbers, as dropout would: equal seeds give equal weights.

>>> from torch import nn
>>> from dissect_embed.distillation.outputs import Outputs
>>> class Small(nn.Module):
...     stage_names = ("stem", "layer1")
...     def __init__(self, num_classes):
...         super().__init__()
...         self.stem, self.layer1 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, stride=2)
...         self.fc = nn.Linear(16, num_classes)
...     def outputs(self, images):
...         before = self.layer1(stem := self.stem(images).relu())
...         pooled = before.relu().mean(dim=(2, 3))
...         return Outputs(self.fc(pooled), pooled, (stem, before.relu()), (stem, before))
...     def forward(self, images):
...         return self.outputs(images).logits
"""

import functools
from collections.abc import Callable

import torch

from dissect_embed.distillation.families import resnet, vgg, wide_resnet
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.own import build_own, is_own
from dissect_embed.errors import ModelError


def build_network(name: str, n_classes: int = 100, seed: int | None = None) -> Network:
    """Return a network of the zoo as CRD initialises it, or one's own, in training mode.

    Parameters
    ----------
    name
        ``resnet20``, ``wrn-16-2``, …: a key of ``NETWORKS``; or ``package.module:function``.
    seed
        Of the weights; None draws from torch's generator.

    Raises
    ------
    ModelError
        If the name is unknown; all known are named. Or if one's own lacks something.

    Examples
    --------
    >>> outputs = build_network("resnet20", seed=0).outputs(torch.zeros(2, 3, 32, 32))
    >>> [tuple(units.shape[1:]) for units in outputs.maps]
    [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8)]
    """
    if is_own(name):
        make: Callable[[int], Network] = functools.partial(build_own, name)
    elif name in NETWORKS:
        make = NETWORKS[name]
    else:
        msg = (
            f"network: unknown {name!r}; choose one of {', '.join(NETWORKS)}, or name your own, "
            "'package.module:function'"
        )
        raise ModelError(msg)
    if seed is None:
        return make(n_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(n_classes)


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


_NARROW, _WIDE, _FOURFOLD = (16, 16, 32, 64), (16, 32, 64, 128), (32, 64, 128, 256)
NETWORKS: dict[str, Callable[[int], Network]] = {
    "resnet20": functools.partial(resnet, _NARROW, 3),
    "resnet32": functools.partial(resnet, _NARROW, 5),
    "resnet56": functools.partial(resnet, _NARROW, 9),
    "resnet110": functools.partial(resnet, _NARROW, 18),
    "resnet8x4": functools.partial(resnet, _FOURFOLD, 1),
    "resnet32x4": functools.partial(resnet, _FOURFOLD, 5),
    "wrn-16-2": functools.partial(wide_resnet, _WIDE, 2),
    "wrn-40-2": functools.partial(wide_resnet, _WIDE, 6),
    "vgg8": functools.partial(vgg, (1, 1, 1, 1, 1)),
    "vgg13": functools.partial(vgg, (2, 2, 2, 2, 2)),
}

# What CRD and its kin normalise CIFAR-100 by.
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


def network_for_images(name: str, n_classes: int = 100) -> Network:
    """Return a network of the zoo that says which images it takes, for it to be dissected."""
    network = build_network(name, n_classes)
    # As ``networks.inputs`` looks for them.
    for key, value in (("mean", MEAN), ("std", STD), ("input_size", (3, 32, 32))):
        setattr(network, key, value)
    return network


# For 'package.module:function'; ``model.arguments`` may name n_classes.
resnet20 = functools.partial(network_for_images, "resnet20")
resnet32 = functools.partial(network_for_images, "resnet32")
resnet56 = functools.partial(network_for_images, "resnet56")
resnet110 = functools.partial(network_for_images, "resnet110")
resnet8x4 = functools.partial(network_for_images, "resnet8x4")
resnet32x4 = functools.partial(network_for_images, "resnet32x4")
wrn_16_2 = functools.partial(network_for_images, "wrn-16-2")
wrn_40_2 = functools.partial(network_for_images, "wrn-40-2")
vgg8 = functools.partial(network_for_images, "vgg8")
vgg13 = functools.partial(network_for_images, "vgg13")
