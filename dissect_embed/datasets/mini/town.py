"""Buildings, vehicles, people and what stands about, each drawn with a pen in its own coordinates.

A unit of the pen is the height of the thing, or for vehicles its length.
"""

import numpy as np

from dissect_embed.datasets.mini.canvas import Pen, unite
from dissect_embed.datasets.mini.colors import PASTEL, Color, Real, pick_color, scale_color
from dissect_embed.datasets.mini.materials import make_material, make_pattern

_GLASS = (150, 190, 214)
_LIT = (255, 226, 130)
_SKIN = ((250, 214, 180), (226, 172, 126), (150, 98, 64), (104, 66, 44))


def _draw_window(
    pen: Pen, rng: np.random.Generator, u: Real, v: Real, w: Real, h: Real, frame: Color
) -> None:
    """Draw a window with its lower left corner at (u, v); at night some are lit."""
    lit = pen.canvas.dark and rng.random() < 0.6
    pen.paint(pen.box(u, v, u + w, v + h), frame, "window")
    b = 0.14 * w
    pane = pen.box(u + b, v + b, u + w - b, v + h - b)
    pen.paint(pane, _LIT if lit else _GLASS, "window", relief=0.5, glow=lit)
    pen.paint(pen.box(u + w / 2 - b / 4, v, u + w / 2 + b / 4, v + h), frame, "window")
    pen.paint(pen.box(u, v + h / 2 - b / 4, u + w, v + h / 2 + b / 4), frame, "window")


