"""Which concepts the units of each layer detect, and how many units each: a bar a concept.

As Network Dissection draws it ([BAU17], Bau et al., CVPR 2017, figure 5): a *detector* is a unit
whose best IoU reaches a bound, a *unique detector* a concept that has one.
"""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_table
from dissect_embed.config import Dissection
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure
from dissect_embed.mathematics.null import null_bound

# Lightness falls from one to the next, so that they can be told apart in grey too.
COLOURS = ("#f1c232", "#8fce00", "#6fa8dc", "#e06666", "#8e5ea2", "#38761d", "#0b5394", "#444444")
BAR_INCHES, CHANCE_INCHES = 0.16, 2.4


class Bar(NamedTuple):
    """A concept and how many units of a layer detect it."""

    concept: str
    category: str
    units: int


def count_detectors(profiles: Profiles, layer: str, least_iou: float) -> list[Bar]:
    """Return the detected concepts of a layer, by category and then by their number of units."""
    categories, best = profiles.categories, profiles[layer].best
    found = Counter(best.concept[best.detectors(least_iou)].tolist())
    bars = [Bar(profiles.concepts[d], profiles.concept_categories[d], n) for d, n in found.items()]
    return sorted(bars, key=lambda b: (categories.index(b.category), -b.units, b.concept))


def draw_detectors(
    run: RunFolder,
    stem: Path,
    settings: Dissection = Dissection(),
) -> None:
    """Draw ``stem.svg`` and ``stem.png``, and write ``stem.csv``.

    Beside the bars: how many units reach which IoU, and how many by chance (``chance.h5``).

    Columns of the table: ``layer, category, detectors`` (units), ``unique`` (concepts),
    ``above_chance`` (units whose best concept is of this category and whose best IoU exceeds
    ``chance``, the IoU that one in a hundred units reaches by chance).
    """
    bound = settings.detector_iou
    with run.open_profiles() as profiles, run.open_chance() as chance:
        layers = {
            layer: _read_layer(profiles, layer, chance.best(layer), bound)
            for layer in profiles.layers
        }
        categories = profiles.categories
        title = run_title(profiles)
    rows = []
    for name, layer in layers.items():
        for category in categories:
            counts = [b.units for b in layer.bars if b.category == category]
            above = int((layer.score[layer.category == category] > layer.chance).sum())
            rows.append([name, category, sum(counts), len(counts), above, f"{layer.chance:.4f}"])
    widest = max(len(layer.bars) for layer in layers.values())
    colour = {c: COLOURS[n % len(COLOURS)] for n, c in enumerate(categories)}
    with reproducible_style():
        bars_inches = max(6, BAR_INCHES * widest)
        size = (bars_inches + CHANCE_INCHES + 1.6, 2.4 * len(layers) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        ratios = {"width_ratios": [bars_inches, CHANCE_INCHES]}
        axes = figure.subplots(len(layers), 2, squeeze=False, gridspec_kw=ratios)
        for (left, right), (name, layer) in zip(axes, layers.items(), strict=True):
            n_detectors = sum(b.units for b in layer.bars)
            left.set_title(
                f"{name}: {n_detectors:,} of {len(layer.score):,} units are detectors, "
                f"of {len(layer.bars):,} concepts",
                loc="left",
                fontsize=9,
            )
            _draw_bars(left, layer.bars, colour, max(widest, 24))
            _draw_chance(right, layer, bound)
        axes[-1, 1].set_xlabel("best IoU of a unit")
        figure.suptitle(f"{title}; IoU ≥ {bound:g}", fontsize=9)
        figure.legend(
            handles=[Patch(color=colour[c], label=c) for c in categories],
            loc="outside lower center",
            ncols=min(6, len(categories)),
            frameon=False,
        )
        save_figure(figure, stem)
    header = ["layer", "category", "detectors", "unique", "above_chance", "chance"]
    write_table(stem.with_suffix(".csv"), header, rows)


class _Layer(NamedTuple):
    bars: list[Bar]
    score: np.ndarray  # each unit's best IoU
    category: np.ndarray  # of its best concept, empty where it has none
    null: np.ndarray  # best IoU by chance, of all units and draws
    chance: float  # which one in a hundred of those exceeds


def _read_layer(
    profiles: Profiles, layer: str, null: Float[np.ndarray, " pool"], bound: float
) -> _Layer:
    best = profiles[layer].best
    category = np.array(profiles.concept_categories)[best.concept]
    category = np.where(best.concept >= 0, category, "")
    chance = float(null_bound(null[:, None])[0])
    return _Layer(count_detectors(profiles, layer, bound), best.iou, category, null, chance)


def _draw_chance(ax: Axes, layer: _Layer, bound: float) -> None:
    """Draw the share of units whose best IoU exceeds each value, and that by chance."""
    ax.ecdf(layer.score, complementary=True, color="#0b5394", label="units")
    ax.ecdf(layer.null, complementary=True, color="#999999", linestyle="--", label="by chance")
    ax.axvline(bound, color="black", linewidth=0.8)
    ax.axvline(layer.chance, color="#999999", linewidth=0.8, linestyle=":")
    n_above = int((layer.score > layer.chance).sum())
    ax.set_title(f"{n_above:,} above chance ({layer.chance:.3f})", loc="left", fontsize=9)
    right = max(float(layer.score.max()), float(layer.null.max()), bound) * 1.05
    ax.set(xlim=(0, right), ylim=(0, 1.02), ylabel="share above")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=7, loc="upper right")


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
