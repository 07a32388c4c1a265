"""Networks of one's own: trained, resumed and guided as the zoo's are, and what they may lack."""

import pytest
import torch
from toy import Killed, images, lasting, stop_at, task, train

from dissect_embed.distillation.methods.registry import METHODS
from dissect_embed.distillation.training.checkpoints import load_network
from dissect_embed.distillation.training.trainer import train_student
from dissect_embed.distillation.zoo import build_network, map_shapes
from dissect_embed.errors import ModelError, TrainingError
from dissect_embed.networks.models import hash_weights

SMALL = "own_networks:small"


def run(output, method="plain", student=SMALL, **options):
    """Train a network of one's own, by a teacher or targets of the same kind."""
    given, guide = {}, METHODS[method].guide
    of = task(method, epochs=1)._replace(student=student)
    if guide == "teacher":
        given["teacher"] = build_network(SMALL, 4, seed=9).eval()
        of = of._replace(teacher=hash_weights(given["teacher"]))
    if guide == "prior":
        given["targets"] = [torch.full((n, n), 1 / n) for n in (6, 8)]
    return train_student(of, images(), images(), output=output, **given, **options)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_network_of_ones_own(tmp_path, method):
    result = run(tmp_path / "a.json", method)
    assert result["task"]["student"] == SMALL
    network, meta = load_network(tmp_path / "a.pt", SMALL)
    assert meta["name"] == SMALL
    assert meta["fingerprint"] == hash_weights(network)


def test_it_is_resumed_bit_for_bit(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path / "a.json", checkpoint_every=0.0, after_step=stop_at("main", 0, 1))
    assert lasting(run(tmp_path / "a.json")) == lasting(run(tmp_path / "b.json"))


def test_seeds_make_it():
    one, same, other = (build_network(SMALL, 4, seed=seed) for seed in (0, 0, 1))
    assert hash_weights(one) == hash_weights(same) != hash_weights(other)
    assert one.training
    assert map_shapes(one, 8) == ((4, 8, 8), (6, 4, 4), (8, 2, 2))


def test_its_code_is_run_only_where_it_is_named(tmp_path):
    run(tmp_path / "a.json")
    with pytest.raises(TrainingError, match=r"a\.pt: .*add --teacher-network own_networks:small"):
        load_network(tmp_path / "a.pt")
    with pytest.raises(TrainingError, match=r"a\.pt: the weights of own_networks:small, --teacher"):
        load_network(tmp_path / "a.pt", "resnet20")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "cannot import 'own_networks:nothing' .*; expected 'package.module:function'"),
        ("without_classes", r"without_classes\(num_classes=4\) failed \(TypeError: .*num_classes"),
        ("no_module", "no_module returned int, expected a torch.nn.Module"),
        ("bare", "bare returns lacks stage_names and outputs; dissect_embed.distillation.zoo tell"),
        ("unknown_stage", "has 'layer9', no module of it; there are stem, layer1, layer2"),
        ("one_stage", "names 1 modules; expected the stem and at least one stage"),
        ("one_name", "stage_names of .* is 'stem'; expected names of modules"),
    ],
)
def test_what_it_lacks_is_named(function, message):
    with pytest.raises(ModelError, match=message):
        build_network(f"own_networks:{function}", 4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("few_maps", r"maps of .* are \[\(2, 4, 8, 8\), .*each of the 2 stage_names"),
        ("other_logits", "the logits of .*forward and outputs differ"),
        ("wrong_classes", r"are \(2, 5\) and \(2, 8\) for 2 images; expected \(2, 4\)"),
        ("no_outputs", r"outputs\(images\) of .* gives Tensor, expected Outputs"),
        ("failing", r"failed on images of 8 × 8 pixels \(RuntimeError: shape"),
        ("noisy", "draws random numbers in training .dropout"),
    ],
)
def test_what_it_gives_is_checked_before_training(tmp_path, function, message):
    with pytest.raises(ModelError, match=message):
        run(tmp_path / "a.json", student=f"own_networks:{function}")
    assert not list(tmp_path.iterdir())


def test_what_makes_the_maps_has_to_be_known_to_be_trained_first(tmp_path):
    run(tmp_path / "a.json", student="own_networks:nested")
    of = task("fsp", epochs=1)._replace(student="own_networks:nested")
    teacher = build_network("own_networks:nested", 4, seed=9).eval()
    of = of._replace(teacher=hash_weights(teacher))
    with pytest.raises(ModelError, match=r"last stage, 'stem\.2', is none of its attributes"):
        train_student(of, images(), images(), output=tmp_path / "b.json", teacher=teacher)


def test_the_zoos_names_are_told_beside_it(tmp_path):
    with pytest.raises(
        ModelError, match=r"one of resnet20, .*, or name your own, 'package\.module"
    ):
        build_network("resnet21")
    with pytest.raises(TrainingError, match=r"one of resnet20, .*, package\.module:func"):
        train(tmp_path / "a.json", task()._replace(student="resnet21"))
