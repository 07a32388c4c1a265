"""Figure 4 of [HAN22]: KL(T, S) along training, a panel a layer and one for their mean."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import score_curve
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure

# Told apart in grey by lightness and line style as well.
STYLES = {
    "random": ("random vectors", "#999999", ":"),
    "ours": ("ours (eq. 1, no labels)", "#0b5394", "-"),
    "supervised": ("supervised bound", "#e69138", "-."),
}


def draw_figure4(run: RunFolder, stem: Path) -> None:
    """Draw ``stem.svg`` and ``stem.png``; the same inputs give the same bytes."""
    rows = run.read_table("scores").rows
    layers = list(dict.fromkeys(r["layer"] for r in rows))
    with run.open_profiles() as profiles:
        title = run_title(profiles)
    columns = min(3, len(layers))
    n_rows = -(-len(layers) // columns)
    with reproducible_style():
        figure = Figure(figsize=(3.4 * columns, 2.6 * n_rows + 1.1), layout="constrained")
        axes = np.atleast_1d(figure.subplots(n_rows, columns)).ravel()
        for ax, layer in zip(axes, layers, strict=False):
            _draw_panel(ax, rows, layer)
        for ax in axes[len(layers) :]:
            ax.set_axis_off()
        figure.suptitle(title, fontsize=10)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        save_figure(figure, stem)


def _draw_panel(ax: Axes, rows: list[dict[str, str]], layer: str) -> None:
    epochs = np.arange(score_curve(rows, layer, "ours").shape[1])
    for method, (label, color, line) in STYLES.items():
        values = score_curve(rows, layer, method)
        values = np.broadcast_to(values, (len(values), len(epochs)))
        mean, spread = values.mean(axis=0), values.std(axis=0)
        ax.plot(epochs, mean, line, color=color, label=label, linewidth=1.6)
        ax.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.25, linewidth=0)
    limit = score_curve(rows, layer, "limit")[0, 0]
    ax.axhline(limit, color="black", linewidth=0.9, dashes=(6, 3), label="limit KL(T‖P)")
    ax.set(title=layer, xlabel="epoch", ylabel="KL (nats)", xlim=(0, len(epochs) - 1))
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
