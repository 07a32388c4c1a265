"""Textures: fields in [0, 1] that say how much of a second colour lies on a first one.

Every texture is a function of a generator, a height, a width and the period of its pattern in
pixels. Only additions, products, comparisons and square roots are used, since these are rounded
alike everywhere; sines are not, so waves are triangles and turns come from a table.
"""

from collections.abc import Callable
from math import cos, pi, sin
from typing import Final

import numpy as np
from jaxtyping import Float32, Int32

from dissect_embed.datasets.mini.colors import Real

Field = Float32[np.ndarray, "y x"]
Texture = Callable[[np.random.Generator, int, int, float], Field]

_TURNS = [
    (round(cos(2 * pi * k / 64) * 1024) / 1024, round(sin(2 * pi * k / 64) * 1024) / 1024)
    for k in range(64)
]


def make_noise(rng: np.random.Generator, height: int, width: int, cell: Real) -> Field:
    """Draw smooth random heights in [0, 1] that vary over about `cell` pixels."""
    axes = []
    for length in (height, width):
        position = np.arange(length, dtype=np.float32) / np.float32(max(cell, 1))
        low = position.astype(np.int64)
        t = position - np.floor(position)
        axes.append((low, t * t * (3 - 2 * t)))
    (row, ty), (column, tx) = axes
    lattice = rng.random((int(row[-1]) + 2, int(column[-1]) + 2), dtype=np.float32)
    rows = lattice[row] + ty[:, None] * (lattice[row + 1] - lattice[row])
    left = rows[:, column]
    return np.asarray(left + tx * (rows[:, column + 1] - left))


def make_fractal(rng: np.random.Generator, height: int, width: int, cell: Real) -> Field:
    """Add noise of three sizes, each half as large and half as strong as the one before."""
    coarse, middle, fine = (make_noise(rng, height, width, cell / k) for k in (1, 2, 4))
    return np.asarray((4 * coarse + 2 * middle + fine) / 7)


def _turned(
    rng: np.random.Generator, height: int, width: int, period: Real, turn: int | None = None
) -> tuple[Field, Field]:
    """Coordinates in periods, turned by a random angle (or by `turn` 64ths) and shifted."""
    c, s = _TURNS[int(rng.integers(64)) if turn is None else turn % 64]
    shift = rng.random(2) * 64 + 64
    y = (np.arange(height, dtype=np.float32) / np.float32(period))[:, None]
    x = (np.arange(width, dtype=np.float32) / np.float32(period))[None, :]
    u = np.float32(c) * x + np.float32(s) * y + np.float32(shift[0])
    v = np.float32(c) * y - np.float32(s) * x + np.float32(shift[1])
    return u, v


def _upright(rng: np.random.Generator) -> int:
    """Draw a small tilt, in 64ths of a turn, for textures that have an up."""
    return int(rng.integers(-3, 4))


def _wave(x: Field) -> Field:
    """Triangle wave of period 1: 1 at integers, 0 half way."""
    return np.asarray(np.abs(2 * (x - np.floor(x)) - 1))


def _edge(x: Field, period: Real) -> Field:
    """Step at 0 that is about one pixel wide; `x` is in periods."""
    return np.asarray(np.clip(x * np.float32(period) + np.float32(0.5), 0, 1))


def _split(
    u: Field, v: Field
) -> tuple[Int32[np.ndarray, "y x"], Int32[np.ndarray, "y x"], Field, Field]:
    """Take coordinates apart into rows and columns and what is left, (row, column, fv, fu)."""
    low_v, low_u = np.floor(v), np.floor(u)
    return low_v.astype(np.int32), low_u.astype(np.int32), v - low_v, u - low_u


def _cells(
    rng: np.random.Generator, u: Field, v: Field, jitter: Real
) -> tuple[Field, Field, Field]:
    """Distances to the nearest and second nearest of jittered grid points, and the nearest's luck.

    Luck is a random number in [0, 1) of the nearest point.
    """
    table = rng.random((32, 32, 3), dtype=np.float32)
    table[..., :2] = np.float32(0.5) + (table[..., :2] - np.float32(0.5)) * np.float32(jitter)
    row, column, fv, fu = _split(u, v)
    table = table.reshape(-1, 3)
    first = np.full(u.shape, 9, np.float32)
    second = first.copy()
    luck = np.zeros_like(first)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            point = table.take(((row + dy) & 31) * 32 + ((column + dx) & 31), axis=0)
            distance = (point[..., 0] + dx - fu) ** 2 + (point[..., 1] + dy - fv) ** 2
            nearer = distance < first
            second = np.minimum(second, np.where(nearer, first, distance))
            first = np.where(nearer, distance, first)
            luck = np.where(nearer, point[..., 2], luck)
    return np.sqrt(first), np.sqrt(second), luck


