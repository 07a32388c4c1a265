"""A step of training: augment, forward, loss, backward, SGD; nothing in it waits for the device.

What a step must tell is added up in one tensor, ``tally``. On CUDA a step can be captured as a
graph, one for each size of batch.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from dissect_embed.device import arithmetic
from dissect_embed.distillation.methods.method import Method
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.training.augmentation import crop_and_flip, normalise
from dissect_embed.distillation.training.schedules import Schedule

logger = logging.getLogger(__name__)

# Places in the tally, float64, of an epoch so far. BAD is the first step whose loss was no finite
# number, counted from 0, or -1.
LOSS, CORRECT, IMAGES, STEPS, BAD = range(5)

# Takes rows of ``draw_epoch``.
Step = Callable[[Tensor], None]


class Pixels(NamedTuple):
    """Labelled images where the network is, and how they are normalised."""

    images: UInt8[Tensor, "n y x 3"]
    labels: Int64[Tensor, " n"]
    mean: Float[Tensor, "3"]
    std: Float[Tensor, "3"]


class Models(NamedTuple):
    """Who takes part in a training."""

    student: Network
    teacher: Network | None
    method: Method


def empty_tally(device: torch.device) -> Float[Tensor, "5"]:
    """Return the tally of an epoch that has not begun."""
    return torch.tensor([0, 0, 0, 0, -1], dtype=torch.float64, device=device)


def make_optimiser(
    parameters: list[torch.nn.Parameter], schedule: Schedule, device: torch.device
) -> torch.optim.SGD:
    """Return SGD whose rate is a tensor on the device and whose momentum starts as zeros.

    Zeros give the same first step as torch's copy of the gradient; and they are there to be loaded
    into, and to be captured. The fused kind is the fastest on the CPU too.
    """
    lr = torch.tensor(0.0, device=device)
    optimiser = torch.optim.SGD(
        parameters,
        lr=lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    for parameter in parameters:
        optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimiser


def momenta(optimiser: torch.optim.SGD) -> list[Tensor]:
    """Return the momentum of every parameter, in order."""
    parameters = optimiser.param_groups[0]["params"]
    return [optimiser.state[parameter]["momentum_buffer"] for parameter in parameters]


def make_step(
    models: Models,
    pixels: Pixels,
    optimiser: torch.optim.SGD,
    tally: Float[Tensor, "5"],
    *,
    is_first_stage: bool,
    autocast: bool,
) -> Step:
    """Return a function that trains on one batch.

    The optimiser's rate is set by the caller, in place.
    """
    student, teacher, method = models
    recipe = method.recipe
    uses_student = recipe.student_before or not is_first_stage
    uses_teacher = is_first_stage or recipe.teacher_beside
    device = pixels.images.device.type

    def step(draws: Tensor) -> None:
        chosen = draws[:, 0]
        labels = pixels.labels[chosen]
        images = normalise(crop_and_flip(pixels.images, draws), pixels.mean, pixels.std)
        optimiser.zero_grad()
        ours = theirs = None
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            if uses_teacher:
                assert teacher is not None
                with torch.no_grad():
                    theirs = teacher.outputs(images)
            if uses_student:
                ours = student.outputs(images)
            if is_first_stage:
                assert theirs is not None
                loss = method.before(ours, theirs)
            else:
                assert ours is not None
                loss = method(ours, theirs, labels, chosen)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            value = loss.detach().double()
            is_first = (tally[BAD] < 0) & ~value.isfinite()
            tally[BAD] = torch.where(is_first, tally[STEPS], tally[BAD])
            tally[LOSS] += value * len(draws)
            if ours is not None:
                tally[CORRECT] += (ours.logits.argmax(dim=1) == labels).sum()
            tally[IMAGES] += len(draws)
            tally[STEPS] += 1

    return step


def graph_steps(step: Step, state: list[Tensor]) -> Step:
    """Return a step that replays CUDA graphs, captured for each size of batch when it first comes.

    Parameters
    ----------
    state
        Every tensor that a step changes: it is put back after the steps that warm up.
    """
    replays: dict[int, Step] = {}

    def run(draws: Tensor) -> None:
        if len(draws) not in replays:
            replays[len(draws)] = _capture(step, draws, state)
        replays[len(draws)](draws)

    return run


def _capture(step: Step, draws: Tensor, state: list[Tensor]) -> Step:
    draws = draws.clone()
    before = [tensor.detach().clone() for tensor in state]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step(draws)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step(draws)
    except RuntimeError as error:  # of a network or a driver that cannot be captured
        reason = str(error).splitlines()[0]
        logger.warning("no CUDA graph can be made of a step (%s): it runs step by step", reason)
        return step
    finally:
        with torch.no_grad():
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

    def replay(given: Tensor) -> None:
        draws.copy_(given)
        graph.replay()

    return replay


def evaluate(network: Network, pixels: Pixels, batch_size: int = 500) -> float:
    """Return the share of images that a network classifies correctly, in float32.

    The network is left in evaluation mode.
    """
    network.eval()
    with torch.no_grad():
        correct = [
            (network(normalise(x, pixels.mean, pixels.std)).argmax(dim=1) == labels).sum()
            for x, labels in zip(
                pixels.images.split(batch_size), pixels.labels.split(batch_size), strict=True
            )
        ]
    return int(torch.stack(correct).sum()) / len(pixels.labels)


@contextmanager
def deterministic() -> Iterator[None]:
    """Let torch give the same bits every time, where it can, and set it back afterwards.

    It warns of operations that it knows no deterministic form of.
    """
    was = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    cudnn: Any = torch.backends.cudnn
    before = memory.fill_uninitialized_memory, cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory, cudnn.benchmark = False, False
    try:
        with arithmetic("float32"):
            yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=only_warned)
        memory.fill_uninitialized_memory, cudnn.benchmark = before
