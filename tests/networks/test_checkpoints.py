"""Reading the tensors of files of weights, and nothing else of them."""

import argparse
import builtins
import collections
import contextlib
import copyreg
import datetime
import enum
import json
import os
import pathlib
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dissect_embed.errors import ModelError
from dissect_embed.networks.checkpoints import read_weights

FORMS = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}]
FORMS += [{"_use_new_zipfile_serialization": False, "pickle_protocol": 5}]


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((2, 4, 3), generator=generator)
    return {
        "plain": values,
        "view": values[1:, ::2].transpose(1, 2),
        "half": values.half(),
        "brain": values.bfloat16(),
        "double": values.double(),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "parameter": nn.Parameter(values[0]),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value.detach()), name
        assert not found[name].requires_grad


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.pt", "a.pth.tar", "a.ckpt", "a.bin", "a", "a.safetensors"])
def test_what_torch_saves_under_any_name(tmp_path, form, name):
    torch.save(collections.OrderedDict(tensors()), tmp_path / name, **form)
    tables = read_weights(tmp_path / name)
    assert list(tables) == [""]
    assert_same(tables[""], tensors())


def test_a_state_dict_with_its_versions(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    torch.save(net.state_dict(), tmp_path / "a.pt")
    assert_same(read_weights(tmp_path / "a.pt")[""], dict(net.state_dict()))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_safetensors_are_known_by_what_they_hold(tmp_path, name):
    save_file = pytest.importorskip("safetensors.torch", reason="extra 'networks'").save_file
    expected = {k: v.detach().clone().contiguous() for k, v in tensors().items()}
    save_file(expected, tmp_path / name, metadata={"format": "pt"})
    assert_same(read_weights(tmp_path / name)[""], expected)


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModelError, match=r"a\.safetensors: .* needs 'pip install safetensors'"):
        read_weights(path)


