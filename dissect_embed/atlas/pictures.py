"""Strips of a unit's top images, for the atlas: where it fires is clear, the rest under a veil."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from tqdm import tqdm

from dissect_embed.figures.gallery import Gallery, choose_images, read_masks, read_pixels
from dissect_embed.figures.masks import VEIL
from dissect_embed.parallel import map_in_threads

# Images of a strip, the pixels of each one's side, and the quality of JPEG: 25 kB a unit.
IMAGES, SIDE, QUALITY = 5, 160, 80


def write_strips(folder: Path, gallery: Gallery, n_threads: int | None = None) -> list[list[str]]:
    """Write ``<folder>/<unit>.jpg`` for each unit of a layer, and return its images' names.

    The images are those of ``choose_images``: high peaks, different content.
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

    def cut(image: int) -> list[tuple[int, UInt8[np.ndarray, "side side 3"]]]:
        pixels = read_pixels(gallery, image)
        masks = read_masks(gallery, [image], wanted[image])[0]
        return [(unit, veil(pixels, m)) for unit, m in zip(wanted[image], masks, strict=True)]

    results = map_in_threads(cut, order, n_threads=n_threads, torch_threads=1)
    with tqdm(total=n_units * IMAGES, desc=gallery.layer, unit=" pictures", disable=None) as bar:
        for image, pictures in zip(order, results, strict=True):
            for unit, picture in pictures:
                offset = chosen[unit].index(image) * SIDE
                strips[unit, :, offset : offset + SIDE] = picture
            bar.update(len(pictures))

    def save(unit: int) -> None:
        Image.fromarray(strips[unit]).save(folder / f"{unit}.jpg", quality=QUALITY)

    list(map_in_threads(save, range(n_units), n_threads=n_threads))
    names = [row.image for row in gallery.dataset.rows]
    return [[names[image] for image in images] for images in chosen]


def veil(
    pixels: UInt8[np.ndarray, "y x 3"], mask: Bool[np.ndarray, "y x"]
) -> UInt8[np.ndarray, "side side 3"]:
    """Return a picture of ``SIDE`` pixels in which all but the mask lies under a veil."""
    return np.asarray(
        Image.composite(
            _square(Image.fromarray(pixels)),
            _square(Image.fromarray((pixels * (1 - VEIL) + 255 * VEIL).astype(np.uint8))),
            _square(Image.fromarray(mask.astype(np.uint8) * 255)),
        )
    )


def _square(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
