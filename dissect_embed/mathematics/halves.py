"""Two halves of the images: what is learned from one is looked at on the other."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool

from dissect_embed.mathematics.running import Maps, Running

# The halves take turns by so many images: neighbours in an index are often of one film, or of one
# source, and shall lie in the same half.
RUN = 16


def second_half(n_images: int) -> Bool[np.ndarray, " image"]:
    """Return which images are those of the second half; with one image, none.

    Examples
    --------
    >>> second_half(7).tolist()
    [False, False, False, True, True, True, False]
    >>> second_half(100).sum()
    np.int64(48)
    """
    length = max(1, min(RUN, n_images // 2))
    return np.asarray(np.arange(n_images) // length % 2 == 1)


class OfSome(Running):
    """What adds up over some of the images."""

    def __init__(self, chosen: Bool[np.ndarray, " image"], parts: Sequence[Running]) -> None:
        """Take what adds up, and over which images."""
        self._chosen = chosen
        self.parts = parts

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Add those of a batch that are chosen."""
        n = len(next(iter(batch.values())).peak)
        rows = torch.from_numpy(np.flatnonzero(self._chosen[start : start + n]))
        if len(rows):
            some = {layer: Maps(m.maps[rows], m.peak[rows]) for layer, m in batch.items()}
            for part in self.parts:
                part.add(start, some)


class Several(Running):
    """Several things that add up over the same images."""

    def __init__(self, parts: Sequence[Running]) -> None:
        """Take what adds up."""
        self.parts = parts

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Add a batch to each."""
        for part in self.parts:
            part.add(start, batch)
