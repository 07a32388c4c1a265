"""``words.h5``, how alike images and words are: how it is written and how it is read.

``/similarity (N, M)`` has the cosine of every image and word in the space of a joint text-image
model, float32; ``/images (N,)`` and ``/words (M,)`` name them. Nothing of it depends on the network
whose units are labelled.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from jaxtyping import Float32

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import read_array, read_strings
from dissect_embed.artefacts.files import open_artefact, read_config


class WordSimilarity(NamedTuple):
    """An open ``words.h5``."""

    file: h5py.File
    fingerprint: str
    config: dict[str, Any]
    words: list[str]

    @property
    def similarity(self) -> Float32[np.ndarray, "image word"]:
        """The cosines, read whole: four bytes each."""
        return read_array(self.file["similarity"])


@contextmanager
def open_words(path: Path) -> Iterator[WordSimilarity]:
    """Open a ``words.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, or of another version.
    """
    with open_artefact(path, "words") as file:
        words = read_strings(file["words"])
        yield WordSimilarity(file, str(file.attrs["fingerprint"]), read_config(file), words)


def create_similarity(file: h5py.File, images: Sequence[str], words: Sequence[str]) -> h5py.Dataset:
    """Lay out an empty ``words.h5``, and return what is to be filled with cosines."""
    scales = {"image": write_scale(file, "images", images)}
    scales["word"] = write_scale(file, "words", words)
    similarity: h5py.Dataset = file.create_dataset(
        "similarity", (len(images), len(words)), np.float32
    )
    label_axes(similarity, ("image", "word"), scales)
    return similarity
