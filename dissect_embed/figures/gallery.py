"""What figures read: images, what units put out on them, and the units' concepts."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from dissect_embed.artefacts.activations import Activations
from dissect_embed.artefacts.files import check_made_from
from dissect_embed.artefacts.labels import Labels
from dissect_embed.artefacts.profiles import Profiles
from dissect_embed.datasets.broden import Broden
from dissect_embed.datasets.pixels import read_image, read_picture
from dissect_embed.device import choose_device
from dissect_embed.errors import ArtefactError
from dissect_embed.networks.forward import forward_maps, forward_picture
from dissect_embed.networks.preparation import Network
from dissect_embed.networks.replay import Replay, prepare_again, prepare_replay

if TYPE_CHECKING:
    from dissect_embed.run import Run

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
    # Prepares the network for a layer: pictures from elsewhere run through it.
    network: Callable[[str], Network] | None = None

    def of_layer(self, profiles: Profiles, layer: str) -> "Gallery":
        """Return the same for another layer."""
        return open_gallery(
            self.source, profiles, self.labels, self.dataset, self.replay, layer, self.network
        )


@contextmanager
def gallery_of(
    run: "Run", layer: str | None, root: Path | str | None, device: str | None
) -> Iterator[Gallery]:
    """Open what pictures of a layer's units are made from, from the files of a run."""
    dataset, where = run.dataset(root), choose_device(device)
    with (
        run.open_activations() as source,
        run.open_profiles() as profiles,
        run.open_labels() as labels,
    ):
        model = run.network() if source.uncached else None
        replay = prepare_replay(source, model, dataset, where)

        @functools.cache
        def prepare(of: str) -> Network:
            return prepare_again(source, run.network(), [of], where)

        yield open_gallery(source, profiles, labels, dataset, replay, layer, prepare)


def open_gallery(
    source: Activations,
    profiles: Profiles,
    labels: Labels,
    dataset: Broden,
    replay: Replay | None,
    layer: str | None = None,
    network: Callable[[str], Network] | None = None,
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
        source[layer].peaks, profiles.best_concepts(layer), replay, network,
    )  # fmt: skip


def find_images(source: Activations, names: Sequence[str]) -> list[int | Path]:
    """Return the indices of images by their names, and the paths of those from elsewhere.

    Raises
    ------
    ArtefactError
        If there is neither such an image nor such a file.
    """
    index = {name: n for n, name in enumerate(source.images)}
    unknown = [name for name in names if name not in index and not Path(name).is_file()]
    if unknown:
        msg = (
            f"{unknown[0]}: no image of the data set, whose index.csv lists them, and no file, as "
            f"seen from {Path.cwd()}; name another"
        )
        raise ArtefactError(msg)
    return [index.get(name, Path(name)) for name in names]


def choose_images(
    gallery: Gallery, unit: int, n: int, among: Bool[np.ndarray, " image"] | None = None
) -> list[int]:
    """Return images of different content on which a unit fires.

    The first is that of its highest peak. Each further one, among the ``POOL`` images of its
    highest peaks, shares the smallest part of its concepts with those chosen; of equals the one of
    the higher peak comes first. Where the unit fires on fewer images, those of the next peaks
    follow.

    Parameters
    ----------
    among
        Which images to choose from, by default from all.
    """
    order = np.argsort(-gallery.peak[:, unit], kind="stable")
    order = order[:POOL] if among is None else order[among[order]][:POOL]
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


def read_maps(
    gallery: Gallery,
    images: Sequence[int | Path],
    units: Sequence[int],
    size: tuple[int, int] | None = None,
) -> Float[np.ndarray, "image unit y x"]:
    """Return what units put out on images, enlarged to the images' pixels or to another size."""
    maps = torch.cat([_read_maps(gallery, image) for image in images])[:, list(units)].double()
    large = torch.nn.functional.interpolate(
        maps, size or gallery.dataset.image_size, mode="bilinear"
    )
    return large.numpy()


def _read_maps(gallery: Gallery, image: int | Path) -> Float[Tensor, "1 unit y x"]:
    if isinstance(image, Path):
        assert gallery.network is not None, "Run.gallery gives one"
        return forward_picture(gallery.network(gallery.layer), read_pixels(gallery, image))
    of_layer = gallery.source[gallery.layer]
    if of_layer.maps is not None:
        return torch.from_numpy(gallery.source.read_maps(gallery.layer, slice(image, image + 1))[0])
    assert gallery.replay is not None, "prepare_replay gives one where maps are lacking"
    dtypes = {gallery.layer: of_layer.dtype}
    computed = forward_maps(
        gallery.replay.network, gallery.dataset, [image], dtypes,
        lambda _, kept: kept[gallery.layer].maps,
    )  # fmt: skip
    return torch.cat(list(computed))


def read_pixels(gallery: Gallery, image: int | Path) -> UInt8[np.ndarray, "y x 3"]:
    """Return an image of the gallery, or a picture from elsewhere in the size of its images."""
    if isinstance(image, Path):
        return read_picture(image, gallery.dataset.image_size)
    return read_image(gallery.dataset, gallery.dataset.rows[image])


def unit_title(gallery: Gallery, unit: int) -> str:
    """Return a unit's name and its best concept, for people."""
    concept, iou = gallery.concepts[unit]
    # Names are text, not mathematics.
    concept = concept.replace("$", r"\$")
    what = f"{concept} {float(iou):.2f}" if concept else "no concept"
    return f"{gallery.layer}:{unit}\n{what}"
