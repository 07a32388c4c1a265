"""The networks of CRD: their size, their maps, and what can be read of them by name."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dissect_embed.distillation import zoo
from dissect_embed.distillation.zoo import NETWORKS, build_network, map_shapes, pair_maps
from dissect_embed.errors import ModelError
from dissect_embed.networks.hooks import probe
from dissect_embed.networks.inputs import find_input
from dissect_embed.networks.models import build_model
from dissect_embed.networks.settings import ModelInput

# Parameters; megaflops of one image, a multiply-add counted as two, of convolutions and the linear
# layer; units@grid of f0, f1, …
FACTS = {
    "wrn-40-2": (2_255_156, 655, "16@32 32@32 64@16 128@8"),
    "wrn-16-2": (703_284, 202, "16@32 32@32 64@16 128@8"),
    "resnet56": (861_620, 252, "16@32 16@32 32@16 64@8"),
    "resnet20": (278_324, 82, "16@32 16@32 32@16 64@8"),
    "resnet110": (1_736_564, 506, "16@32 16@32 32@16 64@8"),
    "resnet32": (472_756, 138, "16@32 16@32 32@16 64@8"),
    "resnet32x4": (7_433_860, 2166, "32@32 64@32 128@16 256@8"),
    "resnet8x4": (1_233_540, 354, "32@32 64@32 128@16 256@8"),
    "vgg13": (9_462_180, 570, "64@32 128@16 256@8 512@4 512@4"),
    "vgg8": (3_965_028, 192, "64@32 128@16 256@8 512@4 512@4"),
}
PAIRS = [
    ("wrn-40-2", "wrn-16-2"), ("resnet56", "resnet20"), ("resnet110", "resnet20"),
    ("resnet110", "resnet32"), ("resnet32x4", "resnet8x4"), ("vgg13", "vgg8"),
]  # fmt: skip


def draw_images(n: int) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_zoo_holds_all_networks_of_the_paper():
    assert set(NETWORKS) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_sizes_are_those_of_crd(name):
    parameters, megaflops, maps = FACTS[name]
    network = build_network(name)
    assert sum(p.numel() for p in network.parameters()) == parameters
    shapes = map_shapes(network)
    assert " ".join(f"{units}@{y}" for units, y, x in shapes if x == y) == maps
    assert network.training
    network.eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(draw_images(1))
    assert round(counter.get_total_flops() / 1e6) == megaflops


@pytest.mark.parametrize("name", ["wrn-16-2", "resnet20", "resnet8x4", "vgg8"])
def test_outputs_tell_what_forward_does(name):
    images = draw_images(2)
    for network in (build_network(name, seed=0), build_network(name, seed=0).eval()):
        before = {key: value.clone() for key, value in network.state_dict().items()}
        logits = network(images)
        moved = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict(before)
        with probe(network, network.stage_names) as probed:
            network(images)
        network.load_state_dict(before)
        outputs = network.outputs(images)
        for key, value in network.state_dict().items():
            assert torch.equal(value, moved[key]), key
        torch.testing.assert_close(outputs.logits, logits, atol=1e-6, rtol=1e-6)
        assert outputs.pooled.shape == (2, outputs.maps[-1].shape[1])
        for units, stage in zip(outputs.maps, network.stage_names, strict=True):
            torch.testing.assert_close(units, probed[stage], atol=1e-6, rtol=1e-6)
        assert len(outputs.before_relu) == len(outputs.maps)
        assert torch.equal(outputs.before_relu[0], outputs.maps[0])
        for units, before_relu in zip(outputs.maps[1:], outputs.before_relu[1:], strict=True):
            assert (before_relu < 0).any()
            if name.startswith("wrn"):
                assert (units < 0).any()
                assert not torch.equal(units, before_relu)
            else:
                assert torch.equal(units, before_relu.relu())


def test_maps_before_relu_of_a_wide_resnet_are_the_next_batch_norms():
    network = build_network("wrn-16-2", seed=0)
    names = ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1"]
    with probe(network, names) as probed:
        network(draw_images(2))
    outputs = network.outputs(draw_images(2))
    for name, before_relu in zip(names, outputs.before_relu[1:], strict=True):
        torch.testing.assert_close(before_relu, probed[name])
    torch.testing.assert_close(outputs.pooled, probed["bn1"].relu().mean(dim=(2, 3)))


def test_weights_are_drawn_as_crd_draws_them():
    one, same, other = (build_network("resnet8x4", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.conv1.weight, same.conv1.weight)
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    # N(0, 2 / (3 · 3 · units)): the convolution has 589,824 weights.
    assert one.layer3[0].conv2.weight.std().item() == pytest.approx((2 / 9 / 256) ** 0.5, rel=0.01)
    vgg = build_network("vgg8", n_classes=10, seed=0)
    assert vgg.classifier.weight.shape == (10, 512)
    assert vgg.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(p.any() for name, p in vgg.named_parameters() if name.endswith(".bias"))
    assert not build_network("wrn-16-2").fc.bias.any()
    state = torch.random.get_rng_state()
    build_network("resnet20", seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_names_of_parameters_are_those_of_crd():
    names = {name: set(build_network(name).state_dict()) for name in FACTS}
    assert {"layer2.0.downsample.0.weight", "layer3.2.bn2.weight", "fc.bias"} < names["resnet20"]
    assert {"block1.layer.0.convShortcut.weight", "block3.layer.1.conv2.weight"} < names["wrn-16-2"]
    assert {"block0.3.weight", "block4.4.running_var", "classifier.bias"} < names["vgg13"]


@pytest.mark.parametrize("name", FACTS)
def test_every_network_can_be_probed_by_its_name(name):
    function = name.replace("-", "_")
    assert getattr(zoo, function).args == (name,)
    if name == "wrn-16-2":
        network = build_model(f"dissect_embed.distillation.zoo:{function}", "random", seed=3)
        assert torch.equal(network.conv1.weight, build_network(name, seed=3).conv1.weight)
        given = find_input(network, ModelInput(), (224, 224), name="zoo:it", weights="random")
        assert (given.size, given.mean, given.std) == ((32, 32), zoo.MEAN, zoo.STD)


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_pairs_agree_stage_by_stage(teacher, student):
    assert pair_maps(build_network(teacher), build_network(student)) == map_shapes(
        build_network(student)
    )


def test_what_does_not_fit_is_named():
    with pytest.raises(ModelError, match=r"unknown 'resnet21'; choose one of resnet20, .*vgg13"):
        build_network("resnet21")
    resnet, vgg = build_network("resnet20"), build_network("vgg8")
    with pytest.raises(ModelError, match=r"it has 4 stages, the teacher 5; choose"):
        pair_maps(vgg, resnet)
    with pytest.raises(
        ModelError,
        match=r"f1 \(block1\) is 32 units on 32 × 32, the teacher's \(layer1\) 16 units on 32 × 32",
    ):
        pair_maps(resnet, build_network("wrn-16-2"))
