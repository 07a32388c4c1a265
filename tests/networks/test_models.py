"""Building, loading and probing networks."""

import sys
import urllib.error
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from given import input_of, normalise
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.hooks import find_layers, probe
from dissect_embed.networks.models import (
    build_model,
    class_names,
    hash_weights,
    load_network,
)
from dissect_embed.networks.readings import read_layers
from dissect_embed.settings import is_path

OWN = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3))

def no_network():
    return {"conv": nn.Conv2d(3, 4, 3)}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the module `tests_own_network` importable."""
    (tmp_path / "tests_own_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tests_own_network", raising=False)


@pytest.fixture(scope="module")
def resnet18() -> nn.Module:
    return build_model("resnet18", "random")


def images(n: int = 2, size: int = 48) -> Tensor:
    rng = np.random.default_rng(0)
    return normalise(torch.from_numpy(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)))


def shapes_of(
    model: nn.Module, layers: Sequence[str], size: tuple[int, int]
) -> dict[str, tuple[int, int, int]]:
    """Return (units, h, w) of layers on images of a size."""
    found = read_layers(model, find_layers(model, layers), input_of(*size), {}, None)
    return {layer: (reading.units, *reading.grid) for layer, reading in found.items()}


# ---- building ----


def test_random_weights_depend_on_the_seed_alone(own):
    state = torch.random.get_rng_state()
    one = hash_weights(build_model("tests_own_network:small", "random", seed=1))
    torch.rand(3)
    assert hash_weights(build_model("tests_own_network:small", "random", seed=1)) == one
    assert hash_weights(build_model("tests_own_network:small", "random", seed=2)) != one
    torch.random.set_rng_state(state)
    build_model("tests_own_network:small", "random", seed=3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_networks_come_in_evaluation_mode(own, resnet18):
    for model in (resnet18, build_model("tests_own_network:small", "random")):
        assert not any(module.training for module in model.modules())


def test_width_of_the_classifier(resnet18):
    assert resnet18.fc.out_features == 1000
    assert build_model("resnet18", "random", n_classes=7).fc.out_features == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"no classifier 'resnet81'; did you mean resnet18, .*'package"),
        ("zzzz", r"no classifier 'zzzz'; did you mean resnet18"),
        ("no_such_module:net", r"cannot import 'no_such_module:net' \(No module named"),
        ("tests_own_network:huge", r"cannot import .*no attribute 'huge'"),
        ("tests_own_network:no_network", r"no_network returned dict, expected a torch\.nn\.Module"),
    ],
)  # fmt: skip
def test_unknown_networks(own, name, message):
    with pytest.raises(ModelError, match=rf"model\.name: .*{message}"):
        build_model(name, "random")


@pytest.mark.parametrize("weights", ["IMAGENET1K_V7", "trained", "randon"])
def test_unknown_weights(weights):
    message = (
        rf"model\.weights: resnet18 has no weights '{weights}'; choose one of IMAGENET1K_V1, "
        r".*random, or the path of a file"
    )
    with pytest.raises(ModelError, match=message):
        build_model("resnet18", weights)


def test_an_unknown_network_is_not_blamed_on_its_weights():
    with pytest.raises(ModelError, match=r"model\.name: torchvision has no classifier 'resnet81'"):
        build_model("resnet81", "IMAGENET1K_V1")


def test_own_network_that_wants_arguments(own):
    with pytest.raises(ModelError, match=r"model\.name: torch\.nn:Conv2d\(\) failed .*arguments"):
        build_model("torch.nn:Conv2d", "random")
    with pytest.raises(ModelError, match=r"model\.name: cannot import ':f'.*package\.module"):
        build_model(":f", "random")


def test_a_network_that_asserts_its_image_size():
    message = r"VisionTransformer: cannot run .*Expected 224 .* set model\.input\.size: 224"
    with pytest.raises(ModelError, match=message):
        shapes_of(build_model("vit_b_16", "random"), ["encoder"], (64, 64))


def test_own_network_has_no_named_weights(own):
    with pytest.raises(
        ModelError, match="small has no weights 'IMAGENET1K_V1'; choose one of rand"
    ):
        build_model("tests_own_network:small", "IMAGENET1K_V1")


def test_named_weights_are_fetched_and_their_hash_is_checked(monkeypatch):
    other = build_model("resnet18", "random", seed=5)
    asked = []

    def answer(url: str, **options: object) -> dict[str, Tensor]:
        asked.append((url, options["check_hash"]))
        return other.state_dict()

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", answer)
    model = build_model("resnet18", "IMAGENET1K_V1")
    assert hash_weights(model) == hash_weights(other)
    assert asked == [(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url, True)]


def test_named_weights_without_a_network(monkeypatch):
    def fail(*_: object, **__: object) -> None:
        reason = "unreachable"
        raise urllib.error.URLError(reason)

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", fail)
    message = (
        r"cannot be fetched from https://.*resnet18.*unreachable.*give its path as model\.weig"
    )
    with pytest.raises(ModelError, match=message):
        build_model("resnet18", "IMAGENET1K_V1")


# ---- state_dicts ----


def saved(content: object, path: Path) -> str:
    torch.save(content, path)
    return str(path)


def test_weights_from_a_file(own, tmp_path):
    model = build_model("tests_own_network:small", "random", seed=1)
    path = saved(model.state_dict(), tmp_path / "weights.pt")
    assert hash_weights(build_model("tests_own_network:small", path)) == hash_weights(model)


def test_classifier_is_as_wide_as_the_file_says(tmp_path):
    seven = build_model("resnet18", "random", n_classes=7)
    loaded = build_model("resnet18", saved(seven.state_dict(), tmp_path / "seven.pth"))
    assert hash_weights(loaded) == hash_weights(seven)


def test_missing_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (str(tmp_path / "none"), "none.pth", "./none", "none.pth.tar", "none.safetensors"):
        message = rf"none.*: no such file in {tmp_path}; model\.weights is the path of a file"
        with pytest.raises(ModelError, match=message):
            build_model("resnet18", name)
    with pytest.raises(ModelError, match=r"a folder; name a file in it"):
        build_model("resnet18", str(tmp_path))


def test_what_exists_as_a_file_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seven = build_model("resnet18", "random", n_classes=7)
    for name in ("epoch_90", "random", "trained", "IMAGENET1K_V1"):
        saved(seven.state_dict(), Path(name))
        if name in ("random", "trained"):
            assert not is_path(name)
        else:
            assert hash_weights(build_model("resnet18", name)) == hash_weights(seven)


@pytest.mark.parametrize(("name", "n_rows"), [("squeezenet1_1", 7), ("inception_v3", 3)])
def test_classifiers_of_other_forms_are_as_wide_as_the_file_says(tmp_path, name, n_rows):
    """A convolution, and two classifiers."""
    model = build_model(name, "random", n_classes=n_rows)
    path = saved(model.state_dict(), tmp_path / "weights.pth")
    arguments = {"transform_input": False} if name == "inception_v3" else {}
    assert hash_weights(build_model(name, path, arguments)) == hash_weights(model)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_change_their_input_are_told_whether_to(tmp_path, name):
    path = saved(build_model(name, "random", n_classes=2).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=rf"model\.arguments: {name} .*transform_input: true"):
        build_model(name, path)
    assert build_model(name, path, {"transform_input": True}).transform_input
    assert not load_network(name, path, trained=True).model.transform_input


def test_a_backbone_without_its_classifier(tmp_path, resnet18):
    state = {k: v for k, v in resnet18.state_dict().items() if not k.startswith("fc.")}
    path = saved(state, tmp_path / "backbone.pth")
    with pytest.raises(ModelError, match=r"backbone\.pth: lacks 2 weights of resnet18, as 'fc\.w"):
        build_model("resnet18", path)
    loaded = load_network("resnet18", path, seed=4)
    assert loaded.missing == ("fc.weight", "fc.bias")
    assert "the file lacks 'fc.weight', 'fc.bias'" in loaded.note
    assert torch.equal(loaded.model.layer4[1].conv2.weight, resnet18.layer4[1].conv2.weight)
    again = load_network("resnet18", path, seed=4)
    assert hash_weights(again.model) == hash_weights(loaded.model)


def test_what_was_taken_is_logged(tmp_path, resnet18, caplog):
    path = saved({"state_dict": resnet18.state_dict()}, tmp_path / "weights.pth")
    with caplog.at_level("INFO"):
        build_model("resnet18", path)
    assert caplog.messages == [f"{path}: weights from key 'state_dict'"]


def test_old_files_without_batch_counters_are_read(tmp_path, resnet18):
    state = {k: v for k, v in resnet18.state_dict().items() if "num_batches" not in k}
    assert len(state) < len(resnet18.state_dict())
    path = saved(state, tmp_path / "old.pth")
    assert hash_weights(build_model("resnet18", path)) == hash_weights(resnet18)


def test_hash_follows_every_parameter_and_buffer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    hashes = [hash_weights(model)]
    for value in model.state_dict().values():
        value.view(-1)[-1:] += 1
        hashes.append(hash_weights(model))
    assert len(set(hashes)) == 1 + len(model.state_dict()) == 8
    zeros = [nn.BatchNorm2d(4) for _ in range(2)]  # the same bytes, but of another type
    zeros[1].running_mean = torch.zeros(4, dtype=torch.int32)
    assert hash_weights(zeros[0]) != hash_weights(zeros[1])


# ---- input ----


def test_normalise_by_hand():
    pixels = torch.tensor([[[[0, 255, 128]]]], dtype=torch.uint8)
    expected = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(normalise(pixels), torch.tensor(expected).view(1, 3, 1, 1))


def test_normalise_puts_the_channels_first():
    pixels = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)
    found = normalise(pixels)
    assert found.shape == (2, 3, 4, 5)
    assert found.is_contiguous(memory_format=torch.channels_last)
    one = normalise(pixels[1:, 2:3, 3:4])
    torch.testing.assert_close(found[1:, :, 2:3, 3:4], one, rtol=0, atol=0)


# ---- layers ----


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer5"], r"ResNet has no layer 'layer5'; did you mean layer\d"),
        (["layer1", "layr2.0.conv1"], r"no layer 'layr2\.0\.conv1'; did you mean layer2\.0\.conv1"),
        (["qqqq"], r"no layer 'qqqq'; there are conv1, bn1, relu, .*layer4, avgpool, fc"),
        ([""], "no layer ''; there are conv1"),
        (["layer1", "layer2", "layer1"], "'layer1' is named twice; name each layer once"),
        ([], "no layer is named"),
    ],
)
def test_unknown_layers(resnet18, layers, message):
    message = rf"model\.layers: .*{message}"
    with pytest.raises(ModelError, match=message):
        find_layers(resnet18, layers)
    with pytest.raises(ModelError, match=message):
        shapes_of(resnet18, layers, (48, 48))
    with pytest.raises(ModelError, match=message), probe(resnet18, layers):
        pass
    assert n_hooks(resnet18) == 0


def test_layer_shapes(resnet18):
    layers = ["layer4", "conv1", "layer1.0.conv2", "avgpool"]
    assert shapes_of(resnet18, layers, (64, 96)) == {
        "layer4": (512, 2, 3),
        "conv1": (64, 32, 48),
        "layer1.0.conv2": (64, 16, 24),
        "avgpool": (512, 1, 1),
    }


def test_vectors_are_a_grid_of_one(resnet18):
    assert shapes_of(resnet18, ["fc"], (48, 48)) == {"fc": (1000, 1, 1)}


class Odd(nn.Module):
    """Has a layer that gives two tensors, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("pool", r"the output of 'pool' for 3 images is a tuple of \[0\]: .* as 'pool\[0\]', or"),
        ("pool[1]", r"the output of 'pool\[1\]' for 3 images is \(3, 3, 4, 4\) of int64, .* no te"),
        ("pool[2]", r"'pool\[2\]': no part 2 there; it puts out a tuple of \[0\]: \(3, 3, 4, 4\)"),
        ('pool["a"]', r"no part 'a' there"),
        ("pool#2", r"'pool#2' does not run so often \(it runs 1 times\)"),
        ("pool[", r"cannot read 'pool\['; expected the name of a module"),
        ("unused", r"'unused' does not run in evaluation mode; choose another"),
    ],
)  # fmt: skip
def test_layers_with_odd_output(layer, message):
    with pytest.raises(ModelError, match=rf"^model\.layers: .*{message}"):
        shapes_of(Odd(), [layer], (8, 8))
    assert shapes_of(Odd(), ["pool[0]"], (8, 8)) == {"pool[0]": (3, 4, 4)}


