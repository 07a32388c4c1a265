"""Devices by name, and the arithmetic on them."""

import pytest
import torch
from given import model_of
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.chance import write_chance
from dissect_embed.datasets.broden import load_broden
from dissect_embed.device import arithmetic, choose_device
from dissect_embed.dissection import write_profiles, write_thresholds
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import DeviceError
from dissect_embed.pretraining import train_model
from dissect_embed.relations import write_relations
from dissect_embed.run import Run
from dissect_embed.similarity import write_similarity


def test_devices_by_name(device):
    assert choose_device(device) == device
    there = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device() == choose_device("auto") == there
    if device == "cuda":
        assert choose_device("cuda:0") == "cuda:0"


@pytest.mark.parametrize("name", ["tpu", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cudas", ""])
def test_unknown_devices_are_refused(name):
    with pytest.raises(DeviceError, match=rf"^--device: unknown {name!r}; choose one of auto, cpu"):
        choose_device(name)


def test_mps_runs_networks_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"^--device mps: torch finds no such device here"):
        choose_device("mps", for_network=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("mps", for_network=True) == "mps"
    with pytest.raises(DeviceError, match=r"^--device mps: only a network runs on it, in 'activat"):
        choose_device("mps")


@pytest.mark.parametrize(
    ("n_devices", "message"),
    [
        (0, "torch finds no CUDA device here; choose auto or cpu"),
        (1, "there is only cuda:0; choose one of these, auto or cpu"),
        (4, "there is cuda:0 to cuda:3; choose one of these, auto or cpu"),
    ],
)
def test_devices_that_are_not_there_are_refused(monkeypatch, n_devices, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_devices > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)
    with pytest.raises(DeviceError, match=f"^--device cuda:4: {message}$"):
        choose_device("cuda:4")


def test_every_stage_refuses_a_device_that_is_not_there_in_a_line(tmp_path, tiny, device):
    if device == "cpu" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device, which another message tells of")
    there = "torch finds no CUDA device here" if device == "cpu" else "there is "
    tables = (tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.csv")
    a, b, absent = tmp_path / "a.h5", tmp_path / "b.h5", {"device": "cuda:99"}
    network, data = nn.Sequential(nn.Conv2d(3, 2, 3)), load_broden(tiny)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/labels.h5").touch()
    run = Run(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    for refused in (
        lambda: write_activations(a, data, network, model_of("0"), **absent),
        lambda: write_profiles(a, b, b, **absent),
        lambda: write_thresholds(a, b, **absent),
        lambda: write_similarity(a, b, **absent),
        lambda: write_embedding(a, b, b, **absent),
        lambda: write_chance(a, b, b, b, **absent),
        lambda: write_relations(run, *tables, **absent),
        lambda: train_model(a, model_of("layer1", name="resnet18"), data, None, **absent),
    ):
        with pytest.raises(DeviceError, match=f"^--device cuda:99: {there}.*$"):
            refused()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("tf32_allowed")  # which looks whether all is as before
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_only_convolutions_round_and_only_if_asked(precision):
    def compute():
        with arithmetic(precision):
            assert torch.backends.cudnn.conv.fp32_precision == expected
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            raise KeyError

    expected = "tf32" if precision == "tf32" else "ieee"
    with pytest.raises(KeyError):
        compute()
