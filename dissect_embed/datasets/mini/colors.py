"""Colours: palettes to paint with, and the colour name a pixel is given.

Naming is a table of 32 x 32 x 32 colours filled by nearest prototype in integers, so that a pixel
has the same name on every machine.
"""

from functools import cache

import numpy as np
from jaxtyping import UInt8

from dissect_embed.datasets.mini.concepts import CONCEPTS, NUMBERS

Real = int | float  # an int is no float to a run-time type checker
Color = tuple[Real, Real, Real]

# Several prototypes a name, because dark and light variants keep their name: navy is blue.
PROTOTYPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "black-c": ((0, 0, 0), (28, 28, 32), (22, 20, 38)),
    "blue-c": ((30, 60, 200), (20, 40, 110), (70, 130, 220), (150, 195, 240), (40, 90, 150)),
    "brown-c": ((110, 65, 30), (150, 100, 55), (70, 45, 25), (180, 135, 90)),
    "grey-c": ((128, 128, 128), (85, 85, 88), (175, 175, 175)),
    "green-c": ((40, 140, 50), (20, 75, 30), (120, 190, 80), (70, 160, 120), (90, 120, 50)),
    "orange-c": ((245, 140, 30), (220, 105, 20), (250, 170, 90)),
    "pink-c": ((250, 150, 180), (240, 100, 150), (250, 195, 205)),
    "purple-c": ((125, 50, 160), (75, 35, 100), (170, 120, 205), (150, 60, 140)),
    "red-c": ((210, 30, 35), (140, 20, 25), (230, 70, 60)),
    "white-c": ((255, 255, 255), (228, 228, 226)),
    "yellow-c": ((250, 220, 40), (250, 235, 130), (200, 175, 40)),
}

# What things are painted in: one plain, friendly shade a name, jittered at use.
PALETTE: dict[str, Color] = {
    "black": (40, 40, 46),
    "blue": (52, 104, 200),
    "brown": (126, 80, 44),
    "grey": (132, 134, 138),
    "green": (60, 148, 70),
    "orange": (240, 140, 44),
    "pink": (244, 140, 172),
    "purple": (132, 72, 172),
    "red": (206, 46, 44),
    "white": (240, 238, 232),
    "yellow": (246, 212, 64),
    "teal": (50, 150, 150),
    "cream": (240, 226, 190),
    "navy": (38, 52, 104),
    "sky": (150, 200, 240),
    "mint": (170, 220, 180),
    "terracotta": (190, 96, 66),
    "lilac": (196, 170, 220),
}
BRIGHT = ("blue", "green", "orange", "pink", "purple", "red", "white", "yellow", "teal", "black")
PASTEL = ("cream", "sky", "mint", "lilac", "white", "pink", "yellow", "terracotta", "grey")


def pick_color(
    rng: np.random.Generator, names: tuple[str, ...] = BRIGHT, jitter: int = 14
) -> Color:
    """Draw one of the palette's colours and shift it a little.

    `jitter` is the largest shift of a channel, of 255.
    """
    base = PALETTE[names[rng.integers(len(names))]]
    shift = rng.integers(-jitter, jitter + 1, size=3)
    red, green, blue = (float(min(max(c + s, 0), 255)) for c, s in zip(base, shift, strict=True))
    return (red, green, blue)


def scale_color(color: Color, factor: Real) -> Color:
    """Make a colour darker (factor below 1) or lighter."""
    red, green, blue = (min(c * factor, 255.0) for c in color)
    return (red, green, blue)


def mix_colors(a: Color, b: Color, share: Real) -> Color:
    """Blend two colours; `share` is how much of `b`."""
    red, green, blue = (x + share * (y - x) for x, y in zip(a, b, strict=True))
    return (red, green, blue)


@cache
def _name_table() -> UInt8[np.ndarray, "32 32 32"]:
    """Give every colour, at 5 bits a channel, the number of its colour concept."""
    prototypes = np.array([p for ps in PROTOTYPES.values() for p in ps], np.int64)
    numbers = np.array([NUMBERS[name] for name, ps in PROTOTYPES.items() for _ in ps], np.uint8)
    axis = np.arange(32) * 8 + 4
    colors = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    difference = colors[..., None, :] - prototypes
    red, green, blue = difference[..., 0], difference[..., 1], difference[..., 2]
    # Opponent axes: hue decides before lightness does, as it does for people.
    lightness, red_green, yellow_blue = red + green + blue, red - green, red + green - 2 * blue
    distance = lightness**2 + 6 * red_green**2 + 3 * yellow_blue**2
    return np.asarray(numbers[np.argmin(distance, axis=-1)])


def name_colors(rgb: UInt8[np.ndarray, "y2 x2 3"]) -> UInt8[np.ndarray, "y x"]:
    """Label each 2 x 2 block of pixels with the colour name nearest to its mean.

    Parameters
    ----------
    rgb
        The image; height and width are even.

    Returns
    -------
    Concept numbers, at half the image's height and width.
    """
    blocks = rgb.astype(np.uint16)
    total = blocks[::2, ::2] + blocks[1::2, ::2] + blocks[::2, 1::2] + blocks[1::2, 1::2]
    index = total >> 5
    return np.asarray(_name_table()[index[..., 0], index[..., 1], index[..., 2]])


assert tuple(PROTOTYPES) == CONCEPTS["color"]
