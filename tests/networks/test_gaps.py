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
        self.read = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.aux = nn.Sequential(nn.Linear(4, 2))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token, self.prompts[0], x], 1)
        x = nn.functional.linear(x, self.read.weight)  # read, not called
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


IMAGES = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))


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
        (["norm.bias"], ["stem", "norm#1"], False),
        (["token"], ["norm"], False),
        (["token"], ["stem"], True),
        (["prompts.0"], ["norm"], False),
        (["attention.out_proj.weight"], ["norm"], False),
        (["attention.in_proj_weight"], ["norm"], False),
        (["attention.out_proj.weight"], ["stem"], True),
        (["side.weight"], ["norm"], False),
        (["side.inner.weight"], ["norm"], False),
        (["side.inner.weight"], ["attention[0]"], True),
        (["read.weight"], ["norm"], False),
    ],
)
def test_gaps_before_and_after_the_last_layer(missing, layers, ok, wrap):
    model: nn.Module = Net()
    if wrap:
        model = nn.Sequential(model)
        missing, layers = ([f"0.{name}" for name in names] for names in (missing, layers))
    if ok:
        check_missing(model.eval(), missing, layers, IMAGES)
    else:
        message = rf"model\.weights: the file lacks .*{re.escape(missing[-1])}.*, on which .* dep"
        with pytest.raises(ModelError, match=message):
            check_missing(model.eval(), missing, layers, IMAGES)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_many_gaps_are_counted():
    model = torchvision.models.resnet18().eval()
    missing = [key for key in model.state_dict() if key.startswith(("layer4", "fc"))]
    images = torch.rand(2, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    message = rf"lacks 'layer4\.0\.conv1\.weight', .*, … \({len(missing)} keys\), on which layer4"
    with pytest.raises(ModelError, match=message):
        check_missing(model, missing, ["layer1", "layer4"], images)
    check_missing(model, missing, ["layer1", "layer3"], images)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_classifiers_that_help_in_training():
    model = torchvision.models.googlenet(init_weights=False).eval()
    missing = [key for key in model.state_dict() if key.startswith(("aux", "fc"))]
    check_missing(model, missing, ["inception5b"], torch.rand(1, 3, 64, 64))
