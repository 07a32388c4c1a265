"""The canvas: shapes become masks, masks are painted, and labels follow the paint.

Masks are made at two samples a pixel and an axis, in integers, so that they are the same on every
machine. What is painted later hides what was painted before, in the image and in the labels alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from dissect_embed.datasets.mini.colors import Color, Real
from dissect_embed.datasets.mini.concepts import NUMBERS

Point = tuple[Real, Real]
Fill = Color | Callable[[int, int], Float32[np.ndarray, "y x 3"]]

LAYERS = ("object", "part", "detail", "material")  # detail: a part of a part, as a hub of a wheel
_FIXED = 16  # shapes' corners are rounded to 1/16 pixel


class Mask(NamedTuple):
    """Where a shape is: two samples a pixel and an axis, in the box that begins at pixel (y, x)."""

    y: int
    x: int
    inside: Bool[np.ndarray, "y4 x4"]


def _clip_box(x0: Real, y0: Real, x1: Real, y1: Real, size: int) -> tuple[int, int, int, int]:
    """Round a box of pixels outwards to even pixels, within the canvas."""
    return (
        min(max(int(x0 // 2) * 2, 0), size),
        min(max(int(y0 // 2) * 2, 0), size),
        min(max(-int(-x1 // 2) * 2, 0), size),
        min(max(-int(-y1 // 2) * 2, 0), size),
    )


def make_polygon(points: Sequence[Point], size: int) -> Mask:
    """Fill a polygon (nonzero winding) given by its corners (x, y) in pixels."""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    left, top, right, bottom = _clip_box(min(xs), min(ys), max(xs), max(ys), size)
    n_rows, n_columns = max(bottom - top, 0) * 2, max(right - left, 0) * 2
    winding = np.zeros((n_rows, n_columns + 1), np.int8)
    if n_rows and n_columns:
        corners = np.rint(np.array(points, np.float64) * _FIXED).astype(np.int64)
        x0, y0 = corners[:, 0, None], corners[:, 1, None]
        x1, y1 = np.roll(x0, -1, axis=0), np.roll(y0, -1, axis=0)
        centre = top * _FIXED + (2 * np.arange(n_rows) + 1) * (_FIXED // 4)
        edge, row = np.nonzero((np.minimum(y0, y1) <= centre) & (centre < np.maximum(y0, y1)))
        x0, y0, x1, y1 = x0[edge, 0], y0[edge, 0], x1[edge, 0], y1[edge, 0]
        # Rounded up, so that a sample just left of the edge is not taken for one right of it.
        crossing = x0 - (y0 - centre[row]) * (x1 - x0) // (y1 - y0) - left * _FIXED
        # The first sample whose centre is not left of the crossing.
        column = np.clip((crossing + _FIXED // 4 - 1) // (_FIXED // 2), 0, n_columns)
        np.add.at(winding, (row, column), np.where(y1 > y0, 1, -1).astype(np.int8))
        np.cumsum(winding, axis=1, dtype=np.int8, out=winding)
    return Mask(top, left, winding[:, :n_columns] != 0)


def make_ellipse(x: Real, y: Real, rx: Real, ry: Real, size: int) -> Mask:
    """Fill an ellipse with axes along the canvas, centre (x, y), radii in pixels."""
    left, top, right, bottom = _clip_box(x - rx, y - ry, x + rx, y + ry, size)
    cx, cy, ax, ay = (round(v * _FIXED) for v in (x, y, rx, ry))
    step, first = _FIXED // 2, _FIXED // 4
    dx = left * _FIXED + first + step * np.arange(max(right - left, 0) * 2, dtype=np.int64) - cx
    dy = top * _FIXED + first + step * np.arange(max(bottom - top, 0) * 2, dtype=np.int64) - cy
    return Mask(top, left, (dx * ay)[None, :] ** 2 + (dy * ax)[:, None] ** 2 <= (ax * ay) ** 2)


def unite(masks: Sequence[Mask]) -> Mask:
    """Join masks into one."""
    top, left = min(m.y for m in masks), min(m.x for m in masks)
    n_rows = max(2 * (m.y - top) + m.inside.shape[0] for m in masks)
    n_columns = max(2 * (m.x - left) + m.inside.shape[1] for m in masks)
    inside = np.zeros((n_rows, n_columns), np.bool_)
    for m in masks:
        y, x = 2 * (m.y - top), 2 * (m.x - left)
        inside[y : y + m.inside.shape[0], x : x + m.inside.shape[1]] |= m.inside
    return Mask(top, left, inside)


def _sum_blocks(a: np.ndarray) -> np.ndarray:
    """Add up each 2 x 2 block."""
    rows = a[::2] + a[1::2]
    return np.asarray(rows[:, ::2] + rows[:, 1::2])


@dataclass
class Canvas:
    """An image being painted, with its labels at half its size.

    `gain` and `bias` are applied to every colour painted from then on: light and haze. `dark` and
    `snowy` tell the things drawn that lamps are lit and that snow lies.
    """

    size: int
    dark: bool = False
    snowy: bool = False
    rgb: Float32[np.ndarray, "size size 3"] = field(init=False)
    labels: UInt8[np.ndarray, "4 half half"] = field(init=False)
    gain: Float32[np.ndarray, "3"] = field(default_factory=lambda: np.ones(3, np.float32))
    bias: Float32[np.ndarray, "3"] = field(default_factory=lambda: np.zeros(3, np.float32))

    def __post_init__(self) -> None:
        """Start blank and unlabelled."""
        self.rgb = np.full((self.size, self.size, 3), 255, np.float32)
        self.labels = np.zeros((len(LAYERS), self.size // 2, self.size // 2), np.uint8)

    def paint(
        self,
        mask: Mask,
        fill: Fill,
        labels: tuple[str, str, str, str] = ("", "", "", ""),
        *,
        relief: Real = 0.12,
        glow: bool = False,
    ) -> None:
        """Paint a fill through a mask and write its labels where it covers half a label pixel.

        Parameters
        ----------
        mask
            Where to paint.
        fill
            A colour, or a function of height and width that returns colours, 0 to 255.
        labels
            Concept names in the order of `LAYERS`; an empty name clears the layer.
        relief
            How much lighter the upper left is than the middle, as a fraction.
        glow
            Whether the colour shines by itself, so that light and haze leave it alone.
        """
        if not mask.inside.size:
            return
        quarter = _sum_blocks(mask.inside.view(np.uint8))
        height, width = quarter.shape
        color = fill(height, width) if callable(fill) else np.array(fill, np.float32)
        if not glow:
            color = color * self.gain + self.bias
        if relief:
            down = np.linspace(1 + relief / 2, 1 - relief / 2, height, dtype=np.float32)
            across = np.linspace(relief / 2, -relief / 2, width, dtype=np.float32)
            color = color * (down[:, None] + across)[..., None]
        alpha = quarter.astype(np.float32)[..., None] * np.float32(0.25)
        region = self.rgb[mask.y : mask.y + height, mask.x : mask.x + width]
        region += alpha * (color - region)
        covered = _sum_blocks(quarter) >= 8
        y, x = mask.y // 2, mask.x // 2
        block = self.labels[:, y : y + height // 2, x : x + width // 2]
        for layer, name in zip(block, labels, strict=True):
            layer[covered] = NUMBERS[name] if name else 0

    def darken(self, mask: Mask, share: Real) -> None:
        """Take a share of the light away within a mask: a shadow, which has no label."""
        quarter = _sum_blocks(mask.inside.view(np.uint8)).astype(np.float32)
        height, width = quarter.shape
        region = self.rgb[mask.y : mask.y + height, mask.x : mask.x + width]
        region *= 1 - quarter[..., None] * np.float32(share / 4)


@dataclass(frozen=True)
class Pen:
    """Draws one thing in its own coordinates.

    `(x, y)` is the middle of the thing's foot in pixels of the canvas, `size` the pixels of one of
    its units, u runs forwards (to the right where `facing` is 1) and v upwards.
    """

    canvas: Canvas
    x: Real
    y: Real
    size: Real
    name: str
    facing: int = 1

    def _place(self, point: Point) -> Point:
        return (self.x + self.facing * self.size * point[0], self.y - self.size * point[1])

    def polygon(self, points: Sequence[Point]) -> Mask:
        """Mask of a polygon given by its corners (u, v)."""
        return make_polygon([self._place(p) for p in points], self.canvas.size)

    def box(self, u0: Real, v0: Real, u1: Real, v1: Real) -> Mask:
        """Mask of an upright rectangle."""
        return self.polygon([(u0, v0), (u1, v0), (u1, v1), (u0, v1)])

    def ellipse(self, u: Real, v: Real, ru: Real, rv: Real) -> Mask:
        """Mask of an ellipse with centre (u, v)."""
        x, y = self._place((u, v))
        return make_ellipse(x, y, self.size * ru, self.size * rv, self.canvas.size)

    def line(self, start: Point, end: Point, width: Real) -> Mask:
        """Mask of a straight stroke."""
        du, dv = end[0] - start[0], end[1] - start[1]
        scale = width / (2 * sqrt(du * du + dv * dv))
        nu, nv = -dv * scale, du * scale
        (a, b), (c, d) = start, end
        return self.polygon(
            [(a + nu, b + nv), (c + nu, d + nv), (c - nu, d - nv), (a - nu, b - nv)]
        )

    def paint(
        self,
        mask: Mask,
        fill: Fill,
        part: str = "",
        detail: str = "",
        material: str = "",
        *,
        relief: Real = 0.12,
        glow: bool = False,
    ) -> None:
        """Paint a mask as this thing, or as a part of it, or as a detail of a part."""
        labels = (self.name, part, detail, material)
        self.canvas.paint(mask, fill, labels, relief=relief, glow=glow)

    def shadow(self, ru: Real, rv: Real = 0.07, share: Real = 0.3) -> None:
        """Lay a shadow on the ground under the thing."""
        self.canvas.darken(self.ellipse(0.06 * ru, 0, ru, rv), share)


Draw = Callable[[Pen, np.random.Generator], None]


def turn(rng: np.random.Generator) -> int:
    """Draw which way a thing faces."""
    return 1 if rng.random() < 0.5 else -1
