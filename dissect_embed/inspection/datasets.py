"""What ``dissect-embed describe`` prints of a data set."""

from collections.abc import Mapping
from typing import Any

from dissect_embed.inspection.tables import heading, number, open_console, pairs, share, table

# Concepts that are printed, of each category the most frequent; the JSON has all.
TOP = 12


def show_dataset(told: Mapping[str, Any]) -> None:
    """Print what a data set holds, as ``datasets.describing`` counted it."""
    console, n = open_console(), told["images"]
    console.print(
        pairs(
            [
                ("data set", f"{told['name']}, {told['root']}"),
                ("images", f"{n:,} of {told['image_size']} pixels"),
                ("label maps", _counts(told["label_sizes"], " pixels")),
                ("splits", _counts(told["splits"])),
                ("sources", _counts(told["sources"])),
            ]
        )
    )
    console.print(
        heading("Strata, within which labels are dealt out anew to see what chance gives")
    )
    console.print(
        table(
            ("images>", "of other categories>", "label map>", "categories"),
            [(f"{s['images']:,}", f"{s['joined']:,}" if s["joined"] else "", s["label_size"],
              ", ".join(s["categories"]) or "none") for s in told["strata"][:TOP]],
        )
    )  # fmt: skip
    if len(told["strata"]) > TOP:
        console.print(f"… {len(told['strata']) - TOP} more")
    for category in told["categories"]:
        concepts = [c for c in told["concepts"] if c["category"] == category["name"]]
        concepts.sort(key=lambda concept: -concept["images"])
        absent = [c for c in concepts if not c["images"]]
        console.print(
            heading(
                f"{category['name']}: {category['concepts']} concepts, labelled in "
                f"{category['images']:,} images ({share(category['images'], n)})"
            )
        )
        console.print(
            table(
                ("concept", "images>", "of them>", "coverage>"),
                [(c["name"], f"{c['images']:,}", share(c["images"], n), number(c["coverage"], 3))
                 for c in concepts[:TOP]],
            )
        )  # fmt: skip
        rest = len(concepts) - TOP
        if rest > 0:
            console.print(f"… {rest} more" + (f", {len(absent)} of no image" if absent else ""))


def _counts(counts: Mapping[str, int], unit: str = "") -> str:
    shown = [f"{name}{unit} {n:,}" for name, n in list(counts.items())[:TOP]]
    return ", ".join(shown) + (f", … ({len(counts)})" if len(counts) > TOP else "")
