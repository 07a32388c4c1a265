"""Networks trained on a data set's own images."""

import pytest
import torch
from given import model_of

from dissect_embed.datasets.broden import load_broden
from dissect_embed.errors import ModelError
from dissect_embed.networks.models import load_network
from dissect_embed.pretraining import train_model

OWN = """
from torch import nn

def network(num_classes=4, channels=3):
    return nn.Sequential(nn.Conv2d(channels, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                         nn.Flatten(), nn.Linear(5, num_classes))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "tests_trained.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


def test_networks_of_ones_own_are_trained_with_their_arguments_and_input(own, tiny, tmp_path):
    data = load_broden(tiny)
    arguments = {"num_classes": len(data.concepts), "channels": 1}
    model = model_of(
        "0", name="tests_trained:network", epochs=2, arguments=arguments,
        input={"mean": [0.4], "std": [0.2]},
    )  # fmt: skip
    done = train_model(tmp_path / "model.pt", model, data, data, n_threads=1)
    assert done["epochs"] == 2
    assert 0 < done["val_map"] <= 1
    loaded = load_network(model.name, str(tmp_path / "model.pt"), arguments, trained=True)
    assert loaded.missing == ()
    assert loaded.model[0].weight.shape == (5, 1, 3, 3)
    fresh = load_network(model.name, "random", arguments).model
    assert not torch.equal(loaded.model[0].weight, fresh[0].weight)


def test_a_network_without_a_score_for_each_concept_is_refused(own, tiny, tmp_path):
    data = load_broden(tiny)
    model = model_of("0", name="tests_trained:network", arguments={"num_classes": 7})
    message = (
        r"'trained' needs a network .*\(2, 4\) for 2 images; tests_trained:network gives \(2, 7\); "
        r".*model\.arguments: \{num_classes: 4\}"
    )
    with pytest.raises(ModelError, match=message):
        train_model(tmp_path / "model.pt", model, data, None, n_threads=1)
    assert not (tmp_path / "model.pt").exists()


def test_networks_with_further_classifiers_are_trained_by_the_last(tiny, tmp_path):
    data = load_broden(tiny)
    model = model_of("inception3a", name="googlenet", epochs=1, input={"size": 64})
    done = train_model(tmp_path / "model.pt", model, data, None, n_threads=1)
    assert done["val_map"] is None
    loaded = load_network("googlenet", str(tmp_path / "model.pt"), trained=True).model
    assert loaded.fc.out_features == len(data.concepts)
    assert not loaded.transform_input
