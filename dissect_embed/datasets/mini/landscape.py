"""What lies behind and under the things in the open: light, sky, mountains and ground."""

from typing import Final

import numpy as np
from jaxtyping import Float32

from dissect_embed.datasets.mini import town
from dissect_embed.datasets.mini.canvas import Canvas, Mask, Pen, make_polygon, turn, unite
from dissect_embed.datasets.mini.colors import Color, Real, mix_colors
from dissect_embed.datasets.mini.materials import blend, make_material

_SKY: Final[dict[str, tuple[tuple[Color, Color], ...]]] = {
    "day-s": (
        ((74, 144, 222), (190, 224, 246)),
        ((110, 170, 226), (222, 234, 240)),
        ((150, 166, 184), (212, 218, 222)),
    ),
    "dusk-s": (
        ((92, 70, 140), (250, 160, 92)),
        ((210, 110, 110), (252, 204, 120)),
        ((60, 70, 140), (244, 140, 150)),
    ),
    "night-s": (((10, 14, 42), (42, 54, 104)), ((16, 12, 36), (58, 46, 96))),
}
_LIGHT: Final[dict[str, tuple[float, float, float]]] = {
    "day-s": (1.0, 1.0, 0.98), "dusk-s": (0.92, 0.74, 0.68), "night-s": (0.42, 0.47, 0.68),
}  # fmt: skip


def light_up(canvas: Canvas, hour: str, rng: np.random.Generator) -> None:
    """Let what is painted next lie in the light of the hour, more or less bright."""
    exposure = rng.uniform(0.86, 1.1)
    canvas.gain = np.array(_LIGHT[hour], np.float32) * np.float32(exposure)
    canvas.bias = np.zeros(3, np.float32)


def recede(canvas: Canvas, haze: Color, share: Real) -> None:
    """Let what is painted next lie far off: mix it with the colour of the haze."""
    canvas.gain = canvas.gain * np.float32(1 - share)
    canvas.bias = canvas.bias * np.float32(1 - share) + np.array(haze, np.float32) * np.float32(
        share
    )


def _strip(canvas: Canvas, top: Real, bottom: Real) -> Mask:
    size = canvas.size
    return make_polygon([(0, top), (size, top), (size, bottom), (0, bottom)], size)


def draw_sky(canvas: Canvas, rng: np.random.Generator, hour: str, horizon: Real) -> Color:
    """Paint the sky with what hangs in it; the colour at the horizon is the colour of haze."""
    high, low = _SKY[hour][rng.integers(len(_SKY[hour]))]

    def gradient(height: int, width: int) -> Float32[np.ndarray, "y x 3"]:
        t = np.arange(height, dtype=np.float32)[:, None] / np.float32(height)
        return np.broadcast_to(blend(t, high, low), (height, width, 3))

    size = canvas.size
    sky = Pen(canvas, size / 2, horizon, size, "sky")
    sky.paint(_strip(canvas, 0, horizon + 2), gradient, relief=0, glow=True)
    if hour == "night-s":
        stars = [
            sky.ellipse(u, v, 0.005, 0.005)
            for u, v in zip(rng.uniform(-0.5, 0.5, 24), rng.uniform(0.1, 0.9, 24), strict=True)
        ]
        sky.paint(unite(stars), (250, 246, 220), relief=0, glow=True)
        name, color, chance = "moon", (246, 242, 214), 0.8
    else:
        name, color, chance = "sun", (255, 226, 96) if hour == "day-s" else (255, 150, 70), 0.6
    if rng.random() < chance:
        radius = float(rng.uniform(0.05, 0.1)) * size
        x, y = float(rng.uniform(0.12, 0.88)) * size, float(rng.uniform(0.25, 0.75)) * horizon
        orb = Pen(canvas, x, y, radius, name)
        sky.paint(orb.ellipse(0, 0, 1.35, 1.35), mix_colors(color, low, 0.6), relief=0, glow=True)
        orb.paint(orb.ellipse(0, 0, 1, 1), color, relief=0, glow=True)
        if name == "moon":
            for u, v, r in ((0.3, 0.25, 0.22), (-0.35, -0.1, 0.16), (0.1, -0.5, 0.13)):
                orb.paint(orb.ellipse(u, v, r, r), (222, 216, 190), relief=0, glow=True)
    white = {"day-s": (250, 250, 252), "dusk-s": (255, 206, 186), "night-s": (74, 80, 116)}[hour]
    for _ in range(int(rng.integers(0, 4))):
        width = float(rng.uniform(0.14, 0.34)) * size
        pen = Pen(
            canvas,
            float(rng.uniform(0, 1)) * size,
            float(rng.uniform(0.15, 0.8)) * horizon,
            width,
            "cloud",
        )
        puffs = [
            pen.ellipse(u, v, r, r * 0.8)
            for u, v, r in (
                (-0.32, 0.02, 0.16),
                (-0.1, 0.1, 0.22),
                (0.14, 0.07, 0.19),
                (0.34, 0.0, 0.14),
            )
        ]
        pen.paint(unite([*puffs, pen.box(-0.42, -0.1, 0.42, 0.02)]), white, relief=0.18, glow=True)
    return low


