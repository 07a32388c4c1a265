"""Scenes in a room: four rooms seen from the front, with a wall, a floor and furniture."""

from typing import Final

import numpy as np

from dissect_embed.datasets.mini import furniture, nature, town
from dissect_embed.datasets.mini.canvas import Canvas, Draw, Pen, make_ellipse, make_polygon, turn
from dissect_embed.datasets.mini.colors import PASTEL, Real, pick_color
from dissect_embed.datasets.mini.materials import choose_color, make_material, make_pattern

# What stands in a room: the drawing, its name and its size, of the image's height.
Furniture = tuple[Draw, str, float]
_SOFA: Final[Furniture] = (furniture.draw_sofa, "sofa", 0.75)
_BED: Final[Furniture] = (furniture.draw_bed, "bed", 0.8)
_TABLE: Final[Furniture] = (furniture.draw_table, "table", 0.56)
_CHAIR: Final[Furniture] = (furniture.draw_chair, "chair", 0.44)
_LAMP: Final[Furniture] = (furniture.draw_lamp, "lamp", 0.62)
_PLANT: Final[Furniture] = (furniture.draw_plant, "plant", 0.4)
_SHELF: Final[Furniture] = (furniture.draw_shelf, "shelf", 0.72)
_TELEVISION: Final[Furniture] = (furniture.draw_television, "television", 0.4)
_FRIDGE: Final[Furniture] = (furniture.draw_refrigerator, "refrigerator", 0.8)
_PERSON: Final[Furniture] = (town.draw_person, "person", 0.62)
_DOG: Final[Furniture] = (nature.draw_dog, "dog", 0.3)
# A room must have the first and may have the others.
_ROOMS: Final[dict[str, tuple[Furniture, tuple[Furniture, ...]]]] = {
    "bedroom-s": (_BED, (_LAMP, _SHELF, _CHAIR, _PLANT, _DOG, _TABLE)),
    "living_room-s": (_SOFA, (_LAMP, _PLANT, _TABLE, _TELEVISION, _SHELF, _PERSON, _DOG)),
    "kitchen-s": (_FRIDGE, (_TABLE, _TABLE, _CHAIR, _CHAIR, _PLANT, _PERSON)),
    "office-s": (_TABLE, (_CHAIR, _SHELF, _SHELF, _TELEVISION, _PLANT, _PERSON, _LAMP)),
}
ROOMS: Final = tuple(_ROOMS)

_WALLS: Final = {
    "kitchen-s": ("tile", "tile", "plaster"), "office-s": ("plaster", "brick", "glass", "wood"),
    "bedroom-s": ("plaster", "plaster", "wood"), "living_room-s": ("plaster", "brick", "plaster"),
}  # fmt: skip
_FLOORS: Final = {
    "kitchen-s": ("tile", "marble", "stone"), "office-s": ("carpet", "stone", "metal"),
    "bedroom-s": ("carpet", "wood"), "living_room-s": ("wood", "marble", "carpet"),
}  # fmt: skip


def _draw_shell(canvas: Canvas, rng: np.random.Generator, room: str, edge: Real) -> None:
    """Paint the wall down to `edge` pixels and the floor below."""
    size, scale = canvas.size, canvas.size / 224
    wall, floor = Pen(canvas, 0, 0, size, "wall"), Pen(canvas, 0, 0, size, "floor")
    name = _WALLS[room][rng.integers(len(_WALLS[room]))]
    above = make_polygon([(0, 0), (size, 0), (size, edge), (0, edge)], size)
    if name == "plaster" and rng.random() < 0.3:
        low = pick_color(rng, PASTEL)
        pattern = ("striped", "dotted", "zigzagged")[rng.integers(3)]
        paper = make_pattern(rng, pattern, low, choose_color(rng, "plaster"), 18 * scale)
        wall.paint(above, paper, relief=0.2)
    else:
        wall.paint(above, make_material(rng, name, scale), material=name, relief=0.2)
    name = _FLOORS[room][rng.integers(len(_FLOORS[room]))]
    below = make_polygon([(0, edge), (size, edge), (size, size), (0, size)], size)
    floor.paint(below, make_material(rng, name, scale), material=name, relief=-0.15)
    skirting = make_polygon(
        [(0, edge - 5 * scale), (size, edge - 5 * scale), (size, edge), (0, edge)], size
    )
    wall.paint(skirting, (236, 232, 224), material="wood")
    canvas.darken(
        make_polygon(
            [(0, edge), (size, edge), (size, edge + 4 * scale), (0, edge + 4 * scale)], size
        ),
        0.25,
    )
    if rng.random() < 0.5:
        rug = Pen(canvas, 0, 0, size, "rug")
        x, y = (
            size * float(rng.uniform(0.3, 0.7)),
            edge + (size - edge) * float(rng.uniform(0.4, 0.7)),
        )
        rx, ry = size * float(rng.uniform(0.25, 0.42)), (size - edge) * 0.3
        color = choose_color(rng, "carpet")
        rug.paint(
            make_ellipse(x, y, rx, ry, size),
            make_material(rng, "carpet", scale, color),
            material="carpet",
        )
        inner = make_ellipse(x, y, rx * 0.75, ry * 0.7, size)
        rug.paint(inner, make_material(rng, "carpet", scale), material="carpet")


def _draw_wall_things(canvas: Canvas, rng: np.random.Generator, edge: Real) -> None:
    """Hang windows, pictures and clocks side by side, or open a door in the wall."""
    size = canvas.size
    hangings = (
        (furniture.draw_room_window, "window", 0.5),
        (furniture.draw_painting, "painting", 0.3),
        (furniture.draw_clock, "clock", 0.17),
        (furniture.draw_room_door, "door", 0.9),
    )
    x = size * float(rng.uniform(0.05, 0.25))
    while x < size:
        draw, name, share = hangings[(0, 0, 1, 1, 2, 3)[rng.integers(6)]]
        tall = edge * share * float(rng.uniform(0.85, 1.2))
        foot = edge if name == "door" else edge * float(rng.uniform(0.5, 0.72))
        draw(Pen(canvas, x, foot, tall, name), rng)
        x += size * float(rng.uniform(0.26, 0.44))


def draw_indoors(canvas: Canvas, rng: np.random.Generator, room: str) -> None:
    """Paint one of `ROOMS`; things further down are nearer, larger and hide those behind."""
    size = canvas.size
    canvas.dark = bool(rng.random() < 0.25)
    light = np.array((0.78, 0.68, 0.56) if canvas.dark else (1.0, 0.99, 0.96), np.float32)
    canvas.gain = light * np.float32(rng.uniform(0.85, 1.08))
    edge = size * float(rng.uniform(0.55, 0.72))
    _draw_shell(canvas, rng, room, edge)
    _draw_wall_things(canvas, rng, edge)
    must, may = _ROOMS[room]
    chosen = [must, *(may[k] for k in rng.permutation(len(may))[: rng.integers(1, 4)])]
    zoom = float(rng.uniform(0.8, 1.2))
    depths = np.sort(rng.uniform(0.06, 0.8, size=len(chosen)))
    places = rng.permutation(np.linspace(0.14, 0.86, len(chosen)))
    for k, depth, place in zip(rng.permutation(len(chosen)), depths, places, strict=True):
        draw, name, front = chosen[k]
        y = edge + (size - edge) * float(depth)
        tall = size * front * (0.8 + 0.35 * float(depth)) * zoom
        x = size * (float(place) + float(rng.uniform(-0.06, 0.06)))
        draw(Pen(canvas, x, y, tall, name, turn(rng)), rng)
