"""Thresholds, counts, similarity, eq. 1 and KL: by hand, and against slow references."""

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dissect_embed import activations
from dissect_embed.config import Embedding
from dissect_embed.mathematics.cosines import row_softmax, similarity_sum
from dissect_embed.mathematics.iou import compute_iou
from dissect_embed.mathematics.masks import firing_pixels
from dissect_embed.mathematics.regions import (
    LabelBatch,
    Regions,
    add_fired,
    add_overlaps,
    count_labels,
    count_overlaps,
)
from dissect_embed.mathematics.scores import kl_divergence, score_vectors
from dissect_embed.mathematics.thresholds import (
    TopCounts,
    allowed_above,
    compute_thresholds,
    guess_floor,
)
from dissect_embed.mathematics.vectors import (
    Schedule,
    embedding_loss,
    initial_vectors,
    minibatch_targets,
    train_vectors,
)


def slow_threshold(values: np.ndarray, quantile: float) -> float:
    """Find the smallest value that at most a share of the values exceed, by looking at each."""
    allowed = allowed_above(values.size, quantile)
    return min(v for v in values.ravel().tolist() if (values > v).sum() <= allowed)


@given(seed=st.integers(0, 2**32 - 1), single=st.booleans(), signed=st.booleans())
def test_thresholds_equal_the_slow_reference(seed, single, signed):
    rng = np.random.default_rng(seed)
    dtype = np.float32 if single else np.float16
    maps = rng.normal(size=(5, 3, 4, 4)).astype(dtype)
    if not signed:
        maps = np.maximum(maps, 0)
    maps[:, 0] = np.round(maps[:, 0])  # ties
    maps[:, 1] *= rng.random() < 0.8  # dead in some
    for quantile in (0.005, 0.05, 0.5):
        fast = thresholds_of([maps[:2], maps[2:]], maps[:1], quantile)
        slow = [slow_threshold(maps[:, k], quantile) for k in range(3)]
        np.testing.assert_array_equal(fast, np.array(slow, dtype=np.float32))


def thresholds_of(parts, sample, quantile):
    """Count each part by itself and merge the counts."""
    parts, sample = [torch.from_numpy(part) for part in parts], torch.from_numpy(sample)
    top = None
    for part in parts:
        one = TopCounts(guess_floor(sample))
        one.add(part)
        if top is None:
            top = one
        else:
            top.merge(one)
    n_values = sum(part[:, 0].numel() for part in parts)
    return compute_thresholds(lambda: parts, n_values, quantile, top, parts[0].dtype)


def test_floors_decide_nothing_but_time():
    rng = np.random.default_rng(0)
    maps = np.maximum(rng.normal(size=(6, 4, 5, 5)), 0).astype(np.float16)
    maps[:, 1] = 0  # dead
    maps[:, 2] = 0
    maps[0, 2, 0, :2] = (1, 2)  # fires less often than the quantile allows: its threshold is 0
    maps[:, 3] = 7  # constant
    slow = [slow_threshold(maps[:, k], 0.02) for k in range(4)]
    maps = torch.from_numpy(maps)
    assert slow[1:] == [0, 0, 7]
    for low, high in ((1, 1), (-32768, 5), (14000, 15000), (30000, 30000), (30000, -32768)):
        top = TopCounts(np.full(4, low))
        top.add(maps[:2])
        other = TopCounts(np.full(4, high))
        other.add(maps[2:4])
        other.add(maps[4:])
        top.merge(other)
        found = compute_thresholds(lambda: [maps[:5], maps[5:]], 150, 0.02, top, maps.dtype)
        np.testing.assert_array_equal(found, np.array(slow, dtype=np.float32))


def test_guessed_floors_spare_a_second_pass():
    # Pictures that excite a unit differ in strength, on photographs by about as much.
    rng = np.random.default_rng(1)
    strength = np.exp(rng.normal(size=(1000, 128, 1, 1)))
    maps = np.maximum(rng.normal(size=(1000, 128, 7, 7)) * strength, 0).astype(np.float16)
    maps = torch.from_numpy(maps)
    top = TopCounts(guess_floor(maps[np.linspace(0, 999, activations.SAMPLE).astype(int)]))
    top.add(maps)

    def again():
        raise AssertionError

    compute_thresholds(again, 49_000, 0.005, top, maps.dtype)


