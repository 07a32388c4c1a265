"""Answers to questions about one unit or one concept."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.files import check_made_from, open_artefact
from dissect_embed.artefacts.naming import match_concepts, parse_unit
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.datasets.broden import load_recorded
from dissect_embed.datasets.pixels import read_all_regions
from dissect_embed.errors import ArtefactError
from dissect_embed.inspection.files import explain_damage
from dissect_embed.inspection.tables import Part, heading, number, share, table

# Of an answer, without --top.
TOP_ROWS = 10


class Asked(NamedTuple):
    """A question; an empty option where none was asked."""

    option: str  # "--concept" or "--unit"
    wanted: str
    dataset: Path | None
    top: int | None
    detector_iou: float


def _units_of_concept(file: h5py.File, asked: Asked) -> Iterator[Part]:
    profiles, top, detector_iou = Profiles(file), asked.top or TOP_ROWS, asked.detector_iou
    names, categories = profiles.concepts, profiles.concept_categories
    condition = f"an IoU of at least {detector_iou:g}, or the unit's best concept"
    for concept in match_concepts(names, asked.wanted, str(profiles.path)):
        title = f"{names[concept]} ({categories[concept]})"
        ranked = profiles.units_of(concept)
        chosen = [
            (layer, unit, iou)
            for layer, unit, iou in ranked
            if iou >= detector_iou or profiles[layer].best.concept[unit] == concept
        ]
        if chosen:
            first = f", the first {top}" if len(chosen) > top else ""
            yield heading(f"{title}: {len(chosen):,} unit{'s' if len(chosen) > 1 else ''}{first}")
            yield f"({condition})"
        elif ranked:
            yield heading(f"{title}: no unit; this one is nearest")
            yield f"(it would take {condition})"
        else:
            yield heading(f"{title}: no unit overlaps it at all")
            continue
        rows = []
        for layer, unit, iou in chosen[:top] or ranked[:1]:
            of_layer = profiles[layer]
            best, best_iou = int(of_layer.best.concept[unit]), of_layer.best.iou[unit]
            shared = f"{of_layer.intersection[unit, concept]:,}"
            name = "itself" if best == concept else names[best]
            rows.append((f"{layer}:{unit}", f"{iou:.4f}", shared, name, f"{best_iou:.4f}"))
        yield table(("unit", "IoU>", "shared pixels>", "the unit's best concept", "its IoU>"), rows)


def _concepts_of_unit(file: h5py.File, asked: Asked) -> Iterator[Part]:
    profiles, detector_iou = Profiles(file), asked.detector_iou
    n_units = {layer: len(profiles[layer]) for layer in profiles.layers}
    layer, unit = parse_unit(asked.wanted, n_units, str(profiles.path))
    of_layer = profiles[layer]
    names, categories, pixels = profiles.concepts, profiles.concept_categories, profiles.pixels
    iou, both = of_layer.iou[unit], of_layer.intersection[unit]
    ranked, best = of_layer.concepts_of(unit), float(of_layer.best.iou[unit])
    reaches = "at least" if 0 < best >= detector_iou else "below"
    yield heading(f"{layer}:{unit}, threshold {number(float(of_layer.threshold[unit]), 6)}")
    yield f"Its best IoU, {best:.4f}, is {reaches} the {detector_iou:g} of a detector."
    if ranked:
        rows = [
            (names[c], categories[c], f"{iou[c]:.4f}", f"{both[c]:,}", f"{pixels[c]:,}")
            for c in ranked[: asked.top or TOP_ROWS]
        ]
        yield table(("concept", "category", "IoU>", "shared pixels>", "its pixels>"), rows)
    else:
        yield "It overlaps no concept."
    yield heading("The best of each category, and the unit's pixels where it is labelled")
    rows = []
    for category, active in zip(profiles.categories, of_layer.activation[unit], strict=True):
        c = next((c for c in ranked if categories[c] == category), None)
        found = ("-",) * 3 if c is None else (names[c], f"{iou[c]:.4f}", f"{both[c]:,}")
        rows.append((category, *found, f"{active:,}"))
    yield table(("category", "concept", "IoU>", "shared pixels>", "unit's pixels>"), rows)


def _images_of_unit(file: h5py.File, asked: Asked) -> Iterator[Part]:
    source = Activations(file)
    n_units = {name: source[name].n_units for name in source.layers}
    layer, unit = parse_unit(asked.wanted, n_units, str(source.path))
    peak = source[layer].peaks[:, unit]
    chosen = np.argsort(-peak, kind="stable")[: asked.top or TOP_ROWS].tolist()
    columns = ["peak>", "image"]
    rows = [[number(float(peak[i]), 6), source.images[i]] for i in chosen]
    beside = source.path.with_name("profiles.h5")
    try:
        with open_artefact(beside, "profiles") as other, explain_damage(beside, "profiles"):
            check_made_from(other, "activations", source.fingerprint, str(source.path))
            threshold = float(Profiles(other)[layer].threshold[unit])
    except ArtefactError as error:
        note = f"Its threshold is unknown: {error}"
    else:
        # Peaks and thresholds are float32 of stored values, so no rounding lies between them.
        fires = peak > threshold
        n, of_all = int(fires.sum()), len(peak)
        columns.append("above its threshold")
        rows = [[*row, "yes" if fires[i] else "no"] for row, i in zip(rows, chosen, strict=True)]
        above = f"Above its threshold, {number(threshold, 6)}"
        note = f"{above}, on {n:,} of {of_all:,} images ({share(n, of_all)})."
    yield heading(f"{layer}:{unit}, highest peaks: {len(chosen):,} of {len(peak):,} images")
    yield table(columns, rows)
    yield note


def _images_of_concept(file: h5py.File, asked: Asked) -> Iterator[Part]:
    source, root, top = Activations(file), asked.dataset, asked.top or TOP_ROWS
    assert root is not None, "as the options are checked"
    dataset = load_recorded(root, source.config["dataset"])
    check_made_from(source.file, "dataset", dataset.fingerprint, str(root))
    names = [concept.name for concept in dataset.concepts]
    found = match_concepts(names, asked.wanted, str(root / "label.csv"))
    counts = np.zeros((len(found), len(dataset.rows)), dtype=np.int64)
    for image, regions in enumerate(read_all_regions(dataset)):
        of_region = regions.region_pixels
        for n, concept in enumerate(found):
            members = regions.member_region[regions.member_concept == concept]
            counts[n, image] = of_region[members].sum()
    for concept, pixels in zip(found, counts, strict=True):
        n_images = int((pixels > 0).sum())
        first = f", the first {top}" if n_images > top else ""
        title = f"{names[concept]} ({dataset.concepts[concept].category})"
        yield heading(f"{title}: on {n_images:,} of {len(pixels):,} images{first}")
        rows = []
        for i in np.argsort(-pixels, kind="stable")[: min(n_images, top)].tolist():
            row, n = dataset.rows[i], int(pixels[i])
            rows.append((f"{n:,}", share(n, math.prod(row.label_size)), row.image))
        if rows:
            yield table(("label pixels>", "of all>", "image"), rows)


# By schema and option.
ANSWERS: dict[tuple[str, str], Callable[[h5py.File, Asked], Iterator[Part]]] = {
    ("profiles", "--concept"): _units_of_concept,
    ("profiles", "--unit"): _concepts_of_unit,
    ("activations", "--concept"): _images_of_concept,
    ("activations", "--unit"): _images_of_unit,
}
