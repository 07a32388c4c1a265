"""Fixtures: a data set tiny enough to read, and the whole of a run on it."""

import csv
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from given import IMAGENET
from PIL import Image
from torch import nn

import dissect_embed as de
from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.contents import row_digests
from dissect_embed.artefacts.files import create_artefact
from dissect_embed.artefacts.layout import create_layers
from dissect_embed.datasets.broden import Broden
from dissect_embed.mathematics.similarities import guess_magnitude
from dissect_embed.mathematics.thresholds import TopCounts, guess_floor

# How long an example takes says nothing where other work goes on beside it.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

CONCEPTS = [
    (1, "red-c", "color"),
    (2, "blue-c", "color"),
    (3, "sky", "object"),
    (300, "day-s", "scene"),
]


@pytest.fixture(autouse=True)
def _no_notes_of_others() -> Iterator[None]:
    """Undo what a command that is tested in this process sets up of logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Name a device: a test that uses it runs on the CPU, and with ``-m gpu`` on CUDA."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    return str(request.param)


@pytest.fixture
def second_device(device: str) -> str:
    """Name another device of the same kind; beside the processor there is only itself."""
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device")
    return "cuda:1" if device == "cuda" else device


@pytest.fixture
def tf32_allowed() -> Iterator[None]:
    """Allow TF32 everywhere, as a user may; whatever a test does, it must be so afterwards."""
    settings: list[Any] = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]
    before = [setting.fp32_precision for setting in settings]
    for setting in settings:
        setting.fp32_precision = "tf32"
    yield
    after = [setting.fp32_precision for setting in settings]
    for setting, value in zip(settings, before, strict=True):
        setting.fp32_precision = value
    assert after == ["tf32", "tf32"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Six images of 32 × 32 pixels with label maps of 16 × 16, in Broden's format."""
    return write_tiny(tmp_path / "tiny")


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[Path], Path]:
    """Return the function that makes such a data set anywhere."""
    return write_tiny


@pytest.fixture(scope="session")
def dissect_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the function that makes a run, of a small network as drawn from a seed."""
    data = write_tiny(tmp_path_factory.mktemp("data") / "tiny", 9)

    def dissect(
        folder: Path, seed: int, names: tuple[str, str] = ("one", "two"), root: Path = data,
        quantile: float = 0.05,
    ) -> Path:  # fmt: skip
        torch.manual_seed(seed)
        parts = [nn.Conv2d(3, 5, 4, 4), nn.Conv2d(5, 7, 1)]
        network = nn.Sequential()
        for name, part in zip(names, parts, strict=True):
            network.add_module(name, nn.Sequential(part, nn.ReLU()))
        de.dissect(
            network, root, names, folder, input=IMAGENET,
            activations=de.Activations(batch_size=2), dissection=de.Dissection(quantile=quantile),
            embedding=de.Embedding(dim=4, epochs=2, steps_per_epoch=2, seeds=[3, 8]),
        )  # fmt: skip
        return folder

    return dissect


@pytest.fixture(scope="session")
def three_runs(tmp_path_factory: pytest.TempPathFactory, dissect_tiny: Callable[..., Path]) -> Path:
    """Return a folder of three: ``a`` and ``b`` of one build, ``c`` with layers of other names."""
    folder = tmp_path_factory.mktemp("runs")
    dissect_tiny(folder / "a", 0)
    dissect_tiny(folder / "b", 1)
    dissect_tiny(folder / "c", 2, ("first", "two"))
    return folder


@pytest.fixture(scope="session")
def write_maps() -> Callable[[Path, Broden, np.ndarray], None]:
    """Return the function that writes ``activations.h5`` with given maps of one layer, ``a``."""
    return write_activations_of


def write_activations_of(path: Path, dataset: Broden, maps: np.ndarray) -> None:
    config = {
        "dataset": {"name": "t", "split": "all", "images": len(maps)},
        "model": {"name": "m", "weights": "random"},
        "layers": ["a"],
        "activations": {},
    }
    names = [row.image for row in dataset.rows]
    with create_artefact(path, "activations", config, {"dataset": dataset.fingerprint}) as file:
        file.attrs["first_image"], file.attrs["reference"] = 0, "of these maps"
        create_layers(file, names, {"a": maps.shape[1:]}, {"a": str(maps.dtype)}, ["a"], {})
        layer = Activations(file)["a"]
        peak = maps.max(axis=(2, 3)).astype(np.float32)
        layer.group["activations"][:], layer.peak[:] = maps, peak
        layer.write_digests(row_digests(maps, peak))
        top = TopCounts(guess_floor(torch.from_numpy(maps)))
        top.add(torch.from_numpy(maps))
        layer.write_top(top)
        layer.write_magnitude(guess_magnitude(torch.from_numpy(maps)))


def write_tiny(root: Path, n_images: int = 6) -> Path:
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for n in range(n_images):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{n}.jpg")
        color = np.zeros((16, 16, 3), dtype=np.uint8)
        color[:, :, 0] = rng.integers(0, 3, (16, 16))
        Image.fromarray(color).save(root / f"images/{n}_color.png")
        sky = np.zeros((16, 16, 3), dtype=np.uint8)
        sky[: n + 2, :, 0] = 3
        Image.fromarray(sky).save(root / f"images/{n}_object.png")
        split = "train" if n < 4 else "val"
        objects = f"{n}_object.png" if n != 2 else ""
        rows.append([f"{n}.jpg", split, 32, 32, 16, 16, f"{n}_color.png", objects, 300])
    write_rows(root / "index.csv", "image,split,ih,iw,sh,sw,color,object,scene", rows)
    write_rows(root / "category.csv", "name,first,last,count,frequency",
               [[c, 1, 1, 1, 6] for c in ("color", "object", "scene")])  # fmt: skip
    write_rows(root / "label.csv", "number,name,category,frequency,coverage,syns",
               [[n, name, f"{c}(6)", 6, 1.0, ""] for n, name, c in CONCEPTS])  # fmt: skip
    for category in ("color", "object", "scene"):
        members = [(n, name) for n, name, c in CONCEPTS if c == category]
        write_rows(root / f"c_{category}.csv", "code,number,name,frequency,coverage",
                   [[i + 1, n, name, 6, 1.0] for i, (n, name) in enumerate(members)])  # fmt: skip
    return root


def write_rows(path: Path, header: str, rows: list[list[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)
