"""Pixels told apart by what is labelled there: a number a pixel decides all formulas of concepts.

A *label set* is a set of concepts together with what is labelled in the image at all. All pixels
that have it are alike to every formula (``formulas``), so masks are counted a label set once, and
never looked at again.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from dissect_embed.mathematics.regions import Regions


class LabelSets(NamedTuple):
    """The label sets of a data set, and where they are."""

    concepts: csr_array  # (set, concept), 1 where the concept holds
    kind: Int[np.ndarray, " set"]  # what is labelled in the image: a row of ``labelled``
    labelled: Bool[np.ndarray, "kind category"]
    pixels: Int[np.ndarray, "2 set"]  # over the images of either half
    of_region: Int[np.ndarray, " region"]  # the set of every region, of one image after the other
    first_region: Int[np.ndarray, " image"]


class Read(NamedTuple):
    """What is taken of the labels of an image."""

    members: list[bytes]  # the concepts of each region, as int32
    pixels: Int[np.ndarray, " region"]
    at: Int[np.ndarray, " place"]  # the region of each place


def read_image(labels: Regions, places: Float[np.ndarray, "place 2"]) -> Read:
    """Return the concepts and pixels of an image's regions, and which region some places have.

    Parameters
    ----------
    places
        y and x, from 0 to less than 1 along each side.
    """
    # Each concept of a region once, in order.
    n_concepts = int(labels.member_concept.max(initial=0)) + 1
    pairs = np.unique(labels.member_region.astype(np.int64) * n_concepts + labels.member_concept)
    ends = np.searchsorted(pairs // n_concepts, np.arange(labels.n_regions), side="right")
    concepts = (pairs % n_concepts).astype(np.int32)
    starts = np.concatenate([[0], ends[:-1]])
    members = [concepts[a:b].tobytes() for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    y, x = (places * labels.region.shape).astype(np.int64).T
    return Read(members, labels.region_pixels, labels.region[y, x].astype(np.int64))


def join_images(
    read: Iterator[Read],
    presence: Bool[np.ndarray, "image category"],
    second: Bool[np.ndarray, " image"],
    n_concepts: int,
) -> tuple[LabelSets, Int[np.ndarray, "image place"]]:
    """Return the label sets of all images, and the set of each image's places.

    Parameters
    ----------
    read
        Of every image (``read_image``).
    presence
        Which categories are labelled in it.
    second
        Which images are of the second half.
    """
    labelled, kind = np.unique(presence, axis=0, return_inverse=True)
    kind = kind.ravel()
    number: dict[tuple[int, bytes], int] = {}
    of_region, pixels, places = [], [], []
    for of_image, image in zip(kind.tolist(), read, strict=True):
        sets = np.array([number.setdefault((of_image, m), len(number)) for m in image.members])
        of_region.append(sets)
        pixels.append(image.pixels)
        places.append(sets[image.at])
    concepts = [np.frombuffer(members, dtype=np.int32) for _, members in number]
    index = np.concatenate([[0], np.cumsum([len(c) for c in concepts])])
    column = np.concatenate(concepts)
    found = np.concatenate(of_region)
    n_regions = np.array([len(sets) for sets in of_region])
    of_halves = np.zeros((2, len(number)), dtype=np.int64)
    half = np.repeat(second.astype(np.int64), n_regions)
    np.add.at(of_halves, (half, found), np.concatenate(pixels))
    return (
        LabelSets(
            csr_array(
                (np.ones(len(column), dtype=np.int64), column, index), (len(number), n_concepts)
            ),
            np.array([of_image for of_image, _ in number]),
            labelled, of_halves, found, np.cumsum(n_regions) - n_regions,
        ),
        np.stack(places),
    )  # fmt: skip


def draw_places(n_images: int, n_pixels: int, seed: int) -> Float[np.ndarray, "place 2"]:
    """Return places of label maps, y and x from 0 to less than 1.

    One is drawn in each square of a grid, of as many a side as give at least ``n_pixels`` over all
    images, but at most 28.

    Examples
    --------
    >>> draw_places(100, 400, seed=0).shape
    (4, 2)
    """
    side = int(np.clip(np.ceil(np.sqrt(n_pixels / n_images)), 1, 28))
    corner = np.indices((side, side)).reshape(2, -1).T
    return np.asarray((corner + np.random.default_rng(seed).random(corner.shape)) / side)
