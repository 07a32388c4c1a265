"""What a data set holds: images, splits, sources, concepts, and with what chance can be drawn."""

import base64
import json
from collections import Counter
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import numpy as np
from jaxtyping import Bool

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.index import format_size
from dissect_embed.datasets.pixels import read_all_regions
from dissect_embed.mathematics.null import find_strata


def describe_dataset(dataset: Broden, n_threads: int | None = None) -> dict[str, Any]:
    """Return what a data set holds, counted from its label maps.

    Returns
    -------
    ``images``, ``image_size`` and ``label_sizes`` (height × width), ``splits`` and ``sources``
    (images of each; a source is the folder of an image), ``strata`` (among the images of which
    chance deals labels out anew, ``null.find_strata``: of one label size, with labels of the same
    ``categories`` but for ``joined``, which no other image shares its categories with),
    ``categories`` (images
    that are labelled in it, concepts), ``concepts``: of each name, category, ``images`` in which it
    is, ``pixels`` of it, and ``coverage``, its share of the pixels of those images.
    """
    n_concepts, of_category = len(dataset.concepts), dataset.concept_category
    images, pixels, area = (np.zeros(n_concepts, dtype=np.int64) for _ in range(3))
    presence = np.zeros((len(dataset.rows), len(dataset.categories)), dtype=bool)
    regions = read_all_regions(dataset, n_threads)
    for n, (row, found) in enumerate(zip(dataset.rows, regions, strict=True)):
        counts = np.zeros(n_concepts, dtype=np.int64)
        np.add.at(counts, found.member_concept, found.region_pixels[found.member_region])
        here = counts > 0
        images += here
        pixels += counts
        area += here * (row.label_size[0] * row.label_size[1])
        presence[n, of_category[here]] = True
    return {
        "name": dataset.settings()["name"],
        "root": str(dataset.root),
        "images": len(dataset.rows),
        "image_size": format_size(dataset.image_size),
        "label_sizes": _counted(format_size(row.label_size) for row in dataset.rows),
        "splits": _counted(row.split for row in dataset.rows),
        "sources": _counted(str(PurePosixPath(row.image).parent) for row in dataset.rows),
        "strata": _find_strata(dataset, presence),
        "categories": [
            {
                "name": name,
                "images": int(presence[:, g].sum()),
                "concepts": int((of_category == g).sum()),
            }
            for g, name in enumerate(dataset.categories)
        ],
        "concepts": [
            {
                "name": concept.name,
                "category": concept.category,
                "images": int(images[c]),
                "pixels": int(pixels[c]),
                "coverage": float(pixels[c] / area[c]) if area[c] else 0.0,
            }
            for c, concept in enumerate(dataset.concepts)
        ],
    }


def _find_strata(
    dataset: Broden, presence: Bool[np.ndarray, "image category"]
) -> list[dict[str, Any]]:
    size = np.array([row.label_size for row in dataset.rows])
    stratum = find_strata(size, presence)
    found = []
    for number in np.argsort(-np.bincount(stratum), kind="stable").tolist():
        images = np.flatnonzero(stratum == number)
        kinds, count = np.unique(presence[images], axis=0, return_counts=True)
        names = [dataset.categories[g] for g in np.flatnonzero(kinds[count.argmax()])]
        found.append(
            {
                "label_size": format_size(dataset.rows[images[0]].label_size),
                "categories": names,
                "images": len(images),
                "joined": int(len(images) - count.max()),
            }
        )
    return found


def write_description(folder: Path, dataset: Broden, told: Mapping[str, Any]) -> None:
    """Write ``describe.json``, ``contact.jpg`` and a page of both, ``index.html``."""
    from dissect_embed.figures.contact import write_contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / "describe.json") as part:
        part.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    write_contact_sheet(folder / "contact.jpg", dataset, told)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("dissect_embed.datasets").joinpath("page.html.j2").read_text("utf-8")
    picture = base64.b64encode((folder / "contact.jpg").read_bytes()).decode("ascii")
    with atomic_path(folder / "index.html") as part:
        part.write_text(environment.from_string(template).render(**told, picture=picture), "utf-8")


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())
