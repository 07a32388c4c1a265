"""One unit on its top images, or on any: for a look at it from Python."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from dissect_embed.figures.gallery import (
    Gallery,
    choose_images,
    find_images,
    read_maps,
    read_pixels,
    unit_title,
)
from dissect_embed.figures.maps import draw_map

PANEL_INCHES = 1.6


def draw_unit(gallery: Gallery, unit: int, n: int = 5, images: Sequence[str] = ()) -> Figure:
    """Return a figure of the images named, or of those of different content on which it fires."""
    shown = find_images(gallery.source, images) or choose_images(gallery, unit, n)
    maps = read_maps(gallery, shown, [unit])[:, 0]
    size = (len(shown) * PANEL_INCHES, PANEL_INCHES + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, image, of_image in zip(axes, shown, maps, strict=True):
        draw_map(ax, read_pixels(gallery, image), of_image, float(gallery.thresholds[unit]))
    figure.suptitle(unit_title(gallery, unit).replace("\n", ", "), fontsize=9)
    return figure
