"""One row a unit, as Network Dissection's ``tally.csv`` has it: ``units.csv``."""

from pathlib import Path

import numpy as np

from dissect_embed.cache import layer_names, open_artefact, read_strings
from dissect_embed.null import p_values
from dissect_embed.tables import write_table


def write_units(path: Path, profiles_path: Path) -> None:
    """Write ``units.csv``: each unit's best concept, over all and a category.

    Columns: ``layer, unit, category, label, score`` (the best IoU), ``p`` (how often chance finds a
    best IoU as high, ``null``), and for each category
    ``-label, -truth`` (pixels of the concept), ``-activation, -intersect`` (pixels) and ``-iou``.
    Units count from 0. A unit that overlaps no concept has an empty label.
    """
    with open_artefact(profiles_path, "profiles") as profiles:
        names = read_strings(profiles["labels/name"])
        pixels = profiles["labels/pixels"][:]
        concept_category = np.array(read_strings(profiles["labels/category"]))
        categories = read_strings(profiles["categories"])
        fields = ("label", "truth", "activation", "intersect", "iou")
        header = ["layer", "unit", "category", "label", "score", "p"]
        header += [f"{category}-{field}" for category in categories for field in fields]
        rows = []
        for layer in layer_names(profiles):
            group = profiles[f"layers/{layer}"]
            iou, both, fired = (group[k][:] for k in ("iou", "intersection", "activation"))
            p = p_values(iou.max(axis=1), group["null/best"][:].ravel())
            for unit in range(len(iou)):
                best = int(iou[unit].argmax())
                named = iou[unit, best] > 0
                row = [layer, unit, concept_category[best] if named else ""]
                row += [names[best] if named else "", repr(float(iou[unit, best]))]
                row.append(f"{p[unit]:.4f}")
                for g, category in enumerate(categories):
                    members = np.flatnonzero(concept_category == category)
                    if not len(members) or iou[unit, members].max() == 0:
                        row += ["", 0, int(fired[unit, g]), 0, 0.0]
                        continue
                    top = members[iou[unit, members].argmax()]
                    row += [names[top], int(pixels[top]), int(fired[unit, g])]
                    row += [int(both[unit, top]), repr(float(iou[unit, top]))]
                rows.append(row)
    write_table(path, header, rows)
