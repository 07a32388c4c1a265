"""Which concepts the units of each layer detect, and how many units each: a bar a concept.

As Network Dissection draws it ([BAU17], Bau et al., CVPR 2017, figure 5): a *detector* is a unit
whose best IoU reaches a bound, a *unique detector* a concept that has one. Beside it what chance
says: a *detector above chance* is a unit whose best IoU exceeds its own null (q at most 0.05). The
one is no share of the other: a unit of high IoU may owe it to chance, one above chance be faint.
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

from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import write_table
from dissect_embed.config import Dissection
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure
from dissect_embed.mathematics.null import LEVEL

# Lightness falls from one to the next, so that they can be told apart in grey too.
COLOURS = ("#f1c232", "#8fce00", "#6fa8dc", "#e06666", "#8e5ea2", "#38761d", "#0b5394", "#444444")
BAR_INCHES, CHANCE_INCHES = 0.16, 2.4
# A layer's concepts of most units; a page is not wider than these.
MAX_BARS = 100
COLUMNS = (
    "layer", "category", "detectors", "unique", "above_chance", "unique_above_chance", "both"
)  # fmt: skip


class Bar(NamedTuple):
    """A concept and how many units of a layer detect it: by their IoU, beyond chance, by both."""

    concept: str
    category: str
    iou_alone: int
    chance_alone: int
    both: int

    @property
    def units(self) -> int:
        """All of them."""
        return self.iou_alone + self.chance_alone + self.both


class Layer(NamedTuple):
    """The detectors of a layer by either rule."""

    bars: list[Bar]
    score: Float[np.ndarray, " unit"]  # each unit's best IoU
    null: Float[np.ndarray, "draw unit"] | None  # None where there is no test against chance

    def counts(self, category: str | None = None) -> list[int]:
        """Return units and concepts by IoU; where tested, the same beyond chance, units by both."""
        bars = [b for b in self.bars if category in (None, b.category)]
        by_iou = [
            sum(b.iou_alone + b.both for b in bars),
            sum(b.iou_alone + b.both > 0 for b in bars),
        ]
        if self.null is None:
            return by_iou
        return [
            *by_iou,
            sum(b.chance_alone + b.both for b in bars),
            sum(b.chance_alone + b.both > 0 for b in bars),
            sum(b.both for b in bars),
        ]


def find_detectors(profiles: Profiles, chance: Chance, layer: str, least_iou: float) -> Layer:
    """Return the detectors of a layer; concepts by category and then by their number of units."""
    best, categories = profiles[layer].best, profiles.categories
    reaches = best.detectors(least_iou)
    above = chance.compare(layer, profiles[layer].iou).detectors() & (best.concept >= 0)
    rules = (reaches & ~above, above & ~reaches, reaches & above)
    found = [Counter(best.concept[rule].tolist()) for rule in rules]
    bars = [
        Bar(profiles.concepts[c], profiles.concept_categories[c], *(rule[c] for rule in found))
        for c in set().union(*found)
    ]
    bars.sort(key=lambda b: (categories.index(b.category), -b.units, b.concept))
    null = None if chance.no_p else chance.best(layer)
    return Layer(bars, best.iou, null)


def draw_detectors(run: RunFolder, stem: Path, settings: Dissection = Dissection()) -> None:
    """Draw ``stem.svg`` and ``stem.png``, and write ``stem.csv``.

    Beside the bars: how many units reach which IoU, and how many by chance (``chance.h5``).

    Columns of the table: ``layer, category`` (of a unit's best concept), ``detectors`` (units whose
    best IoU reaches the bound), ``unique`` (concepts), the same with q at most 0.05,
    ``above_chance`` and ``unique_above_chance``, and the units that are ``both``; these three are
    empty where there is no test against chance (``Chance.no_p``).
    """
    bound = settings.detector_iou
    with run.open_profiles() as profiles, run.open_chance() as chance:
        layers = {
            layer: find_detectors(profiles, chance, layer, bound) for layer in profiles.layers
        }
        categories, no_p = profiles.categories, chance.no_p
        title = f"{run_title(profiles)}; beyond chance: q ≤ {LEVEL:g} over {chance.n_draws} draws"
        title += f"\nno test against chance: {no_p}" if no_p else ""
    rows = [
        [name, category, *layer.counts(category), *([""] * 3 if layer.null is None else [])]
        for name, layer in layers.items()
        for category in categories
    ]
    widest = min(MAX_BARS, max(len(layer.bars) for layer in layers.values()))
    colour = {c: COLOURS[n % len(COLOURS)] for n, c in enumerate(categories)}
    with reproducible_style():
        bars_inches = max(6, BAR_INCHES * widest)
        size = (bars_inches + CHANCE_INCHES + 1.6, 2.4 * len(layers) + 1.1)
        figure = Figure(figsize=size, layout="constrained")
        ratios = {"width_ratios": [bars_inches, CHANCE_INCHES]}
        axes = figure.subplots(len(layers), 2, squeeze=False, gridspec_kw=ratios)
        for (left, right), (name, layer) in zip(axes, layers.items(), strict=True):
            units, concepts, *tested = layer.counts()
            text = f"{name}, of {len(layer.score):,} units: {units:,} with IoU ≥ {bound:g}, of "
            text += f"{concepts:,} concepts"
            if tested:
                above, above_concepts, both = tested
                text += f"; {above:,} beyond chance, of {above_concepts:,}; {both:,} both"
            left.set_title(text, loc="left", fontsize=9)
            _draw_bars(left, layer.bars, colour, max(widest, 24))
            _draw_chance(right, layer, bound)
        axes[-1, 1].set_xlabel("best IoU of a unit")
        figure.suptitle(title, fontsize=9)
        figure.legend(
            handles=[
                *(Patch(color=colour[c], label=c) for c in categories),
                Patch(facecolor="#555555", label="both"),
                Patch(facecolor="#d0d0d0", label="beyond chance alone"),
                Patch(facecolor="white", edgecolor="#555555", hatch="//////", label="IoU alone"),
            ],
            loc="outside lower center",
            ncols=min(9, len(categories) + 3),
            frameon=False,
        )
        save_figure(figure, stem)
    write_table(stem.with_suffix(".csv"), COLUMNS, rows)


def _draw_chance(ax: Axes, layer: Layer, bound: float) -> None:
    """Draw the share of units whose best IoU exceeds each value, and that by chance."""
    ax.ecdf(layer.score, complementary=True, color="#0b5394", label="units")
    null = np.zeros(0) if layer.null is None else layer.null.ravel()
    if len(null):
        ax.ecdf(null, complementary=True, color="#999999", linestyle="--", label="by chance")
    ax.axvline(bound, color="black", linewidth=0.8)
    right = max(float(layer.score.max()), float(null.max(initial=0)), bound) * 1.05
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
        ax.text(0.01, 0.5, "no unit is a detector", transform=ax.transAxes, color="#666666")
        return
    if len(bars) > MAX_BARS:
        most = sorted(bars, key=lambda b: -b.units)[:MAX_BARS]
        rest = sum(b.units for b in bars) - sum(b.units for b in most)
        text = f"and {rest:,} units of {len(bars) - MAX_BARS:,} other concepts"
        ax.text(1, 0.95, text, transform=ax.transAxes, ha="right", va="top", fontsize=7)
        bars = [b for b in bars if b in most]
    x, tone = range(len(bars)), [colour[b.category] for b in bars]
    both, above = np.array([b.both for b in bars]), np.array([b.chance_alone for b in bars])
    ax.bar(x, both, color=tone)
    ax.bar(x, above, bottom=both, color=tone, alpha=0.35)
    # A bar of no height would still have an edge.
    alone = [n for n, b in enumerate(bars) if b.iou_alone]
    ax.bar(
        alone, [bars[n].iou_alone for n in alone], bottom=(both + above)[alone], color="white",
        edgecolor=[tone[n] for n in alone], hatch="//////", linewidth=0.5,
    )  # fmt: skip
    # Names are text, not mathematics: a dollar sign is a dollar sign.
    names = [b.concept.replace("$", r"\$") for b in bars]
    ax.set_xticks(x, names, rotation=90, fontsize=6.5)
    ax.tick_params(axis="x", length=0, pad=1)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
