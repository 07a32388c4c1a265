"""``thresholds.h5``, those of all images, with which shards are dissected.

``/layers/<layer>/threshold (C,)``: the activation above which a unit is active.
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


class Thresholds(LayeredFile):
    """An open ``thresholds.h5``.

    It was made from ``activations`` and, where these were put together, from each of their parts,
    by its name.
    """

    def __getitem__(self, layer: str) -> Float[np.ndarray, " unit"]:
        """Return the thresholds of a layer."""
        return read_array(self.file[f"layers/{layer}/threshold"])


@contextmanager
def open_thresholds(path: Path) -> Iterator[Thresholds]:
    """Open a ``thresholds.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or of another version.
    """
    with open_artefact(path, "thresholds") as file:
        yield Thresholds(file)


def write_threshold_file(
    file: h5py.File, thresholds: Mapping[str, Float[np.ndarray, " unit"]]
) -> None:
    """Fill an empty ``thresholds.h5``."""
    for layer, values in thresholds.items():
        group = file.create_group(f"layers/{layer}")
        unit = write_scale(group, "unit", np.arange(len(values)))
        label_axes(group.create_dataset("threshold", data=values), ("unit",), {"unit": unit})
