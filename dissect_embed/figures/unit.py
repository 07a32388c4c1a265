"""One unit on its top images: for a look at it from Python."""

from matplotlib.figure import Figure

from dissect_embed.figures.gallery import (
    Gallery,
    choose_images,
    read_masks,
    read_pixels,
    unit_title,
)
from dissect_embed.figures.masks import draw_mask

PANEL_INCHES = 1.6


def draw_unit(gallery: Gallery, unit: int, n: int = 5) -> Figure:
    """Return a figure of the images on which a unit fires, of different content."""
    shown = choose_images(gallery, unit, n)
    masks = read_masks(gallery, shown, [unit])[:, 0]
    size = (len(shown) * PANEL_INCHES, PANEL_INCHES + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, image, mask in zip(axes, shown, masks, strict=True):
        draw_mask(ax, read_pixels(gallery, image), mask)
    figure.suptitle(unit_title(gallery, unit).replace("\n", ", "), fontsize=9)
    return figure
