"""Strips of a unit's top images, for the atlas: bright where it is active, a line if it fires."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from tqdm import tqdm

from dissect_embed.figures.gallery import Gallery, choose_images, read_maps, read_pixels
from dissect_embed.figures.maps import LINE, outline, shade, share_of_threshold
from dissect_embed.parallel import map_in_threads

# Images of a strip, the pixels of each one's side, and the quality of JPEG: 25 kB a unit.
IMAGES, SIDE, QUALITY = 5, 160, 80
# The side of those on which other units are shown: two strips, and room between them, are as long.
SMALL = 78


def write_strips(
    folder: Path,
    gallery: Gallery,
    beside: Sequence[Sequence[int]],
    n_threads: int | None = None,
) -> list[list[str]]:
    """Write two pictures for each unit of a layer, and return its images' names.

    ``<folder>/<unit>.jpg`` has the images of ``choose_images``, high peaks and different content;
    ``<folder>/<unit>.near.jpg`` has the same, smaller, once for each of two other units.

    Parameters
    ----------
    beside
        Of each unit the two others, or fewer where there are none.
    """
    folder.mkdir(parents=True)
    n_units = gallery.peak.shape[1]
    chosen = [choose_images(gallery, unit, IMAGES) for unit in range(n_units)]
    # One image after the other, so that each is decoded and each map read once.
    wanted: dict[int, list[int]] = {}
    for unit, images in enumerate(chosen):
        for image in images:
            wanted.setdefault(image, []).append(unit)
    order = sorted(wanted)
    strips = np.full((n_units, SIDE, SIDE * IMAGES, 3), 255, dtype=np.uint8)
    near = np.full((n_units, SMALL, SIDE * IMAGES, 3), 255, dtype=np.uint8)

    def cut(image: int) -> None:
        units = wanted[image]
        pixels = read_pixels(gallery, image)
        # Each picture has a place of its own, so threads do not meet.
        for unit, picture in zip(
            units, draw_units(gallery, image, pixels, units, SIDE), strict=True
        ):
            offset = chosen[unit].index(image) * SIDE
            strips[unit, :, offset : offset + SIDE] = picture
        places = [(unit, n, other) for unit in units for n, other in enumerate(beside[unit])]
        others = [other for _, _, other in places]
        for (unit, n, _), picture in zip(
            places, draw_units(gallery, image, pixels, others, SMALL), strict=True
        ):
            offset = n * (SIDE - SMALL) * IMAGES + chosen[unit].index(image) * SMALL
            near[unit, :, offset : offset + SMALL] = picture

    results = map_in_threads(cut, order, n_threads=n_threads, torch_threads=1)
    with tqdm(total=n_units * IMAGES, desc=gallery.layer, unit=" pictures", disable=None) as bar:
        for image, _ in zip(order, results, strict=True):
            bar.update(len(wanted[image]))

    def save(unit: int) -> None:
        Image.fromarray(strips[unit]).save(folder / f"{unit}.jpg", quality=QUALITY)
        Image.fromarray(near[unit]).save(folder / f"{unit}.near.jpg", quality=QUALITY)

    list(map_in_threads(save, range(n_units), n_threads=n_threads))
    names = [row.image for row in gallery.dataset.rows]
    return [[names[image] for image in images] for images in chosen]


def draw_units(
    gallery: Gallery,
    image: int,
    pixels: UInt8[np.ndarray, "y x 3"],
    units: Sequence[int],
    side: int,
) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Return an image once for each unit: bright where it is active, a line where it fires."""
    if not units:
        return []
    small = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2)
    pictures = []
    for unit, maps in zip(units, read_maps(gallery, [image], units, (side, side))[0], strict=True):
        threshold = float(gallery.thresholds[unit])
        picture = shade(np.asarray(small), share_of_threshold(maps, threshold))
        picture[outline(maps > threshold)] = LINE
        pictures.append(picture)
    return pictures
