"""``activations.h5``, what layers put out: how it is written and how it is read.

``/images (N,)`` names the images. ``/layers/<layer>/activations (N, C, h, w)`` holds the activation
maps, in float16 by default: its rounding (3 to 4 digits) moves an IoU by less than 0.002, and the
file is half the size. ``peak (N, C)`` holds each map's largest value, in float32: a unit whose peak
on an image is at most its threshold cannot fire there. ``digest (N,)`` attests both for each
image. ``top`` holds how often each unit takes each of its highest values
(``mathematics.thresholds.TopCounts``), from which its quantile follows without reading the maps
again.

``magnitude (C,)`` is what each unit's maps are divided by before their products are added up
(``mathematics.similarities``). Of a layer that is not cached the maps are left out;
``similarity_sum (C, C)`` and ``product_sum (2, C, C)`` have what the embedding needs of them.

Where the images were split into shards, maps and peaks are views of their files, which the
attribute ``parts`` names with their fingerprints.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int, UInt64

from dissect_embed.artefacts.axes import label_axes
from dissect_embed.artefacts.contents import (
    mark_derived,
    read_array,
    read_strings,
    row_digests,
)
from dissect_embed.artefacts.files import open_artefact
from dissect_embed.artefacts.kinds import remedy
from dissect_embed.artefacts.layered import LayeredFile
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.similarities import Sums
from dissect_embed.mathematics.thresholds import TopCounts


class LayerActivations:
    """What a layer puts out, of all images; maps and peaks are read where they lie.

    Attributes
    ----------
    shape
        (units, h, w).
    dtype
        ``float16`` or ``float32``, that of the maps.
    maps
        ``(N, C, h, w)``, an open dataset; None where they are not cached.
    peak
        ``(N, C)`` float32, an open dataset.
    """

    def __init__(self, group: h5py.Group) -> None:
        units, height, width = (int(n) for n in group.attrs["shape"])
        self.shape = (units, height, width)
        self.dtype = str(group.attrs["dtype"])
        self.maps: h5py.Dataset | None = group.get("activations")
        self.peak: h5py.Dataset = group["peak"]
        self.group = group

    @property
    def n_units(self) -> int:
        """The number of units."""
        return self.shape[0]

    @property
    def peaks(self) -> Float[np.ndarray, "image unit"]:
        """Each map's largest value, read whole."""
        return read_array(self.peak)

    @cached_property
    def digests(self) -> UInt64[np.ndarray, " image"]:
        """A digest of each image's maps and peaks together (``contents.row_digests``)."""
        return read_array(self.group["digest"])

    @property
    def top(self) -> TopCounts:
        """The counts of each unit's highest values."""
        folder = self.group["top"]
        floor, unit, key, least = (
            read_array(folder[name]).astype(np.int64) for name in ("floor", "unit", "key", "least")
        )
        bin_ = key - floor[unit]
        counts = np.zeros((len(floor), int(bin_.max(initial=0)) + 1), dtype=np.int64)
        counts[unit, bin_] = read_array(folder["count"])
        return TopCounts(floor, least, counts)

    @property
    def magnitude(self) -> Float[np.ndarray, " unit"]:
        """What each unit's maps are divided by before their products are added up."""
        return read_array(self.group["magnitude"])

    @property
    def sums(self) -> Sums | None:
        """What the maps add up to, by both similarities; None where the maps are cached."""
        if "similarity_sum" not in self.group:
            return None
        found = (read_array(self.group[name]) for name in ("similarity_sum", "product_sum"))
        return Sums(*map(torch.from_numpy, found))

    def write_top(self, top: TopCounts) -> None:
        """Store the counts that are not zero, by unit and key."""
        counts = top.counts
        unit, bin_ = counts.nonzero()
        folder = self.group.create_group("top")
        for name, values in (
            ("floor", top.floor.astype(np.int32)),
            ("least", top.least.astype(np.int32)),
            ("unit", unit.astype(np.int32)),
            ("key", (bin_ + top.floor[unit]).astype(np.int32)),
            ("count", counts[unit, bin_]),
        ):
            mark_derived(folder.create_dataset(name, data=values))

    def write_digests(self, digests: UInt64[np.ndarray, " image"]) -> None:
        """Store a digest of each image's maps and peaks together."""
        dataset = self.group.create_dataset("digest", data=digests)
        dataset.dims[0].label = "image"

    def write_magnitude(self, magnitude: Float[np.ndarray, " unit"]) -> None:
        """Store what each unit's maps are divided by before their products are added up."""
        self._write_derived("magnitude", magnitude, ("unit",))

    def write_sums(self, sums: Sums) -> None:
        """Store what the embedding needs of maps that are not stored."""
        self._write_derived("similarity_sum", sums.image.cpu().numpy(), ("unit", "unit"))
        self._write_derived("product_sum", sums.products.cpu().numpy(), ("part", "unit", "unit"))

    def _write_derived(self, name: str, values: np.ndarray, axes: tuple[str, ...]) -> None:
        dataset = self.group.create_dataset(name, data=values)
        mark_derived(dataset)
        label_axes(dataset, axes, {"unit": self.group["unit"]})


