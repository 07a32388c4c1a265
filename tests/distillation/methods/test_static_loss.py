"""The fast loss of eq. 2 and 3 against what the equations say, value and gradient."""

import math

import pytest
import torch

from dissect_embed.distillation.methods import static_loss as module
from dissect_embed.distillation.methods.static_loss import static_loss
from dissect_embed.errors import ModelError


def slow_loss(maps, targets, temperature=1.0):
    """Image by image and unit by unit, as eq. 2 and 3 are written; autograd differentiates it."""
    layers = []
    for layer, p in zip(maps, targets, strict=True):
        images = []
        for image in layer.flatten(2):
            n_units = len(image)
            unit = [row / row.norm() if row.any() else row * 0 for row in image]
            total = 0
            for i in range(n_units):
                exponents = torch.stack([(unit[i] * unit[j]).sum() for j in range(n_units)])
                log_q = torch.log_softmax(exponents / temperature, dim=0)
                total = total - (p[i] * log_q).sum() / n_units
            images.append(total)
        layers.append(torch.stack(images).mean())
    return torch.stack(layers).mean()


def draw(shape, seed=0, *, signed=False, dead=()):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    maps = maps if signed else maps.relu()
    for image, unit in dead:
        maps[image, unit] = 0
    return maps


def draw_target(n_units, seed=0):
    """Return a row-stochastic matrix that is far from symmetric."""
    logits = torch.randn(
        n_units, n_units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return torch.softmax(2 * logits, dim=1)


def value_and_gradients(loss, maps, targets, **options):
    maps = [layer.detach().clone(memory_format=torch.preserve_format) for layer in maps]
    for layer in maps:
        layer.requires_grad_()
    value = loss(maps, targets, **options)
    return value.detach(), torch.autograd.grad(value, maps)


def check_against_slow(maps, targets, **options):
    expected, slow = value_and_gradients(slow_loss, maps, targets, **options)
    value, fast = value_and_gradients(static_loss, maps, targets, **options)
    torch.testing.assert_close(value, expected)
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-7)


# Up to as many units as positions, and more: both ways to the gradient.
@pytest.mark.parametrize("shape", [(3, 4, 3, 5), (2, 6, 2, 3), (3, 7, 2, 2), (1, 5, 1, 1)])
@pytest.mark.parametrize("temperature", [1.0, 0.3, 7.0])
def test_value_and_gradient_are_those_of_the_equations(shape, temperature):
    signed = draw(shape, signed=True)
    check_against_slow([signed], [draw_target(shape[1])], temperature=temperature)
    dead = draw(shape, dead=[(0, 1)])
    check_against_slow([dead], [draw_target(shape[1])], temperature=temperature)


def test_layers_and_images_are_averaged():
    maps = [draw((3, 4, 3, 3)), draw((3, 6, 2, 2), 1, signed=True), draw((3, 2, 1, 1), 2)]
    targets = [draw_target(4), draw_target(6), draw_target(2)]
    check_against_slow(maps, targets)
    alone = [
        static_loss([layer[n : n + 1]], [p])
        for layer, p in zip(maps, targets, strict=True)
        for n in range(3)
    ]
    torch.testing.assert_close(static_loss(maps, targets), torch.stack(alone).mean())


@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (2, 9, 1, 2)])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_numeric_differentiation_agrees(shape, temperature):
    maps = draw(shape, signed=True).requires_grad_()
    target = draw_target(shape[1])
    assert torch.autograd.gradcheck(lambda x: static_loss([x], [target], temperature), maps)


@pytest.mark.parametrize("units", [(32, 256), (128, 16)])
def test_blocks_and_memory_layouts_change_nothing(units, monkeypatch):
    n_units, n_positions = units
    side = math.isqrt(n_positions)
    maps, target = draw((5, n_units, side, side), dead=[(2, 3)]), draw_target(n_units)
    whole = value_and_gradients(static_loss, [maps], [target])
    last = maps.to(memory_format=torch.channels_last)
    monkeypatch.setattr(module, "CACHED", 2 * n_units**2)  # blocks of 2, 2 and 1
    for given in (maps, last, maps[..., :].transpose(2, 3).contiguous().transpose(2, 3)):
        value, (gradient,) = value_and_gradients(static_loss, [given], [target])
        torch.testing.assert_close(value, whole[0])
        torch.testing.assert_close(gradient, whole[1][0])
    _, (gradient,) = value_and_gradients(static_loss, [last], [target])
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def softmax_loss(maps, targets, temperature=1.0):
    """Matrix form, for shapes that are too large for the slow one."""
    losses = []
    for layer, p in zip(maps, targets, strict=True):
        rows = torch.nn.functional.normalize(layer.flatten(2), dim=2, eps=1e-6)
        log_q = torch.log_softmax(rows @ rows.mT / temperature, dim=2)
        losses.append(-(p * log_q).sum() / log_q.shape[0] / log_q.shape[1])
    return torch.stack(losses).mean()


