"""What a CUDA device can break in distillation: every method's training, and the prior.

``device`` is the CPU as well, where there are no graphs and the same code runs.
"""

import weakref

import numpy as np
import pytest
import torch
from bits import differences
from torch.utils._python_dispatch import TorchDispatchMode
from toy import BATCH, Killed, images, lasting, stop_at, task, teacher, train

from dissect_embed.distillation.extraction import write_prior
from dissect_embed.distillation.methods.contrastive import draw_negatives
from dissect_embed.distillation.methods.method import Method
from dissect_embed.distillation.methods.registry import METHODS
from dissect_embed.distillation.prior import load_prior, prior_targets
from dissect_embed.distillation.training.augmentation import crop_and_flip, draw_epoch, normalise
from dissect_embed.mathematics.vectors import Schedule

ALL = list(METHODS)
# What has no deterministic form on CUDA, by torch.use_deterministic_algorithms of torch 2.11. Left
# out is bincount, which is meant with weights; of the NLLLoss only that of images is meant.
UNORDERED = {
    "adaptive_avg_pool2d_backward", "adaptive_avg_pool3d_backward", "avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward",
    "fractional_max_pool3d_backward", "max_pool3d_with_indices_backward", "max_unpool2d",
    "max_unpool3d", "upsample_linear1d_backward", "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward", "upsample_trilinear3d_backward", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "reflection_pad3d_backward", "nll_loss2d_forward",
    "ctc_loss_backward", "embedding_bag_backward", "put", "histc", "median",
    "grid_sampler_2d_backward", "grid_sampler_3d_backward", "cumsum", "scatter_reduce",
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("tf32_allowed")


# ---- training ----


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ALL)
def test_graphs_and_interruptions_change_no_bit(tmp_path, method, precision, device):
    if precision == "bfloat16" and device == "cpu":
        pytest.skip("bfloat16 takes a processor three times as long")
    of = task(method, precision=precision)
    eager = train(tmp_path / "a.json", of, device=device, use_graphs=False)
    graphs = train(tmp_path / "b.json", of, device=device)
    assert lasting(graphs) == lasting(eager)
    if precision == "float32":
        on_cpu = eager if device == "cpu" else train(tmp_path / "cpu.json", of, device="cpu")
        losses = [result["curve"][0]["loss"] for result in (eager, on_cpu)]
        # Three steps of AT, SP, RKD, PKT or NST make what is off by 1e-4 in the images 1e-3.
        assert losses[0] == pytest.approx(losses[1], rel=3e-3)
    has_first = method != "skd" and METHODS[method].epochs_before > 0
    stops = [("first", 0, 1)] * has_first + [("main", 0, 1)]
    for place in stops:
        stop = stop_at(*place)
        with pytest.raises(Killed):
            train(tmp_path / "c.json", of, device=device, checkpoint_every=0.0, after_step=stop)
    resumed = train(tmp_path / "c.json", of, device=device)
    began = [session["from"] for session in resumed["run"]["sessions"][1:]]
    assert began == [[stage, epoch, step + 1] for stage, epoch, step in stops]
    assert lasting(resumed) == lasting(graphs)


@pytest.mark.parametrize("student", ["vgg8", "wrn-16-2", "resnet8x4"])
def test_every_family_trains_the_same_bits_twice(tmp_path, student, device):
    of = task(epochs=1)._replace(student=student)
    eager = train(tmp_path / "a.json", of, device=device, use_graphs=False)
    assert lasting(train(tmp_path / "b.json", of, device=device)) == lasting(eager)


def test_a_second_device_trains_the_same_bits(tmp_path, device, second_device):
    first, second = (
        train(tmp_path / f"{n}.json", task("skd"), device=where)
        for n, where in enumerate((device, second_device))
    )
    assert lasting(first) == lasting(second)
    assert second["run"]["sessions"][0]["device"].startswith(second_device)


def test_every_device_sees_the_same_images(device):
    pixels, draws = torch.from_numpy(images().images), draw_epoch(40, 3, "main", 1)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    expected = crop_and_flip(pixels, draws)
    found = crop_and_flip(pixels.to(device), draws.to(device))
    assert torch.equal(found.cpu(), expected)
    there = normalise(found, mean.to(device), std.to(device))
    torch.testing.assert_close(there.cpu(), normalise(expected, mean, std))


def test_every_device_draws_the_same_negatives(device):
    labels = torch.arange(3000) % 100
    chosen = draw_epoch(3000, 0, "main", 0)[:BATCH, 0]
    for seed, step in ((0, 0), (7, 123_456), (2**31 - 1, 2**20)):
        numbers = torch.tensor(seed), torch.tensor(step)
        expected = draw_negatives(labels, chosen, 2500, *numbers)
        there = (x.to(device) for x in numbers)
        found = draw_negatives(labels.to(device), chosen.to(device), 2500, *there)
        assert torch.equal(found.cpu(), expected)
        assert (expected.sum(dim=1) == 2500).all()


class Operations(TorchDispatchMode):
    """Collects the names of all operations that are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__.strip("_"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("student", "method"),
    [*[("resnet20", m) for m in ALL], ("vgg8", "plain"), ("wrn-16-2", "plain")],
)
def test_no_step_does_what_cuda_cannot_repeat_or_capture(tmp_path, monkeypatch, student, method):
    """No sum in any order, and no node of autograd that outlives its step.

    Such a node keeps the stream of its step, and spoils the capture of another on another stream.
    """
    made, left = [], []

    def watch(function):
        def watched(*arguments):
            loss = function(*arguments)
            loss.grad_fn.metadata["companion"] = companion = Operations()
            made.append(weakref.ref(companion))
            return loss

        return watched

    for name in ("forward", "before"):
        monkeypatch.setattr(Method, name, watch(getattr(Method, name)))
    of = task(method, epochs=1)._replace(student=student)
    with Operations() as operations:
        train(tmp_path / "a.json", of, after_step=lambda _: left.extend(x() for x in made))
    assert {"convolution_backward", "fused_sgd"} <= operations.names
    assert operations.names & UNORDERED == set()
    assert len(made) >= 3
    assert not any(left)


# ---- the prior ----


def test_a_prior_is_that_of_the_cpu_but_for_rounding(tmp_path, device):
    priors = []
    for n, where in enumerate((device, device, "cpu")):
        network, paths = teacher(), (tmp_path / f"{n}.h5", tmp_path / f"{n}.p.h5")
        write_prior(
            paths[0], images(n=70), network, network.stage_names[1:], name="resnet32",
            mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), similarity_path=paths[1], device=where,
            schedule=Schedule(epochs=3, steps_per_epoch=10, milestones=(2,)),
        )  # fmt: skip
        priors.append(load_prior(*paths))
    for name in ("h5", "p.h5"):
        assert differences(tmp_path / f"0.{name}", tmp_path / f"1.{name}") == {}
    ours, _, theirs = priors
    for layer, p in theirs.similarity.items():
        np.testing.assert_allclose(ours.similarity[layer], p, rtol=1e-4, atol=0)
    for q, expected in zip(prior_targets(ours), prior_targets(theirs), strict=True):
        torch.testing.assert_close(q, expected, rtol=1e-3, atol=0)
