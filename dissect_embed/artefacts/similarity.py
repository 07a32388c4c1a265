"""``similarity.h5``, the mean target P: how it is written and how it is read.

``/layers/<layer>/target (C, C)`` is P, each of whose rows sums to 1; the file of a shard has
``sum (C, C)`` as well, the sum over its images, which adds up exactly. The attribute ``n_images``
says of how many images.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_array
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.layered import LayeredFile


class Similarity(LayeredFile):
    """An open ``similarity.h5``.

    Attributes
    ----------
    n_images
        How many images P is the mean of.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``similarity``."""
        super().__init__(file)
        self.n_images = int(file.attrs["n_images"])

    def target(self, layer: str) -> Float[np.ndarray, "unit unit"]:
        """Return a layer's mean target P, float64."""
        return read_array(self.file[f"layers/{layer}/target"])

    def total(self, layer: str) -> Float[np.ndarray, "unit unit"]:
        """Return the sum over a shard's images, float64."""
        return read_array(self.file[f"layers/{layer}/sum"])


@contextmanager
def open_similarity(path: Path) -> Iterator[Similarity]:
    """Open a ``similarity.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or of another version.
    """
    with open_artefact(path, "similarity") as file:
        yield Similarity(file)


def write_target(
    file: h5py.File,
    layer: str,
    total: Float[np.ndarray, "unit unit"],
    n_images: int,
    *,
    shard: bool,
) -> None:
    """Write the mean target of a layer, and of a shard the sum, which adds up exactly."""
    file.attrs["n_images"] = n_images
    group = file.create_group(f"layers/{layer}")
    unit = write_scale(group, "unit", np.arange(len(total)))
    for name, values in (("target", total / n_images), *([("sum", total)] if shard else [])):
        dataset = group.create_dataset(name, data=values)
        label_axes(dataset, ("unit", "unit"), {"unit": unit})
