"""Figure 2 of [HAN22]: units whose vectors lie near fire on the same things."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dissect_embed.config import Figure2
from dissect_embed.errors import ArtefactError
from dissect_embed.figures.gallery import (
    Gallery,
    choose_images,
    find_images,
    read_masks,
    read_pixels,
    unit_title,
)
from dissect_embed.figures.masks import draw_mask
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure
from dissect_embed.mathematics.neighbours import nearest_units
from dissect_embed.relations import NEAREST
from dissect_embed.run import Run

UNITS, IMAGES = 2, 3
PANEL_INCHES = 1.5


def choose_units(gallery: Gallery, n: int, seed: int) -> list[int]:
    """Return units of different best concepts, in an order drawn by a seed.

    Units that overlap no concept or never fire come only where there are no others.
    """
    order = np.random.default_rng(seed).permutation(len(gallery.thresholds)).tolist()
    fires = np.any(gallery.peak > gallery.thresholds, axis=0)
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
    """Draw ``stem.svg`` and ``stem.png``, for the vectors of the first seed.

    Each block has a unit and its three nearest by cosine as columns; its rows are images of
    different content on which the unit fires (``gallery.choose_images``), whatever its neighbours
    do.

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
        If there is no such layer, similarity, unit or image.
    """
    with (
        run.gallery(layer, dataset=dataset, device=device) as gallery,
        run.open_profiles() as profiles,
    ):
        name = run.similarity(similarity)
        vectors = torch.from_numpy(run.vectors(gallery.layer, similarity=name))
        draw_neighbours(
            gallery, f"{run_title(profiles)}; similarity {name}", vectors, stem, settings
        )


def draw_neighbours(
    gallery: Gallery,
    title: str,
    vectors: Float[Tensor, "unit dim"],
    stem: Path,
    settings: Figure2,
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
    units = list(settings.units) or choose_units(gallery, UNITS, settings.seed)
    near, cosines = nearest_units(vectors, NEAREST)
    blocks = []
    for unit in units:
        shown = find_images(gallery.source, settings.images) or choose_images(gallery, unit, IMAGES)
        blocks.append((unit, shown))
    n_columns = 1 + near.shape[1]
    n_rows = max(len(shown) for _, shown in blocks)
    with reproducible_style():
        size = (len(blocks) * n_columns * PANEL_INCHES, n_rows * PANEL_INCHES + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        parts = figure.subfigures(1, len(blocks), wspace=0.03, squeeze=False)[0]
        for part, (unit, shown) in zip(parts, blocks, strict=True):
            columns = [unit, *near[unit].tolist()]
            titles = [unit_title(gallery, unit)]
            titles += [
                f"{unit_title(gallery, other)}\ncosine {cosine:.2f}"
                for other, cosine in zip(columns[1:], cosines[unit].tolist(), strict=True)
            ]
            titles[0] += "\nand its nearest"
            masks = read_masks(gallery, shown, columns)
            axes = part.subplots(len(shown), n_columns, squeeze=False)
            for row, image in enumerate(shown):
                pixels = read_pixels(gallery, image)
                for column in range(n_columns):
                    draw_mask(axes[row, column], pixels, masks[row, column])
            for ax, of_unit in zip(axes[0], titles, strict=True):
                ax.set_title(of_unit, fontsize=8)
        figure.suptitle(f"{title}; where units fire", fontsize=9)
        save_figure(figure, stem)
