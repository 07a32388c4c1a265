"""Tables as DataFrames of pandas, which is loaded when one is asked for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dissect_embed.artefacts.folder import RunFolder
from dissect_embed.artefacts.tables import COLUMNS, TEXTS, MeanOverlap, mean_overlaps

if TYPE_CHECKING:
    import pandas as pd

# Columns of whole numbers that not every row has.
WHOLE = {"scores": ("seed", "epoch"), "importance": ("unit",)}


def table_frame(kind: str, rows: Sequence[Mapping[str, str]]) -> "pd.DataFrame":
    """Return the rows of a table that was read, numbers as numbers."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS[kind]))
    # By name, not by looks: a layer may be called "1", and a concept "nan".
    numbers = [name for name in COLUMNS[kind] if name not in TEXTS]
    frame[numbers] = frame[numbers].apply(pd.to_numeric)
    return frame.astype(dict.fromkeys(WHOLE.get(kind, ()), "Int64"))


def as_frame(rows: Any, columns: tuple[str, ...]) -> "pd.DataFrame":
    """Return rows as they are, with the names of their columns."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))


class RunTables(RunFolder):
    """The files of a run, of which the tables are to be had as DataFrames."""

    def scores(self) -> "pd.DataFrame":
        """Return the scores along training: layer, similarity, method, seed, epoch, kl (nats)."""
        return table_frame("scores", self.read_table("scores").rows)

    def controls(self) -> "pd.DataFrame":
        """Return what the scores are compared with: layer, statistic, value, its null, p."""
        return table_frame("controls", self.read_table("controls").rows)

    def pairs(self) -> "pd.DataFrame":
        """Return the pairs of units whose vectors add up to a third's, beside what chance gives."""
        return table_frame("pairs", self.read_table("pairs").rows)

    def importance(self, layer: str | None = None) -> "pd.DataFrame":
        """Return what the network gets right before and after units are set to their means.

        Columns as in ``importance.csv``: a row a unit and class, and of all classes together an
        empty one. Of the ``k`` most important together there is no ``unit``.
        """
        return self._of_layer("importance", layer)

    def compositions(self, layer: str | None = None) -> "pd.DataFrame":
        """Return the formula of concepts that each unit overlaps best, and what it gains.

        Columns as in ``compositions.csv``.
        """
        return self._of_layer("compositions", layer)

    def evidence(self, layer: str | None = None) -> "pd.DataFrame":
        """Return what units stand for by labelled pixels, labelled images, and words.

        Columns as in ``evidence.csv``: a row a unit and kind of evidence.
        """
        return self._of_layer("evidence", layer)

    def _of_layer(self, kind: str, layer: str | None) -> "pd.DataFrame":
        frame = table_frame(kind, self.read_table(kind).rows)
        return frame if layer is None else frame[frame["layer"] == self.check_layer(layer)]

    def overlap(self) -> "pd.DataFrame":
        """Return how far masks overlap on images not learned from, in the mean over units.

        Columns ``layer, similarity, units, nearest, any, best``: the IoU of each with its nearest
        by vector, with any other, and with the one that overlaps it most, the best choice possible.
        """
        means = mean_overlaps(self.read_table("overlap").rows)
        rows = [(*key, *mean) for key, mean in means.items()]
        return as_frame(rows, ("layer", "similarity", *MeanOverlap._fields))
