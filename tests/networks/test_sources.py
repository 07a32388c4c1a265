"""Where networks come from: a function of one's own, timm, torchvision; and what goes wrong."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dissect_embed.errors import ModelError
from dissect_embed.networks import sources
from dissect_embed.networks.sources import check_name, construct, has_classes, import_function

OWN = """
import torch
from torch import nn

def small(width: int = 4, *, deep: bool = False) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, 5, 3) if deep else nn.ReLU())

def drops():
    raise RuntimeError("no such file: weights.bin")

def ends():
    raise SystemExit("usage")

def forwards(name):
    from dissect_embed.networks.sources import check_name
    check_name(name)

class Own(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n, n)

number = 3
"""


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what a test imports, and where from."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [*sys.modules]:
        if name.startswith("own_"):
            monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of one's own, with a module in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_network.py").write_text(OWN)
    yield tmp_path
    for name in [*sys.modules]:
        if name.startswith("own_"):
            del sys.modules[name]


# ---- a function of one's own ----


def test_a_function_in_the_working_folder(folder):
    model = construct("own_network:small")
    assert [type(module) for module in model] == [nn.Conv2d, nn.ReLU]
    (folder / "own_package").mkdir()
    (folder / "own_package/nets.py").write_text("from own_network import small\n")
    assert isinstance(construct("own_package.nets:small"), nn.Sequential)


def test_nothing_in_the_working_folder_stands_before_a_package(folder):
    (folder / "timm.py").write_text("raise AssertionError\n")
    (folder / "json.py").write_text("raise AssertionError\n")
    assert import_function("timm.layers:Mlp", "x").__name__ == "Mlp"
    assert import_function("json:loads", "x")("3") == 3


def test_a_class_and_a_function_take_arguments(folder):
    assert construct("own_network:Own", {"n": 7}).layer.out_features == 7
    model = construct("own_network:small", {"width": 6, "deep": True})
    assert (model[0].out_channels, model[1].in_channels) == (6, 6)


def test_a_seed_makes_the_same_network_and_leaves_the_generator_alone(folder):
    state = torch.random.get_rng_state()
    one, same, other = (construct("own_network:small", seed=n)[0].weight for n in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_classes_are_not_told_to_networks_of_ones_own(folder):
    assert isinstance(construct("own_network:small", n_classes=7), nn.Sequential)
    assert [has_classes(name) for name in ("resnet18", "timm:resnet18", "a:b")] == [
        True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "own_network:small", {"widht": 5},
            r"own_network:small\(widht=5\) failed \(TypeError: .*unexpected keyword argument "
            r"'widht'.*\); what it is called with stands in model\.arguments$",
        ),
        ("own_network:Own", {}, r"own_network:Own\(\) failed \(TypeError: .*missing 1 required"),
        ("own_network:drops", {}, r"own_network:drops\(\) failed \(RuntimeError: no such file: we"),
        ("own_network:ends", {}, r"own_network:ends\(\) failed \(SystemExit: usage\)"),
        ("own_network:number", {}, r"own_network:number is int, expected a function$"),
        ("own_network:large", {}, r"cannot import 'own_network:large' \(.*no attribute 'large'\)"),
        ("own_netwrok:small", {}, r"cannot import 'own_netwrok:small' \(No module named 'own_net"),
        ("own_network:", {}, r"cannot import 'own_network:' "),
        # Errors of the house keep their own words.
        ("own_network:forwards", {"name": "zz"}, r"torchvision has no classifier 'zz'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_function_is_said(folder, name, arguments, message):
    with pytest.raises(ModelError, match=rf"^model\.name: {message}"):
        construct(name, arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_package_of_mine",
            r"No module named 'no_such_package_of_mine'\); expected",
        ),
        (
            "raise ValueError('bad table')",
            r"ValueError\('bad table'\)\); expected 'package\.module",
        ),
        ("def small(:", r"SyntaxError\("),
    ],
)
def test_a_module_that_cannot_be_imported(folder, text, message):
    (folder / "own_broken.py").write_text(f"{text}\n")
    with pytest.raises(ModelError, match=rf"^model\.name: cannot import .*{message}") as caught:
        construct("own_broken:small")
    assert str(folder) in str(caught.value)
    assert caught.value.__cause__ is not None


def test_the_setting_that_names_a_function_is_named():
    with pytest.raises(ModelError, match=r"^model\.merge: cannot import 'own_none:f'"):
        import_function("own_none:f", "model.merge")


def test_a_module_may_print(folder, capsys):
    (folder / "own_loud.py").write_text(f"print('hello')\n{OWN}")
    assert isinstance(construct("own_loud:small"), nn.Sequential)
    assert capsys.readouterr().out == "hello\n"


def test_a_module_that_ends_the_program(folder):
    """As a script without a guard does."""
    (folder / "own_script.py").write_text("import sys\nsys.exit('usage: …')\n")
    with pytest.raises(ModelError, match=r"cannot import 'own_script:main' \(SystemExit\('usage"):
        construct("own_script:main")


# ---- timm ----


def test_a_network_of_timm():
    model = construct("timm:test_resnet", n_classes=7)
    assert model.get_classifier().out_features == 7
    assert construct("timm:test_resnet", {"num_classes": 3}).num_classes == 3
    one, same = (construct("timm:test_resnet", seed=3).state_dict() for _ in range(2))
    assert all(torch.equal(value, same[key]) for key, value in one.items())


def test_a_network_of_timm_with_weights_in_its_name():
    assert construct("timm:resnet18.a1_in1k", n_classes=2).num_classes == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet81d", r"timm has no network 'resnet81d'; did you mean .*resnet18d"),
        (
            "timm:resnet81.a1_in1k",
            r"timm has no network 'resnet81\.a1_in1k'; did you mean .*resnet18",
        ),
        ("timm:§§§", r"timm has no network '§§§'; timm\.list_models\(\) lists them"),
        ("timm:", r"timm has no network ''; "),
    ],
)
def test_a_network_that_timm_does_not_have(name, message):
    with pytest.raises(ModelError, match=rf"^model\.name: {message}"):
        construct(name)


def test_arguments_that_timm_does_not_know():
    message = r"^model\.name: timm:test_resnet\(widht=3\) failed \(TypeError: .*; what it is called"
    with pytest.raises(ModelError, match=message):
        construct("timm:test_resnet", {"widht": 3})


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    message = (
        r"^model\.name: networks 'timm:NAME' need the package timm \(.*\); install it with "
        r"pip install 'dissect-embed\[networks\]'$"
    )
    with pytest.raises(ModelError, match=message):
        construct("timm:resnet18")
    assert construct("squeezenet1_1", n_classes=2)  # which needs none


# ---- torchvision ----


def test_a_network_of_torchvision():
    assert construct("squeezenet1_1", n_classes=7).num_classes == 7
    assert construct("squeezenet1_1", {"num_classes": 3}, n_classes=7).num_classes == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sources.TRANSFORMS_INPUT)
def test_networks_that_warn_unless_told_how_to_begin(name):
    assert construct(name, n_classes=2)


def test_classifiers_of_torchvision_alone():
    check_name("resnet18")
    for name in ("fcn_resnet50", "raft_small", "resnet", ""):
        with pytest.raises(ModelError, match=rf"torchvision has no classifier '{name}'; did you"):
            check_name(name)
