"""``labels.h5``, the labels of a data set, decoded once: how it is written and how it is read.

A label map costs more to decode than to count on. Each image's labels are kept as regions
(``mathematics.regions.Regions``): ``/region`` holds the region of every pixel of every image, one
label map behind the other, and ``/digest (N,)`` attests each of them; ``/members/region`` and
``/members/concept`` say which concepts hold in it. ``/size (N, 2)`` has the height and width of
each label map, in pixels; ``/members/offset (N + 1,)`` where each image's members start.
``/concepts`` and ``/categories`` name what is labelled. Nothing of it depends on a network.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import xxhash
from jaxtyping import Bool, Int, Integer, UInt64

from dissect_embed.artefacts.axes import label_axes, write_scale
from dissect_embed.artefacts.contents import mark_rows, read_array, read_strings
from dissect_embed.artefacts.files import open_artefact, read_made_from
from dissect_embed.artefacts.kinds import remedy
from dissect_embed.datasets.broden import Broden
from dissect_embed.errors import ArtefactError
from dissect_embed.mathematics.regions import Regions


@dataclass(frozen=True)
class Labels:
    """The labels of all images of a data set, read where they lie in ``labels.h5``."""

    path: Path
    fingerprint: str  # of the file
    dataset: str  # the data set's fingerprint
    images: list[str]
    size: Int[np.ndarray, "image 2"]
    names: list[str]  # of the concepts
    numbers: Int[np.ndarray, " concept"]
    categories: list[str]
    concept_category: Int[np.ndarray, " concept"]
    _file: int  # its descriptor
    _region_start: int  # bytes from the file's beginning
    _region_dtype: np.dtype
    _pixel_offset: Int[np.ndarray, " image+1"]
    _member_region: Int[np.ndarray, " pair"]
    _member_concept: Int[np.ndarray, " pair"]
    _member_offset: Int[np.ndarray, " image+1"]
    _n_regions: Int[np.ndarray, " image"]
    _digest: UInt64[np.ndarray, " image"]

    @cached_property
    def presence(self) -> Bool[np.ndarray, "image category"]:
        """Which categories are labelled in each image."""
        return self._presence(self.concept_category[self._member_concept], len(self.categories))

    def attest(self, image: int) -> tuple[int, bytes, bytes]:
        """Return what tells the labels of one image from others, among files of equal concepts."""
        members = slice(self._member_offset[image], self._member_offset[image + 1])
        region, concept = self._member_region[members], self._member_concept[members]
        return int(self._digest[image]), region.tobytes(), concept.tobytes()

    @cached_property
    def concept_presence(self) -> Bool[np.ndarray, "image concept"]:
        """Which concepts are labelled in each image."""
        return self._presence(self._member_concept, len(self.names))

    def _presence(
        self, column: Int[np.ndarray, " pair"], n_columns: int
    ) -> Bool[np.ndarray, "image column"]:
        found = np.zeros((len(self.size), n_columns), dtype=bool)
        image = np.repeat(np.arange(len(self.size)), np.diff(self._member_offset))
        found[image, column] = True
        return found

    def regions(self, image: int) -> Regions:
        """Return the labels of one image; from several threads at once, too.

        Raises
        ------
        ArtefactError
            If the bytes of its label map are not those that were written.
        """
        begin, end = self._pixel_offset[image : image + 2] * self._region_dtype.itemsize
        # HDF5 reads under a lock, and a map of the file would be counted as memory in use.
        pixels = os.pread(self._file, end - begin, self._region_start + begin)
        if xxhash.xxh3_64_intdigest(pixels) != self._digest[image]:
            msg = (
                f"{self.path}: the labels of {self.images[image]} are damaged (their bytes are not "
                f"those that were written); {remedy('labels')}"
            )
            raise ArtefactError(msg)
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
        size = read_array(file["size"])
        yield Labels(
            path=Path(path),
            fingerprint=str(file.attrs["fingerprint"]),
            dataset=read_made_from(file)["dataset"],
            images=read_strings(file["images"]),
            size=size,
            names=read_strings(file["concepts/name"]),
            numbers=read_array(file["concepts/number"]),
            categories=read_strings(file["categories"]),
            concept_category=read_array(file["concepts/category"]),
            _file=raw.fileno(),
            _region_start=region.id.get_offset(),
            _region_dtype=region.dtype,
            _pixel_offset=np.concatenate([[0], np.cumsum(size.prod(axis=1))]),
            _member_region=read_array(file["members/region"]),
            _member_concept=read_array(file["members/concept"]),
            _member_offset=read_array(file["members/offset"]),
            _n_regions=read_array(file["n_regions"]),
            _digest=read_array(file["digest"]),
        )


class ReadLabels(NamedTuple):
    """The labels of some images, one behind the other, in the types in which they are stored."""

    region: Integer[np.ndarray, " pixel"]
    n_members: Int[np.ndarray, " image"]
    member_region: Int[np.ndarray, " pair"]
    member_concept: Int[np.ndarray, " pair"]
    n_regions: Int[np.ndarray, " image"]


def write_label_file(
    file: h5py.File,
    dataset: Broden,
    read: Iterable[ReadLabels],
    dtype: np.dtype,
    written: Callable[[int], object],
) -> None:
    """Fill an empty ``labels.h5`` with the labels of a data set's images, in order.

    Parameters
    ----------
    read
        The labels, some images at a time.
    dtype
        That of the regions.
    written
        Told how many images were written.
    """
    image = write_scale(file, "images", [row.image for row in dataset.rows])
    size = np.array([row.label_size for row in dataset.rows], dtype=np.int64)
    offset = np.concatenate([[0], np.cumsum(size.prod(axis=1))])
    region = file.create_dataset("region", (int(offset[-1]),), dtype)
    mark_rows(region)
    parts: list[tuple[Int[np.ndarray, " *any"], ...]] = []
    digests: list[int] = []
    for some in read:
        first, stop = len(digests), len(digests) + len(some.n_regions)
        region[offset[first] : offset[stop]] = some.region
        ends = (offset[first + 1 : stop] - offset[first]).tolist()
        maps = np.split(np.ascontiguousarray(some.region), ends)
        digests += [xxhash.xxh3_64_intdigest(m.view(np.uint8).data) for m in maps]
        parts.append(some[1:])
        written(stop - first)
    n_members, member_region, member_concept, n_regions = map(
        np.concatenate, zip(*parts, strict=True)
    )
    for name, values in (
        ("size", size), ("n_regions", n_regions), ("digest", np.array(digests, dtype=np.uint64))
    ):  # fmt: skip
        label_axes(file.create_dataset(name, data=values), ("image",), {"image": image})
    members = file.create_group("members")
    members["offset"] = np.concatenate([[0], np.cumsum(n_members)])
    members["region"], members["concept"] = member_region, member_concept
    concepts = file.create_group("concepts")
    concepts["number"] = np.array([c.number for c in dataset.concepts], dtype=np.int64)
    concepts["category"] = dataset.concept_category
    write_scale(concepts, "name", [c.name for c in dataset.concepts])
    write_scale(file, "categories", dataset.categories)
