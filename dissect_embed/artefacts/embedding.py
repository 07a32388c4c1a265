"""``embedding.h5``, the vectors and how they were learned: how it is written and how it is read."""

import h5py
import numpy as np

from dissect_embed.artefacts.files import (
    label_axes,
    write_scale,
)
from dissect_embed.mathematics.vectors import (
    Trained,
)


def _write_trained(group: h5py.Group, trained: Trained, seed: h5py.Dataset) -> None:
    trajectory = trained.trajectory.cpu().numpy()
    unit = write_scale(group, "unit", np.arange(trajectory.shape[2]))
    epoch = write_scale(group, "epoch", np.arange(trajectory.shape[1]))
    scales = {"seed": seed, "unit": unit, "epoch": epoch}
    for name, values, axes in (
        ("vectors", trajectory[:, -1], ("seed", "unit", "dim")),
        ("trajectory", trajectory, ("seed", "epoch", "unit", "dim")),
        ("loss", trained.loss.cpu().numpy(), ("seed", "training_epoch")),
    ):
        label_axes(group.create_dataset(name, data=values), axes, scales)
