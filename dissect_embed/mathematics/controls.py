"""A number, and beside it what its control gives: no statistic here stands alone."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Control(NamedTuple):
    """A statistic beside what its control gives: mean, standard deviation, one-sided p-value.

    Where there is no control, the numbers after the value are NaN.
    """

    value: float
    null_mean: float
    null_sd: float
    p: float

    @property
    def excess(self) -> float:
        """The value less the mean of its control."""
        return self.value - self.null_mean


def control_of(value: float, null: Float[np.ndarray, " draw"] | None = None) -> Control:
    """Set a value beside draws of its control, of which p are as high, the value counted in.

    Examples
    --------
    >>> control_of(0.5, np.array([0.1, 0.3, 0.5]))[1::2]
    (0.3, 0.5)
    >>> control_of(0.5).p
    nan
    """
    if null is None or not np.isfinite(value):
        return Control(value, np.nan, np.nan, np.nan)
    p = (1 + int((null >= value).sum())) / (1 + len(null))
    return Control(value, float(null.mean()), float(null.std(ddof=1)), p)
