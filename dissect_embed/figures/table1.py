"""Table 1 as a picture: the accuracy of every run, a panel a pair and a line a method."""

from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissect_embed.distillation.results.names import Pair
from dissect_embed.distillation.results.rows import Row
from dissect_embed.distillation.results.table import Cell, Table
from dissect_embed.figures.pages import reproducible_style, save_figure

LINE_INCHES, PANEL_INCHES, MAX_PANELS = 0.24, 2.7, 3
OURS, GREY = "#0b5394", "#999999"


def draw_table1(table: Table, stem: Path) -> None:
    """Draw ``stem.svg`` and ``stem.png``; the same table gives the same bytes.

    Numbers published of whole trainings are left out beside a short schedule: all that was measured
    would shrink to a point.
    """
    rows = [
        row
        for row in table.rows
        if any(cell.accuracies or _published(table, cell) for cell in _cells_of(table, row))
    ]
    n_columns = min(MAX_PANELS, len(table.pairs))
    n_rows = -(-len(table.pairs) // n_columns)
    # Names of methods stand at the left, and a long line above needs some width.
    width = max(6.4, 1.9 + PANEL_INCHES * n_columns)
    height = 1.5 + n_rows * (0.75 + LINE_INCHES * len(rows))
    with reproducible_style():
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
        for ax, pair in zip(axes.flat, table.pairs, strict=False):
            _draw_panel(ax, table, rows, pair)
        for ax in axes.flat[len(table.pairs) :]:
            ax.set_axis_off()
        axes[0, 0].set_yticks(range(len(rows)), [row.title for row in rows])
        axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
        head = "\n".join(_wrap(text, int(width * 13)) for text in (table.title, table.settings))
        figure.suptitle(head, fontsize=9)
        entries: dict[str, Artist] = {}
        for ax in axes.flat:
            entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=4,
            frameon=False,
        )
        save_figure(figure, stem)


def _cells_of(table: Table, row: Row) -> list[Cell]:
    return [table.cells[row, pair] for pair in table.pairs]


def _published(table: Table, cell: Cell) -> float | None:
    return cell.published[0] if cell.published and not table.is_short else None


def _draw_panel(ax: Axes, table: Table, rows: list[Row], pair: Pair) -> None:
    cells = [table.cells[row, pair] for row in rows]
    plain = table.cells.get((Row("plain"), pair))
    if plain is not None and plain.mean is not None:
        ax.axvline(plain.mean, color="black", linewidth=0.9, dashes=(5, 3), label="plain's mean")
    seeds = [(x, y) for y, cell in enumerate(cells) for x in cell.accuracies]
    means = [(cell.mean, y) for y, cell in enumerate(cells) if cell.mean is not None]
    told = [_published(table, cell) for cell in cells]
    published = [(value, y) for y, value in enumerate(told) if value is not None]
    if published:
        x, y = np.array(published).T
        ax.plot(x, y, "D", color=GREY, fillstyle="none", markersize=4, label="published")
    if means:
        x, y = np.array(means).T
        ax.plot(x, y, "|", color=OURS, markersize=11, markeredgewidth=1.8, label="mean")
        x, y = np.array(seeds).T
        ax.plot(x, y, "o", color=OURS, alpha=0.55, markersize=4, markeredgewidth=0, label="a seed")
    if not published and not means:
        ax.text(0.5, 0.5, "not run", transform=ax.transAxes, ha="center", color=GREY)
        ax.set_xticks([])
    elif len({x for x, _ in (*seeds, *published)}) == 1:
        ax.set_xlim(ax.dataLim.x0 - 1, ax.dataLim.x1 + 1)
    ax.set_title(f"{pair.teacher} → {pair.student}", fontsize=9)
    ax.set_xlabel("accuracy (%)")
    ax.margins(x=0.08)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _wrap(text: str, width: int) -> str:
    """Break a long line at spaces."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)
