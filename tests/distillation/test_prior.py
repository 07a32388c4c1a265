"""A prior: what is in the file, the targets of S and of each control, and what is refused."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dissect_embed.artefacts.files import open_artefact, read_config
from dissect_embed.datasets.classes import ClassImages
from dissect_embed.distillation.extraction import write_prior
from dissect_embed.distillation.prior import (
    Prior,
    all_targets,
    check_prior,
    load_prior,
    prior_targets,
    shuffle_pairs,
)
from dissect_embed.distillation.zoo import build_network
from dissect_embed.errors import ArtefactError, ModelError
from dissect_embed.mathematics.cosines import cosine_similarity
from dissect_embed.mathematics.vectors import Schedule

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
SHORT = Schedule(epochs=2, steps_per_epoch=5, milestones=(1,))


def draw_images(n_images=70, size=16, fingerprint="f" * 64):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n_images, size, size, 3), dtype=np.uint8)
    return ClassImages(images, np.arange(n_images) % 5, list("abcde"), "noise", fingerprint)


def write(path, network, layers, data=None, **options):
    write_prior(
        path, data or draw_images(), network, layers, name="resnet8x4", mean=MEAN, std=STD,
        schedule=SHORT, device="cpu", **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a prior of a small random teacher, its P and the teacher."""
    folder = tmp_path_factory.mktemp("prior")
    teacher = build_network("resnet20", 5, seed=0)
    write(
        folder / "prior.h5", teacher, teacher.stage_names[1:], accuracy=0.715,
        similarity_path=folder / "similarity.h5",
    )  # fmt: skip
    return folder / "prior.h5", folder / "similarity.h5", teacher


def prior_of(*vectors, similarity=None, **changes):
    fields = {
        "network": "net", "fingerprint": "p", "accuracy": None, "dataset": "noise",
        "data": "f" * 64, "n_images": 70, "mean": MEAN, "std": STD,
    }  # fmt: skip
    named = {f"layer{n}": torch.tensor(v) for n, v in enumerate(vectors, start=1)}
    return Prior("prior.h5", vectors=named, similarity=similarity, **(fields | changes))


def test_round_trip(made):
    path, similarity_path, _ = made
    prior = load_prior(path)
    assert prior.network == "resnet8x4"
    assert prior.accuracy == 0.715
    assert (prior.dataset, prior.data) == ("noise", "f" * 64)
    assert (prior.mean, prior.std) == (MEAN, STD)
    assert {k: tuple(v.shape) for k, v in prior.vectors.items()} == {
        "layer1": (16, 16), "layer2": (32, 16), "layer3": (64, 16)
    }  # fmt: skip
    assert prior.similarity is None
    for vectors in prior.vectors.values():
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    p = load_prior(path, similarity_path).similarity
    assert {k: tuple(v.shape) for k, v in p.items()} == {
        "layer1": (16, 16), "layer2": (32, 32), "layer3": (64, 64)
    }  # fmt: skip
    with open_artefact(path, "prior") as file:
        assert read_config(file)["embedding"]["steps_per_epoch"] == 5


def test_without_p_a_prior_takes_kilobytes(made):
    path, similarity_path, _ = made
    assert path.stat().st_size < 32_000
    assert similarity_path.stat().st_size > 43_000


