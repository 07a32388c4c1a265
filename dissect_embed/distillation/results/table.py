"""Table 1 of [HAN22]: what each method makes of a student, from the results of all trainings.

``table1.csv`` has a row for each pair and method: ``n`` seeds, ``mean`` and sample standard
deviation ``sd`` of the accuracy in percent on the images that were ``tested_on``,
``seconds_a_step``, ``relative_step`` (to the plain student's on the same machine),
``memory_bytes``, what was ``published`` where, for CIFAR-100 alone, and ``kl_skd``,
``kl_uniform``, …: the mean over seeds of KL(p || q) in nats at the end of training, p the target of
SKD or of one of its controls. A cell of what was not run is empty. ``page`` writes the same for
people.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dissect_embed.artefacts.files import open_artefact, read_config
from dissect_embed.artefacts.tables import write_table
from dissect_embed.datasets.classes import ClassCounts, count_classes
from dissect_embed.distillation.methods.registry import CONTROLS, METHODS
from dissect_embed.distillation.results.names import Pair, write_pair
from dissect_embed.distillation.results.published import published_accuracy
from dissect_embed.distillation.results.rows import TEACHER, Row
from dissect_embed.distillation.results.runs import Run, read_runs
from dissect_embed.errors import ArtefactError

# Those that a student's distance from is told, each by the name of the row that is trained at it.
TARGETS: Final = ("skd", *CONTROLS)
COLUMNS: Final = (
    "pair", "teacher", "student", "method", "control", "n", "mean", "sd", "seconds_a_step",
    "relative_step", "memory_bytes", "published", "source", "tested_on",
    *(f"kl_{name}" for name in TARGETS),
)  # fmt: skip


class Cell(NamedTuple):
    """The runs of one method on one pair, and what was published of it."""

    accuracies: tuple[float, ...]  # percent, a seed each
    seeds: tuple[int, ...]
    step: float | None  # seconds, the mean over seeds
    relative_step: float | None
    memory: int | None  # bytes, the largest of all seeds
    published: tuple[float, str] | None
    divergence: dict[str, dict[int, float]]  # KL in nats, by target and seed

    @property
    def mean(self) -> float | None:
        """Return the mean over seeds, or None if nothing was run."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def sd(self) -> float | None:
        """Return the sample standard deviation, or None for fewer than two seeds."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def mean_divergence(self, target: str) -> float | None:
        """Return KL(p || q) of a target in nats, the mean over seeds, or None if not measured."""
        values = self.divergence.get(target, {}).values()
        return statistics.fmean(values) if values else None


class Table(NamedTuple):
    """All cells, and what is true of all of them."""

    dataset: str
    counts: ClassCounts
    pairs: list[Pair]
    rows: list[Row]
    cells: dict[tuple[Row, Pair], Cell]
    schedule: str  # of the students
    settings: str  # of the trainings
    held_out: int  # training images that all was tested on in place of the test images

    @property
    def title(self) -> str:
        """Return what was measured on what, for the head of the table."""
        where = f" on {self.dataset}"
        if self.dataset == "shapes":
            where = ", a demonstration on rendered shapes"
        short = f" by a short schedule ({self.schedule})" if self.is_short else ""
        what = "test accuracy in percent"
        if self.held_out:
            what = f"accuracy in percent on {self.held_out:,} held-out training images"
        return f"Table 1{where}{short}: {what}"

    @property
    def is_short(self) -> bool:
        """Whether the students were trained for fewer epochs than is usual."""
        return "shortened" in self.schedule


def build_table(folder: Path, classes_path: Path, pairs: Sequence[Pair] = ()) -> Table:
    """Put the results of a folder together.

    Parameters
    ----------
    folder
        As ``runs`` describes it.
    classes_path
        The images that all was trained on, for their name and numbers.
    pairs
        The columns, in this order; by default the pairs of which there are results.

    Raises
    ------
    ArtefactError
        If there is no result, one is damaged, or they do not belong together.
    """
    runs = read_runs(folder)
    with open_artefact(classes_path, "classes") as file:
        dataset, counts = str(read_config(file)["dataset"]["name"]), count_classes(file)
        if file.attrs["fingerprint"] != runs[0].data:
            msg = (
                f"{runs[0].path}: trained on other images than {classes_path} has; name the file "
                "it was trained on"
            )
            raise ArtefactError(msg)
    found = list(dict.fromkeys(run.pair for run in runs if run.pair))
    pairs, held_out = list(pairs) or sorted(found), runs[0].held_out
    rows = {run.row for run in runs if run.pair in pairs or run.pair is None}
    # What is published is of the test images.
    has_published = dataset == "cifar100" and not held_out
    if has_published:
        known = [Row(method) for method in (TEACHER, *METHODS)]
        rows |= {r for r in known if any(published_accuracy(*pair, r.method) for pair in pairs)}
    ordered = sorted(rows, key=lambda row: row.place)
    cells = {
        (row, pair): _fill_cell(row, pair, runs, has_published=has_published)
        for row in ordered
        for pair in pairs
    }
    # Students have one schedule, see ``read_runs``.
    schedule = next((run for run in runs if run.pair), runs[0]).schedule
    settings = _describe_settings(runs, schedule)
    return Table(dataset, counts, pairs, ordered, cells, schedule, settings, held_out)


def write_csv(path: Path, table: Table) -> None:
    """Write ``table1.csv``: a row for each cell that was run or published."""
    write_table(path, COLUMNS, _csv_rows(table))


def _fill_cell(row: Row, pair: Pair, runs: Sequence[Run], *, has_published: bool) -> Cell:
    if row.method == TEACHER:
        chosen = [run for run in runs if run.pair is None and run.student == pair.teacher]
    else:
        chosen = [run for run in runs if run.pair == pair and run.row == row]
    steps = [run.step for run in chosen if run.step]
    plain = [run for run in runs if run.pair == pair and run.row == Row("plain")]
    ratios = []
    for run in chosen:
        same = [other.step for other in plain if other.machine == run.machine and other.step]
        if run.step and same and run.pair:
            ratios.append(run.step / statistics.fmean(same))
    published = None
    if has_published and not row.changes:
        published = published_accuracy(*pair, row.method)
    divergence: dict[str, dict[int, float]] = {}
    for run in chosen:
        for target, value in run.divergence.items():
            divergence.setdefault(target, {})[run.seed] = value
    return Cell(
        accuracies=tuple(run.accuracy for run in chosen),
        seeds=tuple(run.seed for run in chosen),
        step=statistics.fmean(steps) if steps else None,
        relative_step=statistics.fmean(ratios) if ratios else None,
        memory=max((run.memory for run in chosen), default=None),
        published=published,
        divergence=divergence,
    )


def _describe_settings(runs: Sequence[Run], schedule: str) -> str:
    seeds = sorted({run.seed for run in runs if run.pair})
    machines = sorted({run.machine for run in runs})
    teachers = next((run.schedule for run in runs if run.pair is None), schedule)
    parts = [f"schedule {schedule}"]
    parts += [f"teachers {teachers}"] if teachers != schedule else []
    parts += [f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"] if seeds else []
    return ", ".join([*parts, runs[0].precision]) + "; " + "; ".join(machines)


def _csv_rows(table: Table) -> Iterable[list[object]]:
    for (row, pair), cell in table.cells.items():
        if not cell.accuracies and not cell.published:
            continue
        numbers = [
            _number(cell.mean, ".4f"), _number(cell.sd, ".4f"), _number(cell.step, ".6f"),
            _number(cell.relative_step, ".4f"), _number(cell.memory, "d"),
        ]  # fmt: skip
        published = [_number(cell.published[0], ".2f"), cell.published[1]] if cell.published else []
        yield [
            write_pair(pair), *pair, row.method, " ".join(row.changes), len(cell.seeds), *numbers,
            *(published or ["", ""]), "held-out" if table.held_out else "test",
            *(_number(cell.mean_divergence(name), ".6f") for name in TARGETS),
        ]  # fmt: skip


def _number(value: float | int | None, form: str) -> str:
    return "" if value is None else format(value, form)
