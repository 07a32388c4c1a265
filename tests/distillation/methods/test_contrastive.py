"""CRD: negatives, and the loss against the gathered form."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dissect_embed.distillation.methods.contrastive import Contrast, draw_negatives, mix
from dissect_embed.distillation.outputs import Outputs

N, CLASSES, K = 60, 5, 17


def fake(n_images, n_features, seed):
    pooled = torch.randn((n_images, n_features), generator=torch.Generator().manual_seed(seed))
    return Outputs(torch.zeros(n_images, CLASSES), pooled, (), ())


def labels():
    return torch.arange(N) % CLASSES


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return Contrast(fake(2, 8, 0), fake(2, 6, 1), labels(), seed, n_negatives=K, **settings)


def draw(images, n_negatives=K, seed=0, step=0, classes=None):
    classes = labels() if classes is None else classes
    return draw_negatives(classes, images, n_negatives, torch.tensor(seed), torch.tensor(step))


def gathered(term, student, teacher, images, drawn):
    """Return the loss as its definition reads, row by row and in float64."""
    z = {}
    loss = 0.0
    embedded = {
        "student": F.normalize(term.embed_student(student.pooled)),
        "teacher": F.normalize(term.embed_teacher(teacher.pooled)),
    }
    memories = {"student": term.memory_teacher.clone(), "teacher": term.memory_student.clone()}
    for side, vectors in embedded.items():
        scores = []
        for b, image in enumerate(images.tolist()):
            chosen = [image, *drawn[b].nonzero()[:, 0].tolist()]
            rows = memories[side][chosen].double()
            scores.append(torch.exp(rows @ vectors[b].double() / 0.07))
        scores = torch.stack(scores)
        scale = getattr(term, f"scale_{side}").double()
        z[side] = scale if scale > 0 else scores.detach().mean() * N
        x = scores / z[side]
        noise = K / N
        loss = loss - torch.log(x[:, 0] / (x[:, 0] + noise)).sum() / len(images)
        loss = loss - torch.log(noise / (x[:, 1:] + noise)).sum() / len(images)
    return loss, z, embedded


def test_bits_are_scrambled_one_to_one():
    # The first values of lowbias32, computed with Python's integers.
    def slow(x):
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    values = [0, 1, 2, 1000, 2**31 - 1, 2**31, 2**32 - 1]
    signed = torch.tensor([v - 2**32 if v >= 2**31 else v for v in values], dtype=torch.int32)
    assert [v % 2**32 for v in mix(signed).tolist()] == [slow(v) for v in values]
    assert len(mix(torch.arange(10**6, dtype=torch.int32)).unique()) == 10**6


def test_negatives_are_of_other_classes_and_as_many_as_asked():
    images = torch.tensor([0, 7, 59, 13])
    drawn = draw(images)
    assert drawn.sum(1).tolist() == [K] * 4
    assert not (drawn & (labels() == labels()[images][:, None])).any()
    # All that there are.
    everyone = draw(images, n_negatives=N - N // CLASSES)
    assert torch.equal(everyone, labels() != labels()[images][:, None])


def test_negatives_are_uniform_and_independent():
    images = torch.arange(N)
    draws = torch.stack([draw(images, step=step, seed=3) for step in range(400)]).double()
    others = N - N // CLASSES
    allowed = labels() != labels()[:, None]
    share = draws.mean(0)[allowed]
    p = K / others
    # Of 2,880 frequencies: no larger spread than binomial.
    z = (share - p) / np.sqrt(p * (1 - p) / 400)
    assert z.abs().max() < 5
    assert z.std().item() == pytest.approx(1, abs=0.1)
    # What two images, or two steps, have in common is what chance gives (of the same class here).
    both = (draws[:, 0] * draws[:, CLASSES]).sum(1)
    assert both.mean().item() == pytest.approx(K * p, abs=0.6)
    assert both.var().item() == pytest.approx(
        K * p * (1 - p) * (others - K) / (others - 1), rel=0.3
    )
    steps = (draws[1:, 0] * draws[:-1, 0]).sum(1)
    assert steps.mean().item() == pytest.approx(K * p, abs=0.6)


def test_negatives_follow_seed_step_and_image_alone():
    images = torch.tensor([4, 9, 33])
    drawn = draw(images)
    assert torch.equal(draw(images[[2, 0]]), drawn[[2, 0]])
    assert not torch.equal(draw(images, step=1), drawn)
    assert not torch.equal(draw(images, seed=1), drawn)


def test_loss_and_gradient_equal_the_gathered_form():
    term = build()
    for step in range(3):
        images = torch.tensor([3, 11, 20, 42]) + step
        student, teacher = fake(4, 8, 10 + step), fake(4, 6, 20 + step)
        student.pooled.requires_grad_()
        drawn = draw(images, step=step)
        expected, scales, embedded = gathered(term, student, teacher, images, drawn)
        memories = term.memory_student.clone(), term.memory_teacher.clone()
        loss = term(student, teacher, images)
        torch.testing.assert_close(loss, expected.float())
        wanted = [student.pooled, *term.parameters()]
        for got, reference in zip(
            torch.autograd.grad(loss, wanted), torch.autograd.grad(expected, wanted), strict=True
        ):
            torch.testing.assert_close(got, reference, rtol=1e-4, atol=1e-5)
        assert term.scale_student.item() == pytest.approx(scales["student"].item())
        assert term.scale_teacher.item() == pytest.approx(scales["teacher"].item())
        for side, memory in zip(("student", "teacher"), memories, strict=True):
            moved = 0.5 * memory[images] + 0.5 * embedded[side].detach()
            memory[images] = F.normalize(moved)
            torch.testing.assert_close(getattr(term, f"memory_{side}"), memory)


def test_state_resumes_bit_for_bit():
    term = build()
    student, teacher, images = fake(4, 8, 1), fake(4, 6, 2), torch.tensor([1, 5, 30, 31])
    for _ in range(3):
        term(student, teacher, images)
    state = copy.deepcopy(term.state_dict())
    other = build(seed=1)
    assert other(student, teacher, images).item() != term(student, teacher, images).item()
    other.load_state_dict(state)
    term.load_state_dict(state)
    for _ in range(2):
        assert torch.equal(other(student, teacher, images), term(student, teacher, images))
    assert torch.equal(other.memory_student, term.memory_student)


def test_small_sets_have_fewer_negatives():
    term = Contrast(fake(2, 8, 0), fake(2, 6, 1), labels(), 0)
    assert term.n_negatives == N - N // CLASSES
    assert term(fake(2, 8, 0), fake(2, 6, 1), torch.tensor([0, 1])).isfinite()
    with pytest.raises(ValueError, match="all 3 are of the same class"):
        Contrast(fake(2, 8, 0), fake(2, 6, 1), torch.zeros(3, dtype=torch.int64), 0)