def test_p_is_the_mean_over_normalised_images_as_they_are(made):
    path, similarity_path, teacher = made
    images = torch.from_numpy(draw_images().images).float() / 255
    x = ((images - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = teacher.eval().outputs(x).maps[1:]
    found = load_prior(path, similarity_path).similarity.values()
    for layer, p in zip(maps, found, strict=True):
        rows = nn.functional.normalize(layer.flatten(2).double(), dim=2)
        expected = torch.softmax(rows @ rows.mT, dim=2).mean(dim=0)
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


def test_vectors_are_learned_from_either_similarity(made, tmp_path):
    """By that of the data set P is made of all images laid end to end."""
    _, _, teacher = made
    path, similarity_path = tmp_path / "prior.h5", tmp_path / "p.h5"
    write(
        path, teacher, teacher.stage_names[1:], similarity="dataset",
        similarity_path=similarity_path,
    )  # fmt: skip
    images = torch.from_numpy(draw_images().images).float() / 255
    x = ((images - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = teacher.eval().outputs(x).maps[1:]
    found = load_prior(path, similarity_path)
    for layer, p in zip(maps, found.similarity.values(), strict=True):
        rows = nn.functional.normalize(layer.movedim(1, 0).flatten(1).double(), dim=1)
        torch.testing.assert_close(p, torch.softmax(rows @ rows.T, dim=1), rtol=0, atol=1e-6)
    with open_artefact(path, "prior") as file:
        assert read_config(file)["embedding"]["similarity"] == "dataset"
    assert found.vectors["layer2"].shape == (32, 16)


def test_any_network_and_enough_dimensions_end_at_p(tmp_path):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 9, 3))
    names = (tmp_path / "short.h5", tmp_path / "long.h5")
    write(names[0], network, ["1", "2"])
    longer = Schedule(epochs=20, steps_per_epoch=50, milestones=(15,))
    similarity = tmp_path / "p.h5"
    write_prior(
        names[1], draw_images(), network, ["1", "2"], name="own", mean=MEAN, std=STD,
        schedule=longer, similarity_path=similarity, device="cpu",
    )  # fmt: skip
    p = load_prior(names[1], similarity).similarity.values()

    def distance(path):
        q = prior_targets(load_prior(path))
        pairs = zip(p, q, strict=True)
        return sum(float((a * (a / b).log()).sum() / len(a)) for a, b in pairs)

    assert distance(names[0]) > 0.05
    assert distance(names[1]) < 0.001


def test_targets_by_hand():
    e = math.e
    prior = prior_of([[2.0, 0.0], [0.0, 0.5]], [[1.0, 0.0], [-3.0, 0.0]])
    orthogonal, opposite = prior_targets(prior)
    torch.testing.assert_close(orthogonal, torch.tensor([[e, 1], [1, e]]) / (e + 1))
    torch.testing.assert_close(opposite, torch.tensor([[e**2, 1], [1, e**2]]) / (e**2 + 1))
    assert orthogonal.dtype == torch.float32
    sharper, _ = prior_targets(prior, temperature=0.5)
    torch.testing.assert_close(sharper, torch.tensor([[e**2, 1], [1, e**2]]) / (e**2 + 1))


def test_the_random_control():
    rng = np.random.default_rng(3)
    s = rng.standard_normal((2, 12, 3)).astype(np.float32)
    prior = prior_of(*s.tolist())
    taught, random = (prior_targets(prior, kind, seed=4) for kind in (None, "random"))
    for layer in range(2):
        assert random[layer].shape == (12, 12)
        assert len({round(float(x), 5) for x in random[layer].diagonal()}) > 6
        # Not the numbers of S in another order.
        assert not torch.allclose(
            random[layer].flatten().sort()[0], taught[layer].flatten().sort()[0]
        )
        torch.testing.assert_close(random[layer].sum(dim=1), torch.ones(12))
    # Layers of equal size get draws of their own; a seed gives one draw.
    assert not torch.allclose(random[0], random[1])
    torch.testing.assert_close(prior_targets(prior, "random", seed=4), random)
    assert not torch.allclose(prior_targets(prior, "random", seed=5)[0], random[0])


def test_the_shuffled_control_by_hand():
    """Cosines 0.6, 0 and 0.8 of three units, dealt out to three pairs: one of six ways."""
    prior = prior_of([[1.0, 0.0], [0.6, 0.8], [0.0, 2.0]])
    found = set()
    for seed in range(40):
        (p,) = prior_targets(prior, "shuffled", seed=seed)
        (again,) = prior_targets(prior, "shuffled", seed=seed)
        assert torch.equal(p, again)
        d = p.double().log()
        d = d - d.diagonal()[:, None] + 1  # what h took away: a row's constant
        torch.testing.assert_close(d, d.T, rtol=0, atol=1e-5)
        torch.testing.assert_close(d.diagonal(), torch.ones(3, dtype=torch.float64))
        dealt = tuple(round(float(x) + 0.0, 4) + 0.0 for x in (d[0, 1], d[0, 2], d[1, 2]))
        assert sorted(dealt) == [0, 0.6, 0.8]
        found.add(dealt)
    assert len(found) == 6


def test_shuffled_cosines_keep_their_histogram_and_nothing_else():
    rng = np.random.default_rng(3)
    s = torch.from_numpy(rng.standard_normal((12, 4)))
    s[5] = 0  # a dead unit: cosine 0, with itself as well
    d = cosine_similarity(s)
    shuffled = shuffle_pairs(d, np.random.default_rng(0))
    assert torch.equal(shuffled, shuffled.T)
    assert torch.equal(shuffled.diagonal(), d.diagonal())
    assert shuffled.diagonal()[5] == 0
    upper = np.triu_indices(12, 1)
    assert sorted(shuffled[upper].tolist()) == sorted(d[upper].tolist())
    assert abs(np.corrcoef(shuffled[upper], d[upper])[0, 1]) < 0.3
    # Layers of equal size get draws of their own.
    prior = prior_of(s.tolist(), s.tolist())
    first, second = prior_targets(prior, "shuffled", seed=4)
    assert not torch.allclose(first, second)
    sharper, _ = prior_targets(prior, "shuffled", seed=4, temperature=0.5)
    squared = first.double().square()
    torch.testing.assert_close(sharper.double(), squared / squared.sum(dim=1, keepdim=True))


def test_all_targets_are_those_of_their_rows():
    p = {"layer1": torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64)}
    prior = prior_of([[1.0, 0.0], [0.0, 1.0]], similarity=p)
    found = all_targets(prior, seed=3)
    assert list(found) == ["skd", "uniform", "shuffled", "random", "similarity"]
    for name, (target,) in found.items():
        (expected,) = prior_targets(prior, None if name == "skd" else name, seed=3)
        assert torch.equal(target, expected)
    assert "similarity" not in all_targets(prior._replace(similarity=None), seed=3)


def test_the_uniform_control_knows_no_teacher():
    flat, other = (
        prior_targets(prior_of(s), "uniform")[0] for s in ([[1.0], [2.0]], [[3.0], [-1.0]])
    )
    assert flat.tolist() == other.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_p_itself_as_the_target():
    p = torch.tensor([[0.7, 0.3], [0.4, 0.6]], dtype=torch.float64)
    prior = prior_of([[1.0, 0.0], [0.0, 1.0]], similarity={"layer1": p})
    (target,) = prior_targets(prior, "similarity")
    torch.testing.assert_close(target, p.float(), rtol=0, atol=0)
    with pytest.raises(ModelError, match=r"P is made at temperature 1, got 0\.5"):
        prior_targets(prior, "similarity", temperature=0.5)
    with pytest.raises(ArtefactError, match=r"prior\.h5: P is not in it; .*--similarity"):
        prior_targets(prior_of([[1.0, 0.0]]), "similarity")
    with pytest.raises(ModelError, match="control: 'flat': expected one of uniform, shuffled"):
        prior_targets(prior, "flat")
    message = r"control: 'permuted': it is SKD itself, by symmetry: .*; ask for 'shuffled'"
    with pytest.raises(ModelError, match=message):
        prior_targets(prior, "permuted")


def test_p_of_another_prior_is_refused(made, tmp_path):
    path, _, teacher = made
    other = tmp_path / "similarity.h5"
    write(
        tmp_path / "prior.h5", teacher, ["layer1"], draw_images(fingerprint="0" * 64),
        similarity_path=other,
    )  # fmt: skip
    with pytest.raises(ArtefactError, match=r"similarity\.h5: its P is not the one that .*prior"):
        load_prior(path, other)


def test_what_does_not_fit_is_named(made):
    prior = load_prior(made[0])
    data = draw_images()
    student = build_network("resnet32", 5, seed=0)
    check_prior(prior, student, data, MEAN, STD)
    with pytest.raises(ArtefactError, match=r"noise \(ffff.*\), the student gets noise \(0000"):
        check_prior(prior, student, draw_images(fingerprint="0" * 64), MEAN, STD)
    message = r"made from 70 images of noise, the student is trained on 60 of 70; .*--held-out 10$"
    with pytest.raises(ArtefactError, match=message):
        check_prior(prior, student, data, MEAN, STD, held_out=10)
    message = r"with std 0\.2 0\.3 0\.4, the student's with 0\.2 0\.3 0\.5; make it"
    with pytest.raises(ArtefactError, match=message):
        check_prior(prior, student, data, MEAN, (0.2, 0.3, 0.5))
    message = r"layer1 of resnet8x4 has 16 units, layer1 of the student 64"
    with pytest.raises(ModelError, match=message):
        check_prior(prior, build_network("resnet8x4", 5), data, MEAN, STD)
    message = r"it has 3 layers \(layer1, layer2, layer3\) of resnet8x4, the student 4 \(block1"
    with pytest.raises(ModelError, match=message):
        check_prior(prior, build_network("vgg8", 5), data, MEAN, STD)


def test_a_layer_that_does_not_exist(tmp_path):
    with pytest.raises(ModelError, match="has no layer 'layer9'; did you mean layer"):
        write(tmp_path / "prior.h5", build_network("resnet20", 5), ["layer9"])
    assert not list(tmp_path.iterdir())
