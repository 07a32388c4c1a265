"""The formulas of concepts that units overlap best, as ``compositions.csv`` has them."""

from collections.abc import Iterator

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.naming import parse_unit
from dissect_embed.inspection.tables import Part, heading, mean_of, table
from dissect_embed.mathematics.null import LEVEL

Row = dict[str, str]


def show_formula(run: RunFolder, wanted: str) -> Iterator[Part]:
    """Yield the formula of one unit, ``LAYER:UNIT``, and what it stands beside."""
    rows = run.read_table("compositions").rows
    n_units = {row["layer"]: int(row["unit"]) + 1 for row in rows}
    layer, unit = parse_unit(wanted, n_units, str(run.path("compositions")))
    row = next(r for r in rows if (r["layer"], r["unit"]) == (layer, str(unit)))
    if not row["formula"]:
        yield heading(f"{layer}:{unit} overlaps no formula of concepts")
        return
    yield heading(f"{layer}:{unit} by a formula: {row['formula']}")
    columns = ("IoU>", "best concept's>", "gain>", "gain on other images>", "IoU by chance>", "q>")
    numbers = [f"{float(row[name]):.4f}" for name in ("iou", "concept_iou", "gain", "held_out")]
    yield table(columns, [(*numbers, row["null_mean"] or "-", row["q"] or "-")])


def show_formulas(run: RunFolder) -> Iterator[Part]:
    """Yield what the formulas of each layer's units gain, in the mean over those that fire."""
    of_layers: dict[str, list[Row]] = {}
    for row in run.read_table("compositions").rows:
        of_layers.setdefault(row["layer"], []).append(row)
    found = []
    for layer, rows in of_layers.items():
        fire = [row for row in rows if row["sampled"]]
        beyond = sum(bool(row["q"]) and float(row["q"]) <= LEVEL for row in rows)
        names = ("concept_iou", "iou", "gain", "held_out", "null_mean")
        found.append((layer, f"{len(fire):,}", *(mean_of(fire, n) for n in names), f"{beyond:,}"))
    yield heading("Formulas of up to three concepts, mean over units that fire")
    columns = (
        "layer", "units>", "concept>", "formula>", "gain>", "on other images>",
        "formula by chance>", f"q at most {LEVEL:g}>",
    )  # fmt: skip
    yield table(columns, found)
