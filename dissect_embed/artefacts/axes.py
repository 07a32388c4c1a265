"""Axes of datasets: their names, and scales that say what lies along them."""

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np


def write_scale(group: h5py.Group, name: str, values: Any) -> h5py.Dataset:
    """Write a 1-d dataset that names the steps of an axis (an HDF5 dimension scale)."""
    values = np.asarray(values)
    if values.dtype.kind in "OU":
        dataset = group.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
    else:
        dataset = group.create_dataset(name, data=values)
    dataset.make_scale(name)
    return dataset


def label_axes(
    dataset: h5py.Dataset, axes: tuple[str, ...], scales: Mapping[str, h5py.Dataset] | None = None
) -> None:
    """Name the axes of a dataset, and attach the scales that belong to them."""
    for index, axis in enumerate(axes):
        dataset.dims[index].label = axis
        if scales and axis in scales:
            dataset.dims[index].attach_scale(scales[axis])
