"""Scenes under the sky: nine places, by day, at dusk and by night."""

from typing import Final

import numpy as np

from dissect_embed.datasets.mini import nature, town
from dissect_embed.datasets.mini.canvas import Canvas, Draw, Pen, turn
from dissect_embed.datasets.mini.colors import Color, Real
from dissect_embed.datasets.mini.landscape import (
    draw_ground,
    draw_mountains,
    draw_sky,
    light_up,
    recede,
)

# What stands in a place: the drawing, its name, its size at the front edge (of the image's height)
# and how often it comes up among the others.
_TREES: Final = ((nature.draw_tree, "tree", 0.85, 3),)
_STREET_LIFE: Final = (
    (town.draw_person, "person", 0.46, 3), (nature.draw_dog, "dog", 0.26, 1),
    (town.draw_street_lamp, "lamp", 0.9, 2),
)  # fmt: skip
_CROWD: Final[dict[str, tuple[tuple[Draw, str, float, int], ...]]] = {
    "beach-s": (
        (nature.draw_palm, "palm", 0.95, 3), (town.draw_umbrella, "umbrella", 0.5, 3),
        (town.draw_person, "person", 0.44, 3), (nature.draw_rock, "rock", 0.3, 1),
        (nature.draw_dog, "dog", 0.28, 1),
    ),
    "street-s": (
        *_STREET_LIFE, (town.draw_car, "car", 0.62, 4), (town.draw_bus, "bus", 0.9, 1),
    ),
    "city-s": (*_STREET_LIFE, (town.draw_car, "car", 0.56, 2), (town.draw_bus, "bus", 0.85, 3)),
    "meadow-s": (
        *_TREES, (nature.draw_sheep, "sheep", 0.34, 4), (nature.draw_flower, "flower", 0.22, 4),
        (nature.draw_dog, "dog", 0.3, 1), (town.draw_house, "house", 0.75, 1),
    ),
    "forest-s": (
        (nature.draw_tree, "tree", 1.05, 3), (nature.draw_pine, "pine", 1.15, 4),
        (nature.draw_rock, "rock", 0.28, 1), (nature.draw_flower, "flower", 0.18, 1),
    ),
    "mountain-s": (
        (nature.draw_pine, "pine", 0.8, 4), (nature.draw_rock, "rock", 0.34, 3),
        (nature.draw_sheep, "sheep", 0.26, 1), (town.draw_house, "house", 0.55, 1),
    ),
    "desert-s": (
        (nature.draw_cactus, "cactus", 0.7, 5), (nature.draw_rock, "rock", 0.36, 3),
        (nature.draw_palm, "palm", 0.8, 1),
    ),
    "park-s": (
        *_TREES, *_STREET_LIFE, (nature.draw_flower, "flower", 0.22, 4),
        (town.draw_umbrella, "umbrella", 0.45, 1),
    ),
    "snowfield-s": (
        (nature.draw_pine, "pine", 0.85, 5), (town.draw_house, "house", 0.65, 2),
        (town.draw_person, "person", 0.42, 2), (nature.draw_rock, "rock", 0.24, 1),
    ),
}  # fmt: skip
PLACES: Final = tuple(_CROWD)


def _line_up(
    canvas: Canvas,
    rng: np.random.Generator,
    base: Real,
    draw: Draw,
    name: str,
    size: Real,
    step: Real,
) -> None:
    """Stand things of one kind side by side."""
    x = float(rng.uniform(-0.2, 0.3)) * step
    while x < canvas.size + step / 2:
        tall = size * float(rng.uniform(0.75, 1.2))
        draw(Pen(canvas, x, base, tall, name, turn(rng)), rng)
        x += step * float(rng.uniform(0.8, 1.3))


