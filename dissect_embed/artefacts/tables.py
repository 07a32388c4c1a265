"""Read and write the CSV files that stages exchange: ``units.csv, scores.csv, controls.csv``."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.files import atomic_path
from dissect_embed.errors import ArtefactError

SCORE_COLUMNS = ("layer", "method", "seed", "epoch", "kl")
CONTROL_COLUMNS = ("layer", "statistic", "seed", "value", "null_mean", "null_sd", "p")


def write_table(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ","
) -> None:
    """Write a CSV file; it gets its name when it is whole."""
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n", delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: Path, columns: Sequence[str], rule: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file that ``write_table`` wrote.

    Parameters
    ----------
    columns
        The header it must have.
    rule
        The stage that makes it, named in the remedy.

    Raises
    ------
    ArtefactError
        If the file is missing, has other columns, a row of another length, or no row.
    """
    if not path.is_file():
        msg = f"{path}: missing; make it with 'dissect-embed {rule}' or snakemake"
        raise ArtefactError(msg)
    remedy = f"delete it and run 'snakemake --forcerun {rule}'"
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header != list(columns):
            msg = (
                f"{path}:1: expected the columns {','.join(columns)}, "
                f"found {','.join(header)!r}; {remedy}"
            )
            raise ArtefactError(msg)
        rows = []
        for cells in reader:
            if len(cells) != len(header):
                msg = (
                    f"{path}:{reader.line_num}: {len(cells)} cells, "
                    f"expected {len(header)}; {remedy}"
                )
                raise ArtefactError(msg)
            rows.append(dict(zip(header, cells, strict=True)))
    if not rows:
        msg = f"{path}: it has no row; {remedy}"
        raise ArtefactError(msg)
    return rows


def score_curve(
    rows: Sequence[dict[str, str]], layer: str, method: str
) -> Float[np.ndarray, "seed epoch"]:
    """Return the KL of one layer and method of ``scores.csv``, nats; (1, 1) for the limit."""
    found = [r for r in rows if r["layer"] == layer and r["method"] == method]
    seeds = dict.fromkeys(r["seed"] for r in found)
    return np.array([[float(r["kl"]) for r in found if r["seed"] == s] for s in seeds])
