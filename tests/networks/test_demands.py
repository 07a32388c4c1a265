"""What is demanded of a network: that an image's maps are its own; each fault is one line."""

import copy
import threading
from typing import Any

import pytest
import torch
from given import input_of
from odd import seeded
from torch import Tensor, nn

from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.errors import ModelError
from dissect_embed.networks.forward import forward_maps
from dissect_embed.networks.layers import check_axes
from dissect_embed.networks.preparation import Network, prepare_network

N = 6


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_tiny) -> Broden:
    return load_broden(make_tiny(tmp_path_factory.mktemp("demands") / "tiny", N))


def prepare(model: nn.Module, *layers: str, **options: Any) -> Network:
    settings = {"batch_size": 4, "device": "cpu"} | options
    return prepare_network(model, layers, input_of(32, 32), **settings)


def run(network: Network, data: Broden) -> dict[str, Tensor]:
    kinds = dict.fromkeys(network.readings, "float32")

    def keep(start: int, maps: Any) -> dict[str, Tensor]:
        return {layer: m.maps for layer, m in maps.items()}

    batches = list(forward_maps(network, data, range(N), kinds, keep, n_threads=2))
    return {layer: torch.cat([batch[layer] for batch in batches]) for layer in kinds}


class Flattens(nn.Module):
    """As LeNet does: ``view`` takes no other order in memory, ``reshape`` copies then."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how, self.fc = nn.Conv2d(3, 4, 3), how, nn.Linear(4 * 30 * 30, 3)
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        flat = x.view(len(x), -1) if self.how == "view" else x.reshape(len(x), -1)
        flat += 1  # of the maps themselves, where it is a view
        return self.fc(self.last(x).flatten(1))


@pytest.mark.parametrize("how", ["view", "reshape"])
def test_networks_that_depend_on_the_order_in_memory_run_as_they_stand(how, data, caplog):
    model = seeded(lambda: Flattens(how))
    with caplog.at_level("INFO"):
        network = prepare(model, "last")
    assert "runs as it stands" in caplog.text
    assert not network.channels_last
    with torch.no_grad():
        maps = run(network, data)["last"]
    plain = run(network._replace(batch_size=1), data)["last"]
    torch.testing.assert_close(maps, plain, rtol=1e-4, atol=1e-4)
    seen: list[Tensor] = []
    model.last.register_forward_hook(lambda m, i, o: seen.append(o.clone()))
    from given import normalise

    from dissect_embed.datasets.pixels import read_image

    for row in data.rows:
        pixels = torch.from_numpy(read_image(data, row)[None].copy())
        with torch.no_grad():
            model(normalise(pixels).contiguous())
    torch.testing.assert_close(maps, torch.cat(seen), rtol=1e-4, atol=1e-4)


class BatchStatistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Flips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.flip(0)).flip(0)


@pytest.mark.parametrize(("make", "layer"), [(BatchStatistics, "bn"), (Flips, "conv")])
def test_maps_that_depend_on_the_batch_are_refused(make, layer, data):
    with pytest.raises(ModelError, match=r"depend on which others are in its batch .*batch_size:"):
        prepare(seeded(make), layer)
    assert run(prepare(seeded(make), layer, batch_size=1), data)[layer].shape[0] == N


class FirstImages(nn.Module):
    """Sets its scale by the first images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 4, 3), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 0:
            self.scale.data.copy_(1 / x.std())
        return self.conv(x * self.scale)


def test_what_is_set_up_by_the_first_images_is_refused():
    with pytest.raises(ModelError, match="FirstImages: puts out something else when given the"):
        prepare(seeded(FirstImages), "conv")


class Routes(nn.Module):
    """Runs a layer on bright images alone: on some of a batch, or on none."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bright = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        bright = x.mean(dim=(1, 2, 3)) > x[0].mean() if len(x) > 1 else x[:, 0, 0, 0] > 1e9
        if bright.any():
            y[bright] = self.bright(y[bright])
        return y


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_layer_that_runs_on_some_images_is_refused(batch_size, data, monkeypatch):
    class Always(Routes):
        def forward(self, x: Tensor) -> Tensor:
            return self.bright(self.conv(x))

    # As if the made-up images had all been bright.
    network = prepare(seeded(Always), "bright", batch_size=batch_size)
    network.model.__class__ = Routes
    with pytest.raises(ModelError, match=r"^bright: does not run, or puts out another shape, on"):
        run(network, data)


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lock = nn.Conv2d(3, 4, 3), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return self.conv(x)


def test_a_network_that_cannot_be_copied_runs_one_pass_at_a_time(data, caplog):
    with pytest.raises(TypeError):
        copy.deepcopy(Locked())
    with caplog.at_level("INFO"):
        network = prepare(seeded(Locked), "conv")
    assert not network.can_share
    assert "one pass at a time" in caplog.text
    assert run(network, data)["conv"].shape == (N, 4, 30, 30)


def test_a_network_that_cannot_be_copied_keeps_its_precision():
    model = seeded(Locked)
    with pytest.raises(ModelError, match=r"^activations\.precision: Locked cannot be copied, so"):
        prepare(model, "conv", precision="bfloat16")
    assert model.conv.weight.dtype == torch.float32


class Gradients(nn.Module):
    """Takes gradients within a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.conv(x).square().sum(), x)
        return self.last(slope.detach())


def test_gradients_within_a_pass(data):
    assert run(prepare(seeded(Gradients), "last"), data)["last"].abs().max() > 0


class StaysInTraining(BatchStatistics):
    """Its ``eval`` changes nothing, and returns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4)

    def eval(self) -> None:  # type: ignore[override]
        pass


def test_batch_normalisations_that_stay_in_training_are_not_folded():
    torch.manual_seed(0)
    with pytest.raises(ModelError, match=r"(depend on which others|something else when given the)"):
        prepare(StaysInTraining().train(), "bn")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3))), "compiled by torch.jit, wh"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, device="meta")), "has no weights yet"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_networks_that_cannot_be_read_are_named(make, message):
    with pytest.raises(ModelError, match=message):
        prepare(make(), "0")


def test_modules_with_signs_in_their_names():
    model = nn.Sequential()
    model.add_module("a#1", nn.Conv2d(3, 4, 3))
    model.add_module("b[0]", nn.Conv2d(4, 5, 3))
    network = prepare(model.eval(), "a#1", "b[0]")
    assert network.shapes == {"a#1": (4, 30, 30), "b[0]": (5, 28, 28)}


def test_axes_of_no_layer_are_named():
    check_axes(["blocks.*"], ["blocks.3"])
    with pytest.raises(ModelError, match=r"^model\.axes: 'idd' is none of the layers \(id, fc\)"):
        check_axes(["idd"], ["id", "fc"])
