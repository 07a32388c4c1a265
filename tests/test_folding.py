"""Batch normalisation folded into convolutions: the same outputs, and what must be left alone."""

import pytest
import torch
from torch import nn

from dissect_embed.folding import fold_batch_norm
from dissect_embed.models import build_model
from dissect_embed.probing import probe


def shake(model: nn.Module) -> nn.Module:
    """Give batch normalisations statistics that matter."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.running_var, module.weight, module.bias):
                value.data.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return model.eval()


LAYERS = ("conv1", "bn1", "layer1", "layer2.0.conv2", "layer4")


@torch.inference_mode()
def test_every_layer_keeps_its_output():
    model = shake(build_model("resnet18", "random"))
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with probe(model, LAYERS) as outputs:
        model(images)
    before = {layer: output.clone() for layer, output in outputs.items()}
    assert fold_batch_norm(model, LAYERS) == 20 - 2  # conv1 and layer2.0.conv2 are read
    with probe(model, LAYERS) as outputs:
        model(images)
    for layer in LAYERS:
        torch.testing.assert_close(outputs[layer], before[layer], rtol=1e-4, atol=1e-4)


class Twice(nn.Module):
    """Uses one convolution in two places, and one output in two."""

    def __init__(self):
        super().__init__()
        self.conv, self.one, self.other = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.branch, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.one(self.conv(x)) + self.other(self.conv(x * 2))
        y = self.branch(x)
        return self.norm(y) + y


class Depends(nn.Module):
    """Takes a path that depends on the values."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(x)) if x.sum() > 0 else x


@pytest.mark.parametrize("network", [Twice, Depends])
@torch.inference_mode()
def test_what_cannot_be_folded_is_left_alone(network):
    model = shake(network())
    images = torch.rand(2, 3, 4, 4)
    before = model(images)
    assert fold_batch_norm(model, []) == 0
    assert torch.equal(model(images), before)
