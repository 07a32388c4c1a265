"""The page of a comparison: its figure, its numbers, and links to the atlases of its runs."""

import base64
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import Table

# How the statistics of two runs are called there, and their controls.
STATISTICS = {
    "cka": "CKA of peaks",
    "similarity_cka": "CKA of P",
    "matched_correlation": "matched units: correlation",
    "matched_concept": "matched units: share of one concept",
}
# Digits after the point; all else is counted.
DIGITS = dict.fromkeys(STATISTICS, 3) | {"gain": 4}
NULLS = {"images_shuffled": "images shuffled", "units_shuffled": "units shuffled"}


def write_page(table: Table, runs: Mapping[str, RunFolder], path: Path) -> None:
    """Write the page of a ``compare.csv``; its figure, ``compare.svg``, must lie beside ``path``.

    The page holds all it shows and loads nothing. Atlases are linked by where they lie as seen from
    its folder.
    """
    of_runs: dict[tuple[str, str], dict[tuple[str, str], dict[str, str]]] = {}
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for row in table.rows:
        if not row["other"]:
            told = of_runs.setdefault((row["layer"], row["run"]), {})
            told[row["statistic"], row["category"] or row["similarity"]] = row
            continue
        pair = pairs.setdefault((row["run"], row["other"]), {"rows": []})
        if row["statistic"] in STATISTICS:
            pair["rows"].append(row)
        elif row["statistic"] == "images":
            pair["images"] = row
    layers = list(dict.fromkeys(layer for layer, _ in of_runs))
    drawing = path.with_name("compare.svg").read_bytes()
    package = files("dissect_embed.comparison")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": _number, "control": _control}
    template = environment.from_string(package.joinpath("page.html.j2").read_text("utf-8"))
    page = template.render(
        runs={name: table.config["runs"][name] for name in runs},
        atlases={name: _find_atlas(run, path.parent) for name, run in runs.items()},
        # Layer after layer, the runs of each in their order.
        of_runs=dict(sorted(of_runs.items(), key=lambda item: layers.index(item[0][0]))),
        pairs=pairs,
        categories=_values(table, "detectors", "category"),
        similarities=_values(table, "gain", "similarity"),
        least_iou=table.config["dissection"]["detector_iou"],
        left_out=table.config["left_out"],
        statistics=STATISTICS,
        nulls=NULLS,
        drawing=base64.b64encode(drawing).decode("ascii"),
    )
    with atomic_path(path) as part:
        part.write_text(page, "utf-8")


def _find_atlas(run: RunFolder, folder: Path) -> str:
    """Return the address of a run's atlas as seen from a folder; empty where there is none."""
    atlas = run.folder.resolve() / "atlas/index.html"
    return quote(Path(os.path.relpath(atlas, folder.resolve())).as_posix()) * atlas.is_file()


def _values(table: Table, statistic: str, column: str) -> list[str]:
    found = (row[column] for row in table.rows if row["statistic"] == statistic)
    return [value for value in dict.fromkeys(found) if value]


def _number(row: Mapping[str, str]) -> str:
    """Return the value of a row, a count whole; a dash where there is none."""
    if not row["value"]:
        return "–"
    return _digits(row["value"], DIGITS.get(row["statistic"], 0))


def _control(row: Mapping[str, str]) -> str:
    """Return what a row's control gives; empty where it has none."""
    if not row["null_mean"]:
        return ""
    digits = DIGITS.get(row["statistic"], 1)
    mean, sd = (_digits(row[name], digits) for name in ("null_mean", "null_sd"))
    return f"{mean} ± {sd}, p {float(row['p']):.3f}"


def _digits(text: str, digits: int) -> str:
    # Without the sign of what is rounded to zero.
    return f"{round(float(text), digits) + 0.0:,.{digits}f}"
