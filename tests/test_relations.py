"""Nearest units, additive pairs and overlaps: by hand and beside slow references."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.tables import COLUMNS, read_table
from dissect_embed.config import Activations, Dissection, Embedding
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.embedding import write_embedding
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.neighbours import (
    additive_pairs,
    count_coactivation,
    nearest_units,
    overlap_of,
)
from dissect_embed.relations import write_relations
from dissect_embed.run import Run
from dissect_embed.similarity import write_similarity


def test_the_nearest_units_by_looking_at_all():
    vectors = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    units, cosines = nearest_units(vectors, 3)
    for u in range(30):
        others = [
            (float(torch.cosine_similarity(vectors[u], vectors[v], dim=0)), v)
            for v in range(30)
            if v != u
        ]
        best = sorted(others, reverse=True)[:3]
        assert units[u].tolist() == [v for _, v in best]
        np.testing.assert_allclose(cosines[u], [c for c, _ in best], rtol=1e-5)


@pytest.mark.parametrize("trivial", [0, 2])
def test_the_additive_pairs_by_looking_at_all(trivial):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(14, 4, generator=generator) * torch.rand(14, 1, generator=generator)
    near, _ = nearest_units(vectors, trivial)
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    slow = []
    for i, j in itertools.combinations(range(14), 2):
        targets = set(range(14)) - {i, j} - set(near[i].tolist()) - set(near[j].tolist())
        if targets:
            total = unit[i] + unit[j]
            scores = {k: float(total @ unit[k] / total.norm()) for k in targets}
            best = max(scores, key=scores.get)
            slow.append((scores[best], i, j, best))
    slow.sort(reverse=True)
    found = additive_pairs(vectors, top=20, trivial=trivial)
    assert [p[:3] for p in found] == [s[1:] for s in slow[:20]]
    np.testing.assert_allclose([p.cosine for p in found], [s[0] for s in slow[:20]])
    for pair in found:
        alone = float(unit[pair.first] @ unit[pair.target])
        assert pair.first_cosine == pytest.approx(alone)


def test_layers_that_are_too_small_have_no_pairs():
    one, two = torch.ones(1, 3), torch.eye(2)
    assert nearest_units(one, 3)[0].shape == (1, 0)
    assert nearest_units(two, 3)[0].tolist() == [[1], [0]]
    assert additive_pairs(one) == additive_pairs(two) == []
    # All targets trivial.
    assert additive_pairs(torch.randn(5, 3), trivial=10) == []


def test_opposite_units_add_up_to_nothing():
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert all(np.isfinite(pair.cosine) for pair in additive_pairs(vectors, trivial=0))


def test_overlaps_by_looking_at_each_position():
    rng = np.random.default_rng(0)
    maps = torch.from_numpy(rng.random((5, 4, 3, 3)).astype(np.float16))
    thresholds = torch.tensor([0.5, 0.2, 0.9, 2.0])
    found = overlap_of(
        count_coactivation(maps[:2], thresholds) + count_coactivation(maps[2:], thresholds)
    )
    fires = maps.float().numpy() > thresholds.numpy()[:, None, None]
    for i, j in itertools.product(range(4), repeat=2):
        both = (fires[:, i] & fires[:, j]).sum()
        either = (fires[:, i] | fires[:, j]).sum()
        assert found[i, j] == pytest.approx(both / either if either else 0)
    assert found[3].sum() == 0  # never fires


def network() -> nn.Module:
    """Return a network of 3 + 26 units, which a run finds again by the name of this function."""
    model = nn.Sequential()
    model.add_module("low", nn.Sequential(nn.Conv2d(3, 3, 4, 4), nn.ReLU()))
    model.add_module("high", nn.Sequential(nn.Conv2d(3, 26, 1), nn.ReLU()))
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_tiny) -> Path:
    """All files of a run on the tiny data set, and in ``streamed`` those without stored maps."""
    folder = tmp_path_factory.mktemp("relations")
    data = load_broden(make_tiny(folder / "tiny"))
    torch.manual_seed(0)
    model = network()
    torch.save(model.state_dict(), folder / "weights.pt")
    names = {"model": f"{__name__}:network", "weights": str(folder / "weights.pt")}
    path = {
        name: folder / f"{name}.h5"
        for name in ("activations", "labels", "profiles", "similarity", "embedding")
    }
    for maps, cache in ((path["activations"], "all"), (folder / "streamed/activations.h5", "none")):
        settings = Activations(batch_size=2, cache=cache)
        write_activations(maps, data, model, ["low", "high"], settings, names=names)
    write_labels(path["labels"], data)
    write_profiles(path["profiles"], path["activations"], path["labels"], Dissection(quantile=0.05))
    write_similarity(path["similarity"], path["activations"])
    settings = Embedding(dim=4, seeds=(3,), epochs=2, steps_per_epoch=1)
    write_embedding(path["embedding"], path["similarity"], path["profiles"], settings)
    for name in ("profiles", "embedding"):
        shutil.copy(path[name], folder / "streamed")
    for place in (folder, folder / "streamed"):
        write_relations(Run(place), place / "relations.csv", place / "pairs.csv")
    return folder


def test_maps_that_are_computed_once_more_give_the_same_tables(run):
    with (
        open_activations(run / "activations.h5") as stored,
        open_activations(run / "streamed/activations.h5") as streamed,
    ):
        assert (stored.uncached, streamed.uncached) == ([], ["low", "high"])
        assert stored.fingerprint == streamed.fingerprint
    for name in ("relations.csv", "pairs.csv"):
        assert (run / "streamed" / name).read_bytes() == (run / name).read_bytes()


def test_tables(run):
    rows = read_table(run / "relations.csv", "relations").rows
    assert len(rows) == 3 * 2 + 26 * 3
    assert {row["rank"] for row in rows if row["layer"] == "low"} == {"1", "2"}
    for row in rows:
        assert row["unit"] != row["neighbour"]
        assert 0 <= float(row["overlap"]) <= 1
        assert -1 <= float(row["cosine"]) <= 1.0001


def test_pairs_are_those_of_the_vectors_of_the_first_seed(run):
    rows = read_table(run / "pairs.csv", "pairs").rows
    assert tuple(rows[0]) == COLUMNS["pairs"]
    found = additive_pairs(torch.from_numpy(Run(run).vectors("high")))
    assert len(rows) == len(found) > 3  # in the other layer all targets are trivial
    for rank, (row, pair) in enumerate(zip(rows, found, strict=True), start=1):
        assert (row["layer"], row["rank"]) == ("high", str(rank))
        assert [int(row[name]) for name in ("first", "second", "target")] == list(pair[:3])
        assert float(row["cosine"]) == pytest.approx(pair.cosine, abs=1e-4)


def test_tables_say_what_they_were_made_from(run):
    opened = Run(run)
    for kind in ("relations", "pairs"):
        made_from = opened.header(kind)["made_from"]
        assert made_from == {
            source: opened.header(source)["fingerprint"]
            for source in ("activations", "profiles", "embedding")
        }
