"""One row a unit, as Network Dissection's ``tally.csv`` has it: ``units.csv``."""

from math import isfinite
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.chance import Chance
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.naming import match_concepts
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.artefacts.tables import CATEGORY_COLUMNS, UNIT_COLUMNS, write_artefact_table
from dissect_embed.mathematics.null import untested


def write_units(run: RunFolder, path: Path) -> None:
    """Write ``units.csv``: each unit's best concept, over all and a category.

    Columns: ``layer, unit, category, label, score`` (the best IoU); beside the unit's own null
    (``chance.h5``) ``p, q, null_mean, excess`` (score less that) and ``n_concepts``, how many
    concepts exceed what one in twenty of its draws exceeds: 0 where nothing goes beyond chance, 2
    and more where a unit has several meanings. For each category
    ``-label, -truth`` (pixels of the concept), ``-activation, -intersect`` (pixels) and ``-iou``.
    Units count from 0. A unit that overlaps no concept has an empty label; one that never fires has
    no p, and none has where the data set allows no draws (``Chance.no_p``).
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
            compared = chance.compare(layer, iou)
            for unit, (best, score) in enumerate(zip(*of_layer.best, strict=True)):
                row = [layer, unit, concept_category[best] if best >= 0 else ""]
                row += [names[best] if best >= 0 else "", repr(float(score))]
                row += [
                    f"{value:.4f}" if isfinite(value) else ""
                    for value in (numbers[unit] for numbers in compared[:4])
                ]
                row.append(int(compared.n_concepts[unit]) if isfinite(compared.p[unit]) else "")
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
    chance: Chance | None,
    concept: str | None = None,
) -> list[tuple[str, int, str, str, float, float, float]]:
    """Return layer, unit, concept, category, IoU, p, q: of each unit's best concept, or of one.

    Parameters
    ----------
    chance
        p and q are NaN where there is none.
    concept
        Its name, as ``match_concepts`` takes it: then the units that overlap it, best first.

    Raises
    ------
    ArtefactError
        If there is no such concept.
    """
    names, categories = profiles.concepts, profiles.concept_categories
    rows: list[tuple[str, int, str, str, float, float, float]] = []

    def test(layer: str, iou: Float[np.ndarray, "unit some"]) -> list[tuple[float, float]]:
        compared = untested(len(iou)) if chance is None else chance.compare(layer, iou)
        return list(zip(compared.p.tolist(), compared.q.tolist(), strict=True))

    if concept is None:
        for layer in profiles.layers:
            tests = test(layer, profiles[layer].iou)
            for unit, (c, iou) in enumerate(zip(*profiles[layer].best, strict=True)):
                name, category = (names[c], categories[c]) if c >= 0 else ("", "")
                rows.append((layer, unit, name, category, float(iou), *tests[unit]))
        return rows
    for c in match_concepts(names, concept, str(profiles.path)):
        of_layer = {k: test(k, profiles[k].iou[:, [c]]) for k in profiles.layers}
        rows += [
            (layer, unit, names[c], categories[c], iou, *of_layer[layer][unit])
            for layer, unit, iou in profiles.units_of(c)
        ]
    return sorted(rows, key=lambda row: -row[4])
