"""Train a network of the zoo, or one's own, by any method; a teacher is trained as ``plain``.

    task → models → [first stage] → main stage → accuracy of the last epoch

For an output ``x.json`` there are, beside it: ``x.pt``, the trained network; ``x.log.jsonl``, a
line for every epoch so far; ``tensorboard/x/``, the same for TensorBoard; and ``x.checkpoint``
while the training is not done. Killed at any step and started again, a training ends with the same
bits as one that was never killed.
"""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dissect_embed.datasets.classes import ClassImages
from dissect_embed.device import current_device
from dissect_embed.distillation.methods.method import build_method
from dissect_embed.distillation.methods.static_module import Static
from dissect_embed.distillation.outputs import Network
from dissect_embed.distillation.own import check_own, is_own
from dissect_embed.distillation.training.course import Course
from dissect_embed.distillation.training.ending import (
    N_IMAGES,
    WEAKEST,
    Yardstick,
    measure_divergence,
    share_of_weakest,
)
from dissect_embed.distillation.training.sampling import SAMPLE_SEED, draw_stratified, hold_out
from dissect_embed.distillation.training.schedules import Place
from dissect_embed.distillation.training.step import Models, Pixels, deterministic
from dissect_embed.distillation.training.task import Task, check_task, draw_seed
from dissect_embed.distillation.zoo import build_network
from dissect_embed.errors import TrainingError


def train_student(
    task: Task,
    train: ClassImages,
    test: ClassImages,
    *,
    output: Path,
    teacher: nn.Module | None = None,
    teacher_meta: Mapping[str, Any] | None = None,
    targets: list[Tensor] | None = None,
    yardstick: Yardstick | None = None,
    device: str = "cpu",
    checkpoint_every: float = 300.0,
    use_graphs: bool = True,
    after_step: Callable[[Place], None] | None = None,
) -> dict[str, Any]:
    """Train a network, or go on training it, and write it beside the result.

    Parameters
    ----------
    task
        What determines the result.
    output
        Of the result, ``….json``; the other files take its stem.
    teacher
        A trained network of the zoo, or one's own; None for methods without one.
    teacher_meta
        What is known of it; name and accuracy are kept in the result.
    targets
        SKD's p of f1, f2, …, (unit, unit) each; None for other methods.
    yardstick
        Targets like these by name, for any method, at temperature 1: how far the student is from
        each is measured at its end.
    checkpoint_every
        Seconds between checkpoints.
    use_graphs
        Whether to replay CUDA graphs, on a CUDA device.
    after_step
        Called with the place of every step that was made.

    Returns
    -------
    What the result's JSON holds: ``accuracy`` of the last epoch; ``tested_on``, the test images, or
    those training images that were held out, in whose place they come; ``best``, the best one of
    all, chosen on the same images and so too good; ``curve``, an entry an epoch; ``task``;
    ``network``; ``teacher``, where one is known: its name and accuracy; and under ``run`` what
    another run of the same task would have otherwise: times, memory, machine.

    ``measured`` is what was found at the end, on ``images`` training images, unaugmented:
    ``divergence``, KL(p || q) in nats of each target of the ``prior``, ``layers`` and their
    ``mean``; and of SKD ``weakest``, the ``share`` of eq. 2's squared gradient, a layer each, that
    goes to the weakest 1 % of living unit maps.

    Raises
    ------
    TrainingError
        If what is given is not the task's, the checkpoint is another's or damaged, or the loss is
        no longer finite.
    ModelError
        If student, teacher and targets do not fit together.
    DiskSpaceError
        If checkpoints do not fit on the disk, before the first step or when one is written.
    """
    if output.suffix != ".json":
        msg = f"{output}: expected a name that ends in .json"
        raise TrainingError(msg)
    check_task(task, train, test, teacher, targets)
    if task.held_out:
        train, test = hold_out(train, task.held_out)
    where = torch.device(device)
    with deterministic(), current_device(where):
        models = _build_models(task, train, teacher, targets, where)
        pixels = _load_pixels(train, task, where)
        course = Course(
            task,
            models,
            pixels,
            output,
            checkpoint_every=checkpoint_every,
            use_graphs=use_graphs and where.type == "cuda",
            after_step=after_step,
        )
        course.begin()
        course.run(_load_pixels(test, task, where))
        measurements = _look_at_the_end(models, pixels, yardstick)
        return course.finish(len(train.classes), teacher_meta, measurements)


def _look_at_the_end(models: Models, pixels: Pixels, yardstick: Yardstick | None) -> dict[str, Any]:
    """Return what ``ending`` measures of a student, on the same images for all of them."""
    static = models.method.term if isinstance(models.method.term, Static) else None
    if yardstick is None and static is None:
        return {}
    drawn = draw_stratified(pixels.labels.cpu().numpy(), N_IMAGES, SAMPLE_SEED)
    chosen = torch.from_numpy(drawn).to(pixels.labels.device)
    sample = pixels._replace(images=pixels.images[chosen], labels=pixels.labels[chosen])
    told: dict[str, Any] = {"images": len(chosen)}
    if yardstick is not None:
        told["prior"] = yardstick.prior
        told["divergence"] = measure_divergence(models.student, sample, yardstick.targets)
    if static is not None:
        share = share_of_weakest(models.student, sample, static)
        told["weakest"] = {"of_living_maps": WEAKEST, "share": share}
    return {"measured": told}


def _build_models(
    task: Task,
    train: ClassImages,
    teacher: nn.Module | None,
    targets: list[Tensor] | None,
    device: torch.device,
) -> Models:
    """Build the student and the method from the seed, and take a copy of the teacher."""
    place: Any = {"device": device, "memory_format": torch.channels_last}
    n_classes = len(train.classes)
    student = build_network(task.student, n_classes, draw_seed(task))
    if is_own(task.student):
        check_own(task.student, student, n_classes, train.images.shape[1:3])
    student = student.to(**place)
    guide = None
    if teacher is not None:
        guide = cast("Network", copy.deepcopy(teacher)).to(**place).eval().requires_grad_(False)
    # Only shapes count; in evaluation mode nothing enters the running statistics.
    images = torch.zeros(2, 3, *train.images.shape[1:3], device=device)
    with torch.no_grad():
        ours = student.eval().outputs(images)
        theirs = None if guide is None else guide.outputs(images)
    labels = torch.from_numpy(train.labels)
    method = build_method(
        task.method, ours, theirs, labels, draw_seed(task), targets=targets,
        temperature=task.temperature,
    )  # fmt: skip
    if task.beta is not None:
        method.recipe = method.recipe._replace(beta=task.beta)
    return Models(student, guide, method)


def _load_pixels(data: ClassImages, task: Task, device: torch.device) -> Pixels:
    """Put a split on the device; on the CPU, images are not copied."""
    images = torch.from_numpy(np.require(data.images, np.uint8, ["C", "W"]))
    labels = torch.from_numpy(np.require(data.labels, np.int64, ["C", "W"]))
    return Pixels(
        images.to(device),
        labels.to(device),
        torch.tensor(task.mean, device=device),
        torch.tensor(task.std, device=device),
    )
