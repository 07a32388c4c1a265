"""Folded batch normalisations, activations in place: the same outputs; what must be left alone."""

import pytest
import torch
from torch import nn

from dissect_embed.networks.hooks import probe
from dissect_embed.networks.models import build_model
from dissect_embed.networks.speedups import (
    CAN_PACK,
    activate_in_place,
    fold_batch_norm,
    pack_convolutions,
)


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


@pytest.mark.parametrize("folded", [True, False])
@torch.inference_mode()
def test_activations_in_place_change_no_output(folded):
    model = shake(build_model("resnet18", "random"))
    layers = ("conv1", "bn1", "relu", "layer1.0.bn2", "layer1.1.relu", "layer2.0.conv1", "layer4")
    if folded:
        fold_batch_norm(model, layers)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with probe(model, layers) as outputs:
        result = model(images)
        before = dict(outputs)
        assert activate_in_place(model) == 9  # that of the stem, and one a block
        again = model(images)
    assert torch.equal(again, result)
    for layer in layers:
        assert torch.equal(outputs[layer], before[layer]), layer


class Reads(nn.Module):
    """Reads again what an activation was given."""

    def __init__(self, again):
        super().__init__()
        self.conv, self.relu, self.again = nn.Conv2d(3, 3, 1), nn.ReLU(), again

    def forward(self, x):
        return self.again(self, x)


READS = {
    "the input": lambda net, x: net.relu(x) + x,
    "the value": lambda net, x: (lambda y: net.relu(y) + y)(net.conv(x)),
    "a view": lambda net, x: (lambda y: net.relu(y.flatten(1)).sum() + y)(net.conv(x)),
    "what was added to": lambda net, x: add_and_read(net, net.conv(x), x),
    "what was added into": lambda net, x: (lambda y: net.relu(torch.add(y, x, out=y)) + y)(
        net.conv(x)
    ),
    "one of two calls": lambda net, x: net.relu(net.conv(x)) + net.relu(x) + x,
    "past an identity": lambda net, x: (lambda y: net.relu(nn.Identity()(y)) + y)(net.conv(x)),
}


def add_and_read(net, y, x):
    z = y
    z += x
    return net.relu(z) + y


@pytest.mark.parametrize("again", READS.values(), ids=READS)
@torch.inference_mode()
def test_no_activation_in_place_where_its_input_is_read_again(again):
    model = Reads(again).eval()
    images = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = model(images.clone())
    assert activate_in_place(model) == 0
    assert torch.equal(model(images.clone()), before)
    # Were it done, it would be seen.
    model.relu.inplace = True
    assert not torch.equal(model(images.clone()), before)


def test_a_network_that_cannot_be_traced_stays_as_it_is():
    assert activate_in_place(Depends()) == 0


@pytest.mark.skipif(not CAN_PACK, reason="convolutions are packed on x86 processors")
@pytest.mark.parametrize(("precision", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vgg11"])
@torch.inference_mode()
def test_packed_convolutions_put_out_the_same(name, precision, near):
    model = build_model(name, "random").to(precision).to(memory_format=torch.channels_last)
    layers = [layer for layer, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    generator = torch.Generator().manual_seed(0)
    # Several batch sizes; another memory layout.
    batches = [torch.randn(n, 3, 64, 64, generator=generator).to(precision) for n in (4, 1, 3, 7)]
    batches = [b.to(memory_format=torch.channels_last) for b in batches] + batches[:1]
    before = [outputs_of(model, layers, batch) for batch in batches]
    can_pack = precision == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert pack_convolutions(model) == (len(layers) if can_pack else 0)
    for batch, expected in zip(batches, before, strict=True):
        for layer, output in outputs_of(model, layers, batch).items():
            scale = float(expected[layer].abs().max())
            assert float((output - expected[layer]).abs().max()) <= near * scale, layer


def outputs_of(model, layers, batch):
    with probe(model, layers) as outputs:
        model(batch)
    return dict(outputs)


class Special(nn.Conv2d):
    """Does more than convolve."""

    def forward(self, x):
        return super().forward(x).sigmoid()


def hooked():
    conv = nn.Conv2d(3, 3, 1)
    conv.register_forward_hook(lambda module, inputs, output: output * 2)
    return conv


@pytest.mark.skipif(not CAN_PACK, reason="convolutions are packed on x86 processors")
@pytest.mark.parametrize(
    "conv",
    [
        Special(3, 3, 1),
        hooked(),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)),
    ],
)
@torch.inference_mode()
def test_special_convolutions_are_not_packed(conv):
    model = nn.Sequential(conv, nn.Conv2d(3, 2, 1)).eval()
    images = torch.randn(2, 3, 8, 8)
    before = model(images)
    assert pack_convolutions(model) == 1
    assert model[0] is conv
    torch.testing.assert_close(model(images), before)