def striped(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Straight stripes."""
    u, _ = _turned(rng, height, width, period)
    return _edge(_wave(u) - np.float32(0.35 + 0.3 * rng.random()), period / 2)


def dotted(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Dots in staggered rows."""
    u, v = _turned(rng, height, width, period)
    row = np.floor(v)
    du = u + row * np.float32(0.5)
    du = du - np.floor(du) - np.float32(0.5)
    dv = v - row - np.float32(0.5)
    radius = np.float32(0.24 + 0.14 * rng.random())
    return _edge(radius - np.sqrt(du * du + dv * dv), period)


def chequered(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Squares of two colours in turn."""
    u, v = _turned(rng, height, width, period * 1.4)
    half = np.float32(0.5)
    return _edge((_wave(u) - half) * (_wave(v) - half) * 4, period / 2)


def zigzagged(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Stripes that go to and fro."""
    u, v = _turned(rng, height, width, period)
    bent = v + _wave(u * np.float32(0.7)) * np.float32(0.7 + 0.4 * rng.random())
    return _edge(_wave(bent) - np.float32(0.5), period / 3)


def grid(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Thin lines crossing at right angles."""
    u, v = _turned(rng, height, width, period)
    line = np.maximum(_wave(u), _wave(v))
    return _edge(line - np.float32(0.72 + 0.1 * rng.random()), period / 2)


def woven(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Strands that pass over and under each other, rounded by shading."""
    u, v = _turned(rng, height, width, period * 0.8)
    over = ((np.floor(u) + np.floor(v)) % 2) > 0
    fu, fv = u - np.floor(u) - np.float32(0.5), v - np.floor(v) - np.float32(0.5)
    across, along = np.where(over, fu, fv), np.where(over, fv, fu)
    strand = np.float32(1) - 3 * across * across - np.float32(1.2) * along * along
    gap = _edge(np.float32(0.43) - np.abs(across), period * 0.8)
    return np.asarray(np.clip(strand * gap * np.where(over, np.float32(1), np.float32(0.72)), 0, 1))


def honeycombed(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Six-sided cells with walls between."""
    u, v = _turned(rng, height, width, period * 1.2)
    tall = np.float32(1.7320508)
    distances = []
    for shift in (np.float32(0), np.float32(0.5)):
        du = u + shift - np.floor(u + shift) - np.float32(0.5)
        w = v / tall + shift
        dv = (w - np.floor(w) - np.float32(0.5)) * tall
        # Half width of the hexagon that touches the point, around this lattice's centre.
        distances.append(
            np.maximum(np.abs(du), np.abs(du) * np.float32(0.5) + np.abs(dv) * (tall / 2))
        )
    inner = np.minimum(distances[0], distances[1])
    return _edge(inner - np.float32(0.40 + 0.05 * rng.random()), period)


def scaly(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Round scales, each row lying on the row below."""
    u, v = _turned(rng, height, width, period, _upright(rng))
    pitch, radius = np.float32(0.42), np.float32(0.58)
    row = np.floor(v / pitch)
    result = np.zeros((height, width), np.float32)
    for r in (row - 1, row, row + 1):
        du = u + r * np.float32(0.5)
        du = du - np.floor(du) - np.float32(0.5)
        dv = v - r * pitch
        ratio = (du * du + dv * dv) / (radius * radius)
        scale = np.clip(np.float32(1.05) - ratio * ratio, np.float32(0.01), 1)
        result = np.where((ratio < 1) & (result == 0), scale, result)
    return result


def cracked(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Thin crooked lines between irregular plates."""
    u, v = _turned(rng, height, width, period * 1.5)
    wobble = make_noise(rng, height, width, period / 3) - np.float32(0.5)
    first, second, _ = _cells(
        rng, u + wobble * np.float32(0.25), v - wobble * np.float32(0.25), 1.0
    )
    return _edge(np.float32(0.055) - (second - first), period * 1.5)


def bubbly(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Round bubbles of many sizes with bright rims."""
    u, v = _turned(rng, height, width, period * 1.1, 0)
    first, _, luck = _cells(rng, u, v, 0.5)
    radius = np.float32(0.24) + np.float32(0.24) * luck
    ratio = first / radius
    square = ratio * ratio
    return np.where(ratio < 1, np.float32(0.15) + np.float32(0.85) * square * square, np.float32(0))


def crosshatched(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Pen strokes in two directions, thicker and thinner from place to place."""
    turn = int(rng.integers(64))
    thickness = make_noise(rng, height, width, period * 3) * np.float32(0.35) + np.float32(0.1)
    strokes = []
    for angle in (turn, turn + 11):
        u, _ = _turned(rng, height, width, period * 0.55, angle)
        strokes.append(_edge(_wave(u) - 1 + thickness, period / 3))
    return np.asarray(np.maximum(strokes[0], strokes[1]))


def swirly(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Stripes bent by slow waves."""
    u, _ = _turned(rng, height, width, period)
    bend = make_noise(rng, height, width, period * 2.2) * 4
    return _edge(_wave(u * np.float32(0.5) + bend) - np.float32(0.5), period / 3)


def spiralled(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Arms that wind around centres."""
    u, v = _turned(rng, height, width, period * 4.5, 0)
    du, dv = u - np.floor(u) - np.float32(0.5), v - np.floor(v) - np.float32(0.5)
    radius = np.sqrt(du * du + dv * dv)
    # An angle without an arc tangent: 0 to 4 around a diamond.
    side = du / (np.abs(du) + np.abs(dv) + np.float32(1e-6))
    angle = np.where(dv > 0, 1 - side, side + 3) * np.float32(0.25)
    turns = np.where((np.floor(u) + np.floor(v)) % 2 > 0, angle, -angle)
    return _edge(_wave(radius * np.float32(4.5) + turns) - np.float32(0.5), period / 2)


def marbled(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Soft veins."""
    u, _ = _turned(rng, height, width, period * 3)
    field = make_fractal(rng, height, width, period * 2.5)
    vein = 1 - np.abs(_wave(u + field * np.float32(2.5)) * 2 - 1)
    haze = make_noise(rng, height, width, period) * np.float32(0.3)
    square = vein * vein
    return np.asarray(np.clip(square * square + haze * vein, 0, 1))


def sprinkled(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Short strokes strewn in all directions."""
    u, v = _turned(rng, height, width, period * 0.8, 0)
    turns = np.array(_TURNS, np.float32)[rng.integers(64, size=1024)]
    strokes = np.hstack([rng.random((1024, 2), dtype=np.float32), turns])
    row, column, fv, fu = _split(u, v)
    result = np.zeros((height, width), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            stroke = strokes.take(((row + dy) & 31) * 32 + ((column + dx) & 31), axis=0)
            x, y = fu - dx - stroke[..., 0], fv - dy - stroke[..., 1]
            along = x * stroke[..., 2] + y * stroke[..., 3]
            across = y * stroke[..., 2] - x * stroke[..., 3]
            over = np.maximum(np.abs(along) - np.float32(0.26), 0)
            far = np.sqrt(over * over + across * across)
            result = np.maximum(result, _edge(np.float32(0.11) - far, period * 0.8))
    return result


def waffled(rng: np.random.Generator, height: int, width: int, period: Real) -> Field:
    """Square pits lit from the upper left."""
    u, v = _turned(rng, height, width, period * 1.2, _upright(rng))
    fu, fv = u - np.floor(u) - np.float32(0.5), v - np.floor(v) - np.float32(0.5)
    deep = np.maximum(np.abs(fu), np.abs(fv))
    lit = np.where(np.abs(fu) > np.abs(fv), np.where(fu > 0, 0.9, 0.25), np.where(fv > 0, 0.7, 0.1))
    ridge = deep > np.float32(0.40)
    pit = deep < np.float32(0.2)
    return np.where(ridge, 0.75, np.where(pit, 0.4, lit)).astype(np.float32)


TEXTURES: Final[dict[str, Texture]] = {
    f.__name__: f
    for f in (
        striped, dotted, chequered, zigzagged, grid, woven, honeycombed, scaly, cracked, bubbly,
        crosshatched, swirly, spiralled, marbled, sprinkled, waffled,
    )
}  # fmt: skip
