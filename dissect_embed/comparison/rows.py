"""A row of ``compare.csv``."""

from typing import NamedTuple

from dissect_embed.artefacts.tables import control_cells
from dissect_embed.mathematics.controls import Control, control_of


class Row(NamedTuple):
    """A number and its control; texts are empty where they say nothing."""

    run: str
    other: str  # of what is told of two runs
    layer: str
    other_layer: str
    similarity: str
    category: str  # empty for all
    statistic: str
    null: str
    control: Control

    @property
    def cells(self) -> list[str]:
        """As they stand in the table."""
        return [*self[:-1], *control_cells(self.control)]


def make_row(
    run: str, layer: str, statistic: str, control: Control | float | int, **texts: str
) -> Row:
    """Return a row, of a number without a control as well."""
    empty = dict.fromkeys(("other", "other_layer", "similarity", "category", "null"), "")
    control = control if isinstance(control, Control) else control_of(float(control))
    return Row(run=run, layer=layer, statistic=statistic, control=control, **(empty | texts))
