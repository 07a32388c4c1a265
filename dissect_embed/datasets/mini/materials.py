"""Materials: shaded surfaces in their own colours.

Every material is a function of a generator, a height, a width and a scale (1 is natural for an
image of 224 pixels) and returns red, green and blue, 0 to 255.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from jaxtyping import Float32

from dissect_embed.datasets.mini.colors import (
    PALETTE,
    Color,
    Real,
    mix_colors,
    pick_color,
    scale_color,
)
from dissect_embed.datasets.mini.textures import TEXTURES, Field, make_fractal, make_noise

Surface = Float32[np.ndarray, "y x 3"]
Material = Callable[[np.random.Generator, int, int, float], Surface]


def blend(field: Field, low: Color, high: Color) -> Surface:
    """Colour a field: `low` where it is 0, `high` where it is 1."""
    a, b = np.array(low, np.float32), np.array(high, np.float32)
    return np.asarray(a + field[..., None] * (b - a))


def make_pattern(
    rng: np.random.Generator, name: str, low: Color, high: Color, period: Real
) -> Callable[[int, int], Surface]:
    """Make a fill of a texture in two colours."""

    def fill(height: int, width: int) -> Surface:
        return blend(TEXTURES[name](rng, height, width, period), low, high)

    return fill


def make_material(
    rng: np.random.Generator, name: str, scale: Real, color: Color | None = None
) -> Callable[[int, int], Surface]:
    """Make a fill of a material; `color` replaces the material's own choice of colour."""
    if color is None:
        color = choose_color(rng, name)
    return partial(_MATERIALS[name], rng, color=color, scale=max(scale, 0.05))


def choose_color(rng: np.random.Generator, name: str) -> Color:
    """Draw a colour that is natural for a material."""
    light = 0.85 + 0.3 * float(rng.random())
    return scale_color(pick_color(rng, _COLORS[name], 10), light)


def _gaps(u: Field, v: Field, joint: Real) -> Field:
    """Where the joints between unit rectangles are: 1 on a joint, and half on a lit edge."""
    fu, fv = u - np.floor(u), v - np.floor(v)
    return np.asarray(((fu < joint) | (fv < joint * 2)).astype(np.float32))


def _pixels(height: int, width: int, scale: Real) -> tuple[Field, Field]:
    """Coordinates of pixels, x and y, in natural pixels."""
    x = np.broadcast_to(np.arange(width, dtype=np.float32) / np.float32(scale), (height, width))
    y = np.arange(height, dtype=np.float32)[:, None] / np.float32(scale)
    return x, np.broadcast_to(y, (height, width))


def _shade(color: Color, factor: Field) -> Surface:
    return np.asarray(np.clip(np.array(color, np.float32) * factor[..., None], 0, 255))


def _streaks(rng: np.random.Generator, height: int, width: int, long: Real, thin: Real) -> Field:
    """Noise drawn out along x: `long` pixels by `thin`."""
    squeeze = max(long / max(thin, 1), 1.0)
    noise = make_noise(rng, height, int(width / squeeze) + 2, max(thin, 1))
    position = np.arange(width, dtype=np.float32) / np.float32(squeeze)
    low = np.floor(position)
    column, t = low.astype(np.int64), position - low
    return np.asarray(noise[:, column] * (1 - t) + noise[:, column + 1] * t)