def draw_house(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a house with a gabled roof, a door, windows and a chimney."""
    half = float(rng.uniform(0.42, 0.62))
    eaves = 0.56
    wall_name = ("plaster", "plaster", "brick", "wood", "stone")[rng.integers(5)]
    wall = make_material(rng, wall_name, pen.size / 120)
    tiles = pick_color(rng, ("terracotta", "red", "brown", "grey", "navy", "green"))
    frame = (244, 242, 236) if rng.random() < 0.7 else scale_color(tiles, 0.7)
    pen.shadow(half * 1.2, 0.06)
    u = half * float(rng.uniform(0.3, 0.6))
    chimney = make_material(rng, "brick", pen.size / 160)
    pen.paint(pen.box(u, 0.7, u + 0.12, 1.02), chimney, "chimney")
    pen.paint(pen.box(-half, 0, half, eaves), wall)
    flat = 0.35 * half if rng.random() < 0.5 else 0.0
    over = half + 0.08
    roof = pen.polygon([(-over, eaves), (-flat, 0.96), (flat, 0.96), (over, eaves)])
    scales = make_pattern(rng, "scaly", scale_color(tiles, 0.55), tiles, max(pen.size / 14, 3))
    pen.paint(roof, scales, "roof", relief=0.3)
    pen.canvas.darken(pen.box(-half, eaves - 0.04, half, eaves), 0.3)
    door = half * float(rng.uniform(-0.6, 0.4))
    leaf = pick_color(rng, ("brown", "red", "blue", "green", "yellow"))
    pen.paint(pen.box(door - 0.02, 0, door + 0.2, 0.36), frame, "door")
    pen.paint(pen.box(door, 0, door + 0.18, 0.34), leaf, "door")
    pen.paint(pen.box(door + 0.04, 0.19, door + 0.14, 0.3), scale_color(leaf, 0.75), "door")
    pen.paint(pen.ellipse(door + 0.15, 0.15, 0.02, 0.02), (240, 206, 90), "door", "handle")
    size = float(rng.uniform(0.16, 0.2))
    for place in (-half + 0.06, -size / 2, half - size - 0.06):
        if place + size < door - 0.03 or place > door + 0.22:
            _draw_window(pen, rng, place, 0.2, size, size * 1.2, frame)
    if flat == 0.0 and rng.random() < 0.6:
        pen.paint(pen.ellipse(0, 0.7, 0.08, 0.08), frame, "window")
        pen.paint(
            pen.ellipse(0, 0.7, 0.055, 0.055),
            _LIT if pen.canvas.dark else _GLASS,
            "window",
            glow=pen.canvas.dark,
        )


def draw_skyscraper(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a tower with rows of windows."""
    half = float(rng.uniform(0.13, 0.24))
    color = pick_color(rng, ("grey", "navy", "sky", "cream", "terracotta", "teal"))
    top = float(rng.uniform(0.8, 1.0))
    pen.paint(pen.box(-half, 0, half, top), color, relief=0.25)
    if rng.random() < 0.5:
        pen.paint(pen.box(-half * 0.5, top, half * 0.5, top + 0.06), scale_color(color, 0.85))
    n_columns = int(rng.integers(3, 5))
    n_rows = int(rng.integers(7, 11))
    w, h = 2 * half / n_columns, (top - 0.08) / n_rows
    panes = [
        pen.box(-half + (c + 0.2) * w, 0.06 + r * h, -half + (c + 0.8) * w, 0.06 + (r + 0.6) * h)
        for r in range(n_rows)
        for c in range(n_columns)
    ]
    lit = rng.random(len(panes)) < (0.55 if pen.canvas.dark else 0.0)
    dark = [p for p, on in zip(panes, lit, strict=True) if not on]
    glass = _GLASS if color[2] < 180 else (70, 96, 130)
    pen.paint(unite(dark), glass, "window", relief=0.4)
    if lit.any():
        bright = [p for p, on in zip(panes, lit, strict=True) if on]
        pen.paint(unite(bright), _LIT, "window", glow=True)


def _draw_wheel(pen: Pen, u: Real, r: Real) -> None:
    pen.paint(pen.ellipse(u, r, r, r), (34, 34, 38), "wheel")
    pen.paint(pen.ellipse(u, r, r * 0.55, r * 0.55), (198, 200, 206), "wheel", "hub")


def draw_car(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a car from the side; a unit is its length."""
    paint = pick_color(rng)
    pen.shadow(0.56, 0.05, 0.4)
    cabin = float(rng.uniform(0.36, 0.44))
    back = float(rng.uniform(-0.42, -0.28))
    pen.paint(
        pen.polygon([(back, 0.24), (back + 0.08, cabin), (0.1, cabin), (0.26, 0.24)]),
        scale_color(paint, 0.92),
    )
    glass = pen.polygon(
        [(back + 0.05, 0.25), (back + 0.1, cabin - 0.03), (0.08, cabin - 0.03), (0.2, 0.25)]
    )
    pen.paint(glass, _GLASS, "window", relief=0.5)
    pen.paint(pen.box(-0.1, 0.24, -0.07, cabin), paint)
    body = pen.polygon(
        [
            (-0.5, 0.09),
            (-0.5, 0.23),
            (-0.44, 0.26),
            (0.26, 0.26),
            (0.46, 0.21),
            (0.5, 0.15),
            (0.5, 0.09),
        ]
    )
    pen.paint(body, paint, relief=0.4)
    pen.paint(pen.box(-0.03, 0.2, 0.03, 0.215), scale_color(paint, 0.6), "handle")
    pen.paint(pen.box(-0.5, 0.09, 0.5, 0.115), scale_color(paint, 0.6))
    glow = pen.canvas.dark
    pen.paint(pen.ellipse(0.46, 0.175, 0.035, 0.03), (255, 244, 190), "headlight", glow=glow)
    pen.paint(pen.box(-0.5, 0.17, -0.465, 0.215), (200, 40, 36))
    for u in (-0.29, 0.29):
        _draw_wheel(pen, u, 0.1)


def draw_bus(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a bus from the side; a unit is its length."""
    paint = pick_color(rng, ("red", "yellow", "blue", "green", "orange", "white"))
    pen.shadow(0.54, 0.04, 0.4)
    body = unite([pen.box(-0.5, 0.07, 0.5, 0.4), pen.box(-0.48, 0.4, 0.47, 0.43)])
    pen.paint(body, paint, relief=0.25)
    pen.paint(pen.box(-0.5, 0.13, 0.5, 0.17), scale_color(paint, 0.7))
    lit = pen.canvas.dark
    panes = [pen.box(u, 0.22, u + 0.12, 0.36) for u in (-0.46, -0.32, -0.18, -0.04)]
    pen.paint(
        unite([*panes, pen.box(0.38, 0.2, 0.5, 0.37)]),
        _LIT if lit else _GLASS,
        "window",
        relief=0.5,
        glow=lit,
    )
    pen.paint(pen.box(0.14, 0.08, 0.32, 0.37), scale_color(paint, 0.55), "door")
    pen.paint(pen.box(0.155, 0.1, 0.22, 0.35), _GLASS, "door")
    pen.paint(pen.box(0.24, 0.1, 0.305, 0.35), _GLASS, "door")
    pen.paint(pen.ellipse(0.475, 0.115, 0.025, 0.025), (255, 244, 190), "headlight", glow=lit)
    for u in (-0.3, 0.28):
        _draw_wheel(pen, u, 0.08)


def draw_boat(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a sailing boat; a unit is its length."""
    hull = pick_color(rng, ("red", "blue", "white", "brown", "green", "navy"))
    pen.shadow(0.5, 0.05, 0.25)
    pen.paint(pen.box(-0.03, 0.15, 0.0, 1.0), (110, 80, 52))
    cloth: Color = pick_color(rng, ("white", "white", "red", "orange", "cream"))
    main = pen.polygon([(0.02, 0.24), (0.02, 0.98), (0.42, 0.24)])
    if rng.random() < 0.4:
        stripes = make_pattern(rng, "striped", cloth, pick_color(rng), max(pen.size / 6, 3))
        pen.paint(main, stripes, "sail")
    else:
        pen.paint(main, cloth, "sail", relief=0.4)
    pen.paint(pen.polygon([(-0.05, 0.24), (-0.05, 0.84), (-0.36, 0.24)]), cloth, "sail")
    side = pen.polygon([(-0.5, 0.2), (0.5, 0.2), (0.36, -0.02), (-0.4, -0.02)])
    pen.paint(side, hull, "hull", relief=0.35)
    pen.paint(
        pen.polygon([(-0.5, 0.2), (0.5, 0.2), (0.47, 0.16), (-0.48, 0.16)]), (244, 242, 236), "hull"
    )


def draw_person(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a standing person."""
    skin = _SKIN[rng.integers(len(_SKIN))]
    shirt, trousers = pick_color(rng), pick_color(rng, ("navy", "blue", "brown", "grey", "black"))
    pen.shadow(0.2, 0.03)
    stride = float(rng.uniform(0.01, 0.08))
    for side in (-1, 1):
        foot = side * (0.05 + stride)
        leg = [
            (side * 0.02, 0.46),
            (side * 0.11, 0.46),
            (foot + 0.04 * side, 0.03),
            (foot - 0.04 * side, 0.03),
        ]
        pen.paint(pen.polygon(leg), scale_color(trousers, 1 + 0.1 * side), "leg")
        pen.paint(pen.box(foot - 0.045, 0, foot + 0.06, 0.035), (50, 40, 40), "leg")
    swing = float(rng.uniform(0.0, 0.16))
    for side in (-1, 1):
        hand = (side * (0.17 + swing), 0.44 + swing)
        pen.paint(pen.line((side * 0.11, 0.74), hand, 0.065), scale_color(shirt, 0.82), "arm")
        pen.paint(pen.ellipse(hand[0], hand[1], 0.035, 0.035), skin, "arm")
    torso = pen.polygon(
        [(-0.12, 0.42), (0.12, 0.42), (0.14, 0.76), (0.05, 0.8), (-0.05, 0.8), (-0.14, 0.76)]
    )
    if rng.random() < 0.3:
        stripes = make_pattern(rng, "striped", shirt, (244, 242, 236), max(pen.size / 12, 3))
        pen.paint(torso, stripes)
    else:
        pen.paint(torso, shirt, relief=0.3)
    hair = pick_color(rng, ("black", "brown", "yellow", "terracotta", "grey"))
    pen.paint(pen.ellipse(0, 0.905, 0.1, 0.1), hair, "head")
    pen.paint(pen.ellipse(0.01, 0.88, 0.082, 0.085), skin, "head")
    for u in (-0.02, 0.045):
        pen.paint(pen.ellipse(u, 0.89, 0.014, 0.018), (30, 24, 24), "head", "eye")


def draw_fence(pen: Pen, rng: np.random.Generator, length: Real = 8.0) -> None:
    """Draw a picket fence, `length` times as long as it is high."""
    color = (244, 242, 236) if rng.random() < 0.6 else pick_color(rng, ("brown", "terracotta"))
    rails = [pen.box(-length / 2, v, length / 2, v + 0.12) for v in (0.22, 0.62)]
    pen.paint(unite(rails), scale_color(color, 0.85))
    pickets = [
        pen.polygon([(u, 0), (u + 0.2, 0), (u + 0.2, 0.85), (u + 0.1, 1), (u, 0.85)])
        for u in np.arange(-length / 2, length / 2, 0.4)
    ]
    pen.paint(unite(pickets), color)


def draw_balloon(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a hot-air balloon."""
    low, high = pick_color(rng), pick_color(rng, PASTEL)
    pattern = ("striped", "chequered", "zigzagged", "dotted")[rng.integers(4)]
    cloth = make_pattern(rng, pattern, low, high, max(pen.size / 7, 3))
    bag = unite(
        [
            pen.ellipse(0, 0.66, 0.33, 0.34),
            pen.polygon([(-0.28, 0.5), (0.28, 0.5), (0.08, 0.22), (-0.08, 0.22)]),
        ]
    )
    for u in (-0.07, 0.07):
        pen.paint(pen.line((u, 0.22), (u * 0.8, 0.12), 0.012), (90, 70, 50))
    pen.paint(bag, cloth, relief=0.5)
    wicker = make_pattern(rng, "woven", (110, 72, 36), (196, 144, 84), max(pen.size / 24, 2))
    pen.paint(pen.box(-0.075, 0, 0.075, 0.13), wicker, "basket")


def draw_umbrella(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a parasol stuck in the ground."""
    color, tilt = pick_color(rng), float(rng.uniform(-0.12, 0.12))
    pen.shadow(0.4, 0.06)
    pen.paint(pen.line((0, 0), (tilt, 0.92), 0.03), (236, 232, 224))
    rim = [(-0.5, 0.6), (-0.25, 0.56), (0, 0.6), (0.25, 0.56), (0.5, 0.6)]
    dome = [(0.42, 0.78), (0.25, 0.91), (0, 0.97), (-0.25, 0.91), (-0.42, 0.78)]
    bent = [(u + tilt, v - tilt * u) for u, v in rim + dome]
    pen.paint(pen.polygon(bent), color, "shade", relief=0.3)
    other = (244, 242, 236) if sum(color) < 560 else pick_color(rng, ("red", "blue"))
    for u in (-0.25, 0.25):
        wedge = [(u - 0.11, 0.58), (u + 0.11, 0.58), (0, 0.96)]
        pen.paint(pen.polygon([(a + tilt, b - tilt * a) for a, b in wedge]), other, "shade")


def draw_street_lamp(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a lamp post."""
    iron = scale_color((62, 66, 74), float(rng.uniform(0.8, 1.4)))
    lit = pen.canvas.dark
    pen.paint(unite([pen.box(-0.018, 0, 0.018, 0.86), pen.box(-0.05, 0, 0.05, 0.05)]), iron)
    pen.paint(
        pen.polygon([(-0.05, 0.84), (0.05, 0.84), (0.075, 0.95), (-0.075, 0.95)]),
        (255, 240, 170) if lit else (236, 238, 226),
        "shade",
        glow=lit,
    )
    pen.paint(pen.polygon([(-0.09, 0.95), (0.09, 0.95), (0, 1.0)]), iron)
