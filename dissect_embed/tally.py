"""One row a unit, as Network Dissection's ``tally.csv`` has it: ``units.csv``."""

from pathlib import Path

import numpy as np

from dissect_embed.artefacts.profiles import open_profiles
from dissect_embed.artefacts.tables import write_table
from dissect_embed.mathematics.null import p_values


def write_units(path: Path, profiles_path: Path) -> None:
    """Write ``units.csv``: each unit's best concept, over all and a category.

    Columns: ``layer, unit, category, label, score`` (the best IoU), ``p`` (how often chance finds a
    best IoU as high, ``null``), and for each category
    ``-label, -truth`` (pixels of the concept), ``-activation, -intersect`` (pixels) and ``-iou``.
    Units count from 0. A unit that overlaps no concept has an empty label.
    """
    with open_profiles(profiles_path) as profiles:
        names, pixels = profiles.concepts, profiles.pixels
        concept_category = np.array(profiles.concept_categories)
        fields = ("label", "truth", "activation", "intersect", "iou")
        header = ["layer", "unit", "category", "label", "score", "p"]
        header += [f"{category}-{field}" for category in profiles.categories for field in fields]
        rows = []
        for layer in profiles.layers:
            of_layer = profiles[layer]
            iou, both, fired = of_layer.iou, of_layer.intersection, of_layer.activation
            p = p_values(of_layer.best.iou, of_layer.null)
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
    write_table(path, header, rows)
