"""Print the answers to questions about one unit or one concept."""

import math
from pathlib import Path

import numpy as np
from rich.console import Console

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.files import check_made_from
from dissect_embed.artefacts.naming import match_concepts, parse_unit
from dissect_embed.artefacts.profiles import Profiles, open_profiles
from dissect_embed.datasets.broden import load_broden
from dissect_embed.errors import ArtefactError
from dissect_embed.inspection.files import explain_damage
from dissect_embed.inspection.queries import (
    count_concept_pixels,
    rank_units,
    top_images,
)
from dissect_embed.inspection.tables import number, print_heading, print_table, share


def print_concept_units(
    console: Console, profiles: Profiles, wanted: str, top: int, detector_iou: float
) -> None:
    """Print the units of ``profiles.h5`` that have a concept."""
    names, categories = profiles.concepts, profiles.concept_categories
    for concept in match_concepts(names, wanted, str(profiles.path)):
        title = f"{names[concept]} ({categories[concept]})"
        ranked = rank_units(profiles, concept)
        chosen = [u for u in ranked if u.has(concept, detector_iou)]
        condition = f"an IoU of at least {detector_iou:g}, or the unit's best concept"
        if chosen:
            first = f", the first {top}" if len(chosen) > top else ""
            count = f"{len(chosen):,} unit{'' if len(chosen) == 1 else 's'}{first}"
            print_heading(console, f"{title}: {count}")
            console.print(f"({condition})")
        elif ranked:
            print_heading(console, f"{title}: no unit; this one is nearest")
            console.print(f"(it would take {condition})")
        else:
            print_heading(console, f"{title}: no unit overlaps it at all")
            continue
        rows = [
            (
                f"{u.layer}:{u.unit}", f"{u.iou:.4f}", f"{u.intersection:,}",
                "itself" if u.best_concept == concept else names[u.best_concept],
                f"{u.best_iou:.4f}",
            )
            for u in (chosen[:top] if chosen else ranked[:1])
        ]  # fmt: skip
        columns = ("unit", "IoU>", "shared pixels>", "the unit's best concept", "its IoU>")
        print_table(console, columns, rows)


def print_unit_profile(
    console: Console, profiles: Profiles, wanted: str, top: int, detector_iou: float
) -> None:
    """Print what ``profiles.h5`` says of a unit: its best concepts, and that of each category."""
    n_units = {layer: len(profiles[layer]) for layer in profiles.layers}
    layer, unit = parse_unit(wanted, n_units, str(profiles.path))
    of_layer = profiles[layer]
    names, categories, pixels = profiles.concepts, profiles.concept_categories, profiles.pixels
    iou, both = of_layer.iou[unit], of_layer.intersection[unit]
    ranked, best = of_layer.concepts_of(unit), float(of_layer.best.iou[unit])
    reaches = "at least" if 0 < best >= detector_iou else "below"
    print_heading(
        console, f"{layer}:{unit}, threshold {number(float(of_layer.threshold[unit]), 6)}"
    )
    console.print(f"Its best IoU, {best:.4f}, is {reaches} the {detector_iou:g} of a detector.")
    if not ranked:
        console.print("It overlaps no concept.")
    else:
        rows = [
            (names[c], categories[c], f"{iou[c]:.4f}", f"{both[c]:,}", f"{pixels[c]:,}")
            for c in ranked[:top]
        ]
        columns = ("concept", "category", "IoU>", "shared pixels>", "its pixels>")
        print_table(console, columns, rows)
    print_heading(console, "The best of each category, and the unit's pixels where it is labelled")
    rows = []
    for category, active in zip(profiles.categories, of_layer.activation[unit], strict=True):
        c = next((c for c in ranked if categories[c] == category), None)
        found = ("-",) * 3 if c is None else (names[c], f"{iou[c]:.4f}", f"{both[c]:,}")
        rows.append((category, *found, f"{active:,}"))
    columns = ("category", "concept", "IoU>", "shared pixels>", "unit's pixels>")
    print_table(console, columns, rows)


def print_unit_images(console: Console, source: Activations, wanted: str, top: int) -> None:
    """Print the images of ``activations.h5`` on which a unit is most active."""
    layer, unit = parse_unit(
        wanted, {name: source[name].n_units for name in source.layers}, str(source.path)
    )
    peak = source[layer].peaks[:, unit]
    threshold, note = _find_threshold(source, layer, unit)
    chosen = top_images(peak, top)
    images = source.images
    counts = f"{len(chosen):,} of {len(peak):,} images"
    print_heading(console, f"{layer}:{unit}, highest peaks: {counts}")
    # Peaks and thresholds are float32 of stored values, so no rounding lies between them.
    fires = set() if threshold is None else set(np.flatnonzero(peak > threshold).tolist())
    if threshold is not None:
        note = (
            f"Above its threshold, {number(threshold, 6)}, on {len(fires):,} of {len(peak):,} "
            f"images ({share(len(fires), len(peak))})."
        )
    rows = [(number(float(peak[i]), 6), images[i], "yes" if i in fires else "no") for i in chosen]
    columns = ("peak>", "image", "above its threshold")
    keep = 2 if threshold is None else 3
    print_table(console, columns[:keep], [row[:keep] for row in rows])
    console.print(note)


def _find_threshold(source: Activations, layer: str, unit: int) -> tuple[float | None, str]:
    """Return a unit's threshold from the ``profiles.h5`` beside, or None and why there is none."""
    beside = source.path.with_name("profiles.h5")
    if not beside.is_file():
        return None, "Its threshold is unknown here: no profiles.h5 lies beside this file."
    try:
        with open_profiles(beside) as profiles, explain_damage(beside, "profiles"):
            if profiles.made_from.get("activations") != source.fingerprint:
                return None, f"Its threshold is unknown: {beside} was made from other activations."
            return float(profiles[layer].threshold[unit]), ""
    except ArtefactError as error:
        return None, f"Its threshold is unknown: {error}"


def print_concept_images(
    console: Console, source: Activations, wanted: str, root: Path, top: int
) -> None:
    """Print the images of ``activations.h5`` that contain a concept, by its data set's labels."""
    dataset = load_broden(root, source.config["dataset"]["split"])
    check_made_from(source.file, "dataset", dataset.fingerprint, str(root))
    names = [concept.name for concept in dataset.concepts]
    found = match_concepts(names, wanted, str(root / "label.csv"))
    counts = count_concept_pixels(dataset, found)
    for concept, pixels in zip(found, counts.T, strict=True):
        name, category = names[concept], dataset.concepts[concept].category
        chosen = top_images(pixels, int((pixels > 0).sum()))
        first = f", the first {top}" if len(chosen) > top else ""
        title = f"{name} ({category}): on {len(chosen):,} of {len(pixels):,} images{first}"
        print_heading(console, title)
        rows = []
        for i in chosen[:top]:
            row = dataset.rows[i]
            rows.append(
                (f"{pixels[i]:,}", share(int(pixels[i]), math.prod(row.label_size)), row.image)
            )
        if rows:
            print_table(console, ("label pixels>", "of all>", "image"), rows)
