"""Tables as DataFrames of pandas, which is loaded when one is asked for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dissect_embed.artefacts.tables import COLUMNS, TEXTS

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
