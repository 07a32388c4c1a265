"""One row a unit, as Network Dissection's ``tally.csv`` has it: ``units.csv``."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.naming import match_concepts
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import CATEGORY_COLUMNS, UNIT_COLUMNS, write_artefact_table
from dissect_embed.mathematics.null import p_values


def write_units(run: RunFolder, path: Path) -> None:
    """Write ``units.csv``: each unit's best concept, over all and a category.

    Columns: ``layer, unit, category, label, score`` (the best IoU), ``p`` (how often chance finds a
    best IoU as high, ``chance.h5``), and for each category
    ``-label, -truth`` (pixels of the concept), ``-activation, -intersect`` (pixels) and ``-iou``.
    Units count from 0. A unit that overlaps no concept has an empty label.
    """
    with run.open_profiles() as profiles, run.open_chance() as chance:
        names, pixels = profiles.concepts, profiles.pixels
        concept_category = np.array(profiles.concept_categories)
        columns = list(UNIT_COLUMNS)
        columns += [
            f"{group}-{field}" for group in profiles.categories for field in CATEGORY_COLUMNS
        ]
        rows = []
        for layer in profiles.layers:
            of_layer = profiles[layer]
            iou, both, fired = of_layer.iou, of_layer.intersection, of_layer.activation
            p = p_values(of_layer.best.iou, chance.best(layer))
            for unit, (best, score) in enumerate(zip(*of_layer.best, strict=True)):
                row = [layer, unit, concept_category[best] if best >= 0 else ""]
                row += [names[best] if best >= 0 else "", repr(float(score))]
                row.append(f"{p[unit]:.4f}")
                for g, category in enumerate(profiles.categories):
                    members = np.flatnonzero(concept_category == category)
                    if not len(members) or iou[unit, members].max() == 0:
                        row += ["", 0, int(fired[unit, g]), 0, 0.0]
                        continue
                    top = members[iou[unit, members].argmax()]
                    row += [names[top], int(pixels[top]), int(fired[unit, g])]
                    row += [int(both[unit, top]), repr(float(iou[unit, top]))]
                rows.append(row)
        made_from = {"profiles": profiles.fingerprint, "chance": chance.fingerprint}
        config = profiles.config | {"chance": chance.config["chance"]}
    write_artefact_table(path, "units", rows, config, made_from, columns)


def unit_rows(
    profiles: Profiles,
    by_chance: Mapping[str, Float[np.ndarray, " pool"]],
    concept: str | None = None,
) -> list[tuple[str, int, str, str, float, float]]:
    """Return layer, unit, concept, category, IoU and p: of each unit's best concept, or of one.

    Parameters
    ----------
    by_chance
        The best IoU by chance, of all draws and units of each layer; p is NaN where there is none.
    concept
        Its name, as ``match_concepts`` takes it: then the units that overlap it, best first.

    Raises
    ------
    ArtefactError
        If there is no such concept.
    """
    names, categories = profiles.concepts, profiles.concept_categories
    rows: list[tuple[str, int, str, str, float, float]] = []

    def p_of(layer: str, iou: Float[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
        pool = by_chance.get(layer)
        return np.full(len(iou), np.nan) if pool is None else p_values(iou, pool)

    if concept is None:
        for layer in profiles.layers:
            best = profiles[layer].best
            for unit, (c, iou, p) in enumerate(
                zip(*best, p_of(layer, best.iou).tolist(), strict=True)
            ):
                name, category = (names[c], categories[c]) if c >= 0 else ("", "")
                rows.append((layer, unit, name, category, float(iou), p))
        return rows
    for c in match_concepts(names, concept, str(profiles.path)):
        p_of_layer = {k: p_of(k, profiles[k].iou[:, c]).tolist() for k in profiles.layers}
        rows += [
            (layer, unit, names[c], categories[c], iou, p_of_layer[layer][unit])
            for layer, unit, iou in profiles.units_of(c)
        ]
    return sorted(rows, key=lambda row: -row[4])
