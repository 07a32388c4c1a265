"""Figure 4 of [HAN22]: KL(T, S) along training, a panel a layer and one for their mean."""

from pathlib import Path
from typing import Any

import h5py
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dissect_embed.cache import atomic_path, open_artefact, read_config
from dissect_embed.tables import SCORE_COLUMNS, read_table, score_curve

# Told apart in grey by lightness and line style as well.
STYLES = {
    "random": ("random vectors", "#999999", ":"),
    "ours": ("ours (eq. 1, no labels)", "#0b5394", "-"),
    "supervised": ("supervised bound", "#e69138", "-."),
}


def draw_figure4(scores_path: Path, profiles_path: Path, stem: Path) -> None:
    """Draw ``stem.svg`` and ``stem.png``; the same inputs give the same bytes."""
    rows = read_table(scores_path, SCORE_COLUMNS, "score")
    layers = list(dict.fromkeys(r["layer"] for r in rows))
    with open_artefact(profiles_path, "profiles") as profiles:
        title = _title(profiles, [layer for layer in layers if layer != "mean"])
    columns = min(3, len(layers))
    n_rows = -(-len(layers) // columns)
    settings: Any = {"svg.hashsalt": "dissect-embed", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(3.4 * columns, 2.6 * n_rows + 1.1), layout="constrained")
        axes = np.atleast_1d(figure.subplots(n_rows, columns)).ravel()
        for ax, layer in zip(axes, layers, strict=False):
            _draw_panel(ax, rows, layer)
        for ax in axes[len(layers) :]:
            ax.set_axis_off()
        figure.suptitle(title, fontsize=10)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {"Software": None})):
            with atomic_path(stem.with_suffix(suffix)) as part:
                figure.savefig(part, format=suffix[1:], dpi=160, metadata=metadata)


def _title(profiles: h5py.File, layers: list[str]) -> str:
    config = read_config(profiles)
    units = sum(len(profiles[f"layers/{layer}/threshold"]) for layer in layers)
    concepts = len(profiles["labels/number"])
    data = config["dataset"]
    return (
        f"{config['model']['name']} ({config['model']['weights']}) on {data['name']}, "
        f"split {data['split']}: {data['images']:,} images, {units:,} units, {concepts:,} concepts"
    )


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
