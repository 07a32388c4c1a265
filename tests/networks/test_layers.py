"""The layers of a network: where its stages end, what names mean, and how they are listed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from given import input_of
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.inspection.networks import show_layers
from dissect_embed.networks.layers import list_layers, resolve_layers
from dissect_embed.networks.maps import Reading
from dissect_embed.networks.readings import read_layers
from dissect_embed.networks.settings import Model, ModelInput


def ends(model: nn.Module, height: int = 64, width: int = 96) -> list[str]:
    return [r.layer for r in list_layers(model.eval(), input_of(height, width)) if r.is_stage_end]


def convolution(n: int, m: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n, m, 3, stride, 1)


# ---- where stages end: networks of others ----


def timm_network(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, pretrained=False, **options)  # type: ignore[no-any-return]


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=8, num_heads=2, hidden_dim=24, mlp_dim=24
    )


BUILD = torchvision.models.get_model
SMALL_TRANSFORMER = {"img_size": 64, "embed_dim": 24, "num_heads": 2}


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        (lambda: BUILD("resnet18"), 64, ["relu", "layer1", "layer2", "layer3", "layer4"]),
        # The ReLU before each pooling.
        (lambda: BUILD("vgg11"), 64, [f"features.{n}" for n in (1, 4, 9, 14, 19)]),
        # Before the pooling of each transition; the batch normalisation at the end.
        (
            lambda: BUILD("densenet121"), 64,
            ["features.relu0", *(f"features.denseblock{n}" for n in (1, 2, 3)), "features.norm5"],
        ),
        (
            vision_transformer, 64,
            [f"encoder.layers.encoder_layer_{n}" for n in (1, 3, 5, 7)],
        ),
        (
            lambda: timm_network("vit_tiny_patch16_224", depth=6, **SMALL_TRANSFORMER), 64,
            [f"blocks.{n}" for n in (1, 2, 4, 5)],
        ),
        # Ends with a convolution that timm names but does not have.
        (lambda: timm_network("regnetx_002"), 64, ["stem", "s1", "s2", "s3", "s4"]),
        # Stages that put out tokens for patches and class apart.
        (lambda: timm_network("pit_ti_224"), 224, [f"transformers.{n}[0]" for n in (0, 1, 2)]),
        # Stages with a branch through three grids.
        (lambda: timm_network("gcvit_xxtiny"), 224, [f"stages.{n}" for n in (0, 1, 2, 3)]),
        # Tokens that only other layers tell the grid of.
        (
            lambda: timm_network("levit_128s"), 224,
            ["stem.act1", "stem.act2", "stem.act3", "stages.0", "stages.1", "stages.2"],
        ),
    ],
    ids=["resnet18", "vgg11", "densenet121", "vit", "timm vit", "regnet", "pit", "gcvit", "levit"],
)  # fmt: skip
def test_stages_end_where_an_expert_would_say(make, size, expected):
    assert ends(make(), size, size) == expected


# ---- the same, one peculiarity each ----


class Stem(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(convolution(3, 4, 2), convolution(4, 4, 2), convolution(4, 4, 2))


class Block(nn.Module):
    def __init__(self, n: int = 4, m: int = 4, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.act = convolution(n, m, stride), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class Stage(Block):
    """Puts out its map and, before or after it, something else."""

    def __init__(self, form: Callable[[Tensor], object]) -> None:
        super().__init__(4, 4, 2)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        return self.form(super().forward(x[0] if isinstance(x, tuple) else x))  # type: ignore[return-value]


class SideStage(Block):
    """A stage that looks at its map through smaller and smaller ones."""

    def __init__(self) -> None:
        super().__init__(4, 4, 2)
        self.side = nn.Sequential(convolution(4, 4, 2), convolution(4, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x + self.side(x).mean()


class Parallel(nn.Module):
    """Three grids at once."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(convolution(4, 4, 2**n) for n in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches]


