"""Prepared networks put out what the networks themselves do, alone and side by side."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from given import input_of, normalise
from odd import ODD, Digits, Draws, Remembers, Stateful, StemOutside, seeded
from torch import Tensor, nn

from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.mathematics.running import Maps
from dissect_embed.networks import preparation, speedups
from dissect_embed.networks.forward import forward_maps
from dissect_embed.networks.hooks import take_part
from dissect_embed.networks.maps import to_maps
from dissect_embed.networks.preparation import Network, prepare_network

N = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_tiny) -> Broden:
    return load_broden(make_tiny(tmp_path_factory.mktemp("prepared") / "tiny", N))


def prepare(model: nn.Module, layers: list[str], data: Broden, **options: Any) -> Network:
    settings = {"batch_size": 1, "device": "cpu"} | options
    return prepare_network(model, layers, input_of(*data.image_size), **settings)


def run(network: Network, data: Broden, n_threads: int) -> dict[str, Tensor]:
    """Return the maps of all images, from batches of one in so many threads."""
    kinds = dict.fromkeys(network.readings, "float32")

    def keep(start: int, maps: dict[str, Maps]) -> dict[str, Tensor]:
        return {layer: m.maps for layer, m in maps.items()}

    batches = list(forward_maps(network, data, range(N), kinds, keep, n_threads=n_threads))
    return {layer: torch.cat([batch[layer] for batch in batches]) for layer in kinds}


def plain(model: nn.Module, network: Network, data: Broden) -> dict[str, Tensor]:
    """Return the same by torch's own hooks: image by image, no copy, nothing prepared."""
    found: dict[str, list[Tensor]] = {layer: [] for layer in network.readings}
    model = model.float()
    for row in data.rows:
        seen: dict[str, list[Any]] = {layer: [] for layer in network.readings}
        handles = []
        for layer, calls in seen.items():

            def keep(module: nn.Module, given: Any, output: Any, calls: list[Any] = calls) -> None:
                calls.append(output.clone() if isinstance(output, Tensor) else output)

            name = layer.split("#")[0].split("[")[0]
            handles.append(model.get_submodule(name).register_forward_hook(keep))
        with torch.inference_mode():
            model(normalise(torch.from_numpy(read_image(data, row)[None].copy())))
        for handle in handles:
            handle.remove()
        for layer, reading in network.readings.items():
            calls = seen[layer]
            output = calls[int(layer.split("#")[1]) - 1] if "#" in layer else calls[-1]
            parts = {'heads["out"]': ["out"], 'heads["aux"][0]': ["aux", 0]}.get(layer, [])
            found[layer].append(to_maps(take_part(output, parts, layer), reading))
    return {layer: torch.cat(maps) for layer, maps in found.items()}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", ODD)
def test_every_odd_network_puts_out_what_a_plain_hook_sees(name, data):
    make, layers, can_share = ODD[name]
    network = prepare(seeded(make), layers, data)
    assert network.can_share == can_share
    alone = run(network, data, 1)
    expected = plain(seeded(make), network, data)
    for layer in layers:
        largest = float(expected[layer].abs().max())
        assert alone[layer].shape == expected[layer].shape
        assert float((alone[layer] - expected[layer]).abs().max()) <= 1e-3 * largest, layer
    for _ in range(3):
        side_by_side = run(network, data, 4)
        for layer in layers:
            assert torch.equal(side_by_side[layer], alone[layer]), layer


def test_a_network_is_left_as_it_was(data):
    model = seeded(StemOutside).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prepare(model, ["bn1"], data)
    assert model.training
    assert model.bn1.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())


def test_modules_keep_their_types_and_what_they_say_of_themselves(data):
    network = prepare(seeded(StemOutside), ["bn1"], data)
    kinds = [type(module) for module in network.model.modules()]
    assert kinds == [type(module) for module in StemOutside().modules()]
    assert network.model.conv1[0].in_channels == 3
    folded = [m for m in network.model.modules() if "forward" in vars(m)]
    assert any(isinstance(m, nn.BatchNorm2d) for m in folded)


