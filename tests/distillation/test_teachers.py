"""Weights of teachers from elsewhere: in which files they may lie, and what is refused of them."""

import argparse
import json
import logging

import pytest
import torch
from toy import images, task, train

from dissect_embed.distillation import teachers
from dissect_embed.distillation.teachers import load_teacher
from dissect_embed.distillation.zoo import build_network
from dissect_embed.errors import ModelError, TrainingError
from dissect_embed.networks.models import hash_weights

HALF, QUARTER = (0.5,) * 3, (0.25,) * 3


def load(path, name="resnet20", mean=HALF, std=QUARTER, test=None):
    return load_teacher(path, name, images(), test or images(1), mean, std)


def save(path, content):
    torch.save(content, path)
    return path


def weights(name="resnet20", n_classes=4):
    return build_network(name, n_classes, seed=3).state_dict()


def prefixed(state):
    return {f"module.{key}": value for key, value in state.items()}


# As torch, Lightning and many others, CRD's code in its best and last epoch, and DataParallel save.
FORMS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "best": lambda state: {"epoch": 3, "model": state, "best_acc": torch.tensor(72.5)},
    "last": lambda state: {"opt": argparse.Namespace(lr_decay_epochs=[150]), "model": state},
    "parallel": prefixed,
    "both": lambda state: {
        "model": prefixed(state),
        "optimizer": {"state": {}, "param_groups": []},
    },
    "old": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_files(tmp_path, form):
    network, meta = load(save(tmp_path / "a.pth", FORMS[form](weights())))
    expected = build_network("resnet20", 4, seed=3).eval()
    assert not network.training
    assert hash_weights(network) == hash_weights(expected) == meta["fingerprint"]
    known = {"name": "resnet20", "n_classes": 4, "data": "print", "mean": list(HALF)}
    assert meta.items() >= known.items()


@pytest.mark.parametrize("name", ["wrn-16-2", "vgg8", "resnet8x4", "own_networks:small"])
def test_networks(tmp_path, name):
    size = 32 if name == "vgg8" else 8
    data = images()._replace(images=torch.zeros(40, size, size, 3, dtype=torch.uint8).numpy())
    path = save(tmp_path / "a.pth", weights(name))
    network, _ = load_teacher(path, name, data, data, HALF, QUARTER)
    assert hash_weights(network) == hash_weights(build_network(name, 4, seed=3))


def test_its_accuracy_is_measured_once_and_kept(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    path, data = save(tmp_path / "a.pth", weights()), images(1)
    network, meta = load(path)
    with torch.no_grad():
        x = (torch.from_numpy(data.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        right = (network(x).argmax(dim=1).numpy() == data.labels).mean()
    assert meta["accuracy"] == pytest.approx(right)
    assert caplog.messages[0] == f"{path}: resnet20, {100 * right:.2f} % of the test images right"
    note = tmp_path / "a.pth.accuracy"
    assert json.loads(note.read_text()) == meta
    measured = []

    def measure(*_):
        measured.append(0)
        return 0.75

    monkeypatch.setattr(teachers, "measure_accuracy", measure)
    assert load(path)[1] == meta
    assert not measured
    # Of other weights, another normalisation or a damaged note it is measured again.
    assert load(path, mean=(0.4,) * 3)[1]["accuracy"] == 0.75
    save(path, build_network("resnet20", 4, seed=4).state_dict())
    load(path, mean=(0.4,) * 3)
    note.write_text('{"name": ')
    load(path, mean=(0.4,) * 3)
    assert len(measured) == 3


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    path = save(tmp_path / "a.pth", weights())

    def refuse(note):
        raise PermissionError(13, "no")

    monkeypatch.setattr(teachers, "atomic_path", refuse)
    assert 0 <= load(path)[1]["accuracy"] <= 1
    assert [found.name for found in tmp_path.iterdir()] == ["a.pth"]


def test_chance_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(teachers, "measure_accuracy", lambda *_: 0.25)
    load(save(tmp_path / "a.pth", weights()))
    assert "a.pth: hardly better than chance: are the classes" in caplog.text


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (weights(), None, r"it does not say what network .*add --teacher-network: resnet20"),
        (weights("resnet32"), "resnet20", r"has 'layer1\.3\.conv1\.weight', which resnet20 lacks"),
        (
            weights(),
            "resnet32",
            r"it lacks 'layer1\.3\.conv1\.weight' .*with --teacher-network: re",
        ),
        (weights("wrn-16-2"), "resnet20", r"lacks 'layer1\.0\..*it has 'block1\.layer\.0"),
        (
            weights(n_classes=100),
            "resnet20",
            r"'fc\.weight' is \(100, 64\), expected \(4, 64\) \(2",
        ),
        ({"a": 1}, "resnet20", "no state_dict: it holds 'a', which is no tensor; expected tensors"),
        ({}, "resnet20", "no state_dict: it holds nothing"),
        ({"model": {"a": "b"}}, "resnet20", "no state_dict: it holds 'a', which is no tensor"),
        ([1], "resnet20", "expected tensors by name, found list"),
        ({"model": weights(), "code": print}, "resnet20", "damaged, or no weights alone .*save it"),
        (weights(), "resnet21", "network: unknown 'resnet21'; choose one of resnet20"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, content, name, message):
    path = save(tmp_path / "a.pth", content)
    with pytest.raises((ModelError, TrainingError), match=message) as error:
        load(path, name)
    assert "delete" not in str(error.value)
    assert [found.name for found in tmp_path.iterdir()] == ["a.pth"]


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"a\.pth: no such file; name the weights"):
        load(tmp_path / "a.pth")
    path = save(tmp_path / "a.pth", weights())
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(TrainingError, match=r"a\.pth: damaged, or no weights alone .*get it whole"):
        load(path)


def test_what_was_trained_here_names_itself(tmp_path):
    train(tmp_path / "a.json", task(epochs=1))
    path = tmp_path / "a.pt"
    network, meta = load(path, None)
    assert meta["task"]["student"] == "resnet20"
    assert hash_weights(load(path, "resnet20")[0]) == hash_weights(network)
    assert not (tmp_path / "a.pt.accuracy").exists()
    with pytest.raises(TrainingError, match=r"a\.pt: the weights of resnet20, --teacher"):
        load(path, "resnet32")
