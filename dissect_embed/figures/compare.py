"""Runs side by side: their detectors and gains, and how alike their layers and units are.

Every number is a mark, and what its control gives a bar: two standard deviations about the mean.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dissect_embed.artefacts.tables import Table
from dissect_embed.figures.detectors import COLOURS
from dissect_embed.figures.figure4 import COLOUR
from dissect_embed.figures.pages import reproducible_style, save_figure

# What each control is drawn in.
CONTROL = {"wrong_labels": "#222222", "images_shuffled": "#777777", "units_shuffled": "#d07c00"}
VALUE = "#0b5394"
# Inches: of a line of marks, and what stands above and below them.
LINE, MARGIN = 0.2, 1.0
# Characters of a run's name, which may be a path.
MAX_NAME = 26

# What is drawn of each run.
RUN = ("detectors", "concepts", "gain")

Rows = Sequence[dict[str, str]]


def draw_comparison(table: Table, stem: Path) -> None:
    """Draw ``stem.svg`` and ``stem.png`` of a ``compare.csv``, which give the same bytes again."""
    # The order is that of the rows; the JSON beside them has keys by name.
    runs = list(dict.fromkeys(row["run"] for row in table.rows))
    of_runs = [row for row in table.rows if row["statistic"] in RUN]
    of_pairs = [
        [row for row in table.rows if (row["run"], row["other"]) == pair]
        for pair in combinations(runs, 2)
    ]
    heights = [LINE * len(_places(of_runs)) + MARGIN] if of_runs else []
    heights += [LINE * max(9, len(_lines(of_pair))) + MARGIN for of_pair in of_pairs]
    title = [f"{_shorten(name)}: {describe_run(table.config['runs'][name])}" for name in runs]
    if table.config["left_out"]:
        title.append(f"no detectors, gains and concepts: {table.config['left_out']}")
    with reproducible_style():
        size = (11, sum(heights) + 0.2 * len(title) + 0.3)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(_text("\n".join(title)), fontsize=9)
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        if of_runs:
            _draw_runs(parts[0], of_runs, table.config["dissection"]["detector_iou"])
        for part, of_pair in zip(parts[len(parts) - len(of_pairs) :], of_pairs, strict=True):
            _draw_pair(part, of_pair)
        save_figure(figure, stem)


def describe_run(config: dict[str, Any]) -> str:
    """Return the network and the data of a run in words."""
    model, data = config["model"], config["dataset"]
    return (
        f"{model['name']} ({model['weights']}) on {data['name']}, split {data['split']}: "
        f"{data['images']:,} images"
    )


def _places(rows: Rows) -> dict[tuple[str, str], float]:
    """Return the line of each layer and run: layers in order, and room between them."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    found = dict.fromkeys((row["layer"], row["run"]) for row in rows)
    keys = sorted(found, key=lambda key: layers.index(key[0]))
    return {key: float(n + layers.index(key[0])) for n, key in enumerate(keys)}


def _draw_runs(part: SubFigure, rows: Rows, bound: float) -> None:
    """Draw what runs say of themselves: a line a layer and run."""
    left, right = part.subplots(1, 2, sharey=True, width_ratios=[1.7, 1])
    places = _places(rows)
    detectors = [row for row in rows if row["statistic"] == "detectors"]
    categories = list(dict.fromkeys(row["category"] for row in detectors if row["category"]))
    colour = {c: COLOURS[n % len(COLOURS)] for n, c in enumerate(categories)}
    concepts = {
        (row["layer"], row["run"]): float(row["value"])
        for row in rows
        if row["statistic"] == "concepts" and not row["category"]
    }
    start = dict.fromkeys(places, 0.0)
    for row in detectors:
        key = row["layer"], row["run"]
        if row["category"]:
            n = float(row["value"])
            left.barh(places[key], n, left=start[key], color=colour[row["category"]], height=0.75)
            start[key] += n
    for row in detectors:
        if not row["category"]:
            key = row["layer"], row["run"]
            _draw_control(left, row, places[key])
            ends = [float(row[name] or 0) for name in ("null_mean", "null_sd")]
            end = max(start[key], ends[0] + 2 * ends[1])
            text = f" {start[key]:,.0f} of {concepts[key]:,.0f} concepts"
            left.text(end, places[key], text, va="center", fontsize=7)
    gains = [row for row in rows if row["statistic"] == "gain"]
    for row in gains:
        shift = 0.17 * (1 if row["similarity"] == "dataset" else -1)
        y = places[row["layer"], row["run"]] + shift
        _draw_control(right, row, y)
        right.plot(float(row["value"]), y, "o", color=COLOUR[row["similarity"]], markersize=4.5)
    names = [f"{layer}  {_shorten(run)}" for layer, run in places]
    left.set_yticks(list(places.values()), [_text(name) for name in names])
    left.set_ylim(max(places.values()) + 0.7, -0.7)
    left.set_title(f"detectors: units with IoU ≥ {bound:g}", fontsize=9, loc="left")
    left.set_xlim(left=0)
    left.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    right.set_title("gain over uniform, nats", fontsize=9, loc="left")
    right.axvline(0, color="black", linewidth=0.7)
    right.xaxis.set_major_locator(MaxNLocator(4))
    for ax in (left, right):
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    marks = dict.fromkeys(row["similarity"] for row in gains)
    part.legend(
        handles=[
            *(Patch(color=colour[c], label=_text(c)) for c in categories),
            *(_mark(COLOUR[name], f"gain, {name}") for name in marks),
            _bar("wrong_labels", "wrong labels, mean ± 2 sd"),
        ],
        loc="outside lower center", ncols=min(6, len(categories) + 3), frameon=False, fontsize=8,
    )  # fmt: skip


