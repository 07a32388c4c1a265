"""Pictures of what a unit puts out: bright where it is active, a line where it fires.

How bright an image is somewhere is how much of its own threshold the unit reaches there.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

# What is left of an image's brightness where a unit is silent.
DARKEST = 0.3
# The line where a unit fires: seen on dark and on bright, in grey as well.
LINE = (255, 214, 10)


def share_of_threshold(
    maps: Float[np.ndarray, "y x"], threshold: float
) -> Float[np.ndarray, "y x"]:
    """Return how much of its threshold a unit reaches, from 0 to 1: 1 where it fires.

    With a threshold of zero or less, of which there is no share, 1 where it fires and 0 elsewhere.

    Examples
    --------
    >>> share_of_threshold(np.array([[-1.0, 0.0, 1.0, 2.0, 3.0]]), 2.0).tolist()
    [[0.0, 0.0, 0.5, 1.0, 1.0]]
    """
    if threshold <= 0:
        return (maps > threshold).astype(np.float64)
    return (maps / threshold).clip(0, 1)


def shade(
    pixels: UInt8[np.ndarray, "y x 3"], share: Float[np.ndarray, "y x"]
) -> UInt8[np.ndarray, "y x 3"]:
    """Return an image that is as it was where the share is 1, and dark where it is 0."""
    brightness = DARKEST + (1 - DARKEST) * share
    return (pixels * brightness[:, :, None]).round().astype(np.uint8)


def outline(fires: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels within a region that touch what lies outside of it.

    Examples
    --------
    >>> outline(np.ones((3, 4), dtype=bool)).sum(), outline(np.eye(3, dtype=bool)).sum()
    (np.int64(0), np.int64(3))
    """
    around = np.pad(fires, 1, mode="edge")
    inside = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    return np.asarray(fires & ~inside)


def draw_map(
    ax: Axes,
    pixels: UInt8[np.ndarray, "y x 3"],
    maps: Float[np.ndarray, "y x"],
    threshold: float,
) -> None:
    """Draw an image as bright as a unit is active on it, and a line around where it fires.

    Parameters
    ----------
    maps
        What the unit puts out, enlarged to the image's pixels.
    """
    ax.imshow(shade(pixels, share_of_threshold(maps, threshold)), interpolation="none")
    fires = maps > threshold
    if fires.any() and not fires.all():
        line = ax.contour(maps, levels=[threshold], colors=[[c / 255 for c in LINE]], linewidths=1)
        # A dark rim: there are yellow things.
        line.set_path_effects([withStroke(linewidth=1.8, foreground="#333333")])
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(color="#bbbbbb", linewidth=0.5)