def slow_counts(maps, thresholds, label_sets, shape, n_concepts, concept_category, n_categories):
    """Enlarge each map pixel by pixel in exact fractions, and count."""
    n_images, n_units, h, w = maps.shape
    both = np.zeros((n_units, n_concepts), dtype=int)
    fired = np.zeros((n_units, n_categories), dtype=int)
    for n in range(n_images):
        present = set().union(*[set(s) for row in label_sets[n] for s in row])
        for k in range(n_units):
            for y in range(shape[0]):
                for x in range(shape[1]):
                    sy = min(max((y + 0.5) * h / shape[0] - 0.5, 0), h - 1)
                    sx = min(max((x + 0.5) * w / shape[1] - 0.5, 0), w - 1)
                    y0, x0 = int(sy), int(sx)
                    y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
                    a = maps[n, k].astype(np.float64)
                    top = a[y0, x0] * (1 - sx + x0) + a[y0, x1] * (sx - x0)
                    bottom = a[y1, x0] * (1 - sx + x0) + a[y1, x1] * (sx - x0)
                    if top * (1 - sy + y0) + bottom * (sy - y0) > thresholds[k]:
                        for c in label_sets[n][y][x]:
                            both[k, c] += 1
                        for g in {concept_category[c] for c in present}:
                            fired[k, g] += 1
    return both, fired


def count_batch(maps, thresholds, labels, n_concepts, shape):
    """Return (intersection, activation) of a batch."""
    n_categories = labels.presence.shape[1]
    both = torch.zeros((n_concepts, maps.shape[1]), dtype=torch.int64, device=maps.device)
    fired = torch.zeros((maps.shape[1], n_categories), dtype=torch.int64, device=maps.device)
    for firing in firing_pixels(maps, maps.amax(dim=(2, 3)).float(), thresholds, shape):
        overlap, pixels = count_overlaps(firing, labels, maps.shape[1])
        add_overlaps(both, *overlap)
        add_fired(fired, pixels, labels)
    return both, fired


@pytest.mark.parametrize("rows_at_once", [1, 131_072])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("grid", "shape", "thresholds"),
    [
        ((3, 3), (12, 12), (0.5, 1.0, 0.0, 9.0)),
        ((4, 2), (8, 16), (0.5, 1.0, -0.0, 9.0)),
        ((8, 8), (8, 8), (0.5, 1.0, 0.0, 9.0)),
        ((4, 4), (10, 7), (0.5, -0.25, -0.0, 9.0)),
    ],
)
def test_counts_equal_the_slow_reference(grid, shape, thresholds, kind, rows_at_once, monkeypatch):
    monkeypatch.setattr("dissect_embed.mathematics.masks.CACHED_ROWS", rows_at_once)
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 4, *grid))
    if min(thresholds) == 0:
        maps = np.maximum(maps, 0)  # after a ReLU
    maps[0, 2, 0] = -0.0
    maps = maps.astype(np.float16).astype(kind)
    thresholds = np.array(thresholds, dtype=np.float32)
    concept_category = np.array([0, 0, 1])
    regions, label_sets = [], []
    for n in range(3):
        sets = [[], [0], [0, 1], [2]][: 4 if n else 3]
        region = rng.integers(0, len(sets), shape)
        pairs = [(r, c) for r, s in enumerate(sets) for c in s]
        regions.append(Regions(region, *np.array(pairs).T, len(sets)))
        label_sets.append([[sets[r] for r in row] for row in region])
    labels = LabelBatch(regions, concept_category, 2)
    both, fired = count_batch(
        torch.from_numpy(maps), torch.from_numpy(thresholds), labels, 3, shape
    )
    slow = slow_counts(maps, thresholds, label_sets, shape, 3, concept_category, 2)
    np.testing.assert_array_equal(both.T, slow[0])
    np.testing.assert_array_equal(fired, slow[1])
    pixels = [sum(c in s for m in label_sets for row in m for s in row) for c in range(3)]
    assert count_labels(labels, 3).tolist() == pixels
    one = [
        count_batch(
            torch.from_numpy(maps[n : n + 1]), torch.from_numpy(thresholds),
            LabelBatch(regions[n : n + 1], concept_category, 2), 3, shape,
        )[0]
        for n in range(3)
    ]  # fmt: skip
    assert torch.equal(sum(one), both)


