"""``similarity.h5``, the targets P by both similarities: how it is written and how it is read.

``/layers/<layer>/image (C, C)`` and ``/layers/<layer>/dataset (C, C)`` are P by each similarity
(``mathematics.similarities``), each of whose rows sums to 1; the file of a shard has what its
images add up to as well, exactly: ``image_sum (C, C)`` and ``dataset_sum (2, C, C)``. The attribute
``n_images`` says of how many images.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch
from jaxtyping import Float

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_array
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.layered import LayeredFile
from dissect_embed.mathematics.similarities import SIMILARITIES, Sums


class Similarity(LayeredFile):
    """An open ``similarity.h5``.

    Attributes
    ----------
    n_images
        How many images P tells of.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``similarity``."""
        super().__init__(file)
        self.n_images = int(file.attrs["n_images"])

    @property
    def similarities(self) -> list[str]:
        """The similarities that it has P by; that of a prior has one."""
        return [name for name in SIMILARITIES if name in self.file[f"layers/{self.layers[0]}"]]

    def target(self, layer: str, similarity: str = "image") -> Float[np.ndarray, "unit unit"]:
        """Return a layer's P by a similarity, ``image`` or ``dataset``, float64."""
        return read_array(self.file[f"layers/{layer}/{similarity}"])

    def sums(self, layer: str) -> Sums:
        """Return what a shard's images add up to."""
        group = self.file[f"layers/{layer}"]
        found = (read_array(group[f"{similarity}_sum"]) for similarity in SIMILARITIES)
        return Sums(*map(torch.from_numpy, found))


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


def write_targets(
    file: h5py.File,
    layer: str,
    targets: Mapping[str, Float[np.ndarray, "unit unit"]],
    n_images: int,
    *,
    sums: Sums | None = None,
) -> None:
    """Write P of a layer by each similarity, and of a shard what its images add up to."""
    file.attrs["n_images"] = n_images
    group = file.create_group(f"layers/{layer}")
    unit = write_scale(group, "unit", np.arange(len(next(iter(targets.values())))))
    for name, values in targets.items():
        label_axes(group.create_dataset(name, data=values), ("unit", "unit"), {"unit": unit})
    if sums is not None:
        for name, total, axes in (
            ("image_sum", sums.image, ("unit", "unit")),
            ("dataset_sum", sums.products, ("part", "unit", "unit")),
        ):
            dataset = group.create_dataset(name, data=total.cpu().numpy())
            label_axes(dataset, axes, {"unit": unit})