def draw_mountains(
    canvas: Canvas, rng: np.random.Generator, horizon: Real, height: Real, snow: bool
) -> None:
    """Draw two to four mountains of `height` pixels on the horizon, with or without snow."""
    size = canvas.size
    rock = ((112, 104, 122), (130, 110, 92), (88, 112, 120))[rng.integers(3)]
    for _ in range(int(rng.integers(2, 5))):
        tall = height * float(rng.uniform(0.6, 1.0))
        half = tall * float(rng.uniform(0.7, 1.1))
        x = float(rng.uniform(0, size))
        pen = Pen(canvas, x, horizon + 3, tall, "mountain", turn(rng))
        wide = half / tall
        stone = make_material(rng, "stone", size / 160, rock)
        pen.paint(
            pen.polygon([(-wide, 0), (-wide * 0.4, 0.55), (0, 1), (wide * 0.45, 0.5), (wide, 0)]),
            stone,
            relief=0.2,
        )
        canvas.darken(
            pen.polygon([(0, 1), (wide * 0.45, 0.5), (wide, 0), (0.12, 0), (0.06, 0.5)]), 0.25
        )
        if snow:
            cap = [
                (-wide * 0.3, 0.66),
                (-wide * 0.14, 0.7),
                (0, 0.62),
                (wide * 0.12, 0.72),
                (wide * 0.3, 0.66),
                (0, 1),
            ]
            pen.paint(pen.polygon(cap), (242, 246, 250), relief=0.2)


def draw_ground(canvas: Canvas, rng: np.random.Generator, place: str, horizon: Real) -> float:
    """Paint the ground; return the y from which on things stand on it."""
    size, scale = canvas.size, canvas.size / 224
    kinds = {
        "beach-s": ("sand", "sand", None),
        "desert-s": ("sand", "sand", (232, 186, 116)),
        "mountain-s": ("grass", "grass", (96, 132, 72)),
        "forest-s": ("grass", "grass", (66, 110, 52)),
        "snowfield-s": ("snow", "plaster", (236, 242, 250)),
    }
    name, material, color = kinds.get(place, ("grass", "grass", None))
    pen = Pen(canvas, size / 2, size, size, name)
    pen.paint(
        _strip(canvas, horizon, size), make_material(rng, material, scale, color), relief=-0.2
    )
    depth = size - horizon
    if place == "beach-s":
        water = Pen(canvas, size / 2, size, size, "water")
        shore = horizon + depth * float(rng.uniform(0.35, 0.55))
        bow = [(size * k / 6, shore + depth * float(rng.uniform(-0.05, 0.05))) for k in range(7)]
        foam = make_polygon([(0, horizon), *((x, y + 3) for x, y in bow), (size, horizon)], size)
        water.paint(foam, (244, 250, 250))
        sea = make_polygon([(0, horizon), *bow, (size, horizon)], size)
        water.paint(sea, make_material(rng, "water", scale), relief=-0.2)
        for _ in range(int(rng.integers(1, 3))):
            y = horizon + (shore - horizon) * float(rng.uniform(0.15, 0.8))
            boat = Pen(
                canvas,
                float(rng.uniform(0.1, 0.9)) * size,
                y,
                size * float(rng.uniform(0.18, 0.4)),
                "boat",
                turn(rng),
            )
            town.draw_boat(boat, rng)
        return shore + 0.12 * depth
    if place in ("street-s", "city-s"):
        low, high = horizon + depth * 0.16, horizon + depth * 0.92
        paving = Pen(canvas, size / 2, size, size, "road")
        tone = (96, 96, 104)
        paving.paint(_strip(canvas, low, high), make_material(rng, "stone", scale, tone), relief=0)
        paving.paint(_strip(canvas, low, low + 3 * scale), (196, 192, 186), relief=0)
        dash, offset = 26 * scale, float(rng.uniform(0, 40))
        middle = (low + high) / 2
        dashes = [
            make_polygon(
                [
                    (x, middle),
                    (x + dash, middle),
                    (x + dash, middle + 3 * scale),
                    (x, middle + 3 * scale),
                ],
                size,
            )
            for x in np.arange(-offset, size, 2 * dash)
        ]
        paving.paint(unite(dashes), (240, 236, 220), relief=0)
        return low + 0.1 * depth
    if place in ("park-s", "meadow-s") and rng.random() < 0.6:
        x0, x1 = (float(rng.uniform(0.1, 0.9)) * size for _ in range(2))
        wide = size * float(rng.uniform(0.1, 0.2))
        lane = make_polygon(
            [(x0, horizon), (x0 + wide * 0.3, horizon), (x1 + wide, size), (x1 - wide, size)], size
        )
        name = "road" if rng.random() < 0.5 else "water"
        path = Pen(canvas, size / 2, size, size, name)
        fill = (
            make_material(rng, "sand", scale, (206, 178, 132))
            if name == "road"
            else make_material(rng, "water", scale)
        )
        path.paint(lane, fill)
    return horizon + 0.08 * depth
