"""Which tensors of a file are a network's weights."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.checkpoints import read_weights
from dissect_embed.networks.models import build_model, hash_weights
from dissect_embed.networks.weights import Fit, count_classes, find_head, fit_weights

State = dict[str, Tensor]


class Net(nn.Module):
    """A backbone with batch normalisation, and a classifier."""

    def __init__(self, n_classes: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.bn1 = nn.BatchNorm2d(5)
        self.layer1 = nn.Sequential(*(nn.Conv2d(5, 5, 1) for _ in range(depth)))
        self.fc = nn.Linear(5, n_classes)


def state(seed: int = 1, **options: int) -> State:
    """Return weights with every number drawn, also of batch normalisation."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand(value.shape, generator=generator)
        if value.is_floating_point()
        else torch.tensor(seed)
        for key, value in Net(**options).state_dict().items()
    }


def under(prefix: str, weights: State) -> State:
    return {prefix + key: value for key, value in weights.items()}


def fit(content: object, folder: Path, net: nn.Module | None = None) -> Fit:
    torch.save(content, folder / "a.pth")
    own = (net or Net()).state_dict()
    return fit_weights(own, read_weights(folder / "a.pth"), path=folder / "a.pth", name="net")


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


PREFIXES = [
    "module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "_orig_mod.module.",
    "model._orig_mod.module.", "module.module.", "a.b.c.d.", "encoder_q.", "fc.", "0.",
]  # fmt: skip
FORMS: dict[str, Callable[[State], object]] = {
    "timm": lambda s: {
        "epoch": 3, "arch": "net", "state_dict": s, "args": None,
        "optimizer": {"state": {0: {"exp": s["fc.bias"]}}},
    },
    "imagenet": lambda s: {"epoch": 90, "arch": "net", "state_dict": under("module.", s)},
    "RepDistiller": lambda s: {"epoch": 240, "model": s, "accuracy": torch.tensor(0.7)},
    "mdistiller": lambda s: {"epoch": 240, "model": under("module.", s), "best_acc": 0.7},
    "MMLab": lambda s: {"meta": {"epoch": 3}, "state_dict": s, "optimizer": {}},
    "MMLab's runner": lambda s: {
        "meta": {}, "state_dict": under("backbone.", s) | {"data_preprocessor.mean": torch.ones(3)}
    },
    "Lightning": lambda s: {
        "state_dict": under("model.", s) | {"criterion.weight": torch.ones(4)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "callbacks": {"Checkpoint": {"best": torch.tensor(0.1)}},
    },
    "DINO": lambda s: {"teacher": under("backbone.", s) | {"head.mlp.weight": torch.ones(2)}},
    "averaged alone": lambda s: {"n_averaged": torch.tensor(3)} | under("module.", s),
    "parameters": lambda s: {
        k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()
    },
    "twice the same": lambda s: {"state_dict": s, "model": {k: v.clone() for k, v in s.items()}},
    "a tuple": lambda s: (s, {"state": {}, "param_groups": []}),
    "deep": lambda s: {"a": {"b": {"c": under("x.y.", s)}}},
    "without counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "a wrapped part": lambda s: {
        k.replace("layer1.", "layer1.module.").replace("bn1", "bn1._orig_mod"): v
        for k, v in s.items()
    },
    "a wrapped part and all": lambda s: {
        k.replace("layer1.", "layer1.module._orig_mod."): v for k, v in under("module.", s).items()
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_checkpoints(tmp_path, form):
    expected = state()
    content = FORMS[form](expected)
    if form == "without counters":
        del expected["bn1.num_batches_tracked"]
    found = fit(content, tmp_path)
    assert_same(found.state, expected)
    assert found.missing == ()


@pytest.mark.parametrize("key", [None, "state_dict", "ema", "anything"])
@pytest.mark.parametrize("prefix", ["", *PREFIXES])
def test_prefixes(tmp_path, prefix, key):
    weights = under(prefix, state())
    found = fit({key: weights} if key else weights, tmp_path)
    assert_same(found.state, state())
    where = f"key {key!r}" if key else "the file's own keys"
    assert found.note == f"weights from {where}" + (f", prefix {prefix!r}" if prefix else "")


@pytest.mark.parametrize("theirs", ["", "module.", "model.", "_orig_mod.module."])
@pytest.mark.parametrize("ours", ["module", "_orig_mod", "net"])
def test_a_network_that_is_wrapped_itself(tmp_path, ours, theirs):
    wrapped = nn.ModuleDict({ours: nn.ModuleDict({"inner": Net()})})
    found = fit(under(theirs, state()), tmp_path, wrapped)
    assert_same(found.state, under(f"{ours}.inner.", state()))
    assert found.missing == ()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_other_precision(tmp_path, kind):
    """Also of what counts batches."""
    net = Net()
    found = fit({k: v.to(kind) for k, v in state().items()}, tmp_path, net)
    net.load_state_dict(found.state)
    for key, value in net.state_dict().items():
        assert torch.equal(value, state()[key].to(kind).to(value.dtype)), key


def test_earlier_names_of_densenet(tmp_path):
    """As in torchvision's own files, and those of Places365."""
    model = build_model("densenet121", "random", n_classes=3)
    old = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if "denselayer" in key:
            parts = [f"{p[:4]}.{p[4:]}" if p[:4] in ("norm", "conv") else p for p in parts]
        old["module." + ".".join(parts)] = value
    assert any(".norm.1." in key for key in old)
    torch.save({"state_dict": old}, tmp_path / "a.pth.tar")
    loaded = build_model("densenet121", str(tmp_path / "a.pth.tar"))
    assert hash_weights(loaded) == hash_weights(model)


def test_numbers_that_are_none_are_not_two_networks(tmp_path):
    weights = state() | {"fc.bias": torch.full((4,), float("nan"))}
    found = fit(under("module.", weights), tmp_path)
    assert found.missing == ()


# ---- several that fit ----


@pytest.mark.parametrize(
    ("plain", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema"),
        ("params", "params_ema"),
        ("net", "swa_net"),
    ],
)
def test_a_network_is_preferred_to_its_average(tmp_path, plain, average):
    for content in ({plain: state(1), average: state(2)}, {average: state(2), plain: state(1)}):
        found = fit(content, tmp_path)
        assert_same(found.state, state(1))
        assert found.note == f"weights from key {plain!r}; not the average (key {average!r})"
    assert_same(fit({average: state(2), "epoch": 3}, tmp_path).state, state(2))
    both = under("model.", state(1)) | under("model_ema.module.", state(2))
    found = fit({"state_dict": both}, tmp_path)
    assert_same(found.state, state(1))
    assert "not the average (key 'state_dict', prefix 'model_ema.module.')" in found.note


def test_words_that_hold_ema_are_no_averages(tmp_path):
    content = {"semantic": state(1), "schema": state(2)}
    with pytest.raises(ModelError, match="several weights that differ fit net"):
        fit(content, tmp_path)


def test_two_networks_of_which_either_may_be_meant(tmp_path):
    content = {"student": under("backbone.", state(1)), "teacher": under("backbone.", state(2))}
    message = (
        r"a\.pth: several weights that differ fit net \(key 'student', prefix 'backbone\.'; "
        r"key 'teacher', prefix 'backbone\.'\); save those you mean: from .*'chosen\.pth'\)$"
    )
    with pytest.raises(ModelError, match=message):
        fit(content, tmp_path)
    moco = under("module.encoder_q.", state(1)) | under("module.encoder_k.", state(2))
    with pytest.raises(ModelError, match=r"module\.encoder_q\.'; .*module\.encoder_k\.'\)"):
        fit({"state_dict": moco}, tmp_path)


def test_the_remedy_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    moco = under("module.encoder_q.", state(1)) | under("module.encoder_k.", state(2))
    with pytest.raises(ModelError) as error:
        fit({"state_dict": moco}, tmp_path)
    exec("import torch; " + str(error.value).partition("save those you mean: ")[2], {})
    own = Net().state_dict()
    found = fit_weights(own, read_weights("chosen.pth"), path="chosen.pth", name="net")
    assert_same(found.state, state(1))


def test_several_without_a_classifier_are_not_guessed_either(tmp_path):
    one, two = ({k: v for k, v in state(n).items() if "fc" not in k} for n in (1, 2))
    with pytest.raises(ModelError, match=r"several weights that differ fit net \(key 'a'; key 'b'"):
        fit({"a": one, "b": two}, tmp_path)


# ---- weights of another network ----


def change(**values: Tensor | None) -> State:
    weights = state() | {k.replace("__", "."): v for k, v in values.items()}
    return {k: v for k, v in weights.items() if v is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": under("module.", state(n_classes=365))},
            r"\(best try: key 'state_dict', prefix 'module\.': 10 of 12 keys fit; 'fc\.weight' is "
            r"\(365, 5\), expected \(4, 5\); 0 unknown, 2 of another shape\); check model\.name",
        ),
        (
            state(depth=3),
            r"\(best try: the file's own keys: 12 of 12 keys fit; it has 'layer1\.2\.weight', whi"
            r"ch the network lacks; 2 unknown, 0 of another shape\)",
        ),
        (
            {"a": under("x.", state(depth=3))},
            r"\(best try: key 'a', prefix 'x\.': 12 of 12 keys fit; it has 'x\.layer1\.2\.weight', "
            r"which the network lacks; 2 unknown",
        ),
        (
            change(fc__weight=None, extra=torch.zeros(1)),
            r"11 of 12 keys fit; it has 'extra', which the network lacks; it lacks 'fc\.weight'; 1",
        ),
        (
            change(fc__bias=torch.ones(4, dtype=torch.int8)),
            r"'fc\.bias' is torch\.int8, expected torch\.float32",
        ),
        (
            {"cnn.0.weight": torch.zeros(3)},
            r"none of its keys, as 'cnn\.0\.weight', is one of the network's, as 'conv1\.weight';",
        ),
    ],
)
def test_weights_of_another_network(tmp_path, content, message):
    with pytest.raises(ModelError, match=rf"a\.pth: no weights of net.*{message}"):
        fit(content, tmp_path)


