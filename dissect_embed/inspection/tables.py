"""Lay plain data out as text: 80 columns in a terminal, whole lines where it goes to a file."""

import io
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# What is printed, one below the other.
Part = str | Text | Table


def open_console() -> Console:
    """Return a console for standard output that shows names as they are.

    What is no terminal gets lines of any length and no colour, so that nothing is cut or wrapped
    for whoever searches the file. A character that the terminal's encoding lacks shows as "?".
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    width = None if sys.stdout.isatty() else 100_000
    # Without markup, "[a]" and ":dog:" in a name stay what they are.
    return Console(width=width, markup=False, emoji=False, highlight=False)


def heading(text: str) -> Text:
    """Return what a table below is about, after an empty line."""
    return Text(f"\n{text}", style="bold")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return rows below the names of their columns.

    Parameters
    ----------
    columns
        A name that ends in ``>`` sets its column flush right: numbers.
    """
    laid_out = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        if name.endswith(">"):
            laid_out.add_column(name[:-1], justify="right", no_wrap=True)
        else:
            laid_out.add_column(name, overflow="fold")
    for row in rows:
        laid_out.add_row(*map(str, row))
    return laid_out


def pairs(values: Iterable[tuple[str, str]]) -> Table:
    """Return names and what they stand for, side by side."""
    grid = table(("name", "value"), values)
    grid.show_header, grid.columns[0].style = False, "bold"
    return grid


def settings(config: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, str]]:
    """Yield settings section by section; those that nobody set are left out.

    Examples
    --------
    >>> list(settings({"model": {"name": "a", "axes": {}, "input": {"size": [8, 8]}}, "shard": 1}))
    [('model', 'name a'), ('model.input', 'size 8 8'), ('shard', '1')]
    """
    plain = {k: v for k, v in config.items() if not isinstance(v, dict)}
    if not name:
        for key, value in config.items():
            yield from settings(value, key) if key not in plain else [(key, describe(value))]
        return
    if plain:
        yield name, describe({k: v for k, v in plain.items() if v is not None})
    for key, value in config.items():
        if key not in plain:
            yield from settings(value, f"{name}.{key}")


def describe(value: object) -> str:
    """Return a setting on one line, floats with at most six digits.

    Examples
    --------
    >>> describe({"lr": 0.1, "milestones": [50, 75], "weights": None})
    'lr 0.1, milestones 50 75, weights -'
    """
    if isinstance(value, dict):
        return ", ".join(f"{key} {describe(v)}" for key, v in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(describe, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def number(value: float, digits: int = 4) -> str:
    """Return a number with some significant digits; a dash where there is none.

    Examples
    --------
    >>> number(0.0019531), number(20000.0), number(float("nan"))
    ('0.001953', '20000', '-')
    """
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if 10**digits <= abs(value) < 10**9 else f"{value:.{digits}g}"


def mean_of(rows: Iterable[Mapping[str, str]], column: str) -> str:
    """Return the mean of a table's column over the rows that have a number there, four decimals.

    Examples
    --------
    >>> mean_of([{"iou": "0.5"}, {"iou": ""}, {"iou": "0.25"}], "iou"), mean_of([], "iou")
    ('0.3750', '-')
    """
    values = [float(row[column]) for row in rows if row[column]]
    return f"{sum(values) / len(values):.4f}" if values else "-"


def share(part: int, whole: int) -> str:
    """Return a part in percent.

    Examples
    --------
    >>> share(1, 8)
    '12.5 %'
    """
    return f"{100 * part / whole:.1f} %"


def shape(sizes: Iterable[int]) -> str:
    """Return a shape for people.

    Examples
    --------
    >>> shape((2000, 64, 56, 56))
    '2000×64×56×56'
    """
    return "×".join(map(str, sizes)) or "scalar"
