"""Every loss by hand, against a slow NumPy reference, on dead units, and against torchdistill."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from dissect_embed.distillation.methods import losses


def draw(*shape, seed=0, n=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(n)]


def unit(v):
    return v / math.sqrt(sum(x * x for x in v))


def slow_softened_divergence(s, t):
    total = 0.0
    for a, b in zip(s, t, strict=True):
        q, p = (np.exp(x / 4) / np.exp(x / 4).sum() for x in (a, b))
        total += sum(pc * math.log(pc / qc) for pc, qc in zip(p, q, strict=True))
    return 16 * total / len(s)


def slow_attention(maps):
    n, _, h, w = maps.shape
    return [
        unit(np.array([np.mean(maps[i, :, y, x] ** 2) for y in range(h) for x in range(w)]))
        for i in range(n)
    ]


def slow_attention_loss(s, t):
    pairs = zip(slow_attention(s), slow_attention(t), strict=True)
    return np.mean([(a - b) ** 2 for a, b in pairs])


def slow_factor_loss(s, t):
    pairs = zip(slow_attention(s), slow_attention(t), strict=True)
    return np.mean([abs(a - b) for a, b in pairs])


def slow_similarity_loss(s, t):
    n = len(s)
    rows = [
        [unit(np.array([np.sum(m[i] * m[j]) for j in range(n)])) for i in range(n)] for m in (s, t)
    ]
    return sum((rows[0][i][j] - rows[1][i][j]) ** 2 for i in range(n) for j in range(n)) / n**2


def slow_correlation_loss(s, t):
    total = 0.0
    for i in range(len(s) - 1):
        for d in range(s.shape[1]):
            total += abs(s[i, d] - t[i, d]) * abs(s[i + 1, d] - t[i + 1, d])
    return total / (len(s) - 1)


def smooth_l1(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def slow_relation_loss(s, t):
    n = len(s)

    def distances(x):
        d = np.array([[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)])
        return d / np.mean([d[i, j] for i in range(n) for j in range(n) if i != j])

    def cosine(x, i, j, k):
        return 0.0 if i in (j, k) else unit(x[j] - x[i]) @ unit(x[k] - x[i])

    distance = np.mean([smooth_l1(v) for v in (distances(s) - distances(t)).ravel()])
    triples = list(itertools.product(range(n), repeat=3))
    angle = np.mean([smooth_l1(cosine(s, *ijk) - cosine(t, *ijk)) for ijk in triples])
    return 25 * distance + 50 * angle


def slow_neighbour_loss(s, t):
    n = len(s)

    def probabilities(x):
        c = np.array([[(unit(x[i]) @ unit(x[j]) + 1) / 2 for j in range(n)] for i in range(n)])
        return c / c.sum(1)[:, None]

    p, q = probabilities(t), probabilities(s)
    return np.mean(
        [
            p[i, j] * math.log((p[i, j] + 1e-7) / (q[i, j] + 1e-7))
            for i in range(n)
            for j in range(n)
        ]
    )


def slow_boundary_loss(s, t):
    total = 0.0
    for a, b in zip(s.ravel(), t.ravel(), strict=True):
        if b > 0 and a <= 1:
            total += (a - 1) ** 2
        if b <= 0 and a > -1:
            total += (a + 1) ** 2
    return total / len(s)


def slow_selectivity_loss(s, t):
    def kernel(a, b):
        return np.mean([[(unit(u.ravel()) @ unit(v.ravel())) ** 2 for v in b] for u in a])

    return np.mean(
        [kernel(a, a) + kernel(b, b) - 2 * kernel(a, b) for a, b in zip(s, t, strict=True)]
    )


MAPS, ROWS = ((4, 3, 2, 3), (4, 5, 2, 3)), ((5, 3), (5, 4))
SAME_MAPS, SAME_ROWS = (MAPS[0], MAPS[0]), (ROWS[0], ROWS[0])
CASES = {
    "softened_divergence": (slow_softened_divergence, SAME_ROWS),
    "attention_loss": (slow_attention_loss, MAPS),
    "factor_loss": (slow_factor_loss, MAPS),
    "similarity_loss": (slow_similarity_loss, MAPS),
    "correlation_loss": (slow_correlation_loss, SAME_ROWS),
    "relation_loss": (slow_relation_loss, ROWS),
    "neighbour_loss": (slow_neighbour_loss, ROWS),
    "boundary_loss": (slow_boundary_loss, SAME_MAPS),
    "selectivity_loss": (slow_selectivity_loss, MAPS),
}


def draw_case(name, seed=0):
    (student,) = draw(*CASES[name][1][0], seed=seed, n=1)
    (teacher,) = draw(*CASES[name][1][1], seed=seed + 100, n=1)
    return 2 * student, teacher


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_the_slow_references(name, seed):
    student, teacher = draw_case(name, seed)
    fast = getattr(losses, name)(student, teacher).item()
    assert fast == pytest.approx(CASES[name][0](student.numpy(), teacher.numpy()), rel=1e-9)
    assert abs(fast) > 1e-4


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_differences(name):
    student, teacher = draw_case(name)
    assert gradcheck(lambda s: getattr(losses, name)(s, teacher), student.requires_grad_())


@pytest.mark.parametrize("name", [name for name in CASES if name != "boundary_loss"])
def test_losses_are_smallest_at_the_teacher(name):
    _, teacher = draw_case(name)
    loss = getattr(losses, name)
    student = teacher.clone().requires_grad_()
    assert loss(student, teacher).item() == pytest.approx(0, abs=1e-12)
    for noise in draw(*teacher.shape, seed=7, n=5):
        assert loss(teacher + 0.1 * noise, teacher).item() > 0


def test_boundaries_are_met_by_a_margin():
    _, teacher = draw_case("boundary_loss")
    assert losses.boundary_loss(1.001 * teacher.sign(), teacher).item() == 0
    assert losses.boundary_loss(0.5 * teacher.sign(), teacher).item() == pytest.approx(0.25 * 18)
    # A teacher's zero is silent.
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert losses.boundary_loss(one, zero).item() == 4
    assert losses.boundary_loss(zero, one).item() == 1


@pytest.mark.parametrize("name", [name for name in CASES if name != "correlation_loss"])
def test_the_order_of_images_changes_nothing(name):
    student, teacher = draw_case(name)
    order = torch.tensor([2, 0, 3, 1, 4][: len(student)])
    loss = getattr(losses, name)
    assert loss(student[order], teacher[order]).item() == pytest.approx(
        loss(student, teacher).item()
    )


def test_the_order_of_images_changes_correlation():
    delta = torch.tensor([[1.0], [-2.0], [3.0]])
    zero = torch.zeros(3, 1)
    assert losses.correlation_loss(delta, zero).item() == 4  # (1·2 + 2·3) / 2
    assert losses.correlation_loss(delta[[1, 0, 2]], zero).item() == 2.5  # (2·1 + 1·3) / 2


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "dead", ["student's unit", "student's image", "student", "teacher", "both"]
)
def test_dead_units_have_bounded_gradients(name, dead):
    student, teacher = (x.float() for x in draw_case(name))
    if dead == "student's unit":
        student[:, 1] = 0
    elif dead == "student's image":
        student[1] = 0
    if dead in ("student", "both"):
        student.zero_()
    if dead in ("teacher", "both"):
        teacher.zero_()
    loss = getattr(losses, name)(student.requires_grad_(), teacher)
    loss.backward()
    assert math.isfinite(loss.item())
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1000


def test_gaussian_by_hand():
    mean = torch.zeros(1, 2, 1, 2)
    target = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]])
    # (½ (1/2 + ln 2) + ½ (9/2 + ln 2) + ½ (4 + 0) + 0) / 4
    expected = (2.5 + math.log(2) + 2) / 4
    assert losses.gaussian_loss(mean, target, torch.tensor([2.0, 1.0])).item() == pytest.approx(
        expected
    )


def test_flow_is_the_mean_product_over_pixels():
    (lower,), (upper,) = draw(2, 3, 4, 6, n=1), draw(2, 5, 2, 3, seed=1, n=1)
    found = losses.flow(lower, upper)
    assert found.shape == (2, 3, 5)
    for n, a, b in itertools.product(range(2), range(3), range(5)):
        total = 0.0
        for y, x in itertools.product(range(2), range(3)):
            square = lower[n, a, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            total += square.mean().item() * upper[n, b, y, x].item()
        assert found[n, a, b].item() == pytest.approx(total / 6)
    same = losses.flow_loss((lower, upper), (lower, upper))
    assert same.item() == 0
    # Twice the upper map: each entry is off by itself.
    twice = losses.flow_loss((lower, 2 * upper), (lower, upper))
    assert twice.item() == pytest.approx(found.square().mean().item())


def oracle(name, student, teacher):
    """Return the loss as torchdistill computes it."""
    mid_level = pytest.importorskip("torchdistill.losses.mid_level")
    at = {"io": "output", "path": "x"}
    pairs = {"x": {"student": at, "teacher": at}}
    module, scale = {
        "softened_divergence": lambda: (
            mid_level.KDLoss("x", "output", "x", "output", 4.0, beta=1),
            16,
        ),
        "attention_loss": lambda: (mid_level.ATLoss(pairs, mode="code"), 1),
        "neighbour_loss": lambda: (mid_level.PKTLoss("x", "output", "x", "output"), 1),
        "relation_loss": lambda: (mid_level.RKDLoss("x", "x", 25, 50, "mean"), 1),
        "boundary_loss": lambda: (mid_level.AltActTransferLoss(pairs, 1.0, "mean"), 1),
    }[name]()
    return scale * module({"x": {"output": student}}, {"x": {"output": teacher}})


@pytest.mark.parametrize(
    "name",
    ["softened_divergence", "attention_loss", "neighbour_loss", "relation_loss", "boundary_loss"],
)
def test_losses_equal_torchdistill(name):
    student, teacher = draw_case(name)
    student.requires_grad_()
    values = [f(student, teacher) for f in (getattr(losses, name), lambda *x: oracle(name, *x))]
    gradients = [torch.autograd.grad(value, student)[0] for value in values]
    # Its PKT adds 1e-7 to norms too.
    torch.testing.assert_close(*values, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)
