"""What ``distil`` and ``prior`` refuse before anything is computed: what does not fit together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dissect_embed.datasets.classes import ClassImages
from dissect_embed.distillation.methods.registry import METHODS, known_control, list_methods
from dissect_embed.distillation.own import OWN, is_own
from dissect_embed.distillation.training.schedules import SCHEDULES
from dissect_embed.distillation.training.task import ROLES
from dissect_embed.distillation.zoo import NETWORKS
from dissect_embed.errors import TrainingError


def check_names(student: str, method: str, schedule: str, control: str | None, role: str) -> None:
    """Stop where something is named that there is not."""
    for option, value, known in (
        ("student", None if is_own(student) else student, [*NETWORKS, OWN]),
        ("method", method, list(METHODS)),
        ("schedule", schedule, list(SCHEDULES)),
        ("role", role, list(ROLES)),
    ):
        if value is not None and value not in known:
            msg = f"--{option}: unknown {value!r}; choose one of {', '.join(known)}"
            raise TrainingError(msg)
    if control is not None:
        try:
            known_control(control)
        except ValueError as error:
            msg = f"--control: unknown {control!r}; {error}"
            raise TrainingError(msg) from None


def check_files(
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
        if control == "similarity" and similarity is None:
            msg = "--control similarity: it needs --similarity FILE, the file of P"
            raise TrainingError(msg)
        return
    static = ", ".join(list_methods("prior"))
    # A prior, and P, any student may be compared with at its end.
    if similarity is not None and prior is None:
        msg = f"--similarity {similarity}: P of what prior? Name it with --prior, or leave it out"
        raise TrainingError(msg)
    for option, given in (
        ("control", control), ("temperature", temperature if temperature != 1 else None),
    ):  # fmt: skip
        if given is not None:
            msg = f"--{option} {given}: only {static} takes it, not {method}; leave it out"
            raise TrainingError(msg)
    if guide == "teacher" and teacher is None:
        msg = (
            f"--method {method}: it needs --teacher, the .pt of a trained network; train one with "
            "--method plain --role teacher"
        )
        raise TrainingError(msg)
    if guide == "none" and teacher is not None:
        msg = f"--teacher {teacher}: {method} takes none; leave it out, or name another --method"
        raise TrainingError(msg)


def check_teacher_network(path: Path | None, network: str | None) -> None:
    """Stop where a network is named that cannot be the teacher's."""
    if network is None:
        return
    if path is None:
        msg = f"--teacher-network {network}: of what file? Name its weights with --teacher"
        raise TrainingError(msg)
    if network not in NETWORKS and not is_own(network):
        known = ", ".join([*NETWORKS, OWN])
        msg = f"--teacher-network: unknown {network!r}; choose one of {known}"
        raise TrainingError(msg)


def check_teacher(
    path: Path,
    meta: Mapping[str, Any],
    data: ClassImages,
    mean: Sequence[float],
    std: Sequence[float],
    held_out: int,
) -> None:
    """Stop where a teacher was trained on other images than it is now to see."""
    remedy = "train it on these with --method plain --role teacher"
    if meta["data"] != data.fingerprint:
        msg = (
            f"{path}: trained on images of fingerprint {meta['data'][:12]}…, those of {data.name} "
            f"have {data.fingerprint[:12]}…; {remedy}"
        )
        raise TrainingError(msg)
    for what, found, expected in (("mean", meta["mean"], mean), ("std", meta["std"], std)):
        if tuple(found) != tuple(expected):
            msg = f"{path}: trained with {what} {found}, now {list(expected)} is given; {remedy}"
            raise TrainingError(msg)
    # Of weights from elsewhere nobody here knows what was held out.
    found = meta["task"].get("held_out", 0) if "task" in meta else held_out
    if found != held_out:
        msg = (
            f"{path}: trained with {found:,} images held out, now {held_out:,} are; what is chosen "
            f"by, it must not know: train it with --held-out {held_out} as well"
        )
        raise TrainingError(msg)
