"""Figure 4: a curve for each similarity that the run has, and what they are compared with."""

import pytest

from dissect_embed.figures import figure4
from dissect_embed.figures.figure4 import COLOUR, CURVES, MARK


class OneTable:
    """A run of which only its scores are asked for."""

    def __init__(self, similarities: list[str]) -> None:
        ours = [(name, "ours") for name in similarities] + [("", "random"), ("", "supervised")]
        self.rows = [
            {"layer": layer, "similarity": name, "method": method, "seed": seed,
             "epoch": str(epoch), "kl": str(0.1 / (1 + epoch))}
            for layer in ("a", "mean")
            for name, method in ours
            for seed in ("3", "8")
            for epoch in range(1 if method == "random" else 4)
        ]  # fmt: skip
        self.rows += [
            {"layer": layer, "similarity": name, "method": method, "seed": "", "epoch": "",
             "kl": kl}
            for layer in ("a", "mean")
            for name in similarities
            for method, kl in (
                ("limit", "0.02"), ("shuffled_low", "0.05"), ("shuffled_high", "0.06")
            )
        ]  # fmt: skip
        self.rows += [
            {"layer": layer, "similarity": "", "method": "uniform", "seed": "", "epoch": "",
             "kl": "0.03"}
            for layer in ("a", "mean")
        ]  # fmt: skip


@pytest.mark.parametrize("similarities", [["image", "dataset"], ["dataset"], ["image"]])
def test_each_similarity_of_the_run_has_its_curve_and_its_limit(similarities):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    figure4._draw_panel(ax, OneTable(similarities).rows, "a")
    labels = [line.get_label() for line in ax.lines]
    for name in ("image", "dataset"):
        told = [label for label in labels if label.startswith((f"{name} ", f"limit of {name},"))]
        assert len(told) == (2 if name in similarities else 0)
        bands = [band.get_label() for band in ax.collections]
        assert (f"{name}, units shuffled" in bands) == (name in similarities)
    assert {"random vectors", "supervised bound", "uniform"} <= set(labels)


def test_lines_are_told_apart_without_their_colours():
    lines = [str(line) for *_, line in CURVES]
    assert len(set(lines)) == len(lines)
    assert len(set(MARK.values())) == len(MARK) == len(COLOUR)
