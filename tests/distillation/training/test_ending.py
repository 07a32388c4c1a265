"""What a student is asked at its end, against loops over images, units and pairs."""

import math

import numpy as np
import pytest
import torch
from toy import SIZE, images, targets

from dissect_embed.distillation.methods.static_loss import static_loss
from dissect_embed.distillation.methods.static_module import Static
from dissect_embed.distillation.outputs import Outputs
from dissect_embed.distillation.training import ending
from dissect_embed.distillation.training.ending import (
    mean_log_similarity,
    measure_divergence,
    share_of_weakest,
)
from dissect_embed.distillation.training.step import Pixels
from dissect_embed.distillation.zoo import build_network


class Given(torch.nn.Module):
    """A network whose maps are given: what images are asked for, their first pixel says."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = layers

    def outputs(self, x):
        chosen = x[:, 0, 0, 0].round().long()
        maps = tuple(layer[chosen] for layer in self.layers)
        return Outputs(x, x, (x, *maps), (x, *maps))


def numbered(n):
    """Return n images of which the k-th is k everywhere, and not normalised."""
    pixels = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 2, 2, 3)
    return Pixels(pixels.contiguous(), torch.zeros(n).long(), torch.zeros(3), torch.ones(3) / 255)


def divergence_by_loops(p, maps):
    """KL(p || q_n), the mean over images and units, as the equation says."""
    total = 0.0
    for image in maps.flatten(2).double().numpy():
        n_units = len(image)
        for i in range(n_units):
            cosines = []
            for j in range(n_units):
                norms = np.linalg.norm(image[i]) * np.linalg.norm(image[j])
                cosines.append(image[i] @ image[j] / norms if norms > 1e-6 else 0.0)
            z = sum(math.exp(c) for c in cosines)
            for j in range(n_units):
                q = math.exp(cosines[j]) / z
                if p[i, j] > 0:
                    total += p[i, j] * math.log(p[i, j] / q) / n_units
    return total / len(maps)


def test_the_divergence_of_every_target_equals_loops(monkeypatch):
    monkeypatch.setattr(ending, "BATCH", 3)
    monkeypatch.setattr(ending, "TOGETHER", 50)  # an image or two at once
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn((7, n, 3, 2), generator=generator).relu() for n in (4, 6)]
    layers[0][2, 1] = 0  # a unit that is dead on an image
    layers[1][4, 3] *= 1e-9  # and one that the loss takes for dead as well
    some = [torch.rand((n, n), generator=generator) for n in (4, 6)]
    asked = {
        "skd": [x / x.sum(dim=1, keepdim=True) for x in some],
        "uniform": [torch.full((n, n), 1 / n) for n in (4, 6)],
        "eye": [torch.eye(n) for n in (4, 6)],
    }
    network = Given(*layers)
    found = measure_divergence(network, numbered(7), asked)
    assert list(found) == list(asked)
    assert not network.training
    for name, targets_of in asked.items():
        expected = [
            divergence_by_loops(p.double().numpy(), x)
            for p, x in zip(targets_of, layers, strict=True)
        ]
        assert found[name]["layers"] == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert found[name]["mean"] == pytest.approx(sum(expected) / 2, rel=1e-6)


def test_it_is_the_loss_of_skd_but_for_the_entropy_of_p():
    network, data = build_network("resnet20", 4, seed=0), images(n=12)
    pixels = Pixels(torch.from_numpy(data.images), torch.from_numpy(data.labels),
                    torch.full((3,), 0.5), torch.full((3,), 0.25))  # fmt: skip
    p = targets()
    found = measure_divergence(network, pixels, {"skd": p})["skd"]["mean"]
    with torch.no_grad():
        x = ((pixels.images / 255 - 0.5) / 0.25).permute(0, 3, 1, 2)
        loss = static_loss(network.eval().outputs(x).maps[1:], p)
    entropy = sum(float(-(x * x.log()).sum() / len(x)) for x in p) / len(p)
    assert found == pytest.approx(float(loss) - entropy, abs=1e-5)


def test_a_student_that_has_the_targets_cosines_is_at_zero():
    rows = torch.randn((1, 5, 2, 2), generator=torch.Generator().manual_seed(1))
    network = Given(rows.expand(4, 5, 2, 2))
    (mean,) = mean_log_similarity(network, numbered(4))
    found = measure_divergence(network, numbered(4), {"own": [mean.exp().float()]})
    assert found["own"]["mean"] == pytest.approx(0, abs=1e-7)


def test_the_part_of_the_weakest_maps_by_hand(monkeypatch):
    """A hundred maps of one strength but one, a hundredth as strong: its gradient is 100 times."""
    monkeypatch.setattr(ending, "BATCH", 8)  # the weak one is in the last batch, of four images
    generator = torch.Generator().manual_seed(2)
    maps = torch.nn.functional.normalize(torch.rand((20, 5, SIZE), generator=generator), dim=2)
    maps[18, 3] *= 0.01
    maps = maps.reshape(20, 5, 4, 2)
    some = torch.rand((5, 5), generator=generator).softmax(dim=1)
    static = Static([some])
    (share,) = share_of_weakest(Given(maps), numbered(20), static)
    leaf = maps.clone().requires_grad_()
    static_loss([leaf], [some]).backward()
    squares = leaf.grad.square().sum(dim=(2, 3))
    assert share == pytest.approx(float(squares[18, 3] / squares.sum()), rel=1e-4)
    assert share > 0.9


def test_dead_maps_are_not_among_the_weakest():
    maps = torch.rand((40, 5, 2, 2), generator=torch.Generator().manual_seed(2)) + 0.1
    maps[:, 4] = 0
    maps[5, 2] *= 0.001
    static = Static([torch.full((5, 5), 0.2)])
    (share,) = share_of_weakest(Given(maps), numbered(40), static)
    assert 0.9 < share < 1
    # Units that are all alike get no gradient from a p that knows no difference.
    same = torch.zeros((3, 5, 2, 2))
    assert share_of_weakest(Given(same), numbered(3), static) == [None]
