"""Figure 3 of [HAN22]: units whose vectors add up to a third's."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from dissect_embed.figures.gallery import (
    Gallery,
    choose_images,
    read_masks,
    read_pixels,
    unit_title,
)
from dissect_embed.figures.masks import draw_mask
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure
from dissect_embed.mathematics.neighbours import TRIVIAL, AdditivePair, additive_pairs
from dissect_embed.run import Run

PAIRS, IMAGES = 2, 3
PANEL_INCHES = 1.5


def choose_pairs(gallery: Gallery, pairs: list[AdditivePair], n: int) -> list[AdditivePair]:
    """Return the best pairs of which all three units fire and no unit stands in two."""
    fires = np.any(gallery.peak > gallery.thresholds, axis=0)
    chosen: list[AdditivePair] = []
    used: set[int] = set()
    for pair in pairs:
        if len(chosen) < n and fires[list(pair[:3])].all() and used.isdisjoint(pair[:3]):
            chosen.append(pair)
            used.update(pair[:3])
    return chosen


def draw_figure3(
    run: Run,
    stem: Path,
    *,
    layer: str | None = None,
    similarity: str | None = None,
    dataset: Path | None = None,
    device: str | None = None,
) -> None:
    """Draw ``stem.svg`` and ``stem.png``: two parts and their sum, a block a pair.

    The pairs are those of the highest cosine of ``neighbours.additive_pairs`` that share no unit;
    the rows are images of different content on which the target fires.

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
        If there is no such layer or similarity.
    """
    with (
        run.gallery(layer, dataset=dataset, device=device) as gallery,
        run.open_profiles() as profiles,
    ):
        name = run.similarity(similarity)
        vectors = torch.from_numpy(run.vectors(gallery.layer, similarity=name))
        draw_sums(gallery, f"{run_title(profiles)}; similarity {name}", vectors, stem)


def draw_sums(gallery: Gallery, title: str, vectors: Float[Tensor, "unit dim"], stem: Path) -> None:
    """Draw pairs of a gallery's units and their sums, as ``draw_figure3`` does."""
    pairs = choose_pairs(gallery, additive_pairs(vectors, top=1000), PAIRS)
    with reproducible_style():
        size = (max(1, len(pairs)) * 3 * PANEL_INCHES + 0.6, IMAGES * PANEL_INCHES + 1.2)
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(
            f"{title}; pairs that add up to a third unit,\n"
            f"which is not among the {TRIVIAL} nearest of either",
            fontsize=9,
        )
        if not pairs:
            figure.text(0.5, 0.5, "no pair adds up to a third unit", ha="center", color="#666666")
        parts = figure.subfigures(1, max(1, len(pairs)), wspace=0.04, squeeze=False)[0]
        for part, pair in zip(parts, pairs, strict=False):
            units = list(pair[:3])
            shown = choose_images(gallery, pair.target, IMAGES)
            masks = read_masks(gallery, shown, units)
            axes = part.subplots(len(shown), 3, squeeze=False)
            for row, image in enumerate(shown):
                pixels = read_pixels(gallery, image)
                for column in range(3):
                    draw_mask(axes[row, column], pixels, masks[row, column])
            cosines = (pair.first_cosine, pair.second_cosine, pair.cosine)
            for ax, unit, cosine, what in zip(
                axes[0], units, cosines, ("alone", "alone", "sum"), strict=True
            ):
                ax.set_title(
                    f"{unit_title(gallery, unit)}\n{what}: cosine {cosine:.2f}", fontsize=8
                )
        save_figure(figure, stem)