class Dense(nn.Module):
    """Maps, a dictionary of them by number, and a classifier on top."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.pick, self.head = Parallel(), nn.Identity(), nn.Linear(4, 5)
        self.numbered = Numbered()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.numbered(self.body(convolution_of_colours(x)))
        return self.head(self.pick(maps[2]).mean((2, 3)))


class Numbered(nn.Module):
    def forward(self, maps: list[Tensor]) -> dict[int, Tensor]:
        return dict(enumerate(maps))


def convolution_of_colours(x: Tensor) -> Tensor:
    return torch.cat([x, x[:, :1]], 1)


class Shared(nn.Module):
    """One convolution in two places of the tree, called twice in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.ModuleList([Block(4, 4, 2)]), Block(4, 4, 2)
        self.one[0].deep, self.two.deep = (convolution(4, 4),) * 2
        self.stem, self.last = convolution(3, 4), Block(4, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one[0].deep(self.one[0](self.stem(x)))
        return self.last(self.two.deep(self.two(x)))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # A pooling has no weights, and is no end; nor is what passes on what it is given.
        (
            lambda: nn.Sequential(
                convolution(3, 4), nn.ReLU(), nn.MaxPool2d(2), convolution(4, 4),
                nn.MaxPool2d(2), convolution(4, 4), nn.Identity(), nn.MaxPool2d(2),
            ),
            ["1", "3", "5"],
        ),
        # Stages in a child, and in its child.
        (
            lambda: nn.Sequential(nn.Sequential(Stem(), Block()), convolution(4, 4)),
            ["0.0.0", "0.0.1", "1"],
        ),
        # A head that is a convolution and a pooling puts out vectors.
        (
            lambda: nn.Sequential(
                convolution(3, 4), convolution(4, 4, 2), convolution(4, 4, 2),
                nn.Sequential(convolution(4, 9), nn.AdaptiveAvgPool2d(1)),
            ),
            ["0", "1", "2"],
        ),
        (
            lambda: nn.Sequential(convolution(3, 4), *(Stage(lambda x: (x, 1)) for _ in range(3))),
            ["0", "1[0]", "2[0]", "3[0]"],
        ),
        (
            lambda: nn.Sequential(convolution(3, 4), *(SideStage() for _ in range(3))),
            ["0", "1", "2", "3"],
        ),
        (Dense, ["body[0]", "body[1]", "body[2]"]),
        (Shared, ["stem", "one.0", "two", "last"]),
        # Blocks after a stem: most of the weights.
        (lambda: nn.Sequential(Stem(), *(Block() for _ in range(8))), ["2", "4", "6", "8"]),
        (
            lambda: nn.Sequential(*(Block(3, 3) for _ in range(5))),
            ["1", "2", "3", "4"],
        ),
        # As many blocks on one grid, in a network that has them on others as well.
        (
            lambda: nn.Sequential(Stem(), Block(), nn.Sequential(*(Block() for _ in range(8))),
                                  Block(4, 4, 2)),
            ["0.0", "0.1", "2", "3"],
        ),
    ],
    ids=["pools", "opened", "head", "tuples", "side branch", "parallel", "shared",
         "stem and blocks", "blocks alone", "a deep stage"],
)  # fmt: skip
def test_stages_of_odd_networks(make, expected):
    assert ends(make()) == expected


# ---- what is listed ----


def test_rows_of_a_list():
    """A ReLU of two calls; a convolution in float16, 8 × 32 × 48 positions."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.unused = convolution(3, 8, 2), nn.ReLU(), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.conv(self.relu(x)))

    conv, relu = list_layers(Twice(), input_of(64, 96))
    assert (conv.layer, conv.calls) == ("conv", 1)
    assert conv.reading == Reading("image unit y x", 0, 8, (32, 48))
    assert conv.megabytes == pytest.approx(8 * 32 * 48 * 2 / 1e6)
    assert (relu.layer, relu.calls) == ("relu", 2)


def test_parts_by_name_are_read_under_that_name():
    """As the list names them: keys of dictionaries, numbers too, and places in lists."""
    model = Dense().eval()
    given = input_of(64, 96)
    names = [row.layer for row in list_layers(model, given)]
    assert [n for n in names if "[" in n] == [
        "body[0]", "body[1]", "body[2]", "numbered[0]", "numbered[1]", "numbered[2]",
    ]  # fmt: skip
    assert list(read_layers(model, names, given, {}, None)) == names


def test_a_grid_that_other_layers_have_decides_between_two():
    """49 tokens of 256 units, by a layer that is asked for alone."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.wide = nn.Conv2d(3, 8, 32, 32), nn.Linear(8, 256)
            self.head = nn.Linear(49 * 256, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2:] != (224, 224):
                raise ValueError
            x = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.wide(x).flatten(1))

    readings = read_layers(Tokens(), ["wide"], input_of(224, 224), {}, None)
    assert readings == {"wide": Reading("image token unit", 0, 256, (7, 7))}


