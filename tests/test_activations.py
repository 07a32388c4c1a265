"""The file of activations: right numbers, whatever the batches, or an error and no file."""

import json
import logging
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from given import model_of, normalise
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from dissect_embed import activations
from dissect_embed.activations import write_activations
from dissect_embed.artefacts.contents import read_strings
from dissect_embed.artefacts.files import layer_names, open_artefact, read_made_from
from dissect_embed.artefacts.layout import CHUNK_BYTES, activation_bytes, chunk_shape
from dissect_embed.config import Activations
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.errors import (
    ArtefactError,
    ConfigError,
    DatasetError,
    DiskSpaceError,
    ModelError,
)
from dissect_embed.networks import forward
from dissect_embed.networks.models import hash_weights

LAYERS = ["second", "first"]
SETTINGS = set(Activations.model_fields)


class Small(nn.Module):
    """Two convolutions; ``poison`` multiplies unit 1 of the second on images that are all black.

    ``corner`` is added to one pixel of its unit 2, on all images.
    """

    def __init__(self, poison: float = 1.0, corner: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.second = Poisoned(poison, corner)

    def forward(self, x: Tensor) -> Tensor:
        black = x.amax(dim=(1, 2, 3)) < 0  # after normalisation
        return self.second(torch.relu(self.norm(self.first(x))), black)


class Poisoned(nn.Conv2d):
    def __init__(self, poison: float, corner: float) -> None:
        super().__init__(6, 4, 3)
        self.poison, self.corner = poison, corner

    def forward(self, x: Tensor, black: Tensor) -> Tensor:
        out = super().forward(x)
        scale = torch.ones(len(x), 4)
        scale[black, 1] = self.poison
        out = out * scale[:, :, None, None]
        out[:, 2, 5, 0] += self.corner
        return out


def small(poison: float = 1.0, corner: float = 0.0) -> Small:
    torch.manual_seed(0)
    model = Small(poison, corner)
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture
def dataset(tiny: Path) -> Broden:
    Image.new("RGB", (32, 32)).save(tiny / "images/5.jpg")  # the last one is black
    return load_broden(tiny)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Name a file in a folder of its own."""
    return tmp_path / "run" / "activations.h5"


def write(
    out: Path, dataset: Broden, model: nn.Module | None = None, **options: object
) -> dict[str, np.ndarray]:
    """Write the file, and return its maps and peaks by layer."""
    settings = Activations(**{key: options.pop(key) for key in SETTINGS & options.keys()})
    options = {"device": "cpu", "n_threads": 2} | options
    of_model = options.pop("of_model", model_of(*LAYERS))
    write_activations(out, dataset, model or small(), of_model, settings, **options)
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    with open_artefact(out, "activations") as file:
        return {
            name: file[f"layers/{layer}/{kind}"][:]
            for layer in LAYERS
            for name, kind in ((layer, "activations"), (f"{layer} peak", "peak"))
        }


def direct(dataset: Broden, model: Small) -> dict[str, np.ndarray]:
    """Run the network as a user would: no batches and no probe."""
    pixels = np.stack([read_image(dataset, row) for row in dataset.rows])
    with torch.no_grad():
        images = normalise(torch.from_numpy(pixels))
        return {"first": model.first(images).numpy(), "second": model(images).numpy()}


# ---- what is written ----


def test_values_are_those_of_the_direct_pass(dataset, out):
    written, expected = write(out, dataset), direct(dataset, small())
    assert written["first"].shape == (6, 6, 15, 15)
    assert written["second"].shape == (6, 4, 13, 13)
    for layer in LAYERS:
        assert written[layer].dtype == np.float16
        # The layout in memory may move a float32 by its last digits, and over the next float16.
        cast = expected[layer].astype(np.float16)
        close = np.abs(written[layer] - cast) <= np.maximum(np.spacing(np.abs(cast)), 1e-5)
        assert close.all()
        assert (written[layer] == cast).mean() > 0.99


def test_float32_is_not_rounded(dataset, out):
    written, expected = write(out, dataset, dtype="float32"), direct(dataset, small())
    for layer in LAYERS:
        assert written[layer].dtype == np.float32
        np.testing.assert_allclose(written[layer], expected[layer], rtol=1e-5, atol=1e-5)
        assert (written[layer] != written[layer].astype(np.float16)).any()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_peak_is_the_largest_value_as_stored(dataset, out, dtype):
    written = write(out, dataset, dtype=dtype)
    for layer in LAYERS:
        assert written[f"{layer} peak"].dtype == np.float32
        largest = written[layer].max(axis=(2, 3)).astype(np.float32)
        np.testing.assert_array_equal(written[f"{layer} peak"], largest)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 64])
def test_batches_change_nothing_but_rounding(dataset, tmp_path, batch_size):
    whole = write(tmp_path / "a" / "a.h5", dataset, batch_size=6, dtype="float32")
    parts = write(tmp_path / "b" / "b.h5", dataset, batch_size=batch_size, dtype="float32")
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-5, atol=1e-6)


def test_the_same_run_writes_the_same_numbers(dataset, tmp_path):
    one = write(tmp_path / "a" / "a.h5", dataset, n_threads=1)
    two = write(tmp_path / "b" / "b.h5", dataset, n_threads=3)
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values)


def test_gzip_holds_the_same_numbers(dataset, tmp_path):
    plain = write(tmp_path / "a" / "a.h5", dataset)
    packed = write(tmp_path / "b" / "b.h5", dataset, compression="gzip")
    for name, values in plain.items():
        np.testing.assert_array_equal(packed[name], values)
    with h5py.File(tmp_path / "b" / "b.h5") as file:
        assert file["layers/first/activations"].compression == "gzip"


def test_the_network_is_left_as_it_was(dataset, out):
    model = small().train()
    before = hash_weights(model)
    written = write(out, dataset, model)
    assert hash_weights(model) == before
    assert model.training
    # It is evaluated all the same, not trained.
    np.testing.assert_array_equal(written["second"], write(out, dataset)["second"])


def test_names_and_provenance(dataset, out):
    model = small()
    write(out, dataset, model, weights_provenance={"epochs": 3})
    with open_artefact(out, "activations") as file:
        assert layer_names(file) == LAYERS
        assert read_strings(file["images"]) == [f"{n}.jpg" for n in range(6)]
        weights = hash_weights(model)
        assert read_made_from(file) == {"dataset": dataset.fingerprint, "weights": weights}
        assert json.loads(file.attrs["weights_provenance"]) == {"epochs": 3}
        maps, peak = file["layers/second/activations"], file["layers/second/peak"]
        assert [dim.label for dim in maps.dims] == ["image", "unit", "y", "x"]
        assert [dim.label for dim in peak.dims] == ["image", "unit"]
        assert maps.dims[0]["images"] == peak.dims[0]["images"] == file["images"]
        assert maps.dims[1]["unit"][:].tolist() == [0, 1, 2, 3]


# ---- values that are too large, or no numbers ----


@pytest.mark.parametrize("sample", [1, 16])
@pytest.mark.parametrize("model", [small(corner=1e5), small(corner=-1e5), small(poison=1e6)])
def test_float16_overflow_makes_one_layer_float32(dataset, out, monkeypatch, caplog, model, sample):
    monkeypatch.setattr(activations, "SAMPLE", sample)
    caplog.set_level(logging.INFO)
    written, expected = write(out, dataset, model, batch_size=2), direct(dataset, model)
    assert np.abs(expected["second"]).max() > 65504
    assert written["first"].dtype == np.float16
    assert written["second"].dtype == np.float32
    # All of it, not from the overflow on.
    np.testing.assert_allclose(written["second"], expected["second"], rtol=1e-5, atol=1e-5)
    assert "second: values above 65504; starting over with float32" in caplog.text
    with open_artefact(out, "activations") as file:
        config = json.loads(file.attrs["config"])
        assert config["layers"] == LAYERS
        assert config["activations"] == Activations(batch_size=2).model_dump(mode="json")
        assert config["model"] == {
            "name": "tests:network", "weights": "given", "arguments": {}, "layers": LAYERS,
            "input": {
                "size": [32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
                "range": [0.0, 1.0], "channels": 3, "interpolation": "bilinear",
            },
            "axes": {}, "prefix_tokens": None,
        }  # fmt: skip
        assert config["readings"]["first"]["axes"] == "image unit y x"


@pytest.mark.parametrize(("scale", "kind"), [(1e-4, "float32"), (1.0, "float16"), (0, "float16")])
def test_a_layer_of_small_values_is_stored_in_float32(dataset, out, scale, kind):
    """Values of this size float16 would round to steps of 6e-8; a dead layer is no such."""
    model = small()
    with torch.no_grad():
        for value in model.first.parameters():
            value.mul_(scale)
    written = write(out, dataset, model)
    assert (written["first"].dtype, written["second"].dtype) == (kind, "float16")
    if scale == 1e-4:
        assert 0 < np.abs(written["first"]).max() < 1e-3
        images = torch.from_numpy(np.stack([read_image(dataset, row) for row in dataset.rows]))
        with torch.no_grad():
            expected = model.first(normalise(images)).numpy()
        np.testing.assert_allclose(written["first"], expected, rtol=1e-4, atol=1e-9)


def test_the_largest_float16_is_no_overflow(dataset, out):
    model = small()
    with torch.no_grad():
        model.second.weight.zero_()
        model.second.bias.fill_(65504)
    written = write(out, dataset, model)
    assert written["second"].dtype == np.float16
    assert (written["second"] == 65504).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("batch_size", "sample"), [(2, 1), (4, 1), (4, 16)])
def test_what_is_no_number_is_named(dataset, out, monkeypatch, value, dtype, batch_size, sample):
    monkeypatch.setattr(activations, "SAMPLE", sample)
    message = r"second: unit 1 is NaN or infinite on 5\.jpg; check the weights \(model\.weights\)"
    with pytest.raises(ArtefactError, match=message):
        write(out, dataset, small(poison=value), dtype=dtype, batch_size=batch_size)
    assert list(out.parent.iterdir()) == []


def test_an_error_leaves_the_old_file(dataset, out):
    before = write(out, dataset)
    content = out.read_bytes()
    with pytest.raises(ArtefactError, match="NaN or infinite"):
        write(out, dataset, small(poison=float("nan")))
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert out.read_bytes() == content
    assert before["first"].any()


def test_a_damaged_image_leaves_nothing(dataset, out):
    (dataset.root / "images/4.jpg").write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"4\.jpg: cannot be decoded"):
        write(out, dataset, batch_size=2)
    assert list(out.parent.iterdir()) == []


def test_layers_are_checked_before_anything_is_written(dataset, out):
    with pytest.raises(ModelError, match="Small has no layer 'third'"):
        write_activations(out, dataset, small(), model_of("third"), device="cpu")
    assert not out.parent.exists()


@pytest.mark.parametrize("batch_size", [0, -1])
def test_empty_batches_are_an_error(dataset, out, batch_size):
    message = rf"activations\.batch_size: {batch_size}, expected at least 1"
    with pytest.raises(ConfigError, match=message):
        write(out, dataset, batch_size=batch_size)
    assert not out.parent.exists()


def test_compressions_that_need_a_package(dataset, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    for compression in ("lz4", "zstd"):
        message = f"activations.compression: {compression} needs 'pip install hdf5plugin'"
        with pytest.raises(ModelError, match=message):
            write(out, dataset, compression=compression)
        assert list(out.parent.iterdir()) == []


# ---- room ----

SHAPES = {"first": (6, 15, 15), "second": (4, 13, 13)}
HALF = {layer: "float16" for layer in SHAPES}
MIXED = HALF | {"second": "float32"}


def test_bytes_by_hand():
    # 6 images · (6 units · (225 · 2 + 4) + 4 units · (169 · 2 + 4)) bytes
    assert activation_bytes(6, SHAPES, HALF, LAYERS) == 6 * (6 * 454 + 4 * 342) == 24_552
    assert activation_bytes(6, SHAPES, MIXED, LAYERS) == 24_552 + 6 * 4 * 169 * 2
    assert activation_bytes(6, SHAPES, MIXED, ["first"]) == 6 * (6 * 454 + 4 * 4)


@pytest.mark.parametrize(("model", "dtypes"), [(small(), HALF), (small(corner=1e5), MIXED)])
def test_the_file_takes_the_bytes_that_were_foretold(dataset, out, model, dtypes):
    write(out, dataset, model)
    with h5py.File(out) as file:
        taken = sum(
            file[f"layers/{layer}/{kind}"].id.get_storage_size()
            for layer in LAYERS
            for kind in ("activations", "peak")
        )
    assert taken == activation_bytes(6, SHAPES, dtypes, LAYERS)


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_room_is_told_before_the_first_image_is_read(dataset, out, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    leave_free(monkeypatch, 24_552)
    told = []

    def read(*arguments: object) -> np.ndarray:
        told.append("will take 24.6 kB; 24.6 kB are free" in caplog.text)
        return read_image(*arguments)

    monkeypatch.setattr(forward, "read_image", read)
    write(out, dataset)
    assert len(told) >= 6
    assert all(told)


def test_too_little_room_is_an_error_before_the_first_image(dataset, out, monkeypatch):
    leave_free(monkeypatch, 24_551)
    monkeypatch.setattr(forward, "read_image", None)
    with pytest.raises(DiskSpaceError, match=r"activations\.h5: needs 24\.6 kB, .* has 24\.6 kB"):
        write(out, dataset)
    assert not out.parent.exists()


def test_room_is_checked_again_for_float32(dataset, out, monkeypatch):
    leave_free(monkeypatch, 24_552)
    with pytest.raises(DiskSpaceError, match=r"activations\.h5: needs 32\.7 kB"):
        write(out, dataset, small(corner=1e5))
    assert list(out.parent.iterdir()) == []


# ---- chunks ----


@given(
    units=st.integers(1, 2048),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    itemsize=st.sampled_from([2, 4]),
    n_images=st.integers(1, 100_000),
)
def test_chunks_are_small_and_divide_the_units(units, height, width, itemsize, n_images):
    images, chunk_units, *grid = chunk_shape((units, height, width), itemsize, n_images)
    assert grid == [height, width]
    assert units % chunk_units == 0
    assert 1 <= images <= n_images
    n_bytes = images * chunk_units * height * width * itemsize
    assert n_bytes <= CHUNK_BYTES or images * chunk_units == 1
    # As large as may be: whole images where they fit, or no more units.
    if chunk_units == units:
        more = (images + 1) * units * height * width * itemsize
        assert images == n_images or more > CHUNK_BYTES
    else:
        larger = [d for d in range(chunk_units + 1, units + 1) if units % d == 0]
        assert larger[0] * height * width * itemsize > CHUNK_BYTES


@pytest.mark.parametrize(
    ("shape", "itemsize", "n_images", "chunk"),
    [
        ((64, 56, 56), 2, 1000, (1, 64, 56, 56)),
        ((128, 28, 28), 2, 1000, (2, 128, 28, 28)),
        ((256, 14, 14), 2, 1000, (4, 256, 14, 14)),
        ((512, 7, 7), 2, 1000, (8, 512, 7, 7)),
        ((512, 7, 7), 2, 5, (5, 512, 7, 7)),
        ((64, 112, 112), 4, 1000, (1, 8, 112, 112)),
        ((3, 600, 600), 4, 10, (1, 1, 600, 600)),
    ],
)
def test_chunks_by_hand(shape, itemsize, n_images, chunk):
    assert chunk_shape(shape, itemsize, n_images) == chunk


@pytest.mark.parametrize(("compression", "chunks"), [("none", None), ("gzip", (6, 6, 15, 15))])
def test_chunks_of_the_file(dataset, out, compression, chunks):
    write(out, dataset, compression=compression)
    with h5py.File(out) as file:
        assert file["layers/first/activations"].chunks == chunks
