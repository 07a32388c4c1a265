"""``similarity.h5``, the mean target P: how it is written and how it is read."""

import h5py
import numpy as np
from jaxtyping import Float

from dissect_embed.artefacts.files import (
    label_axes,
    write_scale,
)


def write_target(
    file: h5py.File,
    layer: str,
    total: Float[np.ndarray, "unit unit"],
    n_images: int,
    *,
    shard: bool,
) -> None:
    """Write the mean target of a layer, and of a shard the sum, which adds up exactly."""
    group = file.create_group(f"layers/{layer}")
    unit = write_scale(group, "unit", np.arange(len(total)))
    for name, values in (("target", total / n_images), *([("sum", total)] if shard else [])):
        dataset = group.create_dataset(name, data=values)
        label_axes(dataset, ("unit", "unit"), {"unit": unit})
