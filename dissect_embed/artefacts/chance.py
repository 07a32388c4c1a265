"""``chance.h5``, what labels of other images give: how it is written and how it is read.

``/layers/<layer>/best (draw, C)`` is each unit's best IoU over all concepts in each draw: its own
null. ``iou (20, C, D)`` has the profiles T' of the first twenty draws, float32; ``expected (C, D)``
the pixels that each unit's mask shares with each concept on average, over all draws that could be;
``pixels (C,)`` those of its masks, 0 for a unit that never fires. ``/stratum (N,)`` says whose
labels are dealt out among one another: those of images of one number.

The file of a shard has the counts instead (``mathematics.null.Drawn``), block by block of draws:
``/layers/<layer>/draws/<first>/…``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, Int

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_array
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.kinds import remedy
from dissect_embed.artefacts.layered import LayeredFile
from dissect_embed.artefacts.profiles import ConceptTable
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.null import (
    FRACTIONS,
    MAX_ALONE,
    AgainstChance,
    Drawn,
    compare_units,
    count_alone,
    untested,
)

# Draws whose profiles are kept.
KEPT = 20
# Of the counts of a shard most are 0.
PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


class Chance(LayeredFile):
    """An open ``chance.h5``.

    Attributes
    ----------
    n_draws
        How often masks were laid on labels of other images.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``chance``."""
        super().__init__(file)
        lacking = [name for name in ("draws", "labelled") if name not in file.attrs]
        if lacking:
            msg = f"{self.path}: damaged (no attribute {lacking[0]!r}); {remedy('chance')}"
            raise ArtefactError(msg)
        self.n_draws = int(file.attrs["draws"])

    @cached_property
    def stratum(self) -> Int[np.ndarray, " image"]:
        """Which images' labels were dealt out among one another: those of one number."""
        return read_array(self.file["stratum"])

    @property
    def alone(self) -> int:
        """How many images had no other of their label size, and kept their own labels."""
        return count_alone(self.stratum)

    @cached_property
    def no_p(self) -> str:
        """Why the draws give no p; empty where they do."""
        n_images = len(self.stratum)
        if self.alone > MAX_ALONE * n_images:
            return (
                f"{self.alone:,} of {n_images:,} images have a label map of a size that no other "
                f"has, more than one in {1 / MAX_ALONE:.0f}: there are no labels of other images "
                "to lay masks on"
            )
        return "" if self.file.attrs["labelled"] else "no image of the data set has a label"

    def best(self, layer: str) -> Float[np.ndarray, "draw unit"]:
        """Return the best IoU of each unit in each draw."""
        return read_array(self.file[f"layers/{layer}/best"])

    def profiles(self, layer: str) -> Float[np.ndarray, "draw unit concept"]:
        """Return the profiles T' of the first draws, float32."""
        return read_array(self.file[f"layers/{layer}/iou"])

    def expected(self, layer: str) -> Float[np.ndarray, "unit concept"]:
        """Return the pixels in common on average over all draws that could be."""
        return read_array(self.file[f"layers/{layer}/expected"])

    def pixels(self, layer: str) -> Int[np.ndarray, " unit"]:
        """Return the pixels of each unit's masks."""
        return read_array(self.file[f"layers/{layer}/pixels"])

    def compare(self, layer: str, iou: Float[np.ndarray, "unit concept"]) -> AgainstChance:
        """Compare a layer's units with their own nulls; nothing is known where there is no p.

        Parameters
        ----------
        iou
            Their profiles, of all concepts or of some.
        """
        if self.no_p:
            return untested(len(iou))
        return compare_units(iou, self.best(layer), self.pixels(layer))

    def blocks(self, layer: str) -> list[int]:
        """Return the first draws of the blocks in which the file of a shard has its counts."""
        return sorted(map(int, self.file[f"layers/{layer}/draws"]))

    def counts(self, layer: str, first: int) -> Drawn:
        """Return the counts of a block of draws that the file of a shard has."""
        group = self.file[f"layers/{layer}"]
        block = group[f"draws/{first}"]
        sources = (block, block, group, group)
        return Drawn(*(read_array(g[n]) for g, n in zip(sources, Drawn._fields, strict=True)))


@contextmanager
def open_chance(path: Path) -> Iterator[Chance]:
    """Open a ``chance.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or of another version.
    """
    with open_artefact(path, "chance") as file:
        yield Chance(file)


def write_strata(
    file: h5py.File, stratum: Int[np.ndarray, " image"], n_draws: int, *, labelled: bool = True
) -> None:
    """Write among which images labels are dealt out, how often, and whether there are any."""
    label_axes(file.create_dataset("stratum", data=stratum), ("image",))
    file.attrs["draws"], file.attrs["labelled"] = n_draws, labelled


def write_counts(file: h5py.File, first: int, counts: Mapping[str, Drawn]) -> None:
    """Write the counts of a block of draws, to be added up, into the file of a shard."""
    for layer, drawn in counts.items():
        group = file.require_group(f"layers/{layer}")
        block = group.create_group(f"draws/{first}")
        for name, axis in (("intersection", "concept"), ("activation", "category")):
            dataset = block.create_dataset(name, data=getattr(drawn, name), **PACKED)
            label_axes(dataset, ("unit", "draw", axis))
        if first == 0:
            label_axes(group.create_dataset("expected", data=drawn.expected), ("unit", "concept"))
            label_axes(group.create_dataset("pixels", data=drawn.pixels), ("unit",))


def write_draws(
    file: h5py.File, concepts: ConceptTable, first: int, counts: Mapping[str, Drawn]
) -> None:
    """Write what a block of draws gives; the first block creates the datasets of all."""
    n_draws = int(file.attrs["draws"])
    for layer, drawn in counts.items():
        group = file.require_group(f"layers/{layer}")
        if first == 0:
            _create_layer(group, n_draws, drawn)
        iou = drawn.iou(concepts.pixels, concepts.category)
        group["best"][first : first + len(iou)] = iou.max(axis=2)
        if first < KEPT:
            kept = iou[: KEPT - first]
            group["iou"][first : first + len(kept)] = kept


def _create_layer(group: h5py.Group, n_draws: int, drawn: Drawn) -> None:
    n_units, n_concepts = drawn.expected.shape
    scales = {
        "draw": write_scale(group, "draw", np.arange(n_draws)),
        "unit": write_scale(group, "unit", np.arange(n_units)),
    }
    label_axes(group.create_dataset("best", (n_draws, n_units), "f8"), ("draw", "unit"), scales)
    # So many draws that these are not all of them: an axis of its own.
    kept = group.create_dataset("iou", (min(KEPT, n_draws), n_units, n_concepts), "f4")
    label_axes(kept, ("kept_draw", "unit", "concept"), {"unit": scales["unit"]})
    for name, values, axes in (
        ("expected", drawn.expected / FRACTIONS, ("unit", "concept")),
        ("pixels", drawn.pixels, ("unit",)),
    ):
        label_axes(group.create_dataset(name, data=values), axes, {"unit": scales["unit"]})


def add_counts(parts: list[Drawn]) -> Drawn:
    """Return the counts over the images of all parts."""
    return Drawn(*(np.sum(arrays, axis=0) for arrays in zip(*parts, strict=True)))
