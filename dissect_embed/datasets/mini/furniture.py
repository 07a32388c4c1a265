"""Furniture and what lies about in rooms, each drawn with a pen in its own coordinates.

A unit of the pen is the height of the thing, or for low ones its width.
"""

import numpy as np

from dissect_embed.datasets.mini.canvas import Pen, unite
from dissect_embed.datasets.mini.colors import BRIGHT, PASTEL, Color, Real, pick_color, scale_color
from dissect_embed.datasets.mini.materials import choose_color, make_material, make_pattern
from dissect_embed.datasets.mini.textures import TEXTURES


def _draw_legs(pen: Pen, half: Real, top: Real, color: Color, material: str) -> None:
    for u in (-half, half - 0.06):
        pen.paint(pen.box(u, 0, u + 0.06, top), color, "leg", material=material)


def draw_bed(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a bed from the side; a unit is its length."""
    wood = choose_color(rng, "wood")
    grain = make_material(rng, "wood", pen.size / 120, wood)
    cloth = make_material(rng, "fabric", pen.size / 110)
    pen.shadow(0.58, 0.05)
    pen.paint(pen.box(-0.56, 0, -0.48, 0.56), grain, "backrest", material="wood")
    pen.paint(pen.box(0.46, 0, 0.52, 0.34), grain, "leg", material="wood")
    pen.paint(pen.box(-0.5, 0.1, 0.48, 0.2), grain, material="wood")
    pen.paint(pen.box(-0.5, 0.2, 0.47, 0.3), (240, 238, 232), material="fabric")
    pillow = unite([pen.ellipse(-0.36, 0.34, 0.11, 0.07), pen.box(-0.44, 0.29, -0.28, 0.38)])
    pen.paint(pillow, pick_color(rng, PASTEL), "pillow", material="fabric", relief=0.3)
    sheet = pen.polygon(
        [(-0.22, 0.14), (-0.22, 0.33), (-0.1, 0.36), (0.3, 0.35), (0.47, 0.31), (0.47, 0.14)]
    )
    if rng.random() < 0.4:
        name = ("striped", "dotted", "chequered")[rng.integers(3)]
        low = pick_color(rng)
        pattern = make_pattern(rng, name, low, (244, 240, 232), max(pen.size / 10, 4))
        pen.paint(sheet, pattern, "blanket", material="fabric", relief=0.3)
    else:
        pen.paint(sheet, cloth, "blanket", material="fabric", relief=0.3)


def draw_sofa(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a sofa from the front; a unit is its width."""
    name = "leather" if rng.random() < 0.5 else "fabric"
    color = choose_color(rng, name)
    cover = make_material(rng, name, pen.size / 120, color)
    dark = make_material(rng, name, pen.size / 120, scale_color(color, 0.8))
    pen.shadow(0.55, 0.05)
    _draw_legs(pen, 0.42, 0.08, (70, 50, 36), "wood")
    back = unite([pen.box(-0.44, 0.1, 0.44, 0.46), pen.ellipse(0, 0.46, 0.44, 0.05)])
    pen.paint(back, dark, "backrest", material=name, relief=0.3)
    for u in (-0.215, 0.215):
        seat = unite([pen.box(u - 0.205, 0.12, u + 0.205, 0.25), pen.ellipse(u, 0.25, 0.205, 0.03)])
        pen.paint(seat, cover, material=name, relief=0.4)
    for u in (-0.46, 0.46):
        arm = unite([pen.box(u - 0.055, 0.06, u + 0.055, 0.32), pen.ellipse(u, 0.32, 0.06, 0.055)])
        pen.paint(arm, cover, "arm", material=name, relief=0.4)
    for _ in range(int(rng.integers(1, 3))):
        u = float(rng.uniform(-0.3, 0.3))
        pattern = ("striped", "dotted", "chequered", "zigzagged")[rng.integers(4)]
        fill = make_pattern(
            rng, pattern, pick_color(rng), pick_color(rng, PASTEL), max(pen.size / 16, 4)
        )
        tilted = [(u - 0.1, 0.25), (u + 0.08, 0.23), (u + 0.1, 0.41), (u - 0.08, 0.43)]
        pen.paint(pen.polygon(tilted), fill, "cushion", material="fabric", relief=0.3)


def draw_chair(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a chair from the side."""
    name = ("wood", "metal")[rng.integers(2)]
    color = choose_color(rng, name)
    frame = make_material(rng, name, pen.size / 90, color)
    pen.shadow(0.3, 0.04)
    for u, w in ((-0.22, 0.05), (0.18, 0.05), (-0.1, 0.045), (0.08, 0.045)):
        low = 0.0 if abs(u) > 0.15 else 0.05
        pen.paint(
            pen.box(u, low, u + w, 0.46),
            scale_color(color, 0.9 if low == 0 else 0.7),
            "leg",
            material=name,
        )
    back = unite([pen.box(-0.23, 0.44, -0.16, 1.0), pen.box(-0.26, 0.82, -0.14, 1.0)])
    pen.paint(back, frame, "backrest", material=name)
    pen.paint(pen.box(-0.25, 0.42, 0.27, 0.48), frame, material=name)
    soft = pick_color(rng)
    pen.paint(
        unite([pen.box(-0.18, 0.47, 0.22, 0.52), pen.ellipse(0.02, 0.52, 0.2, 0.025)]),
        soft,
        "cushion",
        material="fabric",
        relief=0.3,
    )


def draw_table(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a table from the side; a unit is its width."""
    name = ("wood", "wood", "marble", "glass", "metal")[rng.integers(5)]
    color = choose_color(rng, name)
    top = make_material(rng, name, pen.size / 110, color)
    legs = "wood" if name in ("wood", "marble") else "metal"
    leg_color = color if name == "wood" else choose_color(rng, legs)
    height = float(rng.uniform(0.36, 0.5))
    pen.shadow(0.52, 0.05)
    _draw_legs(pen, 0.44, height, scale_color(leg_color, 0.85), legs)
    pen.paint(pen.box(-0.5, height, 0.5, height + 0.075), top, material=name, relief=0.2)
    if rng.random() < 0.6:
        pen.paint(
            pen.box(-0.38, height - 0.1, 0.38, height),
            scale_color(leg_color, 0.95),
            "drawer",
            material=legs,
        )
        for u in (-0.19, 0.19):
            pen.paint(
                pen.ellipse(u, height - 0.05, 0.025, 0.02),
                (236, 208, 110),
                "drawer",
                "handle",
                material="metal",
            )


def draw_lamp(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a standing or a table lamp."""
    color = pick_color(rng, PASTEL)
    metal = choose_color(rng, "metal")
    lit = pen.canvas.dark or rng.random() < 0.5
    if lit:
        color = (255, 236, 170)
    pen.paint(
        unite([pen.box(-0.025, 0, 0.025, 0.72), pen.ellipse(0, 0.02, 0.15, 0.04)]),
        metal,
        material="metal",
        relief=0.4,
    )
    hood = pen.polygon([(-0.22, 0.66), (0.22, 0.66), (0.13, 1.0), (-0.13, 1.0)])
    pen.paint(hood, color, "shade", material="fabric", relief=0.25, glow=lit)


def draw_painting(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a framed picture on a wall; a unit is its height."""
    half = float(rng.uniform(0.4, 0.75))
    frame = pick_color(rng, ("brown", "black", "yellow", "white"))
    pen.canvas.darken(pen.box(-half + 0.06, -0.06, half + 0.06, 0.94), 0.2)
    pen.paint(pen.box(-half, 0, half, 1), frame, "frame", material="wood", relief=0.3)
    inner = pen.box(-half + 0.1, 0.1, half - 0.1, 0.9)
    if rng.random() < 0.5:
        names = tuple(TEXTURES)
        name = names[rng.integers(len(names))]
        low, high = pick_color(rng), pick_color(rng, PASTEL)
        pen.paint(inner, make_pattern(rng, name, low, high, max(pen.size / 5, 4)))
    else:
        pen.paint(inner, (160, 206, 236), relief=0.3)
        hill = [
            (-half + 0.1, 0.1),
            (-half + 0.1, 0.4),
            (-0.1, 0.62),
            (0.1, 0.42),
            (half - 0.1, 0.55),
            (half - 0.1, 0.1),
        ]
        pen.paint(pen.polygon(hill), pick_color(rng, ("green", "teal", "purple", "orange")))
        pen.paint(pen.ellipse(half * 0.4, 0.72, 0.09, 0.09), (250, 220, 110))


def draw_room_window(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a window seen from the room, often with curtains; a unit is its height."""
    half = float(rng.uniform(0.36, 0.55))
    night = pen.canvas.dark
    frame = (240, 238, 232) if rng.random() < 0.7 else (120, 84, 52)
    pen.paint(pen.box(-half, 0, half, 1), frame, material="wood", relief=0.1)
    view = (36, 44, 92) if night else (166, 212, 244)
    pane = pen.box(-half + 0.06, 0.06, half - 0.06, 0.94)
    glass = make_material(rng, "glass", pen.size / 80, view)
    pen.paint(pane, glass, material="glass", relief=0.2, glow=True)
    pen.paint(
        unite([pen.box(-0.025, 0, 0.025, 1), pen.box(-half, 0.5, half, 0.545)]),
        frame,
        material="wood",
    )
    pen.paint(pen.box(-half - 0.06, -0.06, half + 0.06, 0.02), frame, material="wood")
    if rng.random() < 0.6:
        cloth = pick_color(rng)
        folds = make_pattern(rng, "striped", cloth, scale_color(cloth, 0.9), max(pen.size / 9, 4))
        for side in (-1, 1):
            curtain = [
                (side * (half + 0.1), -0.1),
                (side * half * 0.55, -0.1),
                (side * half * 0.4, 1.06),
                (side * (half + 0.1), 1.06),
            ]
            pen.paint(pen.polygon(curtain), folds, material="fabric", relief=0.2)


def draw_room_door(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a door seen from the room."""
    color = choose_color(rng, "wood") if rng.random() < 0.6 else pick_color(rng, PASTEL)
    grain = make_material(rng, "wood", pen.size / 110, color)
    pen.paint(pen.box(-0.25, 0, 0.25, 1.03), scale_color(color, 0.75), "frame", material="wood")
    pen.paint(pen.box(-0.21, 0, 0.21, 0.99), grain, material="wood")
    for v in (0.1, 0.55):
        pen.paint(pen.box(-0.14, v, 0.14, v + 0.34), scale_color(color, 0.86), material="wood")
    pen.paint(pen.ellipse(0.17, 0.48, 0.025, 0.02), (240, 210, 110), "handle", material="metal")


def draw_plant(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a pot plant."""
    green = scale_color((66, 150, 70), float(rng.uniform(0.75, 1.2)))
    pen.shadow(0.25, 0.04)
    for k, u in enumerate(rng.uniform(-0.42, 0.42, size=8)):
        v = 1.0 - 0.7 * abs(float(u)) + 0.02 * k
        side = 0.09 if u > 0 else -0.09
        blade = [
            (0, 0.3),
            (u * 0.6 - side, 0.35 + v * 0.35),
            (u, v),
            (u * 0.7 + side, 0.3 + v * 0.3),
        ]
        shade = scale_color(green, 0.75 + 0.07 * k)
        pen.paint(pen.polygon(blade), shade, "leaf", material="foliage", relief=0.3)
    pot = pick_color(rng, ("terracotta", "white", "blue", "yellow", "teal"))
    pen.paint(
        pen.polygon([(-0.2, 0.34), (0.2, 0.34), (0.14, 0), (-0.14, 0)]), pot, "pot", relief=0.4
    )
    pen.paint(pen.box(-0.22, 0.29, 0.22, 0.36), scale_color(pot, 1.08), "pot")


def draw_shelf(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a book case."""
    half = float(rng.uniform(0.28, 0.42))
    color = choose_color(rng, "wood")
    grain = make_material(rng, "wood", pen.size / 110, color)
    pen.shadow(half * 1.1, 0.03)
    pen.paint(pen.box(-half, 0, half, 1), grain, material="wood")
    for v in (0.05, 0.37, 0.69):
        back = pen.box(-half + 0.04, v, half - 0.04, v + 0.27)
        pen.paint(back, scale_color(color, 0.5), material="wood", relief=0)
        u = -half + 0.05
        while u < half - 0.14:
            width, tall = float(rng.uniform(0.035, 0.07)), float(rng.uniform(0.17, 0.25))
            spine = pick_color(rng, BRIGHT, 30)
            pen.paint(pen.box(u, v, u + width, v + tall), spine, "book", relief=0.2)
            u += width + 0.008 + (0.1 if rng.random() < 0.12 else 0)


def draw_refrigerator(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a refrigerator with two doors."""
    color = pick_color(rng, ("white", "grey", "mint", "red", "sky"))
    steel = make_material(rng, "metal", pen.size / 110, color)
    pen.shadow(0.26, 0.03)
    pen.paint(pen.box(-0.24, 0.02, 0.24, 1), scale_color(color, 0.6), material="metal")
    for low, high in ((0.04, 0.62), (0.64, 0.98)):
        pen.paint(pen.box(-0.22, low, 0.22, high), steel, "door", material="metal", relief=0.2)
        middle = (low + high) / 2
        pen.paint(
            pen.box(0.15, middle - 0.08, 0.18, middle + 0.08),
            (60, 62, 68),
            "door",
            "handle",
            "metal",
        )


def draw_television(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a television; a unit is its width."""
    on = rng.random() < 0.5
    pen.paint(unite([pen.box(-0.05, 0, 0.05, 0.1), pen.box(-0.2, 0, 0.2, 0.03)]), (40, 40, 44))
    pen.paint(pen.box(-0.5, 0.08, 0.5, 0.68), (30, 30, 34), relief=0.3)
    picture = pick_color(rng, ("blue", "green", "orange", "purple")) if on else (64, 70, 82)
    pen.paint(pen.box(-0.46, 0.12, 0.46, 0.64), picture, "screen", relief=0.6, glow=on)
    if on:
        pen.paint(
            pen.ellipse(-0.12, 0.36, 0.13, 0.13), pick_color(rng, PASTEL), "screen", glow=True
        )


def draw_clock(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a round wall clock; a unit is its height."""
    pen.paint(pen.ellipse(0, 0.5, 0.5, 0.5), pick_color(rng), relief=0.4)
    pen.paint(pen.ellipse(0, 0.5, 0.4, 0.4), (250, 248, 240), relief=0)
    for du, dv in ((0, 0.34), (0.34, 0), (0, -0.34), (-0.34, 0)):
        pen.paint(pen.ellipse(du, 0.5 + dv, 0.04, 0.04), (50, 46, 50), relief=0)
    hands = rng.uniform(-0.28, 0.28, size=(2, 2)) + 0.01
    for (du, dv), width in zip(hands, (0.08, 0.05), strict=True):
        pen.paint(pen.line((0, 0.5), (du, 0.5 + dv), width), (30, 28, 32), relief=0)
