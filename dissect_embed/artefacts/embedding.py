"""``embedding.h5``, the vectors and how they were learned: how it is written and how it is read.

``/layers/<layer>`` and ``/supervised/layers/<layer>`` hold ``vectors (seed, C, K)``, their
``trajectory (seed, epoch, C, K)`` from the random start to the end, and the ``loss (seed, epoch)``
in nats, the mean over an epoch's steps; ``/seeds`` names the seeds.
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
from dissect_embed.mathematics.vectors import Trained

# The groups of the file, by what the vectors were learned from.
METHODS = {"ours": "layers", "supervised": "supervised/layers"}


class LayerEmbedding:
    """The vectors of a layer's units by one method; each array is read when it is asked for."""

    def __init__(self, group: h5py.Group) -> None:
        self._group = group

    @property
    def vectors(self) -> Float[np.ndarray, "seed unit dim"]:
        """The vectors at the end of training."""
        return read_array(self._group["vectors"])

    @property
    def trajectory(self) -> Float[np.ndarray, "seed epoch unit dim"]:
        """The vectors from the random start to the end."""
        return read_array(self._group["trajectory"])

    @property
    def loss(self) -> Float[np.ndarray, "seed training_epoch"]:
        """Each epoch's mean loss, nats."""
        return read_array(self._group["loss"])


class Embedding(LayeredFile):
    """An open ``embedding.h5``.

    Attributes
    ----------
    seeds
        Those of the random starts.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``embedding``."""
        super().__init__(file)
        self.seeds: list[int] = read_array(file["seeds"]).tolist()

    def __getitem__(self, layer: str) -> LayerEmbedding:
        """Return the vectors of a layer that were learned without labels."""
        return self.of(layer, "ours")

    def of(self, layer: str, method: str) -> LayerEmbedding:
        """Return the vectors of a layer by a method, ``ours`` or ``supervised``."""
        return LayerEmbedding(self.file[f"{METHODS[method]}/{layer}"])


@contextmanager
def open_embedding(path: Path) -> Iterator[Embedding]:
    """Open an ``embedding.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or of another version.
    """
    with open_artefact(path, "embedding") as file:
        yield Embedding(file)


def write_trained(
    file: h5py.File, seeds: list[int], trained: Mapping[tuple[str, str], Trained]
) -> None:
    """Fill an empty ``embedding.h5`` with what training left, by layer and method."""
    seed = write_scale(file, "seeds", np.array(seeds, dtype=np.int64))
    for (layer, method), (trajectory, loss) in trained.items():
        group = file.create_group(f"{METHODS[method]}/{layer}")
        values = trajectory.cpu().numpy()
        unit = write_scale(group, "unit", np.arange(values.shape[2]))
        epoch = write_scale(group, "epoch", np.arange(values.shape[1]))
        scales = {"seed": seed, "unit": unit, "epoch": epoch}
        for name, array, axes in (
            ("vectors", values[:, -1], ("seed", "unit", "dim")),
            ("trajectory", values, ("seed", "epoch", "unit", "dim")),
            ("loss", loss.cpu().numpy(), ("seed", "training_epoch")),
        ):
            label_axes(group.create_dataset(name, data=array), axes, scales)
