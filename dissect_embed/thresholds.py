"""Exact quantiles of every unit's activations, in bounded memory.

Network Dissection calls a unit active where it exceeds the 99.5 % quantile of its own activations.
Estimates of that quantile are off by a percent or so; here it is the exact order statistic, found
without sorting: floating-point numbers of one sign are ordered as their bits are when read as
integers, so the few thousand values that float16 can take above a floor are counted in a histogram,
a bin a value. The floor comes from a sample and only saves time: where it turns out too high, the
units concerned are counted again from the bottom.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int

# Counts are flushed into the histogram when so many values are waiting.
FLUSH = 4_000_000


def compute_thresholds(
    batches: Callable[[], Iterable[np.ndarray]],
    sample: Float[np.ndarray, "image unit *grid"],
    n_values: int,
    quantile: float,
) -> Float[np.ndarray, " unit"]:
    """Return for each unit the smallest of its values that at most a share of them exceed.

    With a share of 0.005 this is the 99.5 % quantile ([BAU17] section 2.2).

    Parameters
    ----------
    batches
        Called for each pass over the data; yields the activation maps, (images, units, …), float16
        or float32, finite.
    sample
        Some of the maps, to guess where to start counting. It decides the time taken, nothing else.
    n_values
        The values a unit has in all, images times positions.
    quantile
        The share of values that may exceed the threshold.

    Examples
    --------
    >>> maps = np.arange(1000, dtype=np.float16).reshape(10, 1, 10, 10)
    >>> compute_thresholds(lambda: [maps], maps[:2], 1000, quantile=0.005)
    array([994.], dtype=float32)
    """
    allowed = allowed_above(n_values, quantile)
    n_units = sample.shape[1]
    floor = _guess_floor(sample, quantile)
    high = np.zeros(n_units, dtype=np.int64)  # the 16 upper bits of the threshold's key
    above = np.zeros(n_units, dtype=np.int64)  # values with greater upper bits
    pending = np.ones(n_units, dtype=bool)
    while pending.any():
        histogram = _count_from(batches(), floor, pending)
        place, greater, found = _find_rank(histogram, allowed)
        resolved = pending & found
        high[resolved] = floor[resolved] + place[resolved]
        above[resolved] = greater[resolved]
        pending &= ~found
        floor[pending] = np.iinfo(np.int16).min
    if sample.dtype == np.float16:
        return _from_key(high.astype(np.int16)).astype(np.float32)
    histogram = _count_low_bits(batches(), high)
    low, _, _ = _find_rank(histogram, allowed - above)
    return _from_key((high * 65536 + low).astype(np.int32))


def allowed_above(n_values: int, quantile: float) -> int:
    """Return how many of some values may exceed a quantile's threshold, exactly.

    Examples
    --------
    >>> allowed_above(200, 0.005), allowed_above(199, 0.005)
    (1, 0)
    """
    return int(Fraction(str(quantile)) * n_values)


def _key(values: Float[np.ndarray, "*any"]) -> Int[np.ndarray, "*any"]:
    """Map floats to integers of the same order: -1.5 < -0.0 < 0.0 < 1.5."""
    bits: Any = np.ascontiguousarray(values).view(
        np.int16 if values.dtype == np.float16 else np.int32
    )
    if bits.size and bits.min() >= 0:
        return bits  # after a ReLU: no sign bit anywhere
    magnitude = np.iinfo(bits.dtype).max
    keys: Int[np.ndarray, "*any"] = np.where(bits < 0, bits ^ magnitude, bits)
    return keys


def _from_key(keys: Int[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    dtype: Any = keys.dtype
    bits = np.where(keys < 0, keys ^ np.iinfo(dtype).max, keys)
    return bits.view(np.float16 if keys.dtype == np.int16 else np.float32)


def _high(values: Float[np.ndarray, "image unit *grid"]) -> Int[np.ndarray, "image unit value"]:
    """Return the 16 upper bits of the keys: all of them for float16."""
    keys = _key(values).reshape(*values.shape[:2], -1)
    return keys if keys.dtype == np.int16 else (keys >> 16).astype(np.int16)


def _guess_floor(
    sample: Float[np.ndarray, "image unit *grid"], quantile: float
) -> Int[np.ndarray, " unit"]:
    """Guess a key that certainly more than the allowed share of a unit's values reach."""
    keys = np.moveaxis(_high(sample), 1, 0).reshape(sample.shape[1], -1)
    rank = min(keys.shape[1] - 1, int(4 * quantile * keys.shape[1]) + 8)
    return -np.partition(-keys.astype(np.int32), rank, axis=1)[:, rank]


def _count_from(
    batches: Iterable[np.ndarray],
    floor: Int[np.ndarray, " unit"],
    wanted: np.ndarray,
) -> Int[np.ndarray, "unit bin"]:
    """Count each key from the floor up; bin 0 is the floor. Units not wanted stay at zero."""
    n_units = len(floor)
    n_bins = int(np.iinfo(np.int16).max - floor[wanted].min()) + 1
    start = np.where(wanted, floor, np.iinfo(np.int16).max).astype(np.int16)
    histogram = np.zeros(n_units * n_bins, dtype=np.int64)
    waiting: list[np.ndarray] = []
    for maps in batches:
        keys = _high(maps)
        n_positions = keys.shape[2]
        found = np.flatnonzero(keys >= start[:, None])
        unit = found // n_positions % n_units
        waiting.append(unit * n_bins + (keys.ravel()[found] - floor[unit]))
        if sum(len(w) for w in waiting) > FLUSH:
            histogram += np.bincount(np.concatenate(waiting), minlength=len(histogram))
            waiting = []
    if waiting:
        histogram += np.bincount(np.concatenate(waiting), minlength=len(histogram))
    return histogram.reshape(n_units, n_bins)


def _count_low_bits(
    batches: Iterable[np.ndarray], high: Int[np.ndarray, " unit"]
) -> Int[np.ndarray, "unit bin"]:
    """Count the 16 lower bits of the float32 values whose upper bits are a unit's own."""
    n_units = len(high)
    histogram = np.zeros(n_units * 65536, dtype=np.int64)
    for maps in batches:
        keys = _key(maps).reshape(len(maps), n_units, -1)
        found = np.flatnonzero((keys >> 16) == high[:, None])
        unit = found // keys.shape[2] % n_units
        low = keys.ravel()[found] & 0xFFFF
        histogram += np.bincount(unit * 65536 + low, minlength=len(histogram))
    return histogram.reshape(n_units, 65536)


def _find_rank(
    histogram: Int[np.ndarray, "unit bin"], allowed: Int[np.ndarray, " unit"] | int
) -> tuple[Int[np.ndarray, " unit"], Int[np.ndarray, " unit"], np.ndarray]:
    """Return each unit's lowest bin with at most ``allowed`` values above it that is not empty.

    Also how many values lie above that bin, and whether there is such a bin.
    """
    from_top = np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1]  # values in this bin or above
    enough = from_top > np.reshape(allowed, (-1, 1))
    n_bins = histogram.shape[1]
    place = n_bins - 1 - np.argmax(enough[:, ::-1], axis=1)
    units = np.arange(len(histogram))
    found = np.asarray(enough.any(axis=1))
    return place, from_top[units, place] - histogram[units, place], found
