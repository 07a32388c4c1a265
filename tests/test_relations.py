"""Nearest units, pairs and overlaps of a run: by hand and beside slow references."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from given import IMAGENET, model_of
from torch import nn

from dissect_embed.activations import write_activations
from dissect_embed.artefacts.activations import open_activations
from dissect_embed.artefacts.tables import COLUMNS, read_table
from dissect_embed.config import Activations, Dissection, Embedding
from dissect_embed.datasets.broden import load_broden
from dissect_embed.dissection import write_profiles
from dissect_embed.embedding import write_embedding
from dissect_embed.labels import write_labels
from dissect_embed.mathematics.cosines import cosine_similarity, row_softmax
from dissect_embed.mathematics.halves import second_half
from dissect_embed.mathematics.neighbours import count_coactivation, nearest_units, overlap_of
from dissect_embed.mathematics.pairs import completing_pairs
from dissect_embed.mathematics.vectors import Schedule, initial_vectors, train_vectors
from dissect_embed.relations import near_rows, write_relations
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


def test_layers_that_are_too_small_have_few_neighbours():
    one, two = torch.ones(1, 3), torch.eye(2)
    assert nearest_units(one, 3)[0].shape == (1, 0)
    assert nearest_units(two, 3)[0].tolist() == [[1], [0]]


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


TABLES = ("relations.csv", "pairs.csv", "overlap.csv")
SIMILARITIES = ("image", "dataset")


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
    data = load_broden(make_tiny(folder / "tiny", 9))
    torch.manual_seed(0)
    model = network()
    torch.save(model.state_dict(), folder / "weights.pt")
    of_model = model_of(
        "low", "high", name=f"{__name__}:network", weights=str(folder / "weights.pt")
    )
    path = {
        name: folder / f"{name}.h5"
        for name in ("activations", "labels", "profiles", "similarity", "embedding")
    }
    for maps, cache in ((path["activations"], "all"), (folder / "streamed/activations.h5", "none")):
        settings = Activations(batch_size=2, cache=cache)
        write_activations(maps, data, model, of_model, settings)
    write_labels(path["labels"], data)
    write_profiles(path["profiles"], path["activations"], path["labels"], Dissection(quantile=0.05))
    write_similarity(path["similarity"], path["activations"])
    settings = Embedding(dim=4, seeds=(3, 5), epochs=4, steps_per_epoch=20, milestones=(2,))
    write_embedding(path["embedding"], path["similarity"], path["profiles"], settings)
    for name in ("profiles", "embedding"):
        shutil.copy(path[name], folder / "streamed")
    for place in (folder, folder / "streamed"):
        write_relations(Run(place), *(place / name for name in TABLES))
    return folder


def test_maps_that_are_computed_once_more_give_the_same_tables(run):
    with (
        open_activations(run / "activations.h5") as stored,
        open_activations(run / "streamed/activations.h5") as streamed,
    ):
        assert (stored.uncached, streamed.uncached) == ([], ["low", "high"])
        assert stored.fingerprint == streamed.fingerprint
    for name in TABLES:
        assert (run / "streamed" / name).read_bytes() == (run / name).read_bytes()


def rows_of(run: Path, kind: str, layer: str, similarity: str) -> list[dict[str, str]]:
    table = read_table(run / f"{kind}.csv", kind)
    assert tuple(table.rows[0]) == COLUMNS[kind]
    return [r for r in table.rows if (r["layer"], r["similarity"]) == (layer, similarity)]


def masks_of(run: Path, layer: str) -> np.ndarray:
    """Return where units fire, by image: computed the slow way."""
    with open_activations(run / "activations.h5") as source:
        maps = source[layer].maps[:].astype(np.float32)
    with Run(run).open_profiles() as profiles:
        return maps > profiles[layer].threshold[:, None, None]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max(1, (one | other).sum())


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(("layer", "n_units", "n_near"), [("low", 3, 2), ("high", 26, 3)])
def test_nearest_units_are_those_of_the_run_and_overlap_over_all_images(
    run, layer, n_units, n_near, similarity
):
    rows = rows_of(run, "relations", layer, similarity)
    assert len(rows) == n_units * n_near
    vectors = torch.from_numpy(Run(run).vectors(layer, similarity=similarity))
    near, cosines = nearest_units(vectors, 3)
    fires = masks_of(run, layer)
    for row in rows:
        unit, rank, other = (int(row[name]) for name in ("unit", "rank", "neighbour"))
        assert near[unit, rank - 1] == other
        assert float(row["cosine"]) == pytest.approx(float(cosines[unit, rank - 1]), abs=1e-4)
        assert float(row["overlap"]) == pytest.approx(
            iou(fires[:, unit], fires[:, other]), abs=1e-4
        )


def vectors_of_half(run: Path, layer: str, similarity: str) -> torch.Tensor:
    """Learn vectors from the first half of the images, as the whole run learns its own."""
    with open_activations(run / "activations.h5") as source:
        maps = torch.from_numpy(source[layer].maps[:][~second_half(9)]).double()
    if similarity == "image":
        p = torch.stack([row_softmax(cosine_similarity(m.flatten(1))) for m in maps]).mean(dim=0)
    else:
        p = row_softmax(cosine_similarity(maps.movedim(1, 0).flatten(1)))
    schedule = Schedule(epochs=4, steps_per_epoch=1, lr=2.0, milestones=(2,))
    start = initial_vectors(len(p), 4, [3])
    return train_vectors(start, lambda _: p.float(), schedule).trajectory[0, -1]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("layer", ["low", "high"])
def test_overlap_is_told_of_images_that_were_not_learned_from(run, layer, similarity):
    near, cosines = nearest_units(vectors_of_half(run, layer, similarity), 3)
    fires = masks_of(run, layer)[second_half(9)]
    living = [unit for unit in range(len(near)) if fires[:, unit].any()]
    rows = rows_of(run, "overlap", layer, similarity)
    assert len(rows) == near.numel()
    for row in rows:
        unit, rank, other = (int(row[name]) for name in ("unit", "rank", "neighbour"))
        assert near[unit, rank - 1] == other
        assert float(row["cosine"]) == pytest.approx(float(cosines[unit, rank - 1]), abs=2e-4)
        assert int(row["fires"]) == fires[:, unit].sum()
        overlaps = {u: iou(fires[:, unit], fires[:, u]) for u in living if u != unit}
        assert float(row["overlap"]) == pytest.approx(overlaps.get(other, 0), abs=1e-4)
        assert float(row["any"]) == pytest.approx(np.mean([*overlaps.values()]), abs=1e-4)
        assert float(row["best_overlap"]) == pytest.approx(max(overlaps.values()), abs=1e-4)
        assert overlaps[int(row["best"])] == max(overlaps.values())
        if row["drawn"]:
            assert int(row["drawn"]) in set(overlaps) - set(near[unit].tolist())
            drawn = overlaps[int(row["drawn"])]
            assert float(row["drawn_overlap"]) == pytest.approx(drawn, abs=1e-4)
    assert all(row["drawn"] for row in rows) == (layer == "high")


def test_the_mean_overlap_of_a_layer(run):
    means = Run(run).overlap()
    assert means[["layer", "similarity"]].values.tolist() == [
        [layer, similarity] for layer in ("low", "high") for similarity in SIMILARITIES
    ]
    rows = [r for r in rows_of(run, "overlap", "high", "dataset") if r["rank"] == "1"]
    firing = [r for r in rows if r["fires"] != "0"]
    last = means.iloc[-1]
    assert last.units == len(firing)
    for column, name in (("nearest", "overlap"), ("any", "any"), ("best", "best_overlap")):
        assert last[column] == pytest.approx(np.mean([float(r[name]) for r in firing]))
    assert last["any"] <= last["best"]


def test_units_that_are_silent_are_not_drawn_and_do_not_count():
    """By hand: 0 and 1 fire together half of the time, 2 alone; 3 and 4 are dead."""
    overlap = np.diag([1.0, 1, 1, 0, 0])
    overlap[0, 1] = overlap[1, 0] = 0.5
    rows = [row for row in near_rows(torch.eye(5), overlap) if row.rank == 1]
    assert [row.any for row in rows] == [0.25, 0.25, 0, 0, 0]
    assert [row.best for row in rows[:2]] == [1, 0]
    assert {row.drawn for row in rows} <= {0, 1, 2, None}
    again = [row for row in near_rows(torch.eye(5), overlap) if row.rank == 1]
    assert again == rows


def test_a_layer_in_which_nothing_else_fires():
    rows = list(near_rows(torch.eye(2), np.diag([1.0, 0.0])))
    assert [(row.any, row.drawn, row.best) for row in rows] == [(0, None, None), (0, None, 0)]


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_pairs_are_ranked_by_what_the_sum_adds_beside_random_vectors_and_masks(run, similarity):
    rows = rows_of(run, "pairs", "high", similarity)
    vectors = torch.from_numpy(Run(run).vectors("high", similarity=similarity))
    found = completing_pairs(vectors, 3)
    start = completing_pairs(initial_vectors(26, 4, [3])[0], 3)
    assert len(rows) == 26 * 3
    assert [int(row["rank"]) for row in rows] == list(range(1, 26 * 3 + 1))
    gains = [float(row["gain"]) for row in rows]
    assert gains == sorted(gains, reverse=True)
    fires = masks_of(run, "high").swapaxes(0, 1)
    seen = dict.fromkeys(range(26), 0)
    for row in rows:
        first, second, target = (int(row[name]) for name in ("first", "second", "target"))
        pair, beside = (of[target][seen[target]] for of in (found, start))
        seen[target] += 1
        assert pair[:3] == (first, second, target)
        assert float(row["cosine"]) == pytest.approx(pair.cosine, abs=1e-4)
        assert float(row["gain"]) == pytest.approx(pair.gain, abs=1e-4)
        assert float(row["start_gain"]) == pytest.approx(beside.gain, abs=1e-4)
        drawn = int(row["drawn_first"]), int(row["drawn_second"])
        assert len({*drawn, target}) == 3
        for which, (i, j) in (("", (first, second)), ("drawn_", drawn)):
            both = iou(fires[i] | fires[j], fires[target])
            better = max(iou(fires[i], fires[target]), iou(fires[j], fires[target]))
            assert float(row[f"{which}overlap"]) == pytest.approx(both, abs=1e-4)
            assert float(row[f"{which}overlap_gain"]) == pytest.approx(both - better, abs=2e-4)
    assert set(seen.values()) == {3}


def test_of_one_image_nothing_is_kept(make_tiny, tmp_path):
    import dissect_embed as de

    done = de.dissect(
        network(), make_tiny(tmp_path / "one", 1), ["high"], tmp_path / "out", input=IMAGENET,
        embedding=Embedding(dim=4, epochs=1, steps_per_epoch=2, milestones=()),
    )  # fmt: skip
    assert {row["fires"] for row in done.read_table("overlap").rows} == {"0"}
    assert done.overlap().empty


def test_tables_say_what_they_were_made_from(run):
    opened = Run(run)
    for kind in ("relations", "pairs", "overlap"):
        made_from = opened.header(kind)["made_from"]
        assert made_from == {
            source: opened.header(source)["fingerprint"]
            for source in ("activations", "profiles", "embedding")
        }
