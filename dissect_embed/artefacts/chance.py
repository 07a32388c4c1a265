"""``chance.h5``, what IoU chance gives: how it is written and how it is read.

``/layers/<layer>/best (draw, C)`` is each unit's best IoU over all concepts where its masks are
laid on the labels of other images (``mathematics.null``). The file of a shard has the counts
instead, ``intersection (draw, C, D)`` and ``activation (draw, C, G)``, to be added up.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_array
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.layered import LayeredFile
from dissect_embed.artefacts.profiles import ConceptTable
from dissect_embed.mathematics.iou import LayerCounts, compute_iou


class Chance(LayeredFile):
    """An open ``chance.h5``."""

    def best(self, layer: str) -> Float[np.ndarray, " pool"]:
        """Return the best IoU by chance, of all draws and units of a layer."""
        return read_array(self.file[f"layers/{layer}/best"]).ravel()

    def counts(self, layer: str) -> LayerCounts:
        """Return the counts that the file of a shard keeps of a layer, a row a draw."""
        group = self.file[f"layers/{layer}"]
        return LayerCounts(*(read_array(group[name]) for name in LayerCounts._fields))


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


def write_chance_file(
    file: h5py.File, concepts: ConceptTable, counts: Mapping[str, LayerCounts], *, shard: bool
) -> None:
    """Fill an empty ``chance.h5``; that of a shard keeps the counts."""
    for layer, (intersection, activation) in counts.items():
        group = file.create_group(f"layers/{layer}")
        scales = {
            "draw": write_scale(group, "draw", np.arange(len(intersection))),
            "unit": write_scale(group, "unit", np.arange(intersection.shape[1])),
        }
        if shard:
            both = group.create_dataset("intersection", data=intersection)
            label_axes(both, ("draw", "unit", "concept"), scales)
            fired = group.create_dataset("activation", data=activation)
            label_axes(fired, ("draw", "unit", "category"), scales)
        else:
            iou = compute_iou(intersection, activation, concepts.pixels, concepts.category)
            best = group.create_dataset("best", data=iou.max(axis=2))
            label_axes(best, ("draw", "unit"), scales)
