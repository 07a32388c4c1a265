"""What a CUDA device can break, from the forward pass to relations: beside the CPU, and alone.

``device`` is the CPU as well, where the same code compares like with like. A user allows TF32.
"""

import copy
from collections import OrderedDict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from bits import content, differences
from given import model_of
from PIL import Image
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.embedding import open_embedding
from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.chance import write_chance
from dissect_embed.config import Activations, Dissection, Embedding
from dissect_embed.datasets.broden import Broden, load_broden
from dissect_embed.device import arithmetic
from dissect_embed.dissection import write_profiles, write_thresholds
from dissect_embed.embedding import write_embedding
from dissect_embed.errors import ModelError
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.scores import score_vectors
from dissect_embed.mathematics.similarities import (
    SIMILARITIES,
    guess_magnitude,
    similarity_sums,
)
from dissect_embed.mathematics.thresholds import (
    TopCounts,
    allowed_above,
    compute_thresholds,
    guess_floor,
)
from dissect_embed.mathematics.vectors import profile_target
from dissect_embed.networks.models import build_model
from dissect_embed.networks.replay import prepare_replay
from dissect_embed.parallel import one_torch_thread
from dissect_embed.relations import Relations, find_relations
from dissect_embed.similarity import write_similarity

LAYERS = ["bn1", "layer1", "layer2"]  # the first is signed
ALL_LAYERS = [*LAYERS, "layer3", "layer4"]
N_IMAGES, QUANTILE = 10, Dissection(quantile=0.02)
# Of a layer's largest value. In float32 resnet18's convolutions are off by 2e-6 (beside float64),
# and Winograd's may lose a digit more; where all of them round to TF32, by 2e-4 to 1e-3.
ROUNDING = 3e-5

pytestmark = pytest.mark.usefixtures("tf32_allowed")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_torch_thread():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory, make_tiny) -> Broden:
    """Up to three concepts hold at a pixel; the label maps of two images are of another size."""
    root = make_tiny(tmp_path_factory.mktemp("on_device") / "tiny", N_IMAGES)
    rng = np.random.default_rng(1)
    rows = (root / "index.csv").read_text().replace(",32,32,", ",64,64,").splitlines()
    for n in range(N_IMAGES):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(pixels).save(root / f"images/{n}.jpg")
    for n in (3, 9):
        rows[1 + n] = rows[1 + n].replace(",16,16,", ",10,12,")
        for kind in ("color", "object"):
            numbers = np.zeros((10, 12, 3), dtype=np.uint8)
            numbers[:, :, 0] = rng.integers(0, 4, (10, 12))
            Image.fromarray(numbers).save(root / f"images/{n}_{kind}.png")
    (root / "index.csv").write_text("\n".join(rows) + "\n")
    return load_broden(root)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return build_model("resnet18", "random", n_classes=2)


@pytest.fixture(scope="module")
def model(resnet) -> nn.Module:
    """Return as much of it as makes ``LAYERS``."""
    return nn.Sequential(OrderedDict(list(resnet.named_children())[:6]))


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory, data, model, resnet) -> Path:
    """All files of a run on the CPU; ``exact.h5`` has all layers' maps in float32."""
    run = tmp_path_factory.mktemp("on_cpu")
    write(run / "exact.h5", data, resnet, "cpu", ALL_LAYERS, dtype="float32")
    write(run / "activations.h5", data, model, "cpu")
    write_labels(run / "labels.h5", data)
    dissect(run / "profiles.h5", run, "cpu")
    write_similarity(run / "similarity.h5", run / "activations.h5", device="cpu")
    embed(run / "embedding.h5", run, "cpu")
    return run


def write(path, data, model, device, layers=LAYERS, n_threads=None, **settings) -> Path:
    settings = Activations(**{"batch_size": 4} | settings)
    of_model = model_of(*layers)
    write_activations(path, data, model, of_model, settings, device=device, n_threads=n_threads)
    return path


