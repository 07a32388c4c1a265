"""Results of trainings, read from the files that ``trainer`` wrote, as rows of a table.

What a run is, its content says, and its folder who the teacher was (``names``): a static student's
result does not name one.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

from dissect_embed.distillation.methods.registry import known_control
from dissect_embed.distillation.results.names import TEACHERS, Pair, read_pair, write_pair
from dissect_embed.distillation.results.published import published_beta
from dissect_embed.distillation.results.rows import TEACHER, Row
from dissect_embed.distillation.training.schedules import SCHEDULES, shorten
from dissect_embed.distillation.training.task import read_description
from dissect_embed.errors import ArtefactError


class Run(NamedTuple):
    """The result of a training."""

    path: Path
    pair: Pair | None  # None: a teacher
    student: str
    row: Row
    seed: int
    accuracy: float  # percent of the test images, or of those held out, of the last epoch
    data: str  # fingerprint of classes.h5
    schedule: str
    precision: str
    held_out: int  # training images that it was tested on in place of the test images
    machine: str
    step: float | None  # seconds, the median
    memory: int  # bytes at the peak
    divergence: dict[str, float]  # KL(p || q) at the end, nats, of each target that was measured
    prior: str | None  # fingerprint of the one whose targets these are


def read_runs(folder: Path) -> list[Run]:
    """Read all results of a folder, sorted by row and seed.

    Raises
    ------
    ArtefactError
        If there is none, one is damaged, or two do not belong in one table: of other images or
        another schedule or precision, of one pair and measured by another prior, or twice the same.
        Teachers may have a schedule of their own.
    """
    runs = [read_run(path) for path in sorted(folder.glob("*/*.json"))]
    if not runs:
        msg = f"{folder}: no result of a training (*/*.json); make some with 'dissect-embed distil'"
        raise ArtefactError(msg)
    teachers, students = [r for r in runs if r.pair is None], [r for r in runs if r.pair]
    pairs = {run.pair for run in students}
    for whose, keys in (
        (runs, ("data", "precision", "held_out")),
        (teachers, ("schedule",)),
        (students, ("schedule",)),
        *(([r for r in students if r.pair == pair and r.divergence], ("prior",)) for pair in pairs),
    ):
        for other, what in product(whose[1:], keys):
            found, expected = getattr(other, what), getattr(whose[0], what)
            if found != expected:
                msg = (
                    f"{other.path}: its {what} is {found}, that of {whose[0].path} {expected}; "
                    "keep each in a folder of its own"
                )
                raise ArtefactError(msg)
    runs.sort(key=lambda run: (run.row.place, _folder(run), run.student, run.seed))
    for one, two in pairwise(runs):
        if (one.row, one.pair, one.student, one.seed) == (two.row, two.pair, two.student, two.seed):
            msg = f"{two.path}: the same training as {one.path}; delete one"
            raise ArtefactError(msg)
    return runs


def read_run(path: Path) -> Run:
    """Read one result.

    Raises
    ------
    ArtefactError
        If it is damaged, or its folder is not named as its student demands.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        task, run = read_description(content["task"]), content["run"]
        found = content.get("measured", {})
        student = str(task["student"])
        is_teacher = path.parent.name == TEACHERS
        pair = None if is_teacher else read_pair(path.parent.name, student)
        return Run(
            path=path,
            pair=pair,
            student=student,
            row=_read_row(task, pair),
            seed=int(task["seed"]),
            accuracy=100 * float(content["accuracy"]),
            data=str(task["data"]),
            schedule=name_schedule(task["schedule"]),
            precision=str(task["precision"]),
            machine=_name_machine(run["sessions"]),
            step=run["seconds_a_step"],
            memory=int(run["peak_memory_bytes"]),
            held_out=int(task["held_out"]),
            divergence={k: float(v["mean"]) for k, v in found.get("divergence", {}).items()},
            prior=found.get("prior"),
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        msg = (
            f"{path}: no result of a training, {error} is missing or wrong; keep what 'distil' did "
            "not write elsewhere, or train again"
        )
        raise ArtefactError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"{path}:{error.lineno}: damaged ({error.msg}); delete it and train again"
        raise ArtefactError(msg) from error
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ArtefactError(msg) from error


def _folder(run: Run) -> str:
    return write_pair(run.pair) if run.pair else TEACHERS


def name_schedule(found: Mapping[str, Any]) -> str:
    """Return a schedule for people, by its name if it is a known one, shortened or not."""
    epochs = found["epochs"]
    for name, known in SCHEDULES.items():
        same = shorten(known, epochs)._asdict()
        if same | {"milestones": list(same["milestones"])} == dict(found):
            short = "" if epochs == known.epochs else f", shortened from {known.epochs}"
            return f"{name}, {epochs} epoch{'s' * (epochs != 1)}{short}"
    settings = ", ".join(f"{key} {value}" for key, value in found.items())
    return f"of its own ({settings})"


def _read_row(task: Mapping[str, Any], pair: Pair | None) -> Row:
    if pair is None:
        return Row(TEACHER)
    usual = published_beta(task["method"], *pair)
    if task["control"] is not None:
        try:
            known_control(task["control"])
        except ValueError as error:
            msg = f"its control is {task['control']!r}: {error}; keep its result elsewhere"
            raise ValueError(msg) from None
    return Row(
        str(task["method"]),
        task["control"],
        None if task["beta"] == usual else float(task["beta"]),
        None if task["temperature"] == 1 else float(task["temperature"]),
    )


def _name_machine(sessions: Sequence[Mapping[str, Any]]) -> str:
    names = {
        f"{s['device']} ({s['processor']})"
        + (f", {s['threads']} threads" if s["device"] == "cpu" else "")
        for s in sessions
    }
    return "; ".join(sorted(names)).replace(" 1 threads", " 1 thread")
