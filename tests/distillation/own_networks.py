"""Networks that nobody made for this program: ``own_networks:small``, and what lacks something."""

import torch
from torch import nn

from dissect_embed.distillation.outputs import Outputs


class Small(nn.Module):
    """Two stages after the stem; ``noise`` is the share that dropout takes."""

    stage_names = ("stem", "layer1", "layer2")

    def __init__(self, num_classes, noise=0.0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.layer1 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.layer2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.drop, self.fc = nn.Dropout(noise), nn.Linear(8, num_classes)

    def outputs(self, images):
        stem = self.stem(images)
        first = self.layer1(stem)
        second = self.layer2(first.relu())
        pooled = second.relu().mean(dim=(2, 3))
        maps = (stem, first.relu(), second.relu())
        return Outputs(self.fc(self.drop(pooled)), pooled, maps, (stem, first, second))

    def forward(self, images):
        return self.outputs(images).logits


def small(num_classes):
    return Small(num_classes)


def without_classes():
    return Small(4)


def noisy(num_classes):
    return Small(num_classes, noise=0.5)


def no_module(num_classes):
    return num_classes


def bare(num_classes):
    return nn.Linear(3, num_classes)


def changed(num_classes, **attributes):
    network = Small(num_classes)
    for name, value in attributes.items():
        setattr(network, name, value)
    return network


def unknown_stage(num_classes):
    return changed(num_classes, stage_names=("stem", "layer9"))


def one_stage(num_classes):
    return changed(num_classes, stage_names=("stem",))


def one_name(num_classes):
    return changed(num_classes, stage_names="stem")


def few_maps(num_classes):
    return changed(num_classes, stage_names=("stem", "layer1"))


def other_logits(num_classes):
    return changed(num_classes, forward=lambda images: torch.ones(len(images), num_classes))


def wrong_classes(num_classes):
    return Small(num_classes + 1)


def no_outputs(num_classes):
    return changed(
        num_classes,
        outputs=lambda images: images,
        forward=lambda images: torch.ones(len(images), num_classes),
    )


def failing(num_classes):
    return changed(num_classes, outputs=lambda images: images.reshape(7))


def nested(num_classes):
    return changed(num_classes, stage_names=("stem.0", "stem.1", "stem.2"))