def test_the_four_layers_of_vgg_in_float32():
    shapes = [(2, 128, 16, 16), (2, 256, 8, 8), (2, 512, 4, 4), (2, 512, 4, 4)]
    maps = [draw(shape, seed, dead=[(1, 7)]) for seed, shape in enumerate(shapes)]
    targets = [draw_target(shape[1], seed) for seed, shape in enumerate(shapes)]
    expected, exact = value_and_gradients(softmax_loss, maps, targets)
    single = [layer.float() for layer in maps]
    value, fast = value_and_gradients(static_loss, single, [p.float() for p in targets])
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs, layer in zip(fast, exact, maps, strict=True):
        assert ours.dtype == torch.float32
        theirs[(layer == 0).all(dim=3).all(dim=2)] = 0  # softmax_loss moves dead units by 1 / eps
        assert (ours - theirs).norm() < 2e-6 * theirs.norm()


@pytest.mark.parametrize("shape", [(2, 5, 4, 4), (2, 17, 2, 2)])
@pytest.mark.parametrize("temperature", [1.0, 0.01, 1e-3])
def test_dead_units_have_cosine_0_and_no_gradient(shape, temperature):
    n_units = shape[1]
    maps = draw(shape, dead=[(0, 0), *((1, unit) for unit in range(n_units))]).float()
    maps[0, 1] = 1e-9  # so weak that it counts as dead
    target = draw_target(n_units).float()
    value, (gradient,) = value_and_gradients(static_loss, [maps], [target], temperature=temperature)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[0, :2].any()
    assert gradient[0, 2:].any()
    assert not gradient[1].any()
    everything_dead = static_loss([maps[1:]], [target], temperature)
    assert everything_dead.item() == pytest.approx(math.log(n_units))
    exact = maps.double()
    exact[0, 1] = 0
    expected, (slow,) = value_and_gradients(
        softmax_loss, [exact], [target.double()], temperature=temperature
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    alive = slow[0, 2:]
    assert (gradient[0, 2:] - alive).norm() < 1e-3 * alive.norm()


def test_one_unit_has_nothing_to_learn():
    value, (gradient,) = value_and_gradients(
        static_loss, [draw((2, 1, 3, 3))], [torch.ones(1, 1, dtype=torch.float64)]
    )
    assert value.item() == pytest.approx(0)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 17, 2, 2)])
def test_half_precision_is_computed_in_float32(shape, dtype):
    maps = draw(shape, dead=[(0, 2)]).to(dtype)
    target = draw_target(shape[1]).float()
    expected, (exact,) = value_and_gradients(static_loss, [maps.float()], [target])
    maps.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = static_loss([maps], [target])
        value.backward()
    assert value.dtype == torch.float32
    assert torch.equal(value.detach(), expected)
    assert torch.equal(maps.grad, exact.to(dtype))


def test_the_loss_is_least_where_q_is_p():
    maps = draw((1, 5, 3, 3))
    rows = torch.nn.functional.normalize(maps.flatten(2), dim=2)[0]
    q = torch.softmax(rows @ rows.T, dim=1)
    value, (gradient,) = value_and_gradients(static_loss, [maps], [q])
    assert value.item() == pytest.approx(-(q * q.log()).sum().item() / 5)
    assert gradient.abs().max() < 1e-12
    assert static_loss([maps], [draw_target(5)]) > 0


def test_what_does_not_fit_is_named():
    maps, p = draw((1, 4, 2, 2)), draw_target(4)
    with pytest.raises(ModelError, match="2 layers of maps, 1 targets; give one target a layer"):
        static_loss([maps, maps], [p])
    with pytest.raises(ModelError, match=r"layer 1 has 4 units, its target is \(3, 3\)"):
        static_loss([maps, maps], [p, draw_target(3)])
    with pytest.raises(ValueError, match=r"temperature 0\.0; expected a positive number"):
        static_loss([maps], [p], 0.0)
