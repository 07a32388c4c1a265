"""Figure 2 of [HAN22]: units whose vectors lie near are active on the same things.

As a claim that could fail: the vectors come from one half of the images, and what is shown and
measured is the other half; beside the nearest stands a unit drawn at random.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure, SubFigure

from dissect_embed.artefacts.tables import MeanOverlap, mean_overlaps
from dissect_embed.config import Figure2
from dissect_embed.errors import ArtefactError
from dissect_embed.figures.gallery import (
    Gallery,
    choose_images,
    find_images,
    read_maps,
    read_pixels,
    unit_title,
)
from dissect_embed.figures.maps import draw_map
from dissect_embed.figures.pages import (
    PANEL_INCHES,
    TIGHT,
    reproducible_style,
    run_title,
    save_figure,
    wrap_title,
)
from dissect_embed.mathematics.halves import second_half
from dissect_embed.relations import NEAREST
from dissect_embed.run import Run

UNITS, IMAGES = 2, 3
# A unit, its nearest, and one drawn at random.
COLUMNS = NEAREST + 2

# Those of a unit in overlap.csv, nearest first.
Rows = Sequence[dict[str, str]]


def choose_units(
    gallery: Gallery, n: int, seed: int, among: Bool[np.ndarray, " image"]
) -> list[int]:
    """Return units of different best concepts, in an order drawn by a seed.

    Units that overlap no concept, or fire on none of the images shown, come only where there are no
    others.
    """
    order = np.random.default_rng(seed).permutation(len(gallery.thresholds)).tolist()
    fires = np.any(gallery.peak[among] > gallery.thresholds, axis=0)
    told = [unit for unit in order if fires[unit] and gallery.concepts[unit][0]]
    first: dict[str, int] = {}
    for unit in told:
        first.setdefault(gallery.concepts[unit][0], unit)
    # Those of a concept that came before, and the rest, follow.
    return list(dict.fromkeys([*first.values(), *told, *order]))[:n]


def draw_figure2(
    run: Run,
    stem: Path,
    settings: Figure2 = Figure2(),
    *,
    layer: str | None = None,
    similarity: str | None = None,
    dataset: Path | None = None,
    device: str | None = None,
) -> None:
    """Draw ``stem.svg`` and ``stem.png`` from ``overlap.csv``.

    Each block has a unit, its three nearest by vectors of one half of the images, and a unit drawn
    at random as columns; its rows are images of the other half, of different content, on which the
    unit fires (``gallery.choose_images``), whatever its neighbours do.

    Parameters
    ----------
    layer
        By default the last that was probed.
    similarity
        That the vectors were learned from, by default the run's first.
    dataset
        Where the data set lies now, if it was moved.

    Raises
    ------
    ArtefactError
        If there is no such layer, similarity, unit or image, or ``overlap.csv`` is missing.
    DatasetError
        If a file that is named as an image is none.
    """
    with (
        run.gallery(layer, dataset=dataset, device=device) as gallery,
        run.open_profiles() as profiles,
    ):
        rows = run.read_table("overlap").rows
        name = run.similarity(similarity)
        draw_neighbours(gallery, run_title(profiles), rows, name, stem, settings)


def draw_neighbours(
    gallery: Gallery, title: str, rows: Rows, similarity: str, stem: Path, settings: Figure2
) -> None:
    """Draw units of a gallery beside their nearest, as ``draw_figure2`` does."""
    n_units = len(gallery.thresholds)
    for unit in settings.units:
        if not 0 <= unit < n_units:
            msg = (
                f"figure2.units: {gallery.layer} has no unit {unit}, only 0 to {n_units - 1}; "
                "choose others"
            )
            raise ArtefactError(msg)
    named = find_images(gallery.source, settings.images)
    kept = second_half(len(gallery.peak))
    # One image alone has no half.
    kept = kept if kept.any() else ~kept
    told = [r for r in rows if (r["layer"], r["similarity"]) == (gallery.layer, similarity)]
    units = list(settings.units) or choose_units(gallery, UNITS, settings.seed, kept)
    blocks = [
        (
            [row for row in told if int(row["unit"]) == unit],
            unit,
            named or choose_images(gallery, unit, IMAGES, kept),
        )
        for unit in units
    ]
    heights = [len(shown) * PANEL_INCHES + 0.5 for _, _, shown in blocks]
    with reproducible_style():
        figure = Figure(figsize=(COLUMNS * PANEL_INCHES, sum(heights) + 0.8), layout=TIGHT)
        parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, (rows_of_unit, unit, shown) in zip(parts, blocks, strict=True):
            _draw_block(part, gallery, unit, rows_of_unit, shown)
        mean = mean_overlaps(told).get((gallery.layer, similarity))
        about = wrap_title(f"{title}; similarity {similarity}")
        figure.suptitle(f"{about}\n{_claim(mean, bool(named))}", fontsize=8)
        save_figure(figure, stem)


def _claim(mean: MeanOverlap | None, named: bool) -> str:
    shown = "images that were named" if named else "images of the other half"
    claim = (
        f"Nearest by vectors of one half of the images, shown on {shown}.\n"
        "Bright: how much of its own threshold a unit reaches; line: where it fires.\n"
    )
    if mean is None:
        return f"{claim}On the other half no two units fire."
    return (
        f"{claim}IoU on the other half, mean of {mean.units:,} units: nearest {mean.nearest:.3f}, "
        f"any two {mean.any:.3f}, the best choice possible {mean.best:.3f}"
    )


def _draw_block(
    part: SubFigure, gallery: Gallery, unit: int, rows: Rows, shown: Sequence[int | Path]
) -> None:
    columns = [unit]
    titles = [unit_title(gallery, unit)]
    for row in rows:
        columns.append(int(row["neighbour"]))
        numbers = f"cosine {float(row['cosine']):.2f}, IoU {float(row['overlap']):.2f}"
        titles.append(f"{unit_title(gallery, columns[-1])}\n{numbers}")
    drawn = next((row for row in rows if row["drawn"]), None)
    if drawn:
        columns.append(int(drawn["drawn"]))
        numbers = f"at random, IoU {float(drawn['drawn_overlap']):.2f}"
        titles.append(f"{unit_title(gallery, columns[-1])}\n{numbers}")
    titles[0] += "\nand its nearest" if rows else ""
    maps = read_maps(gallery, shown, columns)
    axes = part.subplots(len(shown), COLUMNS, squeeze=False)
    for row_of_axes, image, of_image in zip(axes, shown, maps, strict=True):
        pixels = read_pixels(gallery, image)
        for ax, of_unit, other in zip(row_of_axes, of_image, columns, strict=False):
            draw_map(ax, pixels, of_unit, float(gallery.thresholds[other]))
        for ax in row_of_axes[len(columns) :]:
            ax.axis("off")
    for ax, of_unit_title in zip(axes[0], titles, strict=False):
        ax.set_title(of_unit_title, fontsize=7)