def dissect(path, run, device, activations=None, **options) -> Path:
    sources = activations or run / "activations.h5", run / "labels.h5"
    write_profiles(path, *sources, QUANTILE, device=device, **options)
    return path


def embed(path, run, device, target="mean", **options) -> Path:
    settings = Embedding(
        epochs=3, steps_per_epoch=10, lr=10.0, milestones=[2], seeds=[0, 1], target=target
    )
    with mock.patch("dissect_embed.embedding.BATCH", 4):
        write_embedding(
            path, run / "similarity.h5", run / "profiles.h5", settings,
            activations_path=run / "activations.h5", device=device, **options,
        )  # fmt: skip
    return path


def relate(run, device, activations=None, model=None, dataset=None) -> Relations:
    """Return the rows of all tables."""
    with (
        open_activations(activations or run / "activations.h5") as source,
        open_profiles(run / "profiles.h5") as profiles,
        open_embedding(run / "embedding.h5") as embedding,
    ):
        replay = prepare_replay(source, model, dataset, device)
        return find_relations(source, profiles, embedding, replay, device)


def deviations(path, other) -> dict[str, float]:
    """Return how far the maps of each layer are apart, in the layer's largest value."""
    ours, theirs = content(path), content(other)
    return {
        name: float(np.abs(ours[name].astype(float) - maps).max() / np.abs(maps).max())
        for name, maps in theirs.items()
        if name.endswith("activations")
    }


def test_maps_are_those_of_the_cpu_but_for_rounding(tmp_path, data, resnet, on_cpu, device):
    found = write(tmp_path / "a.h5", data, resnet, device, ALL_LAYERS, dtype="float32")
    off = deviations(found, on_cpu / "exact.h5")
    assert len(off) == 5
    assert {name: value for name, value in off.items() if value > ROUNDING} == {}


def test_float16_maps_are_one_step_off_at_most(tmp_path, data, model, on_cpu, device):
    found = content(write(tmp_path / "a.h5", data, model, device))
    expected, exact = (content(on_cpu / f"{name}.h5") for name in ("activations", "exact"))
    for name in (f"layers/{layer}/activations" for layer in LAYERS):
        assert found[name].dtype == expected[name].dtype == np.float16
        step = np.spacing(np.maximum(np.abs(found[name]), np.abs(expected[name])))
        margin = np.maximum(step.astype(float), ROUNDING * np.abs(exact[name]).max())
        assert (np.abs(found[name].astype(float) - expected[name]) <= margin).all()


@pytest.mark.parametrize(("precision", "most"), [("tf32", 5e-3), ("bfloat16", 5e-2)])
def test_fewer_digits_if_asked(tmp_path, data, resnet, on_cpu, device, precision, most):
    given = tmp_path / "a.h5", data, resnet, device, ALL_LAYERS
    options = {"dtype": "float32", "precision": precision}
    if precision == "tf32" and device == "cpu":
        with pytest.raises(ModelError, match="only CUDA devices have tf32"):
            write(*given, **options)
        return
    off = deviations(write(*given, **options), on_cpu / "exact.h5")
    assert ROUNDING < max(off.values()) < most


def test_tf32_is_off_in_the_network_and_on_again_after_an_error(tmp_path, data, model, device):
    seen = []

    def look(*_: object) -> None:
        backends = torch.backends.cudnn.conv, torch.backends.cuda.matmul
        seen.append([backend.fp32_precision for backend in backends])
        if len(seen) > 5:
            raise MemoryError

    model = copy.deepcopy(model)
    model.register_forward_pre_hook(look)
    with pytest.raises(MemoryError):  # whether all is as before, tf32_allowed looks
        write(tmp_path / "a.h5", data, model, device)
    # The first three ask for shapes.
    assert seen == [*[["tf32", "tf32"]] * 3, *[["ieee", "ieee"]] * 3]