def _lines(rows: Rows) -> dict[tuple[str, str, str], list[dict[str, str]]]:
    """Return by layers and what is told the rows of a line: one a control."""
    told = {
        "matched_correlation": "matched units, correlation",
        "matched_concept": "matched units, of one concept",
    }
    lines: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in rows:
        name = told.get(row["statistic"])
        if row["statistic"] == "similarity_cka":
            name = f"CKA of P, {row['similarity']}"
        if name and row["value"]:
            lines.setdefault((row["layer"], row["other_layer"], name), []).append(row)
    return lines


def _draw_pair(part: SubFigure, rows: Rows) -> None:
    """Draw what two runs say of each other: all layers as wholes, units one to one."""
    left, right = part.subplots(1, 2, width_ratios=[1, 1.25])
    run, other = rows[0]["run"], rows[0]["other"]
    n_images = float(next(row["value"] for row in rows if row["statistic"] == "images"))
    _draw_map(left, [row for row in rows if row["statistic"] == "cka"])
    left.set(ylabel=_text(_shorten(run)), xlabel=_text(_shorten(other)))
    most = max(
        (
            float(r["null_mean"]) + 2 * float(r["null_sd"])
            for r in rows
            if r["statistic"] == "cka" and r["null_mean"]
        ),
        default=0,
    )
    title = f"CKA of peaks on {n_images:,.0f} images; shuffled at most {most:.2f}"
    left.set_title(title, fontsize=9, loc="left")
    lines = _lines(rows)
    for y, of_line in enumerate(lines.values()):
        for n, row in enumerate(of_line):
            _draw_control(right, row, y + 0.2 * (2 * n + 1 - len(of_line)))
        right.plot(float(of_line[0]["value"]), y, "o", color=VALUE, markersize=5)
    names = [
        f"{layer if layer == partner else f'{layer} | {partner}'}  {what}"
        for layer, partner, what in lines
    ]
    right.set_yticks(range(len(lines)), [_text(name) for name in names])
    right.set_ylim(len(lines) - 0.4, -0.6)
    right.axvline(0, color="black", linewidth=0.7)
    right.set_xlim(right=1.03)
    right.set_title(_text(f"{_shorten(run)} and {_shorten(other)}"), fontsize=9, loc="left")
    right.spines[["top", "right"]].set_visible(False)
    right.tick_params(axis="y", length=0)
    part.legend(
        handles=[
            _mark(VALUE, "value"),
            _bar("images_shuffled", "images shuffled, mean ± 2 sd"),
            _bar("units_shuffled", "units shuffled"),
        ],
        loc="outside lower right", ncols=3, frameon=False, fontsize=8,
    )  # fmt: skip


def _draw_map(ax: Axes, rows: Rows) -> None:
    """Draw the alignment of all layers with all; what does not exceed shuffled images in grey."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    others = list(dict.fromkeys(row["other_layer"] for row in rows))
    values = np.full((len(layers), len(others)), np.nan)
    for row in rows:
        y, x = layers.index(row["layer"]), others.index(row["other_layer"])
        values[y, x] = float(row["value"] or "nan")
        beyond = bool(row["p"]) and float(row["p"]) <= 0.05
        colour = "#999999" if not beyond else "white" if values[y, x] > 0.6 else "black"
        text = f"{values[y, x]:.2f}" if row["value"] else "–"
        ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=8)
    ax.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    ax.set_xticks(range(len(others)), [_text(name) for name in others])
    ax.set_yticks(range(len(layers)), [_text(name) for name in layers])
    ax.tick_params(length=0)


def _draw_control(ax: Axes, row: dict[str, str], y: float) -> None:
    if row["null_mean"]:
        mean, reach = float(row["null_mean"]), 2 * float(row["null_sd"])
        ax.errorbar(
            mean, y, xerr=reach, color=CONTROL[row["null"]], marker="|", markersize=7,
            linewidth=1.2, capsize=2, zorder=3,
        )  # fmt: skip


def _mark(colour: str, label: str) -> Line2D:
    return Line2D([], [], color=colour, marker="o", linestyle="", markersize=5, label=label)


def _bar(null: str, label: str) -> Line2D:
    return Line2D([], [], color=CONTROL[null], marker="|", markersize=7, linewidth=1.2, label=label)


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}"


def _text(name: str) -> str:
    # Names are text, not mathematics: a dollar sign is a dollar sign.
    return name.replace("$", r"\$")
