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

from dissect_embed.compositions import count_label_sets
from dissect_embed.mathematics.formula_search import search_formulas
from dissect_embed.mathematics.null import draw_partners
from dissect_embed.run import Run


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
        counted = count_label_sets(source, labels, profiles, 0, None, "cpu")
        partners = draw_partners(chance.stratum, draws, 0)
    masks, whole, sampled = counted.masks, counted.whole, counted.sampled
    own = counted.lay_on(np.arange(len(counted.at)))
    names = ("beam", "IoU", "gain", "on others", "IoU, places", "by chance", "s a search")
    table = Table(*names, title=f"{run}: {masks.shape[0]:,} units, {masks.shape[1]:,} label sets")
    for width in beam or (3, 5, 10, 20):
        begin = time.perf_counter()
        found = search_formulas(whole, masks, width)
        seconds = time.perf_counter() - begin
        drawn = [search_formulas(sampled, counted.lay_on(p), width).iou for p in partners]
        numbers = (
            found.iou, found.gain, counted.held_out(width),
            search_formulas(sampled, own, width).iou, drawn,
        )  # fmt: skip
        means = (f"{np.mean(values):.4f}" for values in numbers)
        table.add_row(str(width), *means, f"{seconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
