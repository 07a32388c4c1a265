"""What figures read: images, where units fire on them, and the units' concepts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.files import check_made_from
from dissect_embed.artefacts.labels import Labels
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_image
from dissect_embed.errors import ArtefactError
from dissect_embed.networks.forward import forward_maps
from dissect_embed.networks.replay import Replay

# Images that a unit fires on most, among which those of different content are looked for.
POOL = 60


class Gallery(NamedTuple):
    """What pictures of a layer's units are made from."""

    layer: str
    dataset: Broden
    source: Activations
    labels: Labels
    thresholds: Float[np.ndarray, " unit"]
    peak: Float[np.ndarray, "image unit"]
    concepts: list[tuple[str, str]]  # each unit's best, and its IoU
    replay: Replay | None

    def of_layer(self, profiles: Profiles, layer: str) -> "Gallery":
        """Return the same for another layer."""
        return open_gallery(self.source, profiles, self.labels, self.dataset, self.replay, layer)


def open_gallery(
    source: Activations,
    profiles: Profiles,
    labels: Labels,
    dataset: Broden,
    replay: Replay | None,
    layer: str | None = None,
) -> Gallery:
    """Return what pictures of a layer's units are made from; by default of the top layer.

    Raises
    ------
    ArtefactError
        If a file was made from another data set or other activations, or there is no such layer.
    """
    check_made_from(source.file, "dataset", dataset.fingerprint, str(dataset.root))
    check_made_from(source.file, "dataset", labels.dataset, str(labels.path))
    check_made_from(profiles.file, "activations", source.fingerprint, str(source.path))
    layer = layer or source.layers[-1]
    if layer not in source.layers:
        msg = f"{source.path}: no layer {layer!r}; there are {', '.join(source.layers)}"
        raise ArtefactError(msg)
    return Gallery(
        layer, dataset, source, labels, profiles[layer].threshold,
        source[layer].peaks, profiles.best_concepts(layer), replay,
    )  # fmt: skip


def find_images(source: Activations, names: Sequence[str]) -> list[int]:
    """Return the indices of images by their names.

    Raises
    ------
    ArtefactError
        If there is no such image.
    """
    index = {name: n for n, name in enumerate(source.images)}
    unknown = [name for name in names if name not in index]
    if unknown:
        msg = f"{source.path}: no image {unknown[0]!r}; index.csv lists them"
        raise ArtefactError(msg)
    return [index[name] for name in names]


def choose_images(gallery: Gallery, unit: int, n: int) -> list[int]:
    """Return images of different content on which a unit fires.

    The first is that of its highest peak. Each further one, among the ``POOL`` images of its
    highest peaks, shares the smallest part of its concepts with those chosen; of equals the one of
    the higher peak comes first. Where the unit fires on fewer images, those of the next peaks
    follow.
    """
    order = np.argsort(-gallery.peak[:, unit], kind="stable")[:POOL]
    fires = gallery.peak[order, unit] > gallery.thresholds[unit]
    pool = order[fires].tolist() or order[:1].tolist()
    held = {i: set(gallery.labels.regions(i).member_concept.tolist()) for i in pool}
    chosen = [pool.pop(0)]
    while len(chosen) < n and pool:
        shared = [max(_jaccard(held[i], held[c]) for c in chosen) for i in pool]
        chosen.append(pool.pop(int(np.argmin(shared))))
    rest = [int(i) for i in order if int(i) not in chosen]
    return chosen + rest[: n - len(chosen)]


def _jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


def read_masks(
    gallery: Gallery, images: Sequence[int], units: Sequence[int]
) -> Bool[np.ndarray, "image unit y x"]:
    """Return where units fire on images, in the images' pixels."""
    of_layer = gallery.source[gallery.layer]
    if of_layer.maps is not None:
        found = [gallery.source.read_maps(gallery.layer, slice(i, i + 1)) for i in images]
        maps = torch.cat([torch.from_numpy(of_image) for of_image, _ in found])
    else:
        assert gallery.replay is not None, "prepare_replay gives one where maps are lacking"
        dtypes = {gallery.layer: of_layer.dtype}
        computed = forward_maps(
            gallery.replay.network, gallery.dataset, images, dtypes,
            lambda _, kept: kept[gallery.layer].maps,
        )  # fmt: skip
        maps = torch.cat(list(computed))
    large = torch.nn.functional.interpolate(
        maps[:, list(units)].double(), gallery.dataset.image_size, mode="bilinear"
    )
    return large.numpy() > gallery.thresholds[list(units), None, None]


def read_pixels(gallery: Gallery, image: int) -> UInt8[np.ndarray, "y x 3"]:
    """Return an image of the gallery."""
    return read_image(gallery.dataset, gallery.dataset.rows[image])


def unit_title(gallery: Gallery, unit: int) -> str:
    """Return a unit's name and its best concept, for people."""
    concept, iou = gallery.concepts[unit]
    # Names are text, not mathematics.
    concept = concept.replace("$", r"\$")
    what = f"{concept} {float(iou):.2f}" if concept else "no concept"
    return f"{gallery.layer}:{unit}\n{what}"
