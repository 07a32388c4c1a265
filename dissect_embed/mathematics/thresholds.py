"""Exact quantiles of every unit's activations, in bounded memory.

Network Dissection calls a unit active where it exceeds the 99.5 % quantile of its own activations.
Estimates of that quantile are off by a percent or so; here it is the exact order statistic, found
without sorting: floating-point numbers of one sign are ordered as their bits are when read as
integers (*keys*), so the few thousand values that float16 can take above a floor are counted, a bin
a value. Such counts add up over batches, shards and hosts.

The floor is guessed from a sample and only saves time: where it turns out too high, the units
concerned are counted again from the bottom.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dissect_embed.mathematics.indexing import flat_greater, flat_nonzero, split_index, take
from dissect_embed.mathematics.running import Maps, Running

# The share of a sample's values that the guessed floor lets pass: well above the usual 0.5 %.
TOP_SHARE = 0.02
# Waiting values are sorted into their bins when they are so many.
FLUSH = 2_000_000
LOWEST, HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max


class TopCounts:
    """How often each unit takes each value from a floor up.

    Attributes
    ----------
    floor
        ``(C,)`` int64: the lowest key that is counted; the 16 upper bits for float32.
    least
        ``(C,)`` int64: the lowest key seen.
    """

    def __init__(
        self,
        floor: Int[np.ndarray, " unit"],
        least: Int[np.ndarray, " unit"] | None = None,
        counts: Int[np.ndarray, "unit bin"] | None = None,
    ) -> None:
        n_units = len(floor)
        self.floor = floor.astype(np.int64)
        self.least = np.full(n_units, HIGHEST, dtype=np.int64) if least is None else least
        self._counts = np.zeros((n_units, 1), dtype=np.int64) if counts is None else counts
        self._waiting: list[Int[np.ndarray, " value"]] = []
        self._n_waiting = 0
        self._lock = threading.Lock()

    @property
    def counts(self) -> Int[np.ndarray, "unit bin"]:
        """The count of each key; bin 0 is the floor."""
        self._flush()
        return self._counts

    def add(self, maps: Float[Tensor, "image unit *grid"]) -> None:
        """Count the values of some images; float16 or float32, finite.

        From several threads at once, too.
        """
        keys = _high(maps).flatten(2)
        n_units, n_positions = keys.shape[1:]
        least = keys.amin(dim=2).amin(dim=0) if len(keys) else torch.full((n_units,), HIGHEST)
        # The lowest key of all is that of a NaN, which does not come.
        below = torch.from_numpy((self.floor.clip(LOWEST + 1, HIGHEST) - 1).astype(np.int16))
        found = flat_greater(keys, below.to(keys.device)[:, None])
        row, _ = split_index(found, n_positions)
        _, unit = split_index(row, n_units)
        floor = torch.from_numpy(self.floor).to(keys.device)
        bin_ = take(keys.flatten(), found).long() - take(floor, unit)
        waiting = ((unit << 16) + bin_).cpu().numpy()
        with self._lock:
            self.least = np.minimum(self.least, least.cpu().numpy())
            self._waiting.append(waiting)
            self._n_waiting += len(waiting)
            if self._n_waiting > FLUSH:
                self._flush()

    def merge(self, other: "TopCounts") -> None:
        """Add the counts of other images: exact from the higher of the two floors up."""
        floor = np.maximum(self.floor, other.floor)
        n_bins = max(self.counts.shape[1], other.counts.shape[1])
        total = np.zeros((len(floor), n_bins), dtype=np.int64)
        for part in (self, other):
            for unit, skipped in enumerate(floor - part.floor):
                kept = part.counts[unit, skipped:]
                total[unit, : len(kept)] += kept
        self.floor, self.least, self._counts = floor, np.minimum(self.least, other.least), total

    def _flush(self) -> None:
        if not self._n_waiting:
            return
        waiting = np.concatenate(self._waiting)
        unit, bin_ = waiting >> 16, waiting & 0xFFFF
        n_bins = max(self._counts.shape[1], int(bin_.max()) + 1)
        n_units = len(self.floor)
        fresh = np.bincount(unit * n_bins + bin_, minlength=n_units * n_bins)
        fresh = fresh.reshape(n_units, n_bins)
        fresh[:, : self._counts.shape[1]] += self._counts
        self._counts, self._waiting, self._n_waiting = fresh, [], 0


class Highest(Running):
    """The highest values of every unit of every layer, and how often each comes.

    Attributes
    ----------
    top
        The counts of each layer.
    """

    def __init__(self, top: Mapping[str, TopCounts]) -> None:
        self.top = dict(top)

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Count the values of a batch of images."""
        for layer, maps in batch.items():
            self.top[layer].add(maps.maps)


def guess_floor(sample: Float[Tensor, "image unit *grid"]) -> Int[np.ndarray, " unit"]:
    """Guess the key of each unit that some 2 % of its values reach, from some of its maps.

    Not below the smallest positive number: most values of a unit after a ReLU are zeros, which
    ``compute_thresholds`` knows without counting them.
    """
    keys = _high(sample).flatten(2).cpu().numpy().astype(np.int64)
    keys = np.moveaxis(keys, 1, 0).reshape(sample.shape[1], -1)
    rank = min(keys.shape[1] - 1, int(TOP_SHARE * keys.shape[1]) + 8)
    floor = -np.partition(-keys, rank, axis=1)[:, rank]
    return np.maximum(floor, 1) if keys.size and keys.min() >= 0 else floor