def test_iou_by_hand():
    iou = compute_iou(np.array([[2, 0]]), np.array([[3]]), np.array([5, 0]), np.array([0, 0]))
    assert iou.tolist() == [[2 / 6, 0.0]]
    none = compute_iou(np.array([[0]]), np.array([[0]]), np.array([0]), np.array([0]))
    assert none.tolist() == [[0.0]]


def test_similarity_sums_do_not_depend_on_the_parts():
    maps = torch.relu(torch.randn(7, 9, 3, 3, generator=torch.Generator().manual_seed(0))).half()
    maps[:, 4] = 0
    whole = similarity_sum(maps)
    parts = similarity_sum(maps[4:]) + similarity_sum(maps[:1]) + similarity_sum(maps[1:4])
    assert torch.equal(whole, parts)
    image = maps[0].float().flatten(1).double()
    norm = image.norm(dim=1)
    expected = torch.softmax(
        image @ image.T / (norm.clamp_min(1e-9)[:, None] * norm.clamp_min(1e-9)), 1
    )
    torch.testing.assert_close(similarity_sum(maps[:1]), expected, atol=1e-6, rtol=0)


def test_eq_1_and_kl_by_hand():
    e = np.e
    assert embedding_loss(torch.eye(2), torch.eye(2)).item() == pytest.approx(np.log((e + 1) / e))
    t = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    by_hand = (0.75 * np.log(1.5) + 0.25 * np.log(0.5)) / 2
    assert kl_divergence(t, torch.full((2, 2), 0.5)).item() == pytest.approx(by_hand)
    assert kl_divergence(t, t).item() == 0


def test_training_follows_automatic_differentiation():
    generator = torch.Generator().manual_seed(0)
    p = row_softmax(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    start = initial_vectors(6, 3, [0, 1]).double()
    schedule = Schedule(epochs=4, steps_per_epoch=5, lr=0.3, milestones=(1, 3))
    ours = train_vectors(start, lambda step: p, schedule)
    s = torch.nn.Parameter(start.clone())
    sgd = torch.optim.SGD([s], lr=0.3, momentum=0.9, weight_decay=5e-4)
    decay = torch.optim.lr_scheduler.MultiStepLR(sgd, [1, 3])
    for epoch in range(4):
        losses = []
        for _ in range(5):
            loss = embedding_loss(p.expand(2, -1, -1), s)
            losses.append(loss.detach())
            sgd.zero_grad()
            loss.sum().backward()
            sgd.step()
        decay.step()
        torch.testing.assert_close(ours.trajectory[:, epoch + 1], s.detach())
        torch.testing.assert_close(ours.loss[:, epoch], torch.stack(losses).mean(0))


def test_training_runs_by_default_as_a_config_says():
    settings = Embedding().model_dump()
    assert Schedule()._asdict() == {name: settings[name] for name in Schedule._fields}


def test_divergence_is_an_error():
    with pytest.raises(FloatingPointError, match=r"epoch 0 .*lower embedding\.lr"):
        train_vectors(
            initial_vectors(4, 2, [0]), lambda step: torch.full((4, 4), torch.nan), Schedule(1, 1)
        )


def test_minibatches_give_the_curve_of_the_mean_target(tmp_path):
    """As published, and at the mean of all p: within a hundredth of the spread over seeds."""
    generator = torch.Generator().manual_seed(0)
    common = torch.rand(8, 1, 5, 5, generator=generator)
    maps = torch.relu(
        torch.randn(96, 24, 5, 5, generator=generator) + 3 * common[torch.arange(24) % 8, 0]
    )
    with h5py.File(tmp_path / "maps.h5", "w") as file:
        stored = file.create_dataset("maps", data=maps.half().numpy())
        mean = (similarity_sum(maps.half()) / len(maps)).float()
        start = initial_vectors(24, 8, range(5))
        schedule = Schedule(epochs=30, steps_per_epoch=3, lr=3.0, milestones=(20,))
        curves = [
            score_vectors(mean.double(), train_vectors(start, p, schedule).trajectory)
            for p in (
                lambda step: mean,
                minibatch_targets(stored.__getitem__, len(stored), 32, 0, "cpu"),
            )
        ]
    spread = curves[0].std(dim=0)
    assert curves[0][:, -1].mean() < curves[0][:, 0].mean() / 3
    assert not torch.equal(*curves)
    assert ((curves[1] - curves[0]).mean(dim=0).abs() < 0.01 * spread).all()
