"""Figure 3 of [HAN22]: units whose vectors add up to a third's.

As a claim that could fail: pairs are ranked by what the sum adds to the better of its parts, which
stands beside the same for random vectors, and two units drawn at random stand beside the pair.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure, SubFigure

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
from dissect_embed.run import Run

PAIRS, IMAGES = 2, 3
# Two parts, their target, and two drawn at random.
COLUMNS = 5

# A row of pairs.csv.
Row = dict[str, str]


def choose_pairs(gallery: Gallery, pairs: Sequence[Row], n: int) -> list[Row]:
    """Return the first pairs that add something, of which all fire and no unit stands in two."""
    fires = np.any(gallery.peak > gallery.thresholds, axis=0)
    chosen: list[Row] = []
    used: set[int] = set()
    for pair in pairs:
        units = [int(pair[name]) for name in ("first", "second", "target")]
        adds = float(pair["gain"]) > 0
        if len(chosen) < n and adds and fires[units].all() and used.isdisjoint(units):
            chosen.append(pair)
            used.update(units)
    return chosen


def draw_figure3(
    run: Run,
    stem: Path,
    *,
    layer: str | None = None,
    similarity: str | None = None,
    images: Sequence[str] = (),
    dataset: Path | None = None,
    device: str | None = None,
) -> None:
    """Draw ``stem.svg`` and ``stem.png`` from ``pairs.csv``: two parts and their sum, a block each.

    The pairs are those whose sum adds most, which share no unit; beside them stand two units drawn
    at random. The rows are images of different content on which the target fires.

    Parameters
    ----------
    layer
        By default the last that was probed.
    similarity
        That the vectors were learned from, by default the run's first.
    images
        Images of the data set by their names, or any pictures' files; by default chosen by rule.
    dataset
        Where the data set lies now, if it was moved.

    Raises
    ------
    ArtefactError
        If there is no such layer, similarity or image, or ``pairs.csv`` is missing.
    DatasetError
        If a file that is named as an image is none.
    """
    with (
        run.gallery(layer, dataset=dataset, device=device) as gallery,
        run.open_profiles() as profiles,
    ):
        rows = run.read_table("pairs").rows
        name = run.similarity(similarity)
        draw_sums(gallery, run_title(profiles), rows, name, stem, images)


def draw_sums(
    gallery: Gallery,
    title: str,
    rows: Sequence[Row],
    similarity: str,
    stem: Path,
    images: Sequence[str] = (),
) -> None:
    """Draw pairs of a gallery's units and their sums, as ``draw_figure3`` does."""
    told = [r for r in rows if (r["layer"], r["similarity"]) == (gallery.layer, similarity)]
    named = find_images(gallery.source, images)
    blocks = [
        (pair, named or choose_images(gallery, int(pair["target"]), IMAGES))
        for pair in choose_pairs(gallery, told, PAIRS)
    ]
    heights = [len(shown) * PANEL_INCHES + 0.8 for _, shown in blocks]
    with reproducible_style():
        figure = Figure(figsize=(COLUMNS * PANEL_INCHES, sum(heights) + 0.8), layout=TIGHT)
        figure.suptitle(
            f"{wrap_title(f'{title}; similarity {similarity}')}\n"
            "Pairs whose sum adds most towards a third unit, beside two units drawn at random.\n"
            "Bright: how much of its own threshold a unit reaches; line: where it fires.",
            fontsize=8,
        )
        if blocks:
            parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
            for part, (pair, shown) in zip(parts, blocks, strict=True):
                _draw_block(part, gallery, pair, shown)
        else:
            figure.text(0.5, 0.1, "no pair adds up to a third unit", ha="center", color="#666666")
        save_figure(figure, stem)


def _draw_block(part: SubFigure, gallery: Gallery, pair: Row, shown: Sequence[int | Path]) -> None:
    columns = ("first", "second", "target", "drawn_first", "drawn_second")
    units = [int(pair[name]) for name in columns]
    first, second, target = (f"{gallery.layer}:{unit}" for unit in units[:3])

    def number(name: str, form: str) -> str:
        return format(float(pair[name]), form)

    part.suptitle(
        f"{first} + {second}: cosine of the sum with {target} {number('cosine', '.2f')}, "
        f"{number('gain', '+.2f')} over the better part (random vectors "
        f"{number('start_gain', '+.2f')})\n"
        f"both masks with {target}'s: IoU {number('overlap', '.3f')}, "
        f"{number('overlap_gain', '+.3f')} over the better (of two drawn at random "
        f"{number('drawn_overlap', '.3f')}, {number('drawn_overlap_gain', '+.3f')})",
        fontsize=7,
    )
    below = (
        f"cosine {number('first_cosine', '.2f')}",
        f"cosine {number('second_cosine', '.2f')}",
        "their sum",
        "at random",
        "at random",
    )
    maps = read_maps(gallery, shown, units)
    axes = part.subplots(len(shown), len(units), squeeze=False)
    for row, image, of_image in zip(axes, shown, maps, strict=True):
        pixels = read_pixels(gallery, image)
        for ax, unit, of_unit in zip(row, units, of_image, strict=True):
            draw_map(ax, pixels, of_unit, float(gallery.thresholds[unit]))
    for ax, unit, what in zip(axes[0], units, below, strict=True):
        ax.set_title(f"{unit_title(gallery, unit)}\n{what}", fontsize=7)
