"""``table1.md``: Table 1 for people, with what is true of all of it in words."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.distillation.methods.registry import CONTROLS
from dissect_embed.distillation.results.rows import TEACHER, Row
from dissect_embed.distillation.results.table import TARGETS, Cell, Table

PLAIN: Final = Row("plain")
TARGET_TITLES: Final = {"skd": "S", **CONTROLS, "similarity": "P"}


def write_markdown(path: Path, table: Table) -> None:
    """Write ``table1.md``."""
    lines = [f"# {table.title}", "", f"{table.counts}; {table.settings}.", ""]
    if table.held_out:
        lines += [
            f"**To choose settings by, not to report.** {table.held_out:,} of the training images "
            "were not trained on, as many of each class, and all was tested on them; nothing here "
            "looked at the test images. Report what was chosen from a run with "
            "`distillation.held_out: 0`, which trains on all.",
            "",
        ]
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
            " S: the units' vectors; d(S, S): their cosines; P: the similarities that they were "
            "learned from; β: the weight of the loss. What is marked as ours is in no paper."
        )
    if any(cell.published for cell in table.cells.values()):
        lines[-1] += (
            " Published: teacher, plain student and SKD of Han et al., arXiv 2211.07647, Table 1; "
            "the others of Tian et al., ICLR 2020, by way of the README of "
            "github.com/HobbitLong/RepDistiller."
        )
        if table.is_short:
            lines[-1] += " They are of whole trainings, so they do not compare with these."
    lines += _divergence_lines(table)
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


def _divergence_lines(table: Table) -> list[str]:
    """Return the section on how far students ended from each target; nothing if none was measured.

    A table a pair.
    """
    lines = []
    for pair in table.pairs:
        cells = {row: table.cells[row, pair] for row in table.rows}
        targets = [name for name in TARGETS if any(c.divergence.get(name) for c in cells.values())]
        if not targets:
            continue
        bodies = [
            [row.title, *(_divergence(cell, name, row.target) for name in targets)]
            for row, cell in cells.items()
            if cell.divergence
        ]
        head = [f"{pair.teacher} → {pair.student}", *(TARGET_TITLES[name] for name in targets)]
        lines += [*_lay_out(head, bodies), "", *_compare_with_plain(cells)]
    if not lines:
        return []
    return [
        "",
        "## The loss itself",
        "",
        "KL(p || q) in thousandths of a nat at the end of training: how far the student's units "
        "(q) are from each target (p), whether they were trained at it (bold) or not; the mean "
        "over seeds, layers and 1,000 training images (all, if there are fewer), at temperature 1. "
        "Numbers compare down a column. If SKD's is no lower than the plain student's, its "
        "accuracy cannot depend on p.",
        "",
        *lines[:-1],
    ]


def _divergence(cell: Cell, name: str, own: str | None) -> str:
    value = cell.mean_divergence(name)
    if value is None:
        return ""
    return f"**{1e3 * value:.3f}**" if name == own else f"{1e3 * value:.3f}"


def _compare_with_plain(cells: Mapping[Row, Cell]) -> list[str]:
    """Return in words whether SKD ends nearer to its target than the plain student of a seed."""
    ours, plain = (
        cells[row].divergence.get("skd", {}) if row in cells else {} for row in (Row("skd"), PLAIN)
    )
    seeds = sorted(ours.keys() & plain.keys())
    if not seeds:
        return []
    less = [plain[seed] - ours[seed] for seed in seeds]
    mean = 1e3 * statistics.fmean(less)
    return [
        f"SKD's from S is {abs(mean):.3f} {'lower' if mean > 0 else 'higher'} than the plain "
        f"student's of the same seed, and lower in {sum(x > 0 for x in less)} of {len(seeds)}.",
        "",
    ]


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
