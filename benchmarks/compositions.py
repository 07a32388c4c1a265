"""How much formulas of concepts gain, by the width of the beam; and how long the search takes.

    python benchmarks/compositions.py RUN [--beam 3 --beam 5 …] [--draws 5]

RUN has activations.h5 with all maps, labels.h5, profiles.h5 and chance.h5. Prints, a row a width:
the mean IoU of formulas over all units, what they gain over the best single concept on the images
on which they are looked for and on others, the IoU of the same search with masks on the labels of
other images, and seconds of a search.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from dissect_embed.mathematics.formula_counts import TotalCounts
from dissect_embed.mathematics.formula_search import search_formulas
from dissect_embed.mathematics.formulas import gain_elsewhere
from dissect_embed.mathematics.halves import second_half
from dissect_embed.mathematics.labelsets import draw_places, join_images, read_image
from dissect_embed.mathematics.masksets import MaskSets, lay_on
from dissect_embed.mathematics.null import draw_partners
from dissect_embed.networks.replay import add_up
from dissect_embed.run import Run

SAMPLED = 100_000


def main(
    run: Path,
    beam: Annotated[list[int] | None, typer.Option()] = None,
    draws: Annotated[int, typer.Option()] = 5,
) -> None:
    """Print the table."""
    files = Run(run)
    with (
        files.open_activations() as source,
        files.open_labels() as labels,
        files.open_profiles() as profiles,
        files.open_chance() as chance,
    ):
        images = range(len(labels.size))
        places = draw_places(len(images), SAMPLED, 0)
        second = second_half(len(images))
        read = (read_image(labels.regions(image), places) for image in images)
        sets, at = join_images(read, labels.presence, second, len(labels.names))
        thresholds = {layer: profiles[layer].threshold for layer in source.layers}
        counted = MaskSets(labels, sets, places, second, thresholds, "cpu")
        add_up(counted, source, source.layers, None, "cpu", desc="masks")
        category, partners = labels.concept_category, draw_partners(chance.stratum, draws, 0)
    halves, fired = counted.halves, counted.fired
    whole, *parts = (
        TotalCounts(sets, category, pixels) for pixels in (sets.pixels.sum(axis=0), *sets.pixels)
    )
    sampled = TotalCounts(sets, category, np.bincount(at.ravel(), minlength=len(sets.kind)))
    own = lay_on(at, sets, fired, counted.n_units, np.arange(len(at)))
    names = ("beam", "IoU", "gain", "on others", "IoU, places", "by chance", "s a search")
    table = Table(*names, title=f"{run}: {counted.n_units:,} units, {len(sets.kind):,} label sets")
    for width in beam or (3, 5, 10, 20):
        begin = time.perf_counter()
        found = search_formulas(whole, halves[0].masks + halves[1].masks, width)
        seconds = time.perf_counter() - begin
        elsewhere = [
            gain_elsewhere(
                parts[1 - n], halves[1 - n].masks, search_formulas(parts[n], halves[n].masks, width)
            )
            for n in (0, 1)
        ]
        drawn = [
            search_formulas(sampled, lay_on(at, sets, fired, counted.n_units, partner), width).iou
            for partner in partners
        ]
        numbers = (
            found.iou, found.gain, elsewhere, search_formulas(sampled, own, width).iou, drawn
        )  # fmt: skip
        means = (f"{np.mean(values):.4f}" for values in numbers)
        table.add_row(str(width), *means, f"{seconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
