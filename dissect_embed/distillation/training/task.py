"""What determines the result of a training, and nothing else."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dissect_embed.datasets.classes import ClassImages
from dissect_embed.distillation import TRAINING_VERSION
from dissect_embed.distillation.methods.registry import METHODS, known_control
from dissect_embed.distillation.own import OWN, is_own
from dissect_embed.distillation.training.schedules import Schedule
from dissect_embed.distillation.zoo import NETWORKS
from dissect_embed.errors import TrainingError
from dissect_embed.networks.models import hash_weights

PRECISIONS: Final = ("float32", "bfloat16")
ROLES: Final = ("student", "teacher")
# CRD's, of the training images of CIFAR-100; its standard deviation is the one used everywhere.
CIFAR100: Final = ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


class Task(NamedTuple):
    """A network to train: two equal tasks give equal weights on the same machine."""

    student: str  # a key of zoo.NETWORKS, or package.module:function
    method: str  # a key of METHODS
    seed: int
    schedule: Schedule
    data: str  # fingerprint of classes.h5
    mean: tuple[float, float, float]  # of pixels from 0 to 1
    std: tuple[float, float, float]
    beta: float | None = None  # None: the method's own
    temperature: float = 1.0  # of SKD's cosines
    control: str | None = None  # a key of CONTROLS: what stands in place of SKD's vectors
    teacher: str | None = None  # models.hash_weights of it, where it is the method's guide
    prior: str | None = None  # fingerprint of what SKD's targets were made from
    precision: str = "float32"  # or "bfloat16": autocast, with float32 losses and weights
    held_out: int = 0  # training images that are not trained on; the test is on them, if any
    role: str = "student"  # or "teacher", which draws other numbers of the same seed


def draw_seed(task: Task) -> int:
    """Return the seed of what a training draws: weights to start from, batches, negatives.

    It is of role and seed alone. So the students of a seed start alike and see the same images in
    the same order, whatever their method, and no teacher starts or sees them as they do.
    """
    digest = hashlib.sha256(f"{task.role} {task.seed}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def choose_beta(task: Task) -> float | None:
    """Return β, given or the method's own; None where the method has none."""
    own = METHODS[task.method].beta
    if not own:
        return None
    return float(own if task.beta is None else task.beta)


def describe(task: Task) -> dict[str, Any]:
    """Return a task as JSON has it; equal descriptions mean equal results."""
    schedule = task.schedule._asdict() | {"milestones": list(task.schedule.milestones)}
    lists = {"mean": list(task.mean), "std": list(task.std), "schedule": schedule}
    return {"version": TRAINING_VERSION, **task._asdict(), **lists, "beta": choose_beta(task)}


def read_description(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``describe`` wrote, now or in an older version, as it is written now.

    Before version 3 a teacher drew the numbers of the students of its seed: it had no ``role``. Nor
    was anything held out. Version 1 named SKD's ``control`` its ``target``, "semantic" where there
    was none, and ``beta`` the ``weight``.

    Raises
    ------
    KeyError
        If a key is missing.
    ValueError
        If the version is another.
    """
    version = found["version"]
    if version == TRAINING_VERSION:
        return dict(found)
    if version not in (1, 2):
        msg = (
            f"its task is of version {version!r}, this program reads 1 to {TRAINING_VERSION}; use "
            "the version of dissect-embed that wrote it, or train again"
        )
        raise ValueError(msg)
    task = dict(found) | {"version": TRAINING_VERSION, "held_out": 0, "role": None}
    if version == 2:
        return task
    control, task["beta"] = task.pop("target"), task.pop("weight")
    task["control"] = None if control == "semantic" else control
    return task


def compare_tasks(found: dict[str, Any], expected: dict[str, Any], prefix: str = "") -> list[str]:
    """Return a line for every key in which two descriptions differ."""
    lines = []
    for key in sorted(found.keys() | expected.keys()):
        a, b = found.get(key), expected.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += compare_tasks(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key} is {a!r} there and {b!r} here")
    return lines


def channel_statistics(train: ClassImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the pixels of each channel, black 0 and white 1.

    Those of ``cifar100`` are CRD's, so that numbers compare.
    """
    if train.name == "cifar100":
        return CIFAR100
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(3):
        counts = np.zeros(256, np.int64)
        for part in np.array_split(train.images[..., channel], max(1, len(train.images) // 1000)):
            counts += np.bincount(part.ravel(), minlength=256)
        mean = float((counts * values).sum() / counts.sum())
        means.append(mean)
        stds.append(float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())))
    return tuple(means), tuple(stds)


def check_task(
    task: Task,
    train: ClassImages,
    test: ClassImages,
    teacher: torch.nn.Module | None,
    targets: list[Tensor] | None,
) -> None:
    """Check a task against what it is given, before anything is trained.

    Raises
    ------
    TrainingError
        If a setting is unknown, or images, teacher or targets are not the task's.
    """
    if task.student not in NETWORKS and not is_own(task.student):
        _refuse("student", task.student, f"one of {', '.join([*NETWORKS, OWN])}")
    if task.method not in METHODS:
        _refuse("method", task.method, f"one of {', '.join(METHODS)}")
    if task.precision not in PRECISIONS:
        _refuse("precision", task.precision, " or ".join(PRECISIONS))
    if task.role not in ROLES:
        _refuse("role", task.role, " or ".join(ROLES))
    guide = METHODS[task.method].guide
    is_static = guide == "prior"
    if is_static and task.control is not None:
        try:
            known_control(task.control)
        except ValueError as error:
            msg = f"training: control is {task.control!r}: {error}"
            raise TrainingError(msg) from None
    if not is_static and task.control is not None:
        _refuse("control", task.control, f"None: {task.method} has no prior")
    if is_static is (targets is None):
        given = "none" if targets is None else f"those of {len(targets)} stages"
        wanted = "p of every stage" if is_static else f"none: {task.method} takes none"
        _refuse("targets", given, wanted)
    if task.beta is not None and not METHODS[task.method].beta:
        _refuse("beta", task.beta, f"None: {task.method} has no β")
    has_teacher = guide == "teacher"
    if has_teacher is (teacher is None):
        wanted = "a network" if has_teacher else f"None: {task.method} needs no teacher"
        _refuse("teacher", type(teacher).__name__, wanted)
    if has_teacher is (task.teacher is None):
        wanted = "the fingerprint of its weights" if has_teacher else "None"
        _refuse("task.teacher", task.teacher, wanted)
    if teacher is not None and (found := hash_weights(teacher)) != task.teacher:
        _refuse("the fingerprint of the teacher's weights", found, f"{task.teacher}, the task's")
    if min(task.std) <= 0:
        _refuse("std", task.std, "positive numbers; is every image the same?")
    _check_images(task, train, test)


def _check_images(task: Task, train: ClassImages, test: ClassImages) -> None:
    for split, data in (("train", train), ("test", test)):
        if data.fingerprint != task.data:
            _refuse(f"{split} images of {data.name}", data.fingerprint, f"{task.data}, the task's")
        n_classes = len(train.classes)
        if len(data.images) == 0 or not 0 <= data.labels.min() <= data.labels.max() < n_classes:
            found = f"labels of {len(data.images)} images"
            _refuse(f"{split} images of {data.name}", found, f"some, from 0 to {n_classes - 1}")


def _refuse(what: str, got: object, expected: str) -> None:
    msg = f"training: {what} is {got!r}; expected {expected}"
    raise TrainingError(msg)