def test_images_too_small_for_the_network():
    model = nn.Sequential(nn.Conv2d(3, 4, 9))
    message = r"Sequential: cannot run on images of \(image, 3, 8, 7\) \(.*; it takes 224 × 224 pix"
    with pytest.raises(ModelError, match=message):
        shapes_of(model, ["0"], (8, 7))


# ---- probing ----


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_probe_reads_what_the_layer_puts_out(resnet18):
    with torch.inference_mode(), probe(resnet18, ["conv1", "layer1"]) as outputs:
        assert outputs == {}
        assert n_hooks(resnet18) == 2
        resnet18(images())
        first = dict(outputs)
        resnet18(images() + 1)
        assert not torch.equal(outputs["layer1"], first["layer1"])
    torch.testing.assert_close(first["conv1"], resnet18.conv1(images()))


def test_probe_removes_its_hooks(resnet18):
    with probe(resnet18, ["layer1", "layer2"]) as outputs:
        pass
    resnet18(images(1))
    assert outputs == {}
    assert n_hooks(resnet18) == 0

    def fail() -> None:
        with probe(resnet18, ["layer1"]):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert n_hooks(resnet18) == 0


def test_activations_do_not_overwrite_the_layer_before_them(resnet18):
    with torch.no_grad(), probe(resnet18, ["conv1", "bn1", "relu"]) as outputs:
        resnet18(images())
    assert outputs["bn1"].min() < 0
    with torch.no_grad():
        expected = resnet18.bn1(outputs["conv1"])
    torch.testing.assert_close(outputs["bn1"], expected)
    torch.testing.assert_close(outputs["relu"], outputs["bn1"].clamp_min(0))


def test_residual_sums_do_not_overwrite_the_layer_before_them(resnet18):
    layers = ["layer1.0.conv2", "layer1.0.bn2", "layer1.0"]
    with torch.no_grad(), probe(resnet18, layers) as outputs:
        resnet18(images())
    with torch.no_grad():
        expected = resnet18.layer1[0].bn2(outputs["layer1.0.conv2"])
    torch.testing.assert_close(outputs["layer1.0.bn2"], expected)


def test_classes_are_named_where_torchvision_does():
    names = class_names("resnet18", "IMAGENET1K_V1")
    assert (len(names), names[0]) == (1000, "tench")
    for name, weights in (("ResNet", "given"), ("resnet18", "random"), ("resnet18", "trained"),
                          ("resnet18", "a/b.pt"), ("timm:resnet18", "pretrained")):  # fmt: skip
        assert class_names(name, weights) is None
