"""What units stand for by each kind of evidence, as ``evidence.csv`` has it."""

from collections.abc import Iterator

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.naming import parse_unit
from dissect_embed.inspection.tables import Part, heading, mean_of, share, table
from dissect_embed.mathematics.null import LEVEL

# What is measured by each.
MEASURES = {"pixels": "IoU", "images": "AUC", "words": "soft WPMI"}


def show_unit(run: RunFolder, wanted: str) -> Iterator[Part]:
    """Yield what one unit, ``LAYER:UNIT``, stands for by each."""
    rows = run.read_table("evidence").rows
    n_units = {row["layer"]: int(row["unit"]) + 1 for row in rows}
    layer, unit = parse_unit(wanted, n_units, str(run.path("evidence")))
    yield heading(f"{layer}:{unit} by each kind of evidence, beside its own chance")
    columns = ("by", "concept", "category", "", "score>", "by chance>", "p>", "q>")
    found = []
    for row in rows:
        if (row["layer"], row["unit"]) == (layer, str(unit)):
            score = f"{float(row['score']):.4f}" if row["score"] else "-"
            texts = (row["concept"] or "-", row["category"] or "-", MEASURES[row["kind"]], score)
            found.append((row["kind"], *texts, *(row[k] or "-" for k in ("null_mean", "p", "q"))))
    yield table(columns, found)


def show_evidence(run: RunFolder) -> Iterator[Part]:
    """Yield how many units of each layer stand for something by each kind of evidence."""
    of_layers: dict[str, dict[str, list[dict[str, str]]]] = {}
    read = run.read_table("evidence")
    for row in read.rows:
        of_layers.setdefault(row["layer"], {}).setdefault(row["kind"], []).append(row)
    found = []
    for layer, kinds in of_layers.items():
        for kind, rows in kinds.items():
            beyond = [bool(row["q"]) and float(row["q"]) <= LEVEL for row in rows]
            concepts = {row["concept"] for row, is_it in zip(rows, beyond, strict=True) if is_it}
            both = [
                (row["concept"], other["concept"])
                for row, other, is_it in zip(rows, kinds["pixels"], beyond, strict=True)
                if is_it and other["q"] and float(other["q"]) <= LEVEL
            ]
            agree = sum(one == other for one, other in both)
            found.append(
                (layer, kind, sum(beyond), share(sum(beyond), len(rows)), len(concepts),
                 mean_of(rows, "score"), mean_of(rows, "null_mean"),
                 f"{agree} of {len(both)}" if kind != "pixels" else ""),
            )  # fmt: skip
    yield heading(f"Units beyond chance (q at most {LEVEL:g}) by each kind of evidence")
    columns = (
        "layer",
        "by",
        "units>",
        "of all>",
        "concepts>",
        "score>",
        "by chance>",
        "as pixels>",
    )
    yield table(columns, found)
    used = read.config["evidence"]
    if used["pixels"]["no_p"]:
        yield f"No p by pixels: {used['pixels']['no_p']}."
    if not used["images"]["concepts"]:
        fewest = used["images"]["fewest"]
        yield (
            f"Nothing by images: no concept is in {fewest} images and lacks in {fewest} in which "
            "the same categories are labelled."
        )
