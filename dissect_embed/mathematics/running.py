"""What adds up over images, as one type: in any order, from several threads, over shards."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from jaxtyping import Float
from torch import Tensor


class Maps(NamedTuple):
    """What a layer puts out on a batch of images."""

    maps: Float[Tensor, "image unit y x"]  # float16 or float32, finite
    peak: Float[Tensor, "image unit"]  # float32: the largest value of each map


class Running(ABC):
    """A number, or many, over images: the sum of those of its parts, exactly.

    Highest values and how often they come, sums of similarities, pixels in common, positions at
    which two units fire: each adds batches as they come, in whatever order, and the result of some
    images merged with that of others is that of all of them. How it is stored is said where the
    file is (``artefacts``).
    """

    @abstractmethod
    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Add a batch of images; several threads may call it at once.

        Parameters
        ----------
        start
            The index of the first image, among those that are gone through.
        batch
            What each layer puts out.
        """

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Add what another one of the same kind found on other images."""


# Matrices, or what else ``+`` adds.
Summand = TypeVar("Summand", bound=Any)


class RunningSum(Running, Generic[Summand]):
    """A sum of matrices, one a layer.

    Attributes
    ----------
    totals
        The sum of each layer, on the device of its maps.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Summand] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def measure(self, layer: str, maps: Maps) -> Summand:
        """Return what a batch adds to the sum of a layer."""

    def add(self, start: int, batch: Mapping[str, Maps]) -> None:
        """Add a batch of images; several threads may call it at once."""
        self._add({layer: self.measure(layer, maps) for layer, maps in batch.items()})

    def merge(self, other: "RunningSum[Summand]") -> None:
        """Add what another one found on other images."""
        self._add(other.totals)

    def _add(self, parts: Mapping[str, Summand]) -> None:
        with self._lock:
            for layer, part in parts.items():
                total = self.totals.get(layer)
                self.totals[layer] = part if total is None else total + part