@pytest.mark.parametrize("cached", [LAYERS, ["layer1"]])
def test_batches_at_once_give_the_bits_of_batches_alone(tmp_path, data, model, device, cached):
    options = {"batch_size": 2, "cache": cached}
    alone = write(tmp_path / "1.h5", data, model, device, n_threads=1, **options)
    for path in (tmp_path / "a.h5", tmp_path / "b.h5"):
        assert differences(write(path, data, model, device, n_threads=4, **options), alone) == {}


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("signed", [True, False])
def test_thresholds_are_order_statistics(device, dtype, signed):
    maps = np.random.default_rng(3).normal(size=(40, 4, 9, 9)).astype(dtype)
    maps[:, 1] = np.round(maps[:, 1])
    maps[:, 2] = -np.abs(maps[:, 2]) - 1
    maps[:, 3] = 0
    maps = maps if signed else np.maximum(maps, 0)
    parts = [torch.from_numpy(part).to(device) for part in np.split(maps, [13, 29])]
    ranked = np.sort(np.moveaxis(maps, 1, 0).reshape(4, -1), axis=1)
    n_values = ranked.shape[1]
    passes = []

    def again():
        passes.append(0)
        return iter(parts)

    for floor in (guess_floor(parts[0]), np.full(4, 30_000)):
        top = TopCounts(floor)
        for part in parts:
            top.add(part)
        for quantile in (0.005, 0.3):
            passes.clear()
            found = compute_thresholds(again, n_values, quantile, top, parts[0].dtype)
            expected = ranked[:, n_values - 1 - allowed_above(n_values, quantile)]
            np.testing.assert_array_equal(found, expected.astype(np.float32))
    assert len(passes) == 1 + (dtype == np.float32)  # one from the bottom, one for lower bits


@pytest.mark.parametrize("kind", ["network", np.float16, np.float32])
def test_counts_are_those_of_the_cpu(tmp_path, data, on_cpu, write_maps, device, kind):
    activations = on_cpu / "activations.h5"
    if kind != "network":
        rng = np.random.default_rng(2)
        maps = rng.normal(size=(N_IMAGES, 6, 5, 7))
        maps[:, 0] = np.maximum(maps[:, 0], 0)
        maps[:, 1] = -np.abs(maps[:, 1]) - 0.1
        maps[:, 2] = rng.integers(0, 3, (N_IMAGES, 5, 7))  # ties
        maps[:, 3] = np.where(rng.random((N_IMAGES, 5, 7)) < 0.97, -0.0, 1)
        maps[:, 4] = 0
        activations = tmp_path / "activations.h5"
        write_maps(activations, data, maps.astype(kind))
    expected = dissect(tmp_path / "cpu.h5", on_cpu, "cpu", activations)
    for n_threads in (1, 4):
        path = tmp_path / f"{n_threads}.h5"
        dissect(path, on_cpu, device, activations, n_threads=n_threads)
        assert differences(path, expected) == {}
    sources = activations, on_cpu / "labels.h5", expected
    write_chance(tmp_path / "chance-cpu.h5", *sources, device="cpu")
    write_chance(tmp_path / "chance.h5", *sources, device=device, n_threads=4)
    assert differences(tmp_path / "chance.h5", tmp_path / "chance-cpu.h5") == {}


def test_similarities_are_those_of_the_cpu_but_for_rounding(tmp_path, on_cpu, device):
    write_similarity(tmp_path / "a.h5", on_cpu / "activations.h5", device=device)
    found, expected = content(tmp_path / "a.h5"), content(on_cpu / "similarity.h5")
    for name in (f"layers/{layer}/{kind}" for layer in LAYERS for kind in SIMILARITIES):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("source", ["activations", "exact"])
def test_similarities_of_parts_add_up_exactly(on_cpu, device, source):
    for name, values in content(on_cpu / f"{source}.h5").items():
        if name.endswith("activations"):
            maps = torch.from_numpy(values).to(device)
            with arithmetic("float32"):
                magnitude = torch.from_numpy(guess_magnitude(maps))
                first, second = (similarity_sums(m, magnitude) for m in (maps[:3], maps[3:]))
                total, whole = second + first, similarity_sums(maps, magnitude)
                assert torch.equal(total.image, whole.image), name
                assert torch.equal(total.products, whole.products), name
                # Also where single images exceed what float64 holds exactly.
                small = magnitude * 1e-6
                first, second = (similarity_sums(m, small) for m in (maps[:3], maps[3:]))
                whole = similarity_sums(maps, small)
                assert torch.equal((second + first).products, whole.products), name


