"""A contact sheet: of each of the most frequent concepts some images, with where it is labelled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure
from PIL import Image

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.index import ImageRow
from dissect_embed.datasets.pixels import read_image, read_regions
from dissect_embed.figures.pages import reproducible_style

COLUMNS, PER_CATEGORY = 6, 4
# Images that are looked through for each concept.
POOL = 2000
OUTLINE = "#ffd400"


def write_contact_sheet(
    path: Path, dataset: Broden, told: Mapping[str, Any], seed: int = 0
) -> None:
    """Draw images of the most frequent concepts of each category, outlined where they are.

    Parameters
    ----------
    told
        What ``describe_dataset`` returned.
    seed
        Draws the images.
    """
    chosen = _choose(told)
    examples = _find_examples(dataset, chosen, seed)
    shown = [c for c in chosen if examples[c]]
    with reproducible_style():
        figure = Figure(figsize=(1.5 * COLUMNS + 1.6, 1.5 * max(len(shown), 1)))
        axes = figure.subplots(max(len(shown), 1), COLUMNS, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for row, concept in zip(axes, shown, strict=False):
            name = dataset.concepts[concept]
            for ax, (image, mask) in zip(row, examples[concept], strict=False):
                ax.imshow(image)
                if not mask.all():
                    size = image.shape[1::-1]
                    large = Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)
                    ax.contour(np.asarray(large), [0.5], colors=[OUTLINE], linewidths=0.7)
            # Names are text, not mathematics.
            label = f"{name.name}\n{name.category}".replace("$", r"\$")
            row[0].text(
                -0.08, 0.5, label, transform=row[0].transAxes, ha="right", va="center", size=8
            )
        figure.subplots_adjust(0.14, 0.01, 0.99, 0.99, 0.03, 0.05)
        with atomic_path(path) as part:
            figure.savefig(part, format="jpeg", dpi=110, pil_kwargs={"quality": 88})


def _choose(told: Mapping[str, Any]) -> list[int]:
    """Return the concepts to show, by index: of each category those in the most images."""
    chosen = []
    for category in told["categories"]:
        of_it = [n for n, c in enumerate(told["concepts"]) if c["category"] == category["name"]]
        of_it.sort(key=lambda n: -told["concepts"][n]["images"])
        chosen += [n for n in of_it[:PER_CATEGORY] if told["concepts"][n]["images"]]
    return chosen


def _find_examples(
    dataset: Broden, chosen: list[int], seed: int
) -> dict[int, list[tuple[np.ndarray, Bool[np.ndarray, "y x"]]]]:
    found: dict[int, list[tuple[np.ndarray, Bool[np.ndarray, "y x"]]]] = {c: [] for c in chosen}
    order = np.random.default_rng(seed).permutation(len(dataset.rows))[:POOL]
    for n in order.tolist():
        lacking = [c for c in chosen if len(found[c]) < COLUMNS]
        if not lacking:
            break
        row: ImageRow = dataset.rows[n]
        regions = read_regions(dataset, row)
        here = set(regions.member_concept.tolist()).intersection(lacking)
        if not here:
            continue
        image = read_image(dataset, row)
        for concept in here:
            members = regions.member_region[regions.member_concept == concept]
            found[concept].append((image, np.isin(regions.region, members)))
    return found