class Activations(LayeredFile):
    """An open ``activations.h5``.

    Attributes
    ----------
    shard
        ``2-of-7`` where these are some of the images, else None.
    first_image
        The index of the first image among those of the data set.
    """

    def __init__(self, file: h5py.File) -> None:
        """Read an open file of the schema ``activations``."""
        super().__init__(file)
        self.shard: str | None = self.config.get("shard")
        self._read: dict[str, LayerActivations] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.file["images"])

    def __getitem__(self, layer: str) -> LayerActivations:
        """Return a layer's activations."""
        if layer not in self._read:
            self._read[layer] = LayerActivations(self.file[f"layers/{layer}"])
        return self._read[layer]

    @property
    def first_image(self) -> int:
        """The index of the first image among those of the data set."""
        return int(self.file.attrs["first_image"])

    @cached_property
    def images(self) -> list[str]:
        """The names of the images."""
        return read_strings(self.file["images"])

    @property
    def uncached(self) -> list[str]:
        """The layers whose maps are not stored."""
        return [layer for layer in self.layers if self[layer].maps is None]

    @property
    def parts(self) -> dict[str, str]:
        """The files that this one is a view of, with their fingerprints; none where it is whole."""
        return dict(json.loads(self.file.attrs.get("parts", "{}")))

    @property
    def weights_provenance(self) -> dict[str, Any] | None:
        """Notes on where the network's weights come from, if there are any."""
        notes = self.file.attrs.get("weights_provenance")
        return None if notes is None else dict(json.loads(notes))

    @property
    def reference(self) -> str:
        """A digest of what the network put out on some images of the whole data set."""
        return str(self.file.attrs["reference"])

    def read_maps(
        self, layer: str, rows: slice | Int[np.ndarray, " chosen"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the maps and peaks of some images, checked by their digests.

        Parameters
        ----------
        rows
            A slice, or indices in ascending order.

        Returns
        -------
        Maps ``(image, unit, h, w)`` and peaks ``(image, unit)``.

        Raises
        ------
        ArtefactError
            If the bytes of an image are not those that were written; the image is named.
        """
        of_layer = self[layer]
        assert of_layer.maps is not None, "only of layers that are cached"
        maps, peak = of_layer.maps[rows], of_layer.peak[rows]
        wrong = np.flatnonzero(of_layer.digests[rows] != row_digests(maps, peak))
        if len(wrong):
            image = self.images[int(np.arange(len(self))[rows][wrong[0]])]
            msg = (
                f"{self.path}: {layer} on {image} is damaged (its bytes are not those that were "
                f"written); {remedy('activations')}"
            )
            raise ArtefactError(msg)
        return maps, peak

    def check_peaks(self, layer: str, start: int, found: Float[np.ndarray, "image unit"]) -> None:
        """Check that a layer that was computed once more came out as it was.

        Raises
        ------
        ArtefactError
            If a peak is another than the one stored; the image is named.
        """
        stored = self[layer].peak[start : start + len(found)]
        wrong = np.flatnonzero((stored != found).any(axis=1))
        if len(wrong):
            msg = (
                f"{self.path}: {layer} on {self.images[start + int(wrong[0])]}, computed once "
                "more, is not what it was: another device or kind of processor rounds otherwise; "
                "run every stage on that which made the file, or store the maps "
                "(activations.cache: all)"
            )
            raise ArtefactError(msg)


@contextmanager
def open_activations(path: Path) -> Iterator[Activations]:
    """Open an ``activations.h5`` for reading.

    Raises
    ------
    ArtefactError
        If it is missing, damaged, of another version, or a view of parts that have changed.
    """
    with open_artefact(path, "activations") as file:
        yield Activations(file)
