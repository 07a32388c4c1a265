"""Finished runs side by side, two networks, two checkpoints, trained and random: ``compare.csv``.

Reads runs and writes into none. What each run says of itself, detectors and gain, stands beside the
same with wrong labels; what two say of each other, beside images or units shuffled.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import COLUMNS, read_table, table_frame, write_artefact_table
from dissect_embed.comparison.pairs import pair_rows
from dissect_embed.comparison.rows import Row
from dissect_embed.comparison.runs import NEEDED, describe_difference, name_runs
from dissect_embed.comparison.single import detector_rows, gain_rows, unit_rows
from dissect_embed.config import Dissection

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def compare(
    runs: Sequence[RunFolder | Path | str], dissection: Dissection = Dissection()
) -> "pd.DataFrame":
    """Return two or more finished runs side by side: a row a number, beside its control.

    Parameters
    ----------
    runs
        Runs, or their folders.
    dissection
        Its ``detector_iou`` is the bound of detectors; all else is that of the runs.

    Returns
    -------
    The columns of ``compare.csv`` (docs/files.md): ``run, other, layer, other_layer, similarity,
    category, statistic, null``, texts; ``value, null_mean, null_sd, excess, p``, missing where
    there is no control.

    Raises
    ------
    ArtefactError
        If there are not two different runs, one is half made, or two have too few images in common.
    """
    rows = _compare_runs(name_runs(runs), dissection.detector_iou)[0]
    columns = COLUMNS["compare"]
    return table_frame("compare", [dict(zip(columns, row.cells, strict=True)) for row in rows])


def write_comparison(
    runs: Sequence[RunFolder | Path | str],
    folder: Path | None = None,
    dissection: Dissection = Dissection(),
) -> Path:
    """Write ``compare.csv``, ``compare.svg``, ``compare.png`` and ``index.html``; see ``compare``.

    Parameters
    ----------
    folder
        Where to, by default ``compare/<run>-<run>`` beside the first run.

    Returns
    -------
    The folder.

    Raises
    ------
    ArtefactError
        As ``compare``.
    """
    from dissect_embed.comparison.page import write_page
    from dissect_embed.figures.compare import draw_comparison

    named = name_runs(runs)
    places = [run.folder.resolve() for run in named.values()]
    folder = folder or places[0].parent / "compare" / "-".join(place.name for place in places)
    rows, left_out = _compare_runs(named, dissection.detector_iou)
    config = {
        "runs": {name: run.config | {"folder": str(run.folder)} for name, run in named.items()},
        "dissection": {"detector_iou": dissection.detector_iou},
        "left_out": left_out,
    }
    made_from = {
        f"{name}/{kind}": fingerprint
        for name, run in named.items()
        for kind, fingerprint in _fingerprints(run).items()
    }
    path = folder / "compare.csv"
    write_artefact_table(path, "compare", [row.cells for row in rows], config, made_from)
    table = read_table(path, "compare")
    draw_comparison(table, folder / "compare")
    write_page(table, named, folder / "index.html")
    return folder


def _compare_runs(runs: Mapping[str, RunFolder], least_iou: float) -> tuple[list[Row], str]:
    """Return all rows, and why what depends on labels is left out of them; empty if it is not.

    Counts of detectors and gains compare where masks and labels were made alike.
    """
    left_out = describe_difference(runs)
    if left_out:
        logger.warning("without detectors, gains and concepts, which do not compare: %s", left_out)
    rows: list[Row] = []
    for name, run in runs.items():
        rows += unit_rows(name, run)
        if not left_out:
            rows += detector_rows(name, run, least_iou)
            rows += gain_rows(name, run)
    for (name, one), (other_name, other) in combinations(runs.items(), 2):
        rows += pair_rows(name, one, other_name, other, labelled=not left_out)
    return rows, left_out


def _fingerprints(run: RunFolder) -> dict[str, str]:
    """Return those of what is read of a run; of its controls that of the vectors they tell of."""
    found = {kind: run.header(kind)["fingerprint"] for kind in NEEDED if kind != "controls"}
    return found | {"embedding": run.header("controls")["made_from"]["embedding"]}
