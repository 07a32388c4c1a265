"""The tables that stages exchange: a CSV file, and a JSON beside it that says what it is.

``scores.csv.json`` carries what the attributes of an HDF5 file do (``files``): schema, version,
settings, the fingerprints of what the table was made from, and its own, the SHA-256 of its bytes.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.artefacts.headers import check_version, describe
from dissect_embed.artefacts.kinds import KINDS, WITHOUT_RULE, remedy
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.controls import Control
from dissect_embed.mathematics.null import LEVEL

COLUMNS = {
    "evidence": (
        "layer", "unit", "kind", "concept", "category", "score", "null_mean", "excess", "p", "q",
    ),
    "scores": ("layer", "similarity", "method", "seed", "epoch", "kl"),
    "controls": (
        "layer", "similarity", "statistic", "null", "seed", "value",
        "null_mean", "null_sd", "excess", "p",
    ),
    "relations": (
        "layer", "similarity", "unit", "rank", "neighbour", "cosine", "overlap", "any", "drawn",
        "drawn_overlap", "label", "score", "neighbour_label", "neighbour_score",
    ),
    "pairs": (
        "layer", "similarity", "rank", "first", "second", "target", "cosine", "first_cosine",
        "second_cosine", "gain", "start_gain", "overlap", "overlap_gain", "drawn_first",
        "drawn_second", "drawn_overlap", "drawn_overlap_gain", "first_label", "second_label",
        "target_label",
    ),
    "overlap": (
        "layer", "similarity", "fires", "unit", "rank", "neighbour", "cosine", "overlap", "any",
        "drawn", "drawn_overlap", "best", "best_overlap",
    ),
    "compare": (
        "run", "other", "layer", "other_layer", "similarity", "category", "statistic", "null",
        "value", "null_mean", "null_sd", "excess", "p",
    ),
    "compositions": (
        "layer", "unit", "formula", "length", "iou", "concept", "concept_iou", "gain", "held_out",
        "sampled", "null_mean", "excess", "p", "q",
    ),
    "importance": (
        "layer", "k", "unit", "class", "images", "before", "after", "drop", "lost", "gained", "p",
        "q",
    ),
    "ablation": (
        "layer", "similarity", "statistic", "null", "units", "value", "null_mean", "null_sd",
        "excess", "p",
    ),
}  # fmt: skip
# Of those, what is text and no number.
TEXTS = (
    "layer", "similarity", "method", "statistic", "null", "class", "units",
    "label", "neighbour_label", "first_label", "second_label", "target_label",
    "run", "other", "other_layer", "category", "formula", "kind", "concept",
)  # fmt: skip
# Those of units.csv, and for each category more.
UNIT_COLUMNS = (
    "layer", "unit", "category", "label", "score", "p", "q", "null_mean", "excess", "n_concepts"
)  # fmt: skip
CATEGORY_COLUMNS = ("label", "truth", "activation", "intersect", "iou")


class Table(NamedTuple):
    """A table that was read, with what lies beside it."""

    rows: list[dict[str, str]]
    config: dict[str, Any]
    made_from: dict[str, str]


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ","
) -> None:
    """Write a CSV file; it gets its name when it is whole."""
    with atomic_path(path) as part:
        part.write_bytes(_as_csv(columns, rows, delimiter))


def write_artefact_table(
    path: Path,
    kind: str,
    rows: Iterable[Sequence[object]],
    config: Mapping[str, Any],
    made_from: Mapping[str, str],
    columns: Sequence[str] = (),
) -> None:
    """Write a table that stages exchange, and the JSON beside it.

    Parameters
    ----------
    kind
        One of ``kinds.KINDS``.
    columns
        By default those of the kind.
    """
    content = _as_csv(columns or COLUMNS[kind], rows, ",")
    header = describe(kind, config, made_from)
    header["fingerprint"] = hashlib.sha256(content).hexdigest()
    # The table comes last: as long as it lacks its name, nothing is there.
    with atomic_path(path) as part:
        part.write_bytes(content)
        with atomic_path(_beside(path)) as beside:
            beside.write_text(json.dumps(header, indent=1, sort_keys=True) + "\n", "utf-8")


def read_table(path: Path, kind: str) -> Table:
    """Return a table that ``write_artefact_table`` wrote, checked.

    Raises
    ------
    ArtefactError
        If it or the JSON beside it is missing, it was changed since, it is of another kind or
        version, has other columns, a row of another length, or no row.
    """
    path = Path(path)
    made_by = f"'dissect-embed {KINDS[kind].rule}'" + " or snakemake" * (kind not in WITHOUT_RULE)
    for needed in (path, _beside(path)):
        if not needed.is_file():
            msg = f"{needed}: missing; make it with {made_by}"
            raise ArtefactError(msg)
    try:
        header = json.loads(_beside(path).read_text("utf-8"))
        config, made_from = dict(header["config"]), dict(header["made_from"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{_beside(path)}: damaged ({error}); {remedy(kind)}"
        raise ArtefactError(msg) from error
    check_version(_beside(path), header, kind)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != header.get("fingerprint"):
        msg = (
            f"{path}: not the table that {_beside(path).name} tells of: one of the two was "
            f"changed or replaced; {remedy(kind)}"
        )
        raise ArtefactError(msg)
    return Table(_read_rows(path, content, kind), config, made_from)


def _read_rows(path: Path, content: bytes, kind: str) -> list[dict[str, str]]:
    reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    header = next(reader, [])
    columns = list(COLUMNS.get(kind, header))
    if header != columns:
        msg = (
            f"{path}:1: expected the columns {','.join(columns)}, "
            f"found {','.join(header)!r}; {remedy(kind)}"
        )
        raise ArtefactError(msg)
    rows = []
    for cells in reader:
        if len(cells) != len(header):
            msg = (
                f"{path}:{reader.line_num}: {len(cells)} cells, "
                f"expected {len(header)}; {remedy(kind)}"
            )
            raise ArtefactError(msg)
        rows.append(dict(zip(header, cells, strict=True)))
    # A layer of two units has no pair, one of a single unit no neighbour.
    if not rows and kind not in ("relations", "pairs", "overlap"):
        msg = f"{path}: it has no row; {remedy(kind)}"
        raise ArtefactError(msg)
    return rows


def control_cells(control: Control) -> list[str]:
    """Return value, mean and deviation of its control, excess, p; empty where there is none."""
    numbers = (*control[:3], control.excess, control.p)
    return [repr(number) if isfinite(number) else "" for number in numbers]


def score_curve(
    rows: Sequence[dict[str, str]], layer: str, method: str, similarity: str = ""
) -> Float[np.ndarray, "seed epoch"]:
    """Return the KL of one layer and method of ``scores.csv``, nats; (1, 1) for the limit.

    Parameters
    ----------
    similarity
        Empty for what belongs to none: ``random``, ``supervised``.
    """
    wanted = (layer, similarity, method)
    found = [r for r in rows if (r["layer"], r["similarity"], r["method"]) == wanted]
    seeds = dict.fromkeys(r["seed"] for r in found)
    return np.array([[float(r["kl"]) for r in found if r["seed"] == s] for s in seeds])


class MeanOverlap(NamedTuple):
    """How far the masks of two units of a layer overlap, in the mean over units that fire."""

    units: int  # that fire on the images looked at
    nearest: float  # a unit and its nearest by vectors
    any: float  # any two
    best: float  # a unit and the one that overlaps it most


def mean_overlaps(rows: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], MeanOverlap]:
    """Return the means of ``overlap.csv``, by layer and similarity."""
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for row in rows:
        if row["rank"] == "1" and int(row["fires"]) and row["best"]:
            values = tuple(float(row[name]) for name in ("overlap", "any", "best_overlap"))
            found.setdefault((row["layer"], row["similarity"]), []).append(values)
    return {
        key: MeanOverlap(len(of), *(sum(column) / len(of) for column in zip(*of, strict=True)))
        for key, of in found.items()
    }


class Loss(NamedTuple):
    """The class that loses most without a unit, beyond chance."""

    name: str
    images: int  # that have it
    before: float  # per cent of them that are right
    after: float
    drop: float  # points
    q: float


def largest_losses(rows: Iterable[Mapping[str, str]]) -> dict[str, dict[int, Loss | None]]:
    """Return of each layer and unit of ``importance.csv`` the class that loses most.

    None for a unit without which no class loses beyond chance (q at most 0.05).
    """
    found: dict[str, dict[int, Loss | None]] = {}
    for row in rows:
        if not row["unit"]:
            continue  # of several together
        of_layer, unit = found.setdefault(row["layer"], {}), int(row["unit"])
        best = of_layer.setdefault(unit, None)
        drop, q = float(row["drop"]), float(row["q"])
        if row["class"] and q <= LEVEL and drop > (best.drop if best else 0.0):
            before, after = float(row["before"]), float(row["after"])
            of_layer[unit] = Loss(row["class"], int(row["images"]), before, after, drop, q)
    return found


def _as_csv(columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")
