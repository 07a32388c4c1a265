"""Figure 4 of [HAN22]: KL(T, S) along training, a panel a layer and one for their mean."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import score_curve
from dissect_embed.figures.pages import reproducible_style, run_title, save_figure

# Method, similarity, label, colour and line of each curve: told apart in grey by lightness and line
# as well.
CURVES = (
    ("random", "", "random vectors", "#999999", ":"),
    ("ours", "image", "image (eq. 1, no labels)", "#0b5394", "-"),
    ("ours", "dataset", "dataset (eq. 1, no labels)", "#b4458f", (0, (5, 1.5))),
    ("supervised", "", "supervised bound", "#e69138", "-."),
)
# Of each similarity where training ends if the vectors can represent P.
LIMITS = (("image", "#0b5394", (0, (1, 1.5))), ("dataset", "#b4458f", (0, (1, 4))))


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
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        save_figure(figure, stem)


def _draw_panel(ax: Axes, rows: list[dict[str, str]], layer: str) -> None:
    epochs = np.arange(score_curve(rows, layer, "supervised").shape[1])
    shown = {row["similarity"] for row in rows}
    for method, similarity, label, color, line in CURVES:
        if similarity not in shown:
            continue
        values = score_curve(rows, layer, method, similarity)
        values = np.broadcast_to(values, (len(values), len(epochs)))
        mean, spread = values.mean(axis=0), values.std(axis=0)
        ax.plot(epochs, mean, linestyle=line, color=color, label=label, linewidth=1.6)
        ax.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.25, linewidth=0)
    for similarity, color, line in LIMITS:
        if similarity in shown:
            limit = score_curve(rows, layer, "limit", similarity)[0, 0]
            label = f"limit of {similarity}, KL(T‖P)"
            ax.axhline(limit, color=color, linewidth=1.1, linestyle=line, label=label)
    ax.set(title=layer, xlabel="epoch", ylabel="KL (nats)", xlim=(0, len(epochs) - 1))
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