def test_damaged_safetensors(tmp_path):
    pytest.importorskip("safetensors", reason="needs the extra 'networks'")
    path = tmp_path / "a.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ModelError, match=r"a\.safetensors: damaged or cut short \(.*; fetch or"):
        read_weights(path)


def test_dictionaries_within_others_are_found(tmp_path):
    one, two = ({"w": torch.full((2,), float(n))} for n in range(2))
    content = {
        "epoch": 3,
        "w": torch.ones(1),
        "state": {"net": {"deep": one, "too": {"deep": {"by": two}}}},
        "pair": (one, [two]),
        4: two,
    }
    torch.save(content, tmp_path / "a.pt")
    tables = read_weights(tmp_path / "a.pt")
    assert list(tables) == ["", "state.net.deep", "pair.0", "pair.1.0"]
    assert list(tables[""]) == ["w"]
    assert_same(tables["state.net.deep"], one)


# ---- objects of other classes ----


class Settings(dict):
    """A dictionary with attributes, as EasyDict or a config of MMLab."""

    def __init__(self, *args: object, **values: object) -> None:
        super().__init__(*args, **values)
        self.__dict__ = self  # type: ignore[assignment]


class Colour(enum.Enum):
    RED = 1


class Slotted:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3

    def method(self) -> int:
        return self.value


class Values(list):
    pass


def other_objects() -> dict[str, object]:
    default: collections.defaultdict[str, list[int]] = collections.defaultdict(list, a=[1])
    return {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("a")),
        "path": {pathlib.PurePosixPath("a"): 1},
        "scalar": np.float64(0.5),
        "array": np.arange(3),
        "settings": Settings(lr=0.1, inner=Settings(a=1)),
        "default": default,
        "counter": collections.Counter("abca"),
        "enum": {Colour.RED: Colour.RED},
        "slots": Slotted(),
        "method": Slotted().method,
        "list": Values([1, 2]),
        "sets": [{1, 2}, frozenset([3])],
        "date": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "function": os.path.join,
        "class": argparse.ArgumentParser,
        "numbers": [1 << 80, 1j, b"bytes", bytearray(b"more"), None, True, "ä", slice(1, 2)],
        "types": [torch.float32, torch.device("cpu"), torch.Size([1, 2]), torch.strided],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", list(other_objects()))
def test_objects_of_other_classes_do_not_hinder(tmp_path, form, key):
    torch.save({"before": other_objects()[key], "model": tensors()}, tmp_path / "a.pt", **form)
    assert_same(read_weights(tmp_path / "a.pt")["model"], tensors())


@pytest.mark.parametrize("form", FORMS)
def test_weights_within_a_dictionary_of_another_class(tmp_path, form):
    torch.save(Settings(state_dict=Settings(tensors())), tmp_path / "a.pt", **form)
    assert_same(read_weights(tmp_path / "a.pt")["state_dict"], tensors())


@pytest.mark.parametrize("form", FORMS)
def test_classes_that_are_not_installed(tmp_path, form, monkeypatch):
    module = types.ModuleType("tests_gone")
    module.Config = type("Config", (), {"__module__": "tests_gone"})
    monkeypatch.setitem(sys.modules, "tests_gone", module)
    torch.save({"model": tensors(), "cfg": module.Config()}, tmp_path / "a.pt", **form)
    monkeypatch.delitem(sys.modules, "tests_gone")
    (tmp_path / "tests_gone.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert_same(read_weights(tmp_path / "a.pt")["model"], tensors())


def test_texts_of_python_2(tmp_path):
    """Their letters may be in any code; torch expects UTF-8."""

    class Old(pickle._Pickler):
        def save_str(self, text: str) -> None:
            raw = text.encode("latin1")
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
            self.memoize(text)

        dispatch = {**pickle._Pickler.dispatch, str: save_str}  # noqa: RUF012

    old = types.SimpleNamespace(
        __name__="old", Pickler=Old, dumps=pickle.dumps, dump=pickle.dump, loads=pickle.loads
    )
    content = {"name": "\xff\xe9", "w": torch.ones(2)}
    torch.save(content, tmp_path / "a.pt", pickle_module=old, _use_new_zipfile_serialization=False)
    assert_same(read_weights(tmp_path / "a.pt")[""], {"w": torch.ones(2)})


def test_tensors_made_on_an_accelerator(tmp_path):
    torch.save({"w": torch.arange(3.0)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    raw = (tmp_path / "a.pt").read_bytes()
    assert raw.count(b"X\x03\x00\x00\x00cpu") == 1
    raw = raw.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:7")
    (tmp_path / "a.pt").write_bytes(raw)
    assert_same(read_weights(tmp_path / "a.pt")[""], {"w": torch.arange(3.0)})


# ---- files that would run code ----


class Runs:
    """What a pickle makes of it is a call."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        function, *arguments = self.call
        return function, tuple(arguments)


class Chained(Runs):
    """The same, with a state, items of a list and of a dictionary given to what comes of it."""

    def __reduce__(self) -> tuple[object, ...]:
        function, *arguments = self.call
        state = {"__class__": Runs, "state_dict": 3, "dump_patches": True}
        return function, tuple(arguments), state, iter([1, 2]), iter([("a", 1)])


def hostile(trace: Path) -> Iterator[object]:
    code = f"open({str(trace)!r}, 'w').close()"
    for kind in (Runs, Chained):
        yield kind(os.system, f"touch {trace}")
        yield kind(os.mkdir, str(trace))
        yield kind(builtins.eval, code)
        yield kind(builtins.exec, code)
        yield kind(pathlib.Path.touch, trace)
        yield kind(builtins.getattr, kind(__import__, "os"), "system")
        yield kind(copyreg._reconstructor, Runs, object, None)
        yield kind(torch.load, str(trace))
        yield kind(torch.utils.data.DataLoader, [1])
        yield kind(torch._utils._rebuild_parameter, kind(os.mkdir, str(trace)), False, {})
        yield kind(torch._tensor._rebuild_from_type_v2, os.mkdir, torch.Tensor, (str(trace),), {})
        yield {kind(os.mkdir, str(trace)): kind(os.mkdir, str(trace))}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(24))
def test_code_within_a_file_is_not_run(tmp_path, form, number):
    trace = tmp_path / "ran"
    content = {"bad": list(hostile(trace))[number], "model": tensors()}
    torch.save(content, tmp_path / "a.pt", **form)
    assert_same(read_weights(tmp_path / "a.pt")["model"], tensors())
    assert not trace.exists()


@pytest.mark.parametrize("form", FORMS)
def test_such_files_do_run_where_they_are_let(tmp_path, form):
    torch.save({"bad": Runs(os.mkdir, str(tmp_path / "ran"))}, tmp_path / "a.pt", **form)
    with pytest.raises(ModelError, match=r"no tensors by name, found 'bad' \((posix|nt)\.mkdir\)"):
        read_weights(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("place", [b"\x80\x02M\xe9\x03.", b"\x80\x02]q\x00X"])
def test_code_before_and_after_the_tensors_is_not_run(tmp_path, place):
    """What torch wrote at first is a row of pickles: a number, a version, …, names of stores."""
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    assert raw.count(place) == 1
    bad = pickle.dumps(Runs(os.mkdir, str(tmp_path / "ran")), 2)
    path.write_bytes(raw.replace(place, bad + place))
    with contextlib.suppress(ModelError):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


def test_nothing_of_torch_is_changed_by_a_file(tmp_path):
    """A pickle can set attributes of what it names."""

    class Sets(pickle._Pickler):
        def save_global(self, obj: object, name: str | None = None) -> None:
            super().save_global(obj, name)
            if obj is nn.Parameter or obj is torch.Tensor or obj is collections.OrderedDict:
                self.save((None, {"spoilt": 1}))
                self.write(pickle.BUILD)

        dispatch = {**pickle._Pickler.dispatch, type: save_global}  # noqa: RUF012

    for kind in (nn.Parameter, torch.Tensor, collections.OrderedDict):
        sets = types.SimpleNamespace(
            __name__="s", Pickler=Sets, dumps=pickle.dumps, dump=pickle.dump, loads=pickle.loads
        )
        torch.save([kind], tmp_path / "a.pt", pickle_module=sets)
        with pytest.raises(ModelError, match="damaged"):
            read_weights(tmp_path / "a.pt")
        assert not hasattr(kind, "spoilt")


# ---- files that are no weights ----


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda net: net, ""),
        (lambda net: {"epoch": 3, "model": net}, " under 'model'"),
        (lambda net: {"acc": torch.tensor(0.9), "net": net, "rng": torch.ones(9)}, " under 'net'"),
    ],
)
def test_a_whole_network(tmp_path, form, wrap, where):
    torch.save(wrap(nn.Sequential(nn.Conv2d(3, 4, 1))), tmp_path / "a.pt", **form)
    message = (
        rf"a\.pt: holds a whole pickled network of class torch\.nn\.modules\.container\.Sequential"
        rf"{where}, which would have to run code; .*save network\.state_dict\(\) instead"
    )
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "a.pt")


def test_a_whole_network_whose_source_has_changed(tmp_path, monkeypatch):
    """Old files hold it; torch compares, and would write down what differs."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    torch.save(nn.Sequential(nn.ReLU()), path, _use_new_zipfile_serialization=False)
    raw = path.read_bytes()
    assert b"class Sequential(Module)" in raw
    path.write_bytes(raw.replace(b"class Sequential(Module)", b"class Sequential(Modula)"))
    with pytest.raises(ModelError, match="holds a whole pickled network of class"):
        read_weights(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (torch.zeros(2), "torch.Tensor"),
        ([torch.zeros(2)], "list"),
        ({}, "dict"),
        ({"state_dict": 3, "epoch": 2}, r"'state_dict' \(int\), 'epoch' \(int\)"),
        ({"model": {"w": np.zeros(2)}}, r"'model' \(dict of numpy\._core\.multiarray\._rec"),
        (dict.fromkeys("abcdefg"), r"'a' \(NoneType\), .*'e' \(NoneType\), …; save"),
    ],
)
def test_files_without_tensors_by_name(tmp_path, content, found):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=rf"a\.pt: holds no tensors by name, found {found}"):
        read_weights(tmp_path / "a.pt")


PAGE = b"<!DOCTYPE html><html><body>Too many requests</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "empty; fetch or copy it again"),
        ("a.pth", PAGE, "a web page, as failed downloads leave behind; fetch or"),
        ("a.pth", b"\n  <?xml version='1.0'?><Error>", "a web page, as failed downloads"),
        ("a.pth", b"Entry not found", "a text that begins with 'Entry not found'; fetch"),
        ("a.json", b'{"metadata": {}, "weight_map": {"a": "b"}}', "the index of weights in sev"),
        ("a.pth", LFS, "a pointer of Git LFS, not the file; run 'git lfs pull'"),
        ("a.pkl", pickle.dumps({"a": 1}), "a pickle that torch.save did not write; save what"),
        ("a.pkl", pickle.dumps({"a": 1}, 2), "a pickle that torch.save did not write; save what"),
        ("a.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:", "a network in ONNX; save what netw"),
        ("a.pb", b"\x08\x01\x12\xf0\x01\n", "a graph of TensorFlow; save"),
        ("a.pb", b"\n\x2a\n\x05input\x12\x0bPlaceholder", "a graph of TensorFlow; save"),
        ("a.ckpt.data-00000-of-00001", b"\x00\x01\x02" * 9, "part of a checkpoint of TensorF"),
        ("a.tflite", b"\x1c\x00\x00\x00TFL3", "a network for TensorFlow Lite; save"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes; save"),
        ("a.npy", b"\x93NUMPY\x01\x00", "an array of NumPy; save"),
        ("a.pth.gz", b"\x1f\x8b\x08\x00", "an archive; unpack it"),
        ("a.pth", b"\xfa\xfb\xfc" * 30, r"no file of weights: it begins with b'\\xfa"),
    ],
)  # fmt: skip
def test_files_of_other_kinds(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name}: {message}"):
        read_weights(tmp_path / name)


def test_archives_of_other_kinds(tmp_path):
    path = tmp_path / "a.pth"
    np.savez(tmp_path / "a.npz", w=np.zeros(3))
    with pytest.raises(ModelError, match=r"a\.npz: arrays of NumPy \(\.npz\); save"):
        read_weights(tmp_path / "a.npz")
    for inner, message in [
        ("model.weights.h5", "a network of Keras; save"),
        ("folder/weights.pth", "an archive that torch.save did not write; unpack it and name"),
    ]:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(inner, b"some")
        with pytest.raises(ModelError, match=rf"a\.pth: {message}"):
            read_weights(path)
    (tmp_path / "inner").write_bytes(b"some")
    with tarfile.open(path, "w") as tar:
        tar.add(tmp_path / "inner", "weights.pth")
    with pytest.raises(ModelError, match=r"a\.pth: a tar archive; unpack it"):
        read_weights(path)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_archive(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 1), torch.zeros(1, 3, 2, 2)), tmp_path / "a.pt")
    message = r"a\.pt: a TorchScript archive, which would have to run code; save torch\.jit\.load"
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize("form", FORMS)
def test_files_that_were_cut_short(tmp_path, form):
    path = tmp_path / "a.pt"
    torch.save(tensors(), path, **form)
    content = path.read_bytes()
    for length in (40, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"a\.pt: .*cut short.*; fetch or copy it again"):
            read_weights(path)


def test_a_folder_and_a_missing_file(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="a folder; name a file in it"):
        read_weights(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=rf"^none\.pth: no such file in {tmp_path}; model\.weigh"):
        read_weights("none.pth")
