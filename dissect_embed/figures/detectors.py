"""Which concepts the units of each layer detect, and how many units each: a bar a concept.

As Network Dissection draws it ([BAU17], Bau et al., CVPR 2017, figure 5): a *detector* is a unit
whose best IoU reaches a bound, a *unique detector* a concept that has one.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dissect_embed.cache import layer_names, open_artefact, read_config, read_strings
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure
from dissect_embed.tables import write_table

# Lightness falls from one to the next, so that they can be told apart in grey too.
COLOURS = ("#f1c232", "#8fce00", "#6fa8dc", "#e06666", "#8e5ea2", "#38761d", "#0b5394", "#444444")
BAR_INCHES = 0.16


class Bar(NamedTuple):
    """A concept and how many units of a layer detect it."""

    concept: str
    category: str
    units: int


def count_detectors(profiles: h5py.File, layer: str) -> list[Bar]:
    """Return the detected concepts of a layer, by category and then by their number of units.

    A unit counts for its best concept, if that IoU is at least the file's ``detector_iou``; of
    equals the first in ``label.csv`` counts.
    """
    iou = profiles[f"layers/{layer}/iou"][:]
    names = read_strings(profiles["labels/name"])
    concept_category = read_strings(profiles["labels/category"])
    categories = read_strings(profiles["categories"])
    bound = read_config(profiles)["dissection"]["detector_iou"]
    best = iou.argmax(axis=1)
    score = iou[np.arange(len(iou)), best]
    # A unit without any overlap detects nothing, also where the bound is 0.
    found = Counter(best[(score >= bound) & (score > 0)].tolist())
    bars = [Bar(names[d], concept_category[d], n) for d, n in found.items()]
    return sorted(bars, key=lambda b: (categories.index(b.category), -b.units, b.concept))


def draw_detectors(profiles_path: Path, stem: Path) -> None:
    """Draw ``stem.svg`` and ``stem.png``, and write ``stem.csv``.

    Columns of the table: ``layer, category, detectors`` (units) and ``unique`` (concepts).
    """
    with open_artefact(profiles_path, "profiles") as profiles:
        layers = {layer: count_detectors(profiles, layer) for layer in layer_names(profiles)}
        units = {layer: len(profiles[f"layers/{layer}/threshold"]) for layer in layers}
        categories = read_strings(profiles["categories"])
        bound = read_config(profiles)["dissection"]["detector_iou"]
        title = run_title(profiles)
    rows = []
    for layer, bars in layers.items():
        for category in categories:
            counts = [b.units for b in bars if b.category == category]
            rows.append([layer, category, sum(counts), len(counts)])
    widest = max(len(bars) for bars in layers.values())
    colour = {c: COLOURS[n % len(COLOURS)] for n, c in enumerate(categories)}
    with reproducible_style():
        size = (max(7.5, BAR_INCHES * widest + 1.2), 2.4 * len(layers) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        axes = np.atleast_1d(figure.subplots(len(layers), 1))
        for ax, (layer, bars) in zip(axes, layers.items(), strict=True):
            n_detectors = sum(b.units for b in bars)
            ax.set_title(
                f"{layer}: {n_detectors:,} of {units[layer]:,} units are detectors, "
                f"of {len(bars):,} concepts",
                loc="left",
                fontsize=9,
            )
            _draw_bars(ax, bars, colour, max(widest, 24))
        figure.suptitle(f"{title}; IoU ≥ {bound:g}", fontsize=9)
        figure.legend(
            handles=[Patch(color=colour[c], label=c) for c in categories],
            loc="outside lower center",
            ncols=min(6, len(categories)),
            frameon=False,
        )
        save_figure(figure, stem)
    write_table(stem.with_suffix(".csv"), ["layer", "category", "detectors", "unique"], rows)


def _draw_bars(ax: Axes, bars: list[Bar], colour: dict[str, str], places: int) -> None:
    """Draw the bars of a layer; all layers have equally many places, so bars are equally wide."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlim(-0.7, places - 0.3)
    ax.set_ylabel("units")
    if not bars:
        ax.set(xticks=[], yticks=[])
        ax.text(0.01, 0.5, "no unit reaches the bound", transform=ax.transAxes, color="#666666")
        return
    ax.bar(range(len(bars)), [b.units for b in bars], color=[colour[b.category] for b in bars])
    # Names are text, not mathematics: a dollar sign is a dollar sign.
    names = [b.concept.replace("$", r"\$") for b in bars]
    ax.set_xticks(range(len(bars)), names, rotation=90, fontsize=6.5)
    ax.tick_params(axis="x", length=0, pad=1)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
