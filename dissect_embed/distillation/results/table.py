"""Table 1 of [HAN22]: what each method makes of a student, from the results of all trainings.

``table1.csv`` has a row for each pair and method: ``n`` seeds, ``mean`` and sample standard
deviation ``sd`` of the accuracy in percent, ``seconds_a_step``, ``relative_step`` (to the plain
student's on the same machine), ``memory_bytes``, and what was ``published`` where, for CIFAR-100
alone. A cell of what was not run is empty. ``table1.md`` is the same for people.
"""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from dissect_embed.artefacts.files import atomic_path, open_artefact, read_config
from dissect_embed.artefacts.tables import write_table
from dissect_embed.datasets.classes import ClassCounts, count_classes
from dissect_embed.distillation.methods.registry import METHODS
from dissect_embed.distillation.results.names import Pair, write_pair
from dissect_embed.distillation.results.published import published_accuracy
from dissect_embed.distillation.results.rows import TEACHER, Row
from dissect_embed.distillation.results.runs import Run, read_runs
from dissect_embed.errors import ArtefactError

COLUMNS: Final = (
    "pair", "teacher", "student", "method", "control", "n", "mean", "sd", "seconds_a_step",
    "relative_step", "memory_bytes", "published", "source",
)  # fmt: skip


class Cell(NamedTuple):
    """The runs of one method on one pair, and what was published of it."""

    accuracies: tuple[float, ...]  # percent, a seed each
    seeds: tuple[int, ...]
    step: float | None  # seconds, the mean over seeds
    relative_step: float | None
    memory: int | None  # bytes, the largest of all seeds
    published: tuple[float, str] | None

    @property
    def mean(self) -> float | None:
        """Return the mean over seeds, or None if nothing was run."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def sd(self) -> float | None:
        """Return the sample standard deviation, or None for fewer than two seeds."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


class Table(NamedTuple):
    """All cells, and what is true of all of them."""

    dataset: str
    counts: ClassCounts
    pairs: list[Pair]
    rows: list[Row]
    cells: dict[tuple[Row, Pair], Cell]
    schedule: str  # of the students
    settings: str  # of the trainings

    @property
    def title(self) -> str:
        """Return what was measured on what, for the head of the table."""
        where = f" on {self.dataset}"
        if self.dataset == "shapes":
            where = ", a demonstration on rendered shapes"
        short = f" by a short schedule ({self.schedule})" if self.is_short else ""
        return f"Table 1{where}{short}: test accuracy in percent"

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
    pairs = list(pairs) or sorted(found)
    rows = {run.row for run in runs if run.pair in pairs or run.pair is None}
    if dataset == "cifar100":
        known = [Row(method) for method in (TEACHER, *METHODS)]
        rows |= {r for r in known if any(published_accuracy(*pair, r.method) for pair in pairs)}
    ordered = sorted(rows, key=lambda row: row.place)
    cells = {(row, pair): _fill_cell(row, pair, runs, dataset) for row in ordered for pair in pairs}
    # Students have one schedule, see ``read_runs``.
    schedule = next((run for run in runs if run.pair), runs[0]).schedule
    settings = _describe_settings(runs, schedule)
    return Table(dataset, counts, pairs, ordered, cells, schedule, settings)


def write_csv(path: Path, table: Table) -> None:
    """Write ``table1.csv``: a row for each cell that was run or published."""
    write_table(path, COLUMNS, _csv_rows(table))


def write_markdown(path: Path, table: Table) -> None:
    """Write ``table1.md``."""
    lines = [f"# {table.title}", "", f"{table.counts}; {table.settings}.", ""]
    lines += _accuracy_lines(table)
    note = "Accuracy in the last epoch, of one seed each."
    if any(cell.sd is not None for cell in table.cells.values()):
        note = "Mean ± standard deviation over seeds of the accuracy in the last epoch."
    lines += ["", note]
    most = max(len(cell.seeds) for cell in table.cells.values())
    if any(0 < len(cell.seeds) < most for cell in table.cells.values()):
        lines[-1] += f" Where fewer than {most} seeds were run, their number stands in brackets."
    if any(row.changes for row in table.rows):
        lines[-1] += (
            " S: the units' vectors; P: the similarities that they were learned from; β: the "
            "weight of the loss. What is marked as ours is in no paper."
        )
    if any(cell.published for cell in table.cells.values()):
        lines[-1] += (
            " Published: teacher, plain student and SKD of Han et al., arXiv 2211.07647, Table 1; "
            "the others of Tian et al., ICLR 2020, by way of the README of "
            "github.com/HobbitLong/RepDistiller."
        )
        if table.is_short:
            lines[-1] += " They are of whole trainings, so they do not compare with these."
    lines += ["", "## Cost", "", *_cost_lines(table)]
    lines += [
        "",
        "Seconds a step relative to the plain student's on the same machine, and the most memory "
        "in use: on a CUDA device that of tensors, else that of the process, data included. "
        "Trainings that ran side by side slow each other. A teacher that looks on costs its "
        "forward pass in every step; its outputs could be stored instead, for an image has only "
        "162 crops and flips, which would make those methods cheap as well.",
    ]
    with atomic_path(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _fill_cell(row: Row, pair: Pair, runs: Sequence[Run], dataset: str) -> Cell:
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
    if dataset == "cifar100" and not row.changes:
        published = published_accuracy(*pair, row.method)
    return Cell(
        accuracies=tuple(run.accuracy for run in chosen),
        seeds=tuple(run.seed for run in chosen),
        step=statistics.fmean(steps) if steps else None,
        relative_step=statistics.fmean(ratios) if ratios else None,
        memory=max((run.memory for run in chosen), default=None),
        published=published,
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
            *(published or ["", ""]),
        ]  # fmt: skip


def _accuracy_lines(table: Table) -> list[str]:
    head, bodies = ["method"], [[row.title] for row in table.rows]
    most = max(len(cell.seeds) for cell in table.cells.values())
    for pair in table.pairs:
        column = [table.cells[row, pair] for row in table.rows]
        with_published = any(cell.published for cell in column)
        head += [f"{pair.teacher} → {pair.student}", *(["published"] if with_published else [])]
        for body, row, cell in zip(bodies, table.rows, column, strict=True):
            few = 0 < len(cell.seeds) < most and row.method != TEACHER
            count = f" ({len(cell.seeds)})" if few else ""
            spread = "" if cell.sd is None else f" ± {cell.sd:.2f}"
            body.append("" if cell.mean is None else f"{cell.mean:.2f}{spread}{count}")
            if with_published:
                body.append(f"{cell.published[0]:.2f}" if cell.published else "")
    return _lay_out(head, bodies)


def _cost_lines(table: Table) -> list[str]:
    head = ["method", *(f"{pair.teacher} → {pair.student}" for pair in table.pairs)]
    bodies = []
    for row in table.rows:
        cells = [table.cells[row, pair] for pair in table.pairs]
        if row.method == TEACHER or not any(cell.seeds for cell in cells):
            continue
        bodies.append([row.title, *map(_cost, cells)])
    return _lay_out(head, bodies)


def _cost(cell: Cell) -> str:
    parts = [f"{cell.relative_step:.2f}×"] if cell.relative_step else []
    parts += [f"{cell.memory / 1e6:,.0f} MB"] if cell.memory else []
    return ", ".join(parts)


def _lay_out(head: list[str], bodies: list[list[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *bodies)]


def _number(value: float | int | None, form: str) -> str:
    return "" if value is None else format(value, form)
