"""What vectors and units of some runs hold, each number beside what could refute it.

    python benchmarks/meaning.py RUN [RUN …]

Prints two tables in Markdown. A row a layer and similarity: the score's gain over "all units alike"
and the rank correlation of vectors with profiles, each beside its mean over profiles of wrong
labels, and the share of those that reach it (means over seeds; of p the largest); and how much
nearest units overlap on images that were not learned from, beside any two units and the best choice
possible. A row a layer: how many units are detectors by custom and beyond chance, of how many
concepts, and how far their best IoU exceeds chance.
"""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from dissect_embed.figures.detectors import find_detectors
from dissect_embed.run import Run, open_run


def with_null(controls: pd.DataFrame, statistic: str) -> tuple[float, float, float]:
    """Return a statistic, its mean over wrong labels, and p."""
    rows = controls[(controls.statistic == statistic) & (controls.null == "wrong_labels")]
    return rows.value.mean(), rows.null_mean.mean(), rows.p.max()


def print_vectors(runs: list[Run]) -> None:
    """Print a row a layer and similarity."""
    print("| run | layer | similarity | gain | wrong | p | rank correlation | wrong | p "
          "| overlap of nearest | of any two | best possible |")  # fmt: skip
    print("| --- | --- | --- |" + " ---: |" * 9)
    for run in runs:
        controls = run.controls()
        there = "overlap" in run.kinds
        overlap = run.overlap() if there else None
        for (layer, name), rows in controls.groupby(["layer", "similarity"], sort=False):
            gain, rank = (with_null(rows, s) for s in ("gain", "rank_correlation"))
            cells = ["", "", ""]
            if overlap is not None:
                found = overlap[(overlap.layer == layer) & (overlap.similarity == name)]
                if len(found):
                    row = found.iloc[0]
                    cells = [f"{row[c]:.4f}" for c in ("nearest", "any", "best")]
            print(f"| {run.folder.name} | {layer} | {name} | {gain[0]:+.4f} | {gain[1]:+.4f} "
                  f"| {gain[2]:.3f} | {rank[0]:.3f} | {rank[1]:.3f} | {rank[2]:.3f} "
                  f"| {' | '.join(cells)} |")  # fmt: skip


def print_units(runs: list[Run], least_iou: float) -> None:
    """Print a row a layer."""
    print(f"| run | layer | units | IoU ≥ {least_iou:g} | of concepts | q ≤ 0.05 | of concepts "
          "| both | best IoU | by chance | meanings > 1 |")  # fmt: skip
    print("| --- | --- |" + " ---: |" * 9)
    for run in runs:
        with run.open_profiles() as profiles, run.open_chance() as chance:
            for layer in profiles.layers:
                counts = find_detectors(profiles, chance, layer, least_iou).counts()
                counts += [0] * (5 - len(counts))
                compared = chance.compare(layer, profiles[layer].iou)
                alive = ~pd.isna(compared.p)
                score = profiles[layer].best.iou[alive].mean()
                null = compared.null_mean[alive].mean()
                several = int((compared.n_concepts > 1).sum())
                print(f"| {run.folder.name} | {layer} | {len(alive)} | {counts[0]} | {counts[1]} "
                      f"| {counts[2]} | {counts[3]} | {counts[4]} | {score:.4f} | {null:.4f} "
                      f"| {several} |")  # fmt: skip


def main(
    runs: list[Path],
    detector_iou: Annotated[float, typer.Option(help="The IoU of a detector.")] = 0.04,
) -> None:
    """Print what runs hold."""
    opened = [open_run(run) for run in runs]
    print_vectors(opened)
    print()
    print_units(opened, detector_iou)


if __name__ == "__main__":
    typer.run(main)
