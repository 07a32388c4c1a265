"""Whether weights that a file lacks matter to what is probed."""

import re

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.gaps import check_missing


class Net(nn.Module):
    """With a token of its own, a list of parameters, attention, a helper in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.prompts = nn.ParameterList([torch.zeros(1, 1, 4)])
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.side = Parts()
        self.norm = nn.LayerNorm(4)
        self.aux = nn.Sequential(nn.Linear(4, 2))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token, self.prompts[0], x], 1)
        x = self.norm(self.side.both(self.attention(x, x, x)[0]))
        return self.head(x[:, 0]) + (self.aux(x[:, 0]) if self.training else 0)


class Parts(nn.Module):
    """Is not called: its parts are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.inner = nn.Linear(4, 4)

    def both(self, x: Tensor) -> Tensor:
        return self.inner(x) * self.weight


def run(model: nn.Module) -> Tensor:
    return model.eval()(torch.zeros(1, 3, 5, 5))


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(
    ("missing", "layers", "ok"),
    [
        (["head.weight", "head.bias"], ["norm"], True),
        (["head.weight", "norm.weight"], ["attention[0]"], True),
        (["aux.0.weight"], ["norm"], True),
        (["stem.bias"], ["norm"], False),
        (["norm.bias"], ["norm"], False),
        (["norm.bias"], ["stem"], True),
        (["norm.bias"], ["stem", "norm#2"], False),
        (["token"], ["norm"], False),
        (["token"], ["stem"], False),
        (["prompts.0"], ["norm"], False),
        (["attention.out_proj.weight"], ["norm"], False),
        (["attention.in_proj_weight"], ["norm"], False),
        (["attention.out_proj.weight"], ["stem"], True),
        (["side.weight"], ["norm"], False),
        (["side.inner.weight"], ["norm"], False),
        (["side.inner.weight"], ["attention[0]", 'stem["aux"]'], True),
    ],
)
def test_gaps_before_and_after_the_last_layer(missing, layers, ok, wrap):
    model: nn.Module = Net()
    if wrap:
        model = nn.Sequential(model)
        missing, layers = ([f"0.{name}" for name in names] for names in (missing, layers))
    if ok:
        check_missing(model, missing, layers, run)
    else:
        message = rf"model\.weights: the file lacks .*{re.escape(missing[-1])}.*, on which probed"
        with pytest.raises(ModelError, match=message):
            check_missing(model, missing, layers, run)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_many_gaps_are_counted():
    model = torchvision.models.resnet18()
    missing = [key for key in model.state_dict() if key.startswith(("layer4", "fc"))]
    n = len([key for key in missing if "layer4" in key])
    message = (
        rf"lacks 'layer4\.0\.conv1\.weight', .*, … \({n} keys\), on which .*\(layer1, layer4\)"
    )
    with pytest.raises(ModelError, match=message):
        check_missing(model, missing, ["layer1", "layer4"], lambda m: m(torch.zeros(2, 3, 32, 32)))
    check_missing(model, missing, ["layer1", "layer3"], lambda m: m(torch.zeros(2, 3, 32, 32)))


def test_the_classifiers_that_help_in_training():
    model = torchvision.models.googlenet(init_weights=False).eval()
    missing = [key for key in model.state_dict() if key.startswith(("aux", "fc"))]
    check_missing(model, missing, ["inception5b"], lambda m: m(torch.zeros(1, 3, 64, 64)))


def test_hooks_go_when_the_network_fails():
    model = nn.Sequential(nn.Conv2d(3, 4, 9))
    with pytest.raises(RuntimeError):
        check_missing(model, ["0.bias"], ["0"], run)
    assert not model[0]._forward_hooks