def test_weights_of_a_deeper_network_do_not_load():
    own = torchvision.models.resnet18().state_dict()
    deeper = torchvision.models.resnet34().state_dict()
    for prefix in ("", "module."):
        table = under(prefix, deeper)
        with pytest.raises(ModelError, match=r"it has '.*layer1\.2\.conv1\.weight', which the net"):
            fit_weights(own, {"": table}, path="a.pth", name="resnet18")


def test_what_the_file_lacks_is_listed(tmp_path):
    found = fit({"model": change(fc__weight=None, fc__bias=None)}, tmp_path)
    assert found.missing == ("fc.weight", "fc.bias")
    assert found.note == "weights from key 'model'; the file lacks 'fc.weight', 'fc.bias'"
    found = fit(under("model.", state()) | {"loss.w": torch.ones(2)}, tmp_path)
    assert found.note.endswith("prefix 'model.'; left out 'loss.w'")


@pytest.mark.parametrize("prefix", ["", "module.encoder_q."])
def test_another_classifier_in_the_place_of_the_networks(tmp_path, prefix):
    """As MoCo has, and whoever puts a dropout before it."""
    content = change(fc__weight=None, fc__bias=None, fc__1__weight=torch.ones(3, 5))
    found = fit(under(prefix, content), tmp_path)
    assert found.missing == ("fc.weight", "fc.bias")
    assert_same(found.state, change(fc__weight=None, fc__bias=None))
    assert f"; left out '{prefix}fc.1.weight'; the file lacks 'fc.weight', 'fc.bias'" in found.note
    wrapped = nn.ModuleDict({"module": Net()})
    assert fit(content, tmp_path, wrapped).missing == ("module.fc.weight", "module.fc.bias")
    half = change(fc__weight=None, fc__1__weight=torch.ones(3, 5))
    with pytest.raises(ModelError, match=r"it has 'fc\.1\.weight', which the network lacks"):
        fit(half, tmp_path)


