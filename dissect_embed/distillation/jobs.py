"""From files to a training or a prior: reads what is named, and refuses what does not fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dissect_embed.datasets.classes import ClassImages, load_classes
from dissect_embed.distillation.checks import (
    check_files,
    check_names,
    check_teacher,
    check_teacher_network,
)
from dissect_embed.distillation.extraction import write_prior
from dissect_embed.distillation.methods.registry import METHODS
from dissect_embed.distillation.prior import (
    Prior,
    all_targets,
    check_prior,
    load_prior,
    prior_targets,
)
from dissect_embed.distillation.results.published import published_beta
from dissect_embed.distillation.teachers import load_teacher
from dissect_embed.distillation.training.ending import Yardstick
from dissect_embed.distillation.training.sampling import hold_out
from dissect_embed.distillation.training.schedules import SCHEDULES, shorten
from dissect_embed.distillation.training.task import Task, channel_statistics
from dissect_embed.distillation.training.trainer import train_student
from dissect_embed.distillation.zoo import build_network
from dissect_embed.errors import TrainingError
from dissect_embed.mathematics.vectors import Schedule
from dissect_embed.networks.models import build_model

Colours = tuple[float, float, float]


def distil(
    data_path: Path,
    output: Path,
    *,
    student: str,
    method: str = "plain",
    teacher_path: Path | None = None,
    teacher_network: str | None = None,
    prior_path: Path | None = None,
    similarity_path: Path | None = None,
    control: str | None = None,
    beta: float | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    schedule: str = "crd",
    epochs: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    precision: str = "float32",
    held_out: int = 0,
    role: str = "student",
    device: str = "cpu",
    checkpoint_every: float = 300.0,
) -> dict[str, Any]:
    """Train a network by any method, and return its result (``trainer``).

    Parameters
    ----------
    data_path
        ``classes.h5``.
    student
        A network of the zoo, or ``package.module:function`` (see ``zoo``).
    teacher_path, teacher_network
        The weights of a trained network, for the methods that need one; and what network, where
        they were not written by this function, see ``teachers.load_teacher``.
    prior_path, similarity_path
        ``prior.h5``, and the file of P. SKD needs the one, its control ``similarity`` both; of any
        other method it is told at the end how far its student is from SKD's targets.
    control
        For SKD: a key of ``CONTROLS``, see ``prior.prior_targets``.
    beta
        The weight of the method's loss; by default as published.
    epochs
        By default the schedule's; fewer shorten it.
    held_out
        So many training images are not trained on, and tested on in place of the test images: to
        choose a setting by. The teacher must have been trained so too, and the prior made so.
    role
        ``teacher`` for what is to teach: no student of the same seed draws the same numbers.
    checkpoint_every
        Seconds between checkpoints.
    mean, std
        Of each colour on the 0..1 scale; by default those of the training images.

    Raises
    ------
    TrainingError
        If a name is unknown, a file is missing that the method needs, or one is given that it
        does not take.
    ArtefactError, ModelError
        If teacher, prior, student and images do not fit together.
    """
    check_names(student, method, schedule, control, role)
    check_files(method, teacher_path, prior_path, similarity_path, control, temperature)
    check_teacher_network(teacher_path, teacher_network)
    train, test = (load_classes(data_path, split) for split in ("train", "test"))
    means, stds = _read_statistics(train, mean, std)
    teacher, meta, prior, targets, yardstick = None, None, None, None, None
    if teacher_path is not None:
        teacher, meta = load_teacher(
            teacher_path, teacher_network, train, test, means, stds, device
        )
        check_teacher(teacher_path, meta, train, means, stds, held_out)
    if prior_path is not None:
        prior = load_prior(prior_path, similarity_path)
        network = build_network(student, len(train.classes))
        check_prior(prior, network, train, means, stds, held_out)
        yardstick = Yardstick(prior.fingerprint, all_targets(prior, seed=seed))
    if prior is not None and METHODS[method].guide == "prior":
        targets = prior_targets(prior, control, seed=seed, temperature=temperature)
        beta = published_beta(method, prior.network, student) if beta is None else beta
    known = SCHEDULES[schedule]
    task = Task(
        student=student,
        method=method,
        seed=seed,
        schedule=known if epochs is None else shorten(known, epochs),
        data=train.fingerprint,
        mean=means,
        std=stds,
        beta=beta,
        temperature=temperature,
        control=control,
        teacher=None if meta is None else str(meta["fingerprint"]),
        prior=None if prior is None or targets is None else prior.fingerprint,
        precision=precision,
        held_out=held_out,
        role=role,
    )
    return train_student(
        task, train, test, output=output, teacher=teacher, teacher_meta=meta, targets=targets,
        yardstick=yardstick, device=device, checkpoint_every=checkpoint_every,
    )  # fmt: skip


def make_prior(
    data_path: Path,
    output: Path,
    *,
    teacher_path: Path | None = None,
    teacher_network: str | None = None,
    model: str | None = None,
    weights: str = "random",
    layers: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    similarity: str = "image",
    similarity_path: Path | None = None,
    held_out: int = 0,
    device: str = "cpu",
    n_threads: int | None = None,
    dim: int = 16,
    seed: int = 0,
    schedule: Schedule | None = None,
) -> Prior:
    """Make ``prior.h5`` from a network trained here, or from any other, and return it.

    Parameters
    ----------
    teacher_path, teacher_network
        The weights of a trained network, as ``distil`` takes them; its layers are known, and its
        normalisation where ``distil`` wrote the file.
    model, weights, layers
        Any other network, see ``networks.models``, and the modules that a student's stages are to
        match.
    mean, std
        With ``model``: how its images were normalised; by default as those of the training images.
    held_out
        So many training images are not looked at, see ``distil``.

    Raises
    ------
    TrainingError
        If not just one network is named, or the layers of another are not.
    ArtefactError, ModelError
        If the network cannot be read, or was trained on other images.
    """
    if (teacher_path is None) is (model is None):
        msg = "prior: name one network: --teacher FILE.pt, or --model with --weights and --layer"
        raise TrainingError(msg)
    train = load_classes(data_path, "train")
    network: nn.Module
    if teacher_path is not None:
        check_teacher_network(teacher_path, teacher_network)
        test = load_classes(data_path, "test")
        given = _read_statistics(train, mean, std)
        network, meta = load_teacher(teacher_path, teacher_network, train, test, *given, device)
        means, stds = _colours("mean", mean or meta["mean"]), _colours("std", std or meta["std"])
        check_teacher(teacher_path, meta, train, means, stds, held_out)
        name, accuracy, layers = meta["name"], meta["accuracy"], layers or network.stage_names[1:]
    else:
        if not layers:
            msg = f"prior: which modules of {model}? Name them with --layer, in a student's order"
            raise TrainingError(msg)
        assert model is not None
        network, name, accuracy = build_model(model, weights), model, None
        means, stds = _read_statistics(train, mean, std)
    if held_out:
        train, _ = hold_out(train, held_out)
    write_prior(
        output, train, network, layers, name=name, mean=means, std=stds, accuracy=accuracy,
        dim=dim, schedule=schedule, seed=seed, similarity=similarity,
        similarity_path=similarity_path, device=device, n_threads=n_threads,
    )  # fmt: skip
    return load_prior(output)


def _read_statistics(
    data: ClassImages, mean: Sequence[float], std: Sequence[float]
) -> tuple[Colours, Colours]:
    if bool(mean) is not bool(std):
        msg = "--mean and --std: give both, three times each, or neither"
        raise TrainingError(msg)
    means, stds = (mean, std) if mean else channel_statistics(data)
    return _colours("mean", means), _colours("std", stds)


def _colours(name: str, values: Sequence[float]) -> Colours:
    if len(values) != 3:
        msg = f"--{name}: {len(values)} numbers; expected 3: red, green, blue from 0 to 1"
        raise TrainingError(msg)
    red, green, blue = values
    return float(red), float(green), float(blue)