def _draw_far(
    canvas: Canvas, rng: np.random.Generator, place: str, haze: Color, horizon: Real
) -> None:
    """Draw what stands beyond the horizon, in haze; the ground then hides its foot."""
    near = (canvas.gain, canvas.bias)
    recede(canvas, haze, 0.45)
    step = canvas.size * 0.2
    if place == "mountain-s" or (place != "city-s" and rng.random() < 0.25):
        tall = 0.85 if place == "mountain-s" else 0.4
        draw_mountains(canvas, rng, horizon, horizon * tall, bool(rng.random() < 0.6))
    if place in ("street-s", "park-s") and rng.random() < 0.4:
        tall = horizon * 0.7
        _line_up(canvas, rng, horizon + 3, town.draw_skyscraper, "skyscraper", tall, step)
    if place == "forest-s":
        _line_up(canvas, rng, horizon + 4, nature.draw_pine, "pine", horizon * 0.8, step * 0.7)
    canvas.gain, canvas.bias = near


def _draw_edge(canvas: Canvas, rng: np.random.Generator, place: str, horizon: Real) -> None:
    """Draw what stands along the far edge of the ground: houses, towers, a fence."""
    size = canvas.size
    base = horizon + 0.05 * (size - horizon)
    if place == "street-s":
        _line_up(canvas, rng, base, town.draw_house, "house", horizon * 0.72, size * 0.44)
    if place == "city-s":
        tall = horizon * 0.95
        _line_up(canvas, rng, base, town.draw_skyscraper, "skyscraper", tall, size * 0.26)
    if place in ("meadow-s", "street-s", "park-s") and rng.random() < 0.5:
        fence = Pen(canvas, float(rng.uniform(0, 1)) * size, base + 4, size * 0.1, "fence")
        town.draw_fence(fence, rng)


def _draw_in_air(canvas: Canvas, rng: np.random.Generator, horizon: Real) -> None:
    """Let a balloon and birds fly, or neither."""
    size = canvas.size
    if rng.random() < 0.14 and not canvas.dark:
        x, y = float(rng.uniform(0.15, 0.85)) * size, float(rng.uniform(0.5, 0.95)) * horizon
        tall = float(rng.uniform(0.2, 0.42)) * size
        town.draw_balloon(Pen(canvas, x, y, tall, "balloon"), rng)
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.3 else 0):
        x, y = float(rng.uniform(0.1, 0.9)) * size, float(rng.uniform(0.2, 0.9)) * horizon
        length = float(rng.uniform(0.08, 0.2)) * size
        nature.draw_bird(Pen(canvas, x, y, length, "bird", turn(rng)), rng)


def _draw_crowd(
    canvas: Canvas, rng: np.random.Generator, place: str, horizon: Real, first: Real
) -> None:
    """Set things on the ground below `first`, far ones before near ones."""
    size, crowd = canvas.size, _CROWD[place]
    odds = np.repeat(np.arange(len(crowd)), [weight for *_, weight in crowd])
    n_things = int(rng.integers(3, 8)) + (4 if place == "forest-s" else 0)
    zoom = float(rng.uniform(0.75, 1.3))
    for y in np.sort(rng.uniform(first, size * 1.04, size=n_things)):
        draw, name, front, _ = crowd[odds[rng.integers(len(odds))]]
        near = 0.3 + 0.7 * (float(y) - horizon) / (size - horizon)
        tall = size * front * near * zoom * float(rng.uniform(0.85, 1.15))
        x = float(rng.uniform(-0.02, 1.02)) * size
        draw(Pen(canvas, x, float(y), tall, name, turn(rng)), rng)


def draw_outdoors(canvas: Canvas, rng: np.random.Generator, place: str) -> str:
    """Paint one of `PLACES` and return the hour, which is a scene of its own.

    Things stand on the ground, the further up the smaller, and nearer ones hide those behind.
    """
    hour = ("day-s", "day-s", "day-s", "dusk-s", "night-s")[rng.integers(5)]
    canvas.dark, canvas.snowy = hour == "night-s", place == "snowfield-s"
    horizon = canvas.size * float(rng.uniform(0.36, 0.62))
    haze = draw_sky(canvas, rng, hour, horizon)
    light_up(canvas, hour, rng)
    _draw_far(canvas, rng, place, haze, horizon)
    first = draw_ground(canvas, rng, place, horizon)
    _draw_edge(canvas, rng, place, horizon)
    _draw_in_air(canvas, rng, horizon)
    _draw_crowd(canvas, rng, place, horizon, first)
    return hour
