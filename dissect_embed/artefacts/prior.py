"""``prior.h5``, what a student needs of its teacher: how its vectors are written and read.

``/layers/<stage>/vectors (C, K)`` holds S in float32, each row of length 1.
"""

from collections.abc import Mapping

import h5py
import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.axes import label_axes
from dissect_embed.artefacts.contents import read_array
from dissect_embed.artefacts.files import layer_names


def write_vectors(file: h5py.File, vectors: Mapping[str, Float[np.ndarray, "unit dim"]]) -> None:
    """Fill an empty ``prior.h5`` with the vectors of each stage."""
    for layer, values in vectors.items():
        dataset = file.create_dataset(f"layers/{layer}/vectors", data=values)
        label_axes(dataset, ("unit", "dim"))


def read_vectors(file: h5py.File) -> dict[str, Float[np.ndarray, "unit dim"]]:
    """Return the vectors of each stage of an open ``prior.h5``."""
    return {layer: read_array(file[f"layers/{layer}/vectors"]) for layer in layer_names(file)}