def compute_thresholds(
    batches: Callable[[], Iterable[Tensor]],
    n_values: int,
    quantile: float,
    top: TopCounts,
    dtype: torch.dtype,
) -> Float[np.ndarray, " unit"]:
    """Return for each unit the smallest of its values that at most a share of them exceed.

    With a share of 0.005 this is the 99.5 % quantile ([BAU17] section 2.2).

    Parameters
    ----------
    batches
        Called for each further pass over the data, which is rarely needed; yields the activation
        maps, (images, units, …), float16 or float32, finite.
    n_values
        The values a unit has in all, images times positions.
    quantile
        The share of values that may exceed the threshold.
    top
        The counts of all the data.
    dtype
        That of the maps.

    Examples
    --------
    >>> maps = torch.arange(1000).half().reshape(10, 1, 10, 10)
    >>> top = TopCounts(guess_floor(maps[:2]))
    >>> top.add(maps)
    >>> compute_thresholds(lambda: [maps], 1000, 0.005, top, maps.dtype)
    array([994.], dtype=float32)
    """
    allowed = allowed_above(n_values, quantile)
    high, above, found = _find_rank(top.counts, allowed)
    high += top.floor
    # Nothing lies between the floor and the lowest value, so that one has all the rest.
    at_least = ~found & (top.least >= top.floor - 1)
    high[at_least] = top.least[at_least]
    above[at_least] = top.counts.sum(axis=1)[at_least]
    missed = np.flatnonzero(~found & ~at_least)
    if len(missed):
        again = TopCounts(np.full(len(missed), LOWEST))
        for maps in batches():
            again.add(maps[:, torch.from_numpy(missed).to(maps.device)])
        high[missed], above[missed], _ = _find_rank(again.counts, allowed)
        high[missed] += LOWEST
    if dtype == torch.float16:
        return _from_key(high.astype(np.int16)).astype(np.float32)
    low, _, _ = _find_rank(_count_low_bits(batches(), high), allowed - above)
    return _from_key((high * 65536 + low).astype(np.int32))


def allowed_above(n_values: int, quantile: float) -> int:
    """Return how many of some values may exceed a quantile's threshold, exactly.

    Examples
    --------
    >>> allowed_above(200, 0.005), allowed_above(199, 0.005)
    (1, 0)
    """
    return int(Fraction(str(quantile)) * n_values)


def _key(values: Float[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Map floats to integers of the same order: -1.5 < -0.0 < 0.0 < 1.5."""
    bits = values.contiguous().view(torch.int16 if values.dtype == torch.float16 else torch.int32)
    if bits.numel() and bits.amin() >= 0:
        return bits  # after a ReLU: no sign bit anywhere
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _from_key(keys: Int[np.ndarray, " unit"]) -> Float[np.ndarray, " unit"]:
    dtype: Any = keys.dtype
    bits = np.where(keys < 0, keys ^ np.iinfo(dtype).max, keys)
    return bits.view(np.float16 if keys.dtype == np.int16 else np.float32)


def _high(values: Float[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    """Return the 16 upper bits of the keys: all of them for float16."""
    keys = _key(values)
    return keys if keys.dtype == torch.int16 else (keys >> 16).to(torch.int16)


def _count_low_bits(
    batches: Iterable[Tensor], high: Int[np.ndarray, " unit"]
) -> Int[np.ndarray, "unit bin"]:
    """Count the 16 lower bits of the float32 values whose upper bits are a unit's own."""
    n_units = len(high)
    histogram = np.zeros(n_units * 65536, dtype=np.int64)
    for maps in batches:
        keys = _key(maps).flatten(2)
        own = torch.from_numpy(high).to(maps.device)[:, None]
        found = flat_nonzero((keys >> 16) == own)
        row, _ = split_index(found, keys.shape[2])
        _, unit = split_index(row, n_units)
        low = take(keys.flatten(), found).long() & 0xFFFF
        index = (unit * 65536 + low).cpu().numpy()
        histogram += np.bincount(index, minlength=len(histogram))
    return histogram.reshape(n_units, 65536)


def _find_rank(
    histogram: Int[np.ndarray, "unit bin"], allowed: Int[np.ndarray, " unit"] | int
) -> tuple[Int[np.ndarray, " unit"], Int[np.ndarray, " unit"], Bool[np.ndarray, " unit"]]:
    """Return each unit's lowest bin with at most ``allowed`` values above it that is not empty.

    Also how many values lie above that bin, and whether there is such a bin.
    """
    n_units, n_bins = histogram.shape
    bin_, above = np.zeros(n_units, dtype=np.int64), np.zeros(n_units, dtype=np.int64)
    # Unit by unit: sums of all at once would fill fresh memory as large as the counts.
    for unit, most in enumerate(np.broadcast_to(allowed, n_units)):
        from_top = histogram[unit, ::-1].cumsum()
        n_above = int(np.searchsorted(from_top, most, side="right"))
        bin_[unit] = n_bins - 1 - n_above
        above[unit] = from_top[n_above - 1] if n_above else 0
    return bin_, above, bin_ >= 0