@pytest.mark.parametrize(("cached", "dtype"), [([], "float16"), (["layer1"], "float32")])
def test_unstored_maps_change_nothing(tmp_path, data, model, on_cpu, device, cached, dtype):
    tables = []
    for kind, again in (("stored", {}), ("streamed", {"model": model, "dataset": data})):
        here, stored = tmp_path / kind, (cached or "none") if again else "all"
        maps = write(here / "a.h5", data, model, device, cache=stored, dtype=dtype)
        assert ("layers/layer2/activations" in content(maps)) == (not again)
        dissect(here / "profiles.h5", on_cpu, device, maps, **again)
        write_thresholds(here / "thresholds.h5", maps, device=device, **again)
        write_similarity(here / "similarity.h5", maps, device=device)
        tables.append(relate(on_cpu, device, maps, **again))
    for name in ("profiles.h5", "thresholds.h5", "similarity.h5"):
        assert differences(tmp_path / "streamed" / name, tmp_path / "stored" / name) == {}
    assert tables[0] == tables[1]


@pytest.mark.parametrize("target", ["mean", "minibatch"])
def test_vectors_are_trained_as_on_the_cpu(tmp_path, on_cpu, device, target):
    paths = [
        embed(tmp_path / f"{n}.h5", on_cpu, where, target=target, n_threads=n_threads)
        for n, (where, n_threads) in enumerate([(device, 1), (device, 4), ("cpu", 1)])
    ]
    assert differences(paths[0], paths[1]) == {}
    profiles, ours, theirs = map(content, (on_cpu / "profiles.h5", paths[0], paths[2]))
    for layer in LAYERS:
        t = profile_target(profiles[f"layers/{layer}/iou"])
        for group in (f"layers/{layer}/{m}" for m in (*SIMILARITIES, "supervised")):
            vectors = [values[f"{group}/trajectory"] for values in (ours, theirs)]
            np.testing.assert_array_equal(*(v[:, 0] for v in vectors))
            # A rate 2 % off moves them by 1e-2 within these thirty steps, rounding by 1e-5.
            np.testing.assert_allclose(*vectors, rtol=0, atol=2e-4)
            losses = [values[f"{group}/loss"] for values in (ours, theirs)]
            np.testing.assert_allclose(*losses, rtol=1e-5)
            scores = [score_vectors(t, torch.from_numpy(v[:, -1])) for v in vectors]
            torch.testing.assert_close(*scores, rtol=1e-3, atol=0)


def test_relations_are_those_of_the_cpu(on_cpu, device):
    ours, theirs = relate(on_cpu, device), relate(on_cpu, "cpu")
    assert ours.nearest == theirs.nearest
    assert ours.pairs == theirs.pairs
    # These vectors are learned on the device, which rounds otherwise: of two units that are all but
    # equally near, either may be the nearest.
    first = [[row for row in of.overlap if row[4] == 1] for of in (ours, theirs)]
    layer_similarity_fires_unit = [[row[:4] for row in rows] for rows in first]
    assert layer_similarity_fires_unit[0] == layer_similarity_fires_unit[1]
    assert np.mean([one[5] == other[5] for one, other in zip(*first, strict=True)]) > 0.9


def test_a_second_device_gives_the_same(tmp_path, data, model, on_cpu, device, second_device):
    maps = [
        write(tmp_path / f"{n}.h5", data, model, where, cache=["layer1"])
        for n, where in enumerate((device, second_device))
    ]
    assert differences(*maps) == {}
    path = dissect(tmp_path / "profiles.h5", on_cpu, second_device)
    assert differences(path, on_cpu / "profiles.h5") == {}