@pytest.mark.parametrize("step", ["fold_batch_norm", "activate_in_place", "pack_convolutions"])
def test_a_speedup_that_is_wrong_is_not_used(step, data, monkeypatch, caplog):
    """Each step made to break the network."""

    def wrong(model: nn.Module, *given: Any) -> int:
        with torch.no_grad():
            model.conv1[3].weight.mul_(1.01)
        return 1

    monkeypatch.setattr(preparation, step, wrong)
    model = seeded(StemOutside)
    with caplog.at_level("INFO"):
        network = prepare(model, ["bn1"], data)
    assert "StemOutside: runs as it stands, for prepared it would differ: bn1 by 0.0" in caplog.text
    expected = plain(model, network, data)["bn1"]
    np.testing.assert_allclose(run(network, data, 2)["bn1"], expected, rtol=1e-4, atol=1e-4)


def test_the_default_network_is_prepared_in_full(data, caplog):
    make = ODD["resnet18"][0]
    with caplog.at_level("INFO"):
        network = prepare(seeded(make), ["layer4"], data)
    assert caplog.text == ""
    packed = [m for m in network.model.modules() if hasattr(m, "packed")]
    assert len(packed) == (20 if speedups.CAN_PACK else 0)
    passing_on = [m for m in network.model.modules() if "forward" in vars(m)]
    assert len([m for m in passing_on if isinstance(m, nn.BatchNorm2d)]) == 20


def test_passes_share_no_tree_of_modules_but_their_weights(data):
    """As a count of the trees that ran shows, and the memory of their weights."""
    seen = set()
    model = seeded(Stateful)
    network = prepare(model, ["out"], data)

    handles = []
    for module in network.model.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(
                module.register_forward_pre_hook(
                    lambda m, _: seen.add((id(m), m.weight.data_ptr()))
                )
            )
    run(network, data, 3)
    n_convolutions = len(handles)
    trees = len({module for module, _ in seen}) / n_convolutions
    assert 1 <= trees <= 3
    assert len({pointer for _, pointer in seen}) == n_convolutions


class Halves(nn.Module):
    """Puts out smaller maps where an image is not black."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x if x.mean() < -1 else x[:, :, ::2])


def test_maps_of_another_size_on_an_image_are_an_error(data):
    network = prepare(Halves(), ["pool"], data)
    message = r"^pool: puts out another shape on 0\.jpg than on black images$"
    with pytest.raises(ArtefactError, match=message):
        run(network, data, 1)


@pytest.mark.parametrize("make", [Draws, Remembers])
def test_what_changes_from_pass_to_pass_is_refused(make, data):
    with pytest.raises(ModelError, match=rf"^{make.__name__}: puts out something else when given"):
        prepare(seeded(make), ["conv"], data)


def test_a_precision_that_changes_too_much_is_refused(data, monkeypatch):
    monkeypatch.setitem(preparation.BOUNDS, "bfloat16", 1e-6)
    with pytest.raises(ModelError, match=r"activations\.precision: in bfloat16 StemOutside puts"):
        prepare(seeded(StemOutside), ["bn1"], data, precision="bfloat16")


@pytest.mark.parametrize(
    ("make", "layer", "message"),
    [
        (
            Digits,
            "features",
            r"Digits: cannot run .* takes 1 channel of 28 × 28 pixels: set model\.input: .size: 28",
        ),
        (lambda: nn.Sequential(nn.Linear(7, 3)), "0", r"its own code fails .*linear\.py:\d+\)"),
    ],
)
def test_a_network_that_does_not_run_is_told_what_would_do(make, layer, message, data):
    with pytest.raises(ModelError, match=message):
        prepare(seeded(make), [layer], data)


def test_one_channel_of_one_size():
    given = input_of(28, 28)._replace(channels=1, mean=(0.13,), std=(0.31,))
    network = prepare_network(
        seeded(Digits), ["auto", "features.0", "classifier"], given, batch_size=2, device="cpu"
    )
    assert network.shapes == {
        "features": (8, 13, 13), "features.0": (8, 26, 26), "classifier": (10, 1, 1),
    }  # fmt: skip


def test_many_threads_and_little_work(data):
    """More threads than images, and none at all to run."""
    network = prepare(seeded(Stateful), ["out"], data)
    assert run(network, data, 30)["out"].shape[0] == N
    empty = forward_maps(network, data, [], {"out": "float32"}, lambda *given: given)
    assert list(itertools.islice(empty, 1)) == []
