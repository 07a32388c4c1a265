"""``labels.h5``, the labels of a data set: how it is read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dissect_embed.artefacts.files import (
    open_artefact,
    read_made_from,
    read_strings,
)
from dissect_embed.mathematics.regions import Regions


@dataclass(frozen=True)
class Labels:
    """The labels of all images of a data set, read where they lie in ``labels.h5``."""

    path: Path
    dataset: str  # the data set's fingerprint
    images: list[str]
    size: Int[np.ndarray, "image 2"]
    names: list[str]  # of the concepts
    numbers: Int[np.ndarray, " concept"]
    categories: list[str]
    concept_category: Int[np.ndarray, " concept"]
    _file: int  # its descriptor
    _region_place: int  # bytes from the file's beginning
    _region_dtype: np.dtype
    _pixel_offset: Int[np.ndarray, " image+1"]
    _member_region: Int[np.ndarray, " pair"]
    _member_concept: Int[np.ndarray, " pair"]
    _member_offset: Int[np.ndarray, " image+1"]
    _n_regions: Int[np.ndarray, " image"]

    def regions(self, image: int) -> Regions:
        """Return the labels of one image; from several threads at once, too."""
        begin, end = self._pixel_offset[image : image + 2] * self._region_dtype.itemsize
        # HDF5 reads under a lock, and a map of the file would be counted as memory in use.
        pixels = os.pread(self._file, end - begin, self._region_place + begin)
        members = slice(self._member_offset[image], self._member_offset[image + 1])
        return Regions(
            np.frombuffer(pixels, self._region_dtype).reshape(self.size[image]),
            self._member_region[members],
            self._member_concept[members],
            int(self._n_regions[image]),
        )


@contextmanager
def open_labels(path: Path) -> Iterator[Labels]:
    """Open ``labels.h5``; the pixels stay on disk until they are looked at.

    Raises
    ------
    ArtefactError
        If the file is missing, damaged or of another version.
    """
    with open_artefact(path, "labels") as file, Path(path).open("rb") as raw:
        region = file["region"]
        size = file["size"][:]
        yield Labels(
            path=Path(path),
            dataset=read_made_from(file)["dataset"],
            images=read_strings(file["images"]),
            size=size,
            names=read_strings(file["concepts/name"]),
            numbers=file["concepts/number"][:],
            categories=read_strings(file["categories"]),
            concept_category=file["concepts/category"][:],
            _file=raw.fileno(),
            _region_place=region.id.get_offset(),
            _region_dtype=region.dtype,
            _pixel_offset=np.concatenate([[0], np.cumsum(size.prod(axis=1))]),
            _member_region=file["members/region"][:],
            _member_concept=file["members/concept"][:],
            _member_offset=file["members/offset"][:],
            _n_regions=file["n_regions"][:],
        )