# ---- names ----


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layer*"], ["layer1", "layer2", "layer3", "layer4"]),
        (["layer*.1", "conv1"], ["layer1.1", "layer2.1", "layer3.1", "layer4.1", "conv1"]),
        (["auto"], ["relu", "layer1", "layer2", "layer3", "layer4"]),
        (["auto", "conv1"], ["relu", "layer1", "layer2", "layer3", "layer4", "conv1"]),
        (["layer4", "auto"], ["relu", "layer1", "layer2", "layer3", "layer4"]),
        (["layer4", "layer2"], ["layer4", "layer2"]),
    ],
)
def test_names_patterns_and_auto(names, expected):
    model = BUILD("resnet18").eval()
    assert resolve_layers(model, names, input_of(64, 64)) == expected


def test_a_module_that_is_called_auto():
    model = nn.Sequential()
    model.add_module("auto", convolution(3, 4))
    assert resolve_layers(model, ["auto"], input_of(8, 8)) == ["auto"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["stage*"], r"no module of ResNet matches 'stage\*' .* there are conv1, bn1, .*layers'"),
        (["layer1", "layer1"], r"'layer1' is named twice"),
    ],
)
def test_names_of_nothing(names, message):
    with pytest.raises(ModelError, match=rf"^model\.layers: {message}"):
        resolve_layers(BUILD("resnet18").eval(), names, input_of(64, 64))


def test_a_network_without_maps_has_no_stages():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5))
    with pytest.raises(ModelError, match=r"^model\.layers: no layer is named"):
        resolve_layers(model, ["auto"], input_of(8, 8))


# ---- the command ----

OWN = """
from torch import nn

def bare():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1))

def stated():
    net = bare()
    net.mean, net.std, net.input_size = [0.5] * 3, [0.25] * 3, [3, 16, 24]
    return net

def nothing():
    return nn.Identity()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tests_own_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tests_own_layers", raising=False)
    return "tests_own_layers"


def printed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split() for line in capsys.readouterr().out.splitlines() if line]


def test_what_the_command_prints(own, capsys):
    show_layers(Model(name=f"{own}:stated", weights="random"))
    lines = printed(capsys)
    assert lines[0] == ["network", "Sequential"]
    assert lines[1][:6] == ["input", "3", "×", "16", "×", "24;"]
    assert " ".join(lines[1]).count("0.25") == 3
    # 4 × 8 × 12 and 5 × 4 × 6 numbers of two bytes.
    assert lines[2:] == [
        "layer units grid axes MB an image calls".split(),
        "0 4 8×12 (image, unit, y, x) 0.001".split(),
        "* 1 4 8×12 (image, unit, y, x) 0.001".split(),
        "* 2 5 4×6 (image, unit, y, x) 0.000".split(),
        lines[-1],
    ]
    assert " ".join(lines[-1]).startswith("* the end of a stage: what model.layers: auto takes.")


def test_tokens_before_those_of_the_image_are_printed(capsys):
    arguments = SMALL_TRANSFORMER | {"depth": 4}
    settings = Model(
        name="timm:vit_tiny_patch16_224", weights="random", arguments=arguments,
        input=ModelInput(size=64),
    )  # fmt: skip
    show_layers(settings, "blocks.*")
    lines = printed(capsys)[3:-1]
    expected = "24 4×4 (image, token, unit), 1 before 0.001"
    assert [" ".join(line) for line in lines] == [f"* blocks.{n} {expected}" for n in range(4)]


def test_a_network_that_does_not_state_its_colours(own, capsys):
    """Which layers it has does not depend on them; ones that are 1 are stated all the same."""
    name = f"{own}:bare"
    show_layers(Model(name=name, weights="random", input=ModelInput(size=32)))
    first = printed(capsys)
    said = "mean and std are not stated: name them in model.input"
    assert " ".join(first[1]) == f"input 3 × 32 × 32; {said}"
    known = ModelInput(size=32, mean=(0.5,) * 3, std=(1.0,) * 3)
    show_layers(Model(name=name, weights="random", input=known))
    second = printed(capsys)
    assert said not in " ".join(second[1])
    assert first[2:] == second[2:]


@pytest.mark.parametrize(
    ("function", "given", "pattern", "message"),
    [
        ("bare", {}, None, r"bare does not say which size of images it takes; .*{size: 224}"),
        ("bare", {"size": 32}, "3*", r"bare: no layer that can be dissected matches '3\*'"),
        ("nothing", {"size": 32}, None, r"nothing: puts out no maps, tokens or vectors"),
        ("bare", {"size": 32, "channels": 1}, None,
         r"Sequential: cannot run .* it takes 3 channels: set"),
    ],
)  # fmt: skip
def test_what_the_command_refuses(own, function, given, pattern, message):
    settings = Model(name=f"{own}:{function}", weights="random", input=ModelInput(**given))
    with pytest.raises(ModelError, match=message):
        show_layers(settings, pattern)
