"""Pictures of where units fire: the region clear, the rest under a light mask."""

import numpy as np
from jaxtyping import Bool, UInt8
from matplotlib.axes import Axes

# How much of the light mask lies over where a unit does not fire.
VEIL = 0.75


def draw_mask(ax: Axes, pixels: UInt8[np.ndarray, "y x 3"], mask: Bool[np.ndarray, "y x"]) -> None:
    """Draw an image with all but the mask under a veil, and a line around the mask."""
    veiled = pixels * (1 - VEIL) + 255 * VEIL
    ax.imshow(np.where(mask[:, :, None], pixels, veiled.astype(np.uint8)), interpolation="none")
    if mask.any() and not mask.all():
        ax.contour(mask, levels=[0.5], colors="#d62728", linewidths=0.8)
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.5)
