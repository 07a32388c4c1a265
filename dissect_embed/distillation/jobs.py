"""From files to a training or a prior: reads what is named, and refuses what does not fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dissect_embed.datasets.classes import ClassImages, load_classes
from dissect_embed.distillation.extraction import write_prior
from dissect_embed.distillation.methods.registry import CONTROLS, METHODS, list_methods
from dissect_embed.distillation.own import OWN, is_own
from dissect_embed.distillation.prior import Prior, check_prior, load_prior, prior_targets
from dissect_embed.distillation.results.published import published_beta
from dissect_embed.distillation.teachers import load_teacher
from dissect_embed.distillation.training.schedules import SCHEDULES, shorten
from dissect_embed.distillation.training.task import Task, channel_statistics
from dissect_embed.distillation.training.trainer import train_student
from dissect_embed.distillation.zoo import NETWORKS, build_network
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
        For SKD: ``prior.h5``, and for its control ``similarity`` the file of P.
    control
        For SKD: a key of ``CONTROLS``, see ``prior.prior_targets``.
    beta
        The weight of the method's loss; by default as published.
    epochs
        By default the schedule's; fewer shorten it.
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
    _check_names(student, method, schedule, control)
    _check_files(method, teacher_path, prior_path, similarity_path, control, temperature)
    _check_teacher_network(teacher_path, teacher_network)
    train, test = (load_classes(data_path, split) for split in ("train", "test"))
    means, stds = _read_statistics(train, mean, std)
    teacher, meta, prior, targets = None, None, None, None
    if teacher_path is not None:
        teacher, meta = load_teacher(
            teacher_path, teacher_network, train, test, means, stds, device
        )
        _check_teacher(teacher_path, meta, train, means, stds)
    if prior_path is not None:
        prior = load_prior(prior_path, similarity_path)
        check_prior(prior, build_network(student, len(train.classes)), train, means, stds)
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
        prior=None if prior is None else prior.fingerprint,
        precision=precision,
    )
    return train_student(
        task, train, test, output=output, teacher=teacher, teacher_meta=meta, targets=targets,
        device=device, checkpoint_every=checkpoint_every,
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
    similarity_path: Path | None = None,
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
        _check_teacher_network(teacher_path, teacher_network)
        test = load_classes(data_path, "test")
        given = _read_statistics(train, mean, std)
        network, meta = load_teacher(teacher_path, teacher_network, train, test, *given, device)
        means, stds = _colours("mean", mean or meta["mean"]), _colours("std", std or meta["std"])
        _check_teacher(teacher_path, meta, train, means, stds)
        name, accuracy, layers = meta["name"], meta["accuracy"], layers or network.stage_names[1:]
    else:
        if not layers:
            msg = f"prior: which modules of {model}? Name them with --layer, in a student's order"
            raise TrainingError(msg)
        assert model is not None
        network, name, accuracy = build_model(model, weights), model, None
        means, stds = _read_statistics(train, mean, std)
    write_prior(
        output, train, network, layers, name=name, mean=means, std=stds, accuracy=accuracy,
        dim=dim, schedule=schedule, seed=seed, similarity_path=similarity_path, device=device,
        n_threads=n_threads,
    )  # fmt: skip
    return load_prior(output)


def _check_names(student: str, method: str, schedule: str, control: str | None) -> None:
    for option, value, known in (
        ("student", None if is_own(student) else student, [*NETWORKS, OWN]),
        ("method", method, list(METHODS)),
        ("schedule", schedule, list(SCHEDULES)),
        ("control", control, list(CONTROLS)),
    ):
        if value is not None and value not in known:
            msg = f"--{option}: unknown {value!r}; choose one of {', '.join(known)}"
            raise TrainingError(msg)


def _check_files(
    method: str,
    teacher: Path | None,
    prior: Path | None,
    similarity: Path | None,
    control: str | None,
    temperature: float,
) -> None:
    """Stop where a method lacks a file that it needs, or is given what it does not take."""
    guide = METHODS[method].guide
    if guide == "prior":
        if teacher is not None:
            msg = f"--teacher {teacher}: {method} has no teacher but its --prior; leave it out"
            raise TrainingError(msg)
        if not temperature > 0:
            msg = f"--temperature {temperature:g}; expected a positive number"
            raise TrainingError(msg)
        if prior is None:
            msg = f"--method {method}: it needs --prior, the file that 'dissect-embed prior' makes"
            raise TrainingError(msg)
        if (control == "similarity") is (similarity is None):
            msg = "--control similarity and --similarity FILE, the file of P, go together"
            raise TrainingError(msg)
        return
    static = ", ".join(list_methods("prior"))
    for option, given in (
        ("prior", prior), ("similarity", similarity), ("control", control),
        ("temperature", temperature if temperature != 1 else None),
    ):  # fmt: skip
        if given is not None:
            msg = f"--{option} {given}: only {static} takes it, not {method}; leave it out"
            raise TrainingError(msg)
    if guide == "teacher" and teacher is None:
        msg = (
            f"--method {method}: it needs --teacher, the .pt of a trained network; train one with "
            "--method plain"
        )
        raise TrainingError(msg)
    if guide == "none" and teacher is not None:
        msg = f"--teacher {teacher}: {method} takes none; leave it out, or name another --method"
        raise TrainingError(msg)


def _check_teacher_network(path: Path | None, network: str | None) -> None:
    if network is None:
        return
    if path is None:
        msg = f"--teacher-network {network}: of what file? Name its weights with --teacher"
        raise TrainingError(msg)
    if network not in NETWORKS and not is_own(network):
        known = ", ".join([*NETWORKS, OWN])
        msg = f"--teacher-network: unknown {network!r}; choose one of {known}"
        raise TrainingError(msg)


def _check_teacher(
    path: Path, meta: dict[str, Any], data: ClassImages, mean: Colours, std: Colours
) -> None:
    """Stop where a teacher was trained on other images than it is now to see."""
    remedy = "train it on these with --method plain"
    if meta["data"] != data.fingerprint:
        msg = (
            f"{path}: trained on images of fingerprint {meta['data'][:12]}…, those of {data.name} "
            f"have {data.fingerprint[:12]}…; {remedy}"
        )
        raise TrainingError(msg)
    for what, found, expected in (("mean", meta["mean"], mean), ("std", meta["std"], std)):
        if tuple(found) != expected:
            msg = f"{path}: trained with {what} {found}, now {list(expected)} is given; {remedy}"
            raise TrainingError(msg)


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