def _wood(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    grain = _streaks(rng, height, width, 60 * scale, 3 * scale)
    rings = _streaks(rng, height, width, 120 * scale, 16 * scale) * 5
    rings = np.abs(2 * (rings - np.floor(rings)) - 1)
    _, y = _pixels(height, width, scale)
    plank = y / np.float32(34)
    board = np.floor(plank)
    seam = (plank - board < np.float32(0.05)).astype(np.float32)
    tone = (board * np.float32(0.37)) % 1 * np.float32(0.12)
    return _shade(
        color,
        np.float32(0.78)
        + grain * np.float32(0.25)
        + rings * np.float32(0.16)
        + tone
        - seam * np.float32(0.35),
    )


def _brick(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    x, y = _pixels(height, width, scale)
    v = y / np.float32(10)
    row = np.floor(v)
    u = x / np.float32(24) + (row % 2) * np.float32(0.5)
    tones = rng.random(1024, dtype=np.float32)
    tone = tones[((row * 37 + np.floor(u) * 11).astype(np.int64)) & 1023]
    face = np.float32(0.78) + tone * np.float32(0.4)
    mortar = _gaps(u, v, 0.08)[..., None]
    lit = ((v - row) < np.float32(0.3)).astype(np.float32) * np.float32(0.1)
    joint = np.array(mix_colors(color, (205, 200, 190), 0.8), np.float32)
    return np.asarray(_shade(color, face + lit) * (1 - mortar) + joint * mortar)


def _metal(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    brushed = _streaks(rng, height, width, 90 * scale, 1) - np.float32(0.5)
    x, y = _pixels(height, width, scale)
    sheen = (x + y) / np.float32(70) + np.float32(rng.random())
    sheen = np.abs(2 * (sheen - np.floor(sheen)) - 1)
    sheen = sheen * sheen * (3 - 2 * sheen)
    return _shade(color, np.float32(0.68) + sheen * np.float32(0.65) + brushed * np.float32(0.16))


def _grass(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    blades = _streaks(rng, width, height, 11 * scale, 1.6 * scale).T
    patches = make_noise(rng, height, width, 45 * scale)
    surface = _shade(
        color, np.float32(0.52) + blades * np.float32(0.75) + patches * np.float32(0.2)
    )
    surface[..., 0] += patches * 22
    return np.asarray(np.clip(surface, 0, 255))


def _water(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    swell = _streaks(rng, height, width, 70 * scale, 7 * scale)
    ripple = _streaks(rng, height, width, 26 * scale, 2.5 * scale)
    glint = np.clip((ripple + swell - np.float32(1.25)) * 5, 0, 1)
    surface = _shade(color, np.float32(0.75) + swell * np.float32(0.35) + ripple * np.float32(0.15))
    return np.asarray(surface + glint[..., None] * (np.float32(235) - surface) * np.float32(0.8))


def _sand(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    grains = rng.random((height, width), dtype=np.float32)
    _, y = _pixels(height, width, scale)
    wave = y / np.float32(13) + make_noise(rng, height, width, 40 * scale) * np.float32(2.2)
    ripple = np.abs(2 * (wave - np.floor(wave)) - 1)
    return _shade(color, np.float32(0.84) + ripple * np.float32(0.14) + grains * np.float32(0.14))


def _stone(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    rough = make_fractal(rng, height, width, 14 * scale)
    speck = (rng.random((height, width), dtype=np.float32) < np.float32(0.08)).astype(np.float32)
    slope = np.zeros_like(rough)
    slope[1:, 1:] = (rough[1:, 1:] - rough[:-1, :-1]) * np.float32(3.5)
    return _shade(
        color, np.float32(0.78) + rough * np.float32(0.42) + slope - speck * np.float32(0.18)
    )


def _fabric(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    thread = TEXTURES["woven"](rng, height, width, max(4.5 * scale, 3))
    folds = make_noise(rng, height, width, 50 * scale)
    return _shade(color, np.float32(0.66) + thread * np.float32(0.26) + folds * np.float32(0.32))


def _tile(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    x, y = _pixels(height, width, scale)
    u, v = x / np.float32(26), y / np.float32(26)
    fu, fv = u - np.floor(u), v - np.floor(v)
    tones = rng.random(1024, dtype=np.float32)
    tone = tones[((np.floor(v) * 37 + np.floor(u) * 11).astype(np.int64)) & 1023]
    gloss = np.clip(np.float32(1.1) - fu - fv, 0, 1) * np.float32(0.22)
    joint = ((fu < np.float32(0.07)) | (fv < np.float32(0.07)))[..., None]
    face = _shade(color, np.float32(0.88) + tone * np.float32(0.08) + gloss)
    return np.where(joint, np.array(mix_colors(color, (120, 118, 114), 0.65), np.float32), face)


def _marble(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    vein = TEXTURES["marbled"](rng, height, width, 22 * scale)
    return blend(vein * np.float32(0.75), scale_color(color, 1.05), scale_color(color, 0.38))


def _leather(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    crease = make_noise(rng, height, width, 4.5 * scale)
    crease = np.abs(crease - np.float32(0.5)) * 2
    shine = make_noise(rng, height, width, 40 * scale)
    shine = shine * shine
    return _shade(
        color,
        np.float32(0.55)
        + np.minimum(crease, np.float32(0.4)) * np.float32(0.9)
        + shine * np.float32(0.6),
    )


def _glass(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    x, y = _pixels(height, width, scale)
    slant = (x + y * np.float32(0.6)) / np.float32(60) + np.float32(rng.random())
    slant = slant - np.floor(slant)
    streak = ((slant > np.float32(0.1)) & (slant < np.float32(0.3))) * np.float32(0.16)
    streak = streak + ((slant > np.float32(0.36)) & (slant < np.float32(0.42))) * np.float32(0.16)
    return _shade(color, np.float32(0.9) + streak.astype(np.float32))


def _plaster(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    patches = make_noise(rng, height, width, 60 * scale) * np.float32(0.1)
    return _shade(color, np.float32(0.95) + patches)


def _foliage(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    clumps = make_noise(rng, height, width, 13 * scale)
    leaves = make_noise(rng, height, width, 4 * scale)
    leaves = (leaves > np.float32(0.52)).astype(np.float32) * np.float32(0.28)
    return _shade(color, np.float32(0.5) + clumps * np.float32(0.55) + leaves)


def _carpet(
    rng: np.random.Generator, height: int, width: int, *, color: Color, scale: Real
) -> Surface:
    pile = rng.random((height, width), dtype=np.float32)
    brushed = make_noise(rng, height, width, 18 * scale)
    return _shade(color, np.float32(0.68) + pile * np.float32(0.38) + brushed * np.float32(0.16))


_MATERIALS: Final[dict[str, Callable[..., Surface]]] = {
    "wood": _wood, "brick": _brick, "metal": _metal, "grass": _grass, "water": _water,
    "sand": _sand, "stone": _stone, "fabric": _fabric, "tile": _tile, "marble": _marble,
    "leather": _leather, "glass": _glass, "plaster": _plaster, "foliage": _foliage,
    "carpet": _carpet,
}  # fmt: skip

_COLORS: Final[dict[str, tuple[str, ...]]] = {
    "wood": ("brown", "brown", "brown", "terracotta"),
    "brick": ("terracotta", "terracotta", "red", "brown"),
    "metal": ("grey",),
    "grass": ("green",),
    "water": ("blue", "blue", "teal"),
    "sand": ("cream", "yellow"),
    "stone": ("grey",),
    "fabric": tuple(PALETTE),
    "tile": ("white", "white", "sky", "mint", "teal", "cream"),
    "marble": ("white", "white", "grey", "mint"),
    "leather": ("brown", "black", "red", "terracotta"),
    "glass": ("sky",),
    "plaster": ("cream", "white", "sky", "mint", "lilac", "pink", "yellow", "grey"),
    "foliage": ("green",),
    "carpet": ("red", "purple", "blue", "green", "brown", "pink", "teal"),
}
