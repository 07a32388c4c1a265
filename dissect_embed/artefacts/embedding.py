"""``embedding.h5``, the vectors and how they were learned: how it is written and how it is read.

``/layers/<layer>/<method>`` holds ``vectors (seed, C, K)``, their ``trajectory (seed, epoch, C,
K)`` from the random start to the end, and the ``loss (seed, epoch)`` in nats, the mean over an
epoch's steps. Methods are the similarities that the vectors were learned from without labels,
``image`` and ``dataset`` (``mathematics.similarities``), and ``supervised``. ``/seeds`` names the
seeds; a seed's random start is the same for all methods.
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
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.vectors import Trained

# The method that is taught by the IoU profiles, beside the similarities.
SUPERVISED = "supervised"


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
    similarities
        Those that vectors were learned from without labels, in the order of the config.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``embedding``."""
        super().__init__(file)
        self.seeds: list[int] = read_array(file["seeds"]).tolist()
        self.similarities: list[str] = list(self.config["embedding"]["similarity"])

    @property
    def methods(self) -> list[str]:
        """The similarities, and ``supervised``."""
        return [*self.similarities, SUPERVISED]

    def __getitem__(self, layer: str) -> LayerEmbedding:
        """Return the vectors of a layer by the first similarity."""
        return self.of(layer, self.similarities[0])

    def of(self, layer: str, method: str) -> LayerEmbedding:
        """Return the vectors of a layer by a similarity, or the supervised ones."""
        return LayerEmbedding(self.file[f"layers/{layer}/{method}"])

    def check_similarity(self, similarity: str | None = None) -> str:
        """Return a similarity, of which it is known that there are vectors; by default the first.

        Raises
        ------
        ArtefactError
            If there are none by it.
        """
        if similarity is None:
            return self.similarities[0]
        if similarity not in self.similarities:
            msg = (
                f"{self.path}: no vectors by similarity {similarity!r}; there are "
                f"{', '.join(self.similarities)} (embedding.similarity)"
            )
            raise ArtefactError(msg)
        return similarity


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
        of_layer = file.require_group(f"layers/{layer}")
        values = trajectory.cpu().numpy()
        sizes = {"unit": values.shape[2], "epoch": values.shape[1]}
        scales = {"seed": seed} | {
            name: of_layer[name] if name in of_layer else write_scale(of_layer, name, np.arange(n))
            for name, n in sizes.items()
        }
        group = of_layer.create_group(method)
        for name, array, axes in (
            ("vectors", values[:, -1], ("seed", "unit", "dim")),
            ("trajectory", values, ("seed", "epoch", "unit", "dim")),
            ("loss", loss.cpu().numpy(), ("seed", "training_epoch")),
        ):
            label_axes(group.create_dataset(name, data=array), axes, scales)
