"""A network with units at their means: the tail beside the whole network, by hand and by loops."""

from typing import NamedTuple

import pytest
import torch
from given import input_of
from torch import nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.inputs import to_input
from dissect_embed.networks.maps import Reading, from_maps, to_maps
from dissect_embed.networks.rest import cut_tail, layer_output, prepare_rest, run_sets

GIVEN = input_of(32, 32)
SETS = [(), (0,), (3, 1), (0, 1, 2, 3)]


class Net(nn.Module):
    """Convolutions, and a classifier; by ``way`` with something that a layer does not cut."""

    def __init__(self, way: str = "") -> None:
        super().__init__()
        self.way = way
        self.low = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(True))
        self.same = nn.Identity()
        self.high = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.ReLU(True))
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        low = self.low(x)
        if self.way == "depends" and low.mean() > -1:  # cannot be traced
            low = low * 1
        high = self.high(self.same(low))
        if self.way == "around":
            high = high + low
        if self.way == "twice":
            high = self.high(high)
        if self.way == "input":
            high = high * x.mean((1, 2, 3), keepdim=True)
        high *= 2  # in place: whoever kept a view of the layer's output would see it
        return self.fc(high.mean((2, 3)))


class Tokens(nn.Module):
    """A class token before 16 patches, of which the class token is what is told."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.Linear(8, 8)
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)
        self.grid_size, self.num_prefix_tokens = (4, 4), 1

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        tokens = self.block(tokens)
        return self.fc(self.mix(tokens, tokens, tokens, need_weights=False)[0][:, 0])


class Pair(NamedTuple):
    maps: torch.Tensor
    other: int


class InAPair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Module()
        self.layer.conv = nn.Conv2d(3, 4, 3)
        self.layer.forward = lambda x: Pair(self.layer.conv(x), 1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.layer(x).maps.relu().mean((2, 3)))


def make(kind: type[nn.Module], *arguments: str) -> nn.Module:
    torch.manual_seed(0)
    return kind(*arguments).eval()


def images() -> torch.Tensor:
    pixels = torch.randint(0, 256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(1))
    return to_input(pixels.to(torch.uint8), GIVEN)


def slow(model: nn.Module, module: nn.Module, set_units, call: int = 1) -> torch.Tensor:
    """Return the scores with each set of units changed: one image and one set at a time."""
    found = []
    for units in SETS:
        of_images = []
        for image in images():
            calls = []

            def hook(_, inputs, output, units=units, calls=calls):
                calls.append(1)
                if len(calls) != call:
                    return None
                return set_units(output, units)

            handle = module.register_forward_hook(hook)
            with torch.no_grad():
                of_images.append(model(image[None])[0])
            handle.remove()
        found.append(torch.stack(of_images))
    return torch.stack(found)


MEANS = torch.tensor([0.5, -1.0, 2.0, 0.25])


def set_channels(output: torch.Tensor, units) -> torch.Tensor:
    output = output.clone()
    for unit in units:
        output[:, unit] = MEANS[unit]
    return output


def check(model: nn.Module, layer: str, expected: torch.Tensor, *, is_cut: bool, means=MEANS):
    rest = prepare_rest(model, layer, GIVEN, batch_size=2, device="cpu")
    assert (rest.tail is not None) == is_cut
    x = images()
    batch = layer_output(rest, x) if is_cut else x
    before = batch.clone()
    torch.testing.assert_close(run_sets(rest, batch, SETS, means), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(batch, before)
    if is_cut:
        # The proof compares with this one.
        whole = run_sets(rest._replace(tail=None), x, SETS, means)
        torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("way", "layer", "is_cut"),
    [
        ("", "high", True), ("", "low", True), ("", "low.0", True), ("twice", "low", True),
        # What Identity puts out is what low did, which has a way around it.
        ("around", "high", False), ("around", "low", True), ("around", "same", False),
        ("input", "high", False),
        ("depends", "high", False),
    ],
)  # fmt: skip
def test_units_are_set_where_the_layer_cuts_the_network_and_where_it_does_not(way, layer, is_cut):
    model = make(Net, way)
    expected = slow(model, model.get_submodule(layer), set_channels)
    assert (expected[1:] - expected[:1]).abs().max() > 0.01
    check(model, layer, expected, is_cut=is_cut)


@pytest.mark.parametrize(("layer", "call"), [("high", 2), ("high#2", 2), ("high#1", 1)])
def test_of_a_module_that_runs_twice_the_call_that_is_read(layer, call):
    model = make(Net, "twice")
    check(model, layer, slow(model, model.high, set_channels, call), is_cut=True)


def test_tokens_of_the_image_are_set_and_the_class_token_is_not():
    model = make(Tokens)
    means = torch.linspace(-1, 1, 8)

    def set_tokens(output, units):
        output = output.clone()
        for unit in units:
            output[:, 1:, unit] = means[unit]
        return output

    check(model, "block", slow(model, model.block, set_tokens), is_cut=True, means=means)
    assert not prepare_rest(model, "block", GIVEN, batch_size=2, device="cpu").takes_maps


def test_a_part_of_what_a_module_puts_out():
    model = make(InAPair)

    def set_part(output, units):
        return output._replace(maps=set_channels(output.maps, units))

    check(model, "layer[0]", slow(model, model.layer, set_part), is_cut=False)


def test_a_tail_that_puts_out_something_else_is_not_used(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr("dissect_embed.networks.rest.cut_tail",
                        lambda *_: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                                 nn.Linear(4, 5)))  # fmt: skip
    assert prepare_rest(make(Net), "high", GIVEN, batch_size=2, device="cpu").tail is None
    assert "high: the whole network runs for each unit: from there on it puts out" in caplog.text


def test_why_the_whole_network_runs_is_said(caplog):
    caplog.set_level("INFO")
    prepare_rest(make(Net, "around"), "high", GIVEN, batch_size=2, device="cpu")
    assert "unit: what it puts out does not all go through it" in caplog.text
    prepare_rest(make(Net, "depends"), "high", GIVEN, batch_size=2, device="cpu")
    assert "unit: symbolically traced variables cannot be used" in caplog.text


def test_blocks_of_sets_change_nothing(monkeypatch):
    rest = prepare_rest(make(Net), "high", GIVEN, batch_size=2, device="cpu")
    batch = layer_output(rest, images())
    together = run_sets(rest, batch, SETS, MEANS)
    monkeypatch.setattr("dissect_embed.networks.rest.AT_ONCE", {"cpu": 1})
    torch.testing.assert_close(run_sets(rest, batch, SETS, MEANS), together)


def test_a_network_that_is_no_classifier():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(ModelError, match=r"puts out \(2, 4, 30, 30\), expected scores of \(image,"):
        prepare_rest(model, "0", GIVEN, batch_size=2, device="cpu")


def test_what_a_tail_holds_is_the_rest_alone():
    tail = cut_tail(make(Net), "low")
    assert {name for name, _ in tail.named_parameters()} == {
        "high.0.weight", "high.0.bias", "fc.weight", "fc.bias"
    }  # fmt: skip


@pytest.mark.parametrize(
    "axes",
    ["image unit y x", "image y x unit", "image token unit", "image unit token",
     "token image unit", "image unit"],
)  # fmt: skip
def test_an_output_comes_back_from_its_maps(axes):
    grid = (1, 1) if axes == "image unit" else (2, 3)
    maps = torch.randn(4, 5, *grid)
    reading = Reading(axes, 0, 5, grid)
    output = from_maps(maps, reading)
    assert output.ndim == len(axes.split())
    assert output.shape[axes.split().index("image")] == 4
    assert torch.equal(to_maps(output, reading), maps)