# ---- classes ----


def test_classes_follow_the_file(tmp_path):
    own, head = find_head(lambda n: Net(n_classes=n))
    assert head == ["fc.weight", "fc.bias"]
    for weights, n in [(state(n_classes=7), 7), (change(fc__weight=None, fc__bias=None), None)]:
        found = fit_weights(own, {"a": under("m.", weights)}, path="a", name="net", head=head)
        assert count_classes(found, head) == n
        assert_same(found.state, weights)


def test_networks_with_other_numbers_of_classes_are_two():
    own, head = find_head(lambda n: Net(n_classes=n))
    tables = {"student": state(1, n_classes=7), "teacher": state(1, n_classes=9)}
    with pytest.raises(ModelError, match="several weights that differ fit net"):
        fit_weights(own, tables, path="a", name="net", head=head)


def test_a_classifier_that_contradicts_itself():
    own, head = find_head(lambda n: Net(n_classes=n))
    weights = change(fc__bias=torch.zeros(9))
    found = fit_weights(own, {"": weights}, path="a", name="net", head=head)
    with pytest.raises(
        ModelError, match=r"rows of the classifier differ, \{'fc\.weight': 4, 'fc\.b"
    ):
        count_classes(found, head)


def test_heads_of_torchvision():
    def head(name: str) -> list[str]:
        return find_head(lambda n: torchvision.models.get_model(name, num_classes=n))[1]

    assert head("squeezenet1_0") == ["classifier.1.weight", "classifier.1.bias"]
    assert head("vgg11") == ["classifier.6.weight", "classifier.6.bias"]
    # Cannot be made without numbers.
    assert head("regnet_y_400mf") == ["fc.weight", "fc.bias"]


def test_every_way_to_nest_and_wrap_comes_to_the_same(tmp_path):
    """A network of torchvision, through the front door, in the forms that people have."""
    model = build_model("resnet18", "random", seed=1, n_classes=6)
    weights = model.state_dict()
    for key, prefix in itertools.product([None, "state_dict"], ["", "module.", "model.net."]):
        named = under(prefix, weights)
        torch.save({key: named, "epoch": 1} if key else named, tmp_path / "a.pth.tar")
        loaded = build_model("resnet18", str(tmp_path / "a.pth.tar"))
        assert hash_weights(loaded) == hash_weights(model)
