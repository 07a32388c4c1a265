"""Plants, rocks and animals, each drawn with a pen in its own coordinates.

A unit of the pen is the height of the thing, or for low ones its length.
"""

import numpy as np

from dissect_embed.datasets.mini.canvas import Pen, unite
from dissect_embed.datasets.mini.colors import Color, Real, pick_color, scale_color
from dissect_embed.datasets.mini.materials import make_material, make_pattern

_GREENS = ((58, 132, 52), (86, 150, 50), (40, 108, 62), (120, 156, 48))
_AUTUMN = ((206, 120, 36), (190, 72, 40), (214, 164, 48))
_BARK = (104, 72, 46)


def draw_tree(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a tree with a round crown."""
    greens = _AUTUMN if rng.random() < 0.2 else _GREENS
    color = greens[rng.integers(len(greens))]
    pen.shadow(0.34)
    bark = make_material(rng, "wood", pen.size / 150, _BARK)
    pen.paint(pen.polygon([(-0.055, 0), (0.055, 0), (0.035, 0.5), (-0.035, 0.5)]), bark, "trunk")
    scale = pen.size / 110
    lumps = rng.uniform(-0.04, 0.04, size=(5, 2))
    places = (
        (-0.2, 0.52, 0.17),
        (0.2, 0.52, 0.17),
        (-0.1, 0.72, 0.19),
        (0.12, 0.74, 0.18),
        (0, 0.58, 0.22),
    )
    crown = unite(
        [
            pen.ellipse(u + du, v + dv, r, r * 0.92)
            for (u, v, r), (du, dv) in zip(places, lumps, strict=True)
        ]
    )
    pen.paint(crown, make_material(rng, "foliage", scale, color), "crown", relief=0.6)
    if rng.random() < 0.25:
        fruit = pick_color(rng, ("red", "orange", "yellow"))
        for u, v in rng.uniform(-0.18, 0.18, size=(6, 2)):
            pen.paint(pen.ellipse(u, 0.6 + v, 0.022, 0.022), fruit, "crown")


def draw_pine(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a conifer of three or four tiers."""
    color = ((34, 92, 62), (48, 108, 56), (30, 80, 74))[rng.integers(3)]
    snowy = pen.canvas.snowy
    pen.shadow(0.26)
    pen.paint(pen.box(-0.035, 0, 0.035, 0.2), scale_color(_BARK, 0.9), "trunk")
    n_tiers = int(rng.integers(3, 5))
    for k in range(n_tiers):
        low = 0.14 + 0.62 * k / n_tiers
        top = min(low + 0.92 / n_tiers + 0.1, 1.0)
        half = 0.29 * (1 - 0.72 * k / n_tiers)
        tier = [
            (-half, low),
            (-half / 2, low + 0.03),
            (0, low - 0.02),
            (half / 2, low + 0.03),
            (half, low),
            (0, top),
        ]
        needles = make_material(rng, "foliage", pen.size / 170, color)
        pen.paint(pen.polygon(tier), needles, "crown", relief=0.5)
        if snowy:
            cap = [
                (-half * 0.45, low + (top - low) * 0.55),
                (0, low + (top - low) * 0.45),
                (half * 0.45, low + (top - low) * 0.55),
                (0, top),
            ]
            pen.paint(pen.polygon(cap), (240, 244, 250), "crown")


def draw_palm(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a palm with a bent trunk and hanging leaves."""
    lean = float(rng.uniform(0.06, 0.2))
    pen.shadow(0.22)
    bark = make_pattern(rng, "striped", (150, 112, 70), (112, 80, 50), max(pen.size / 16, 3))
    pen.paint(
        pen.polygon(
            [
                (-0.05, 0),
                (0.05, 0),
                (lean * 0.4 + 0.04, 0.4),
                (lean + 0.025, 0.8),
                (lean - 0.025, 0.8),
                (lean * 0.4 - 0.03, 0.4),
            ]
        ),
        bark,
        "trunk",
    )
    color = _GREENS[rng.integers(3)]
    for k, (u, v) in enumerate(
        (
            (-0.36, 0.62),
            (0.38, 0.6),
            (-0.3, 0.86),
            (0.32, 0.84),
            (-0.16, 0.5),
            (0.2, 0.48),
            (0.03, 1.0),
        )
    ):
        # A leaf is a bent blade from the top of the trunk to its tip.
        tip, bow = (lean + u, v), (lean + u * 0.55, max(v, 0.8) + 0.1)
        low = (lean + u * 0.5, max(v, 0.78) - 0.0)
        shade = scale_color(color, 0.85 + 0.06 * k)
        pen.paint(pen.polygon([(lean, 0.8), bow, tip, low]), shade, "leaf", relief=0.3)
    for u in (-0.03, 0.03):
        pen.paint(pen.ellipse(lean + u, 0.77, 0.03, 0.03), (96, 62, 36))


def draw_cactus(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a cactus with two arms."""
    green = scale_color((64, 140, 72), float(rng.uniform(0.8, 1.2)))
    ribs = make_pattern(rng, "striped", green, scale_color(green, 0.72), max(pen.size / 12, 3))
    pen.shadow(0.2)
    for side in (-1, 1):
        v = float(rng.uniform(0.34, 0.5))
        arm = unite(
            [
                pen.box(0, v, side * 0.26, v + 0.09),
                pen.box(side * 0.19, v, side * 0.28, v + 0.28),
                pen.ellipse(side * 0.235, v + 0.28, 0.045, 0.05),
            ]
        )
        pen.paint(arm, ribs, "arm")
    body = unite([pen.box(-0.08, 0, 0.08, 0.92), pen.ellipse(0, 0.92, 0.08, 0.08)])
    pen.paint(body, ribs, relief=0.3)
    if rng.random() < 0.5:
        pen.paint(pen.ellipse(0, 1.0, 0.05, 0.035), (240, 110, 150))


def draw_flower(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a flower with petals round an eye of pollen."""
    petals = pick_color(rng, ("red", "pink", "yellow", "purple", "white", "orange"))
    middle = (120, 70, 30) if petals[2] < 120 else (246, 206, 60)
    pen.paint(pen.box(-0.025, 0, 0.025, 0.7), (60, 130, 52))
    leaf = pen.polygon([(0, 0.12), (0.26, 0.36), (0.2, 0.14)])
    pen.paint(leaf, (76, 150, 60), "leaf")
    ring = ((0.2, 0), (0.06, 0.19), (-0.16, 0.12), (-0.16, -0.12), (0.06, -0.19))
    pen.paint(unite([pen.ellipse(u, 0.75 + v, 0.125, 0.125) for u, v in ring]), petals, relief=0.2)
    pen.paint(pen.ellipse(0, 0.75, 0.1, 0.1), middle)


def draw_rock(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a boulder; a unit is its width."""
    j = rng.uniform(-0.06, 0.06, size=6)
    outline = [
        (-0.5, 0),
        (-0.44 + j[0], 0.26 + j[1]),
        (-0.18 + j[2], 0.48 + j[3]),
        (0.2 + j[4], 0.44 + j[5]),
        (0.46, 0.22 + j[0]),
        (0.5, 0),
    ]
    pen.shadow(0.6)
    pen.paint(pen.polygon(outline), make_material(rng, "stone", pen.size / 70), relief=0.6)


def _draw_legs(pen: Pen, places: tuple[float, ...], top: Real, width: Real, color: Color) -> None:
    for k, u in enumerate(places):
        shade = scale_color(color, 0.8 if k % 2 else 1.0)
        pen.paint(pen.box(u, 0, u + width, top), shade, "leg")


def draw_dog(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a dog from the side; a unit is its length."""
    coat = pick_color(rng, ("brown", "black", "cream", "grey", "terracotta"), 6)
    ear = scale_color(coat, 0.68)
    pen.shadow(0.42, 0.05)
    tail = pen.polygon([(-0.34, 0.46), (-0.52, 0.72), (-0.46, 0.74), (-0.3, 0.5)])
    pen.paint(tail, coat)
    _draw_legs(pen, (-0.34, -0.24, 0.1, 0.2), 0.32, 0.075, coat)
    body = unite(
        [
            pen.ellipse(-0.24, 0.38, 0.15, 0.14),
            pen.ellipse(0.16, 0.39, 0.16, 0.16),
            pen.box(-0.24, 0.25, 0.16, 0.53),
        ]
    )
    pen.paint(body, coat, relief=0.3)
    if rng.random() < 0.5:
        pen.paint(pen.ellipse(-0.1, 0.42, 0.11, 0.09), ear)
    head = unite(
        [
            pen.ellipse(0.33, 0.62, 0.14, 0.13),
            pen.box(0.36, 0.51, 0.55, 0.62),
            pen.polygon([(0.12, 0.5), (0.28, 0.4), (0.38, 0.55), (0.25, 0.66)]),
        ]
    )
    pen.paint(head, coat, "head", relief=0.3)
    pen.paint(pen.ellipse(0.27, 0.6, 0.06, 0.13), ear, "head")
    pen.paint(pen.ellipse(0.55, 0.6, 0.035, 0.03), (30, 26, 28), "head")
    pen.paint(pen.ellipse(0.4, 0.65, 0.035, 0.035), (250, 250, 250), "head", "eye")
    pen.paint(pen.ellipse(0.41, 0.65, 0.022, 0.025), (20, 18, 20), "head", "eye")
    collar = pick_color(rng, ("red", "blue", "yellow"))
    pen.paint(pen.polygon([(0.13, 0.53), (0.29, 0.42), (0.32, 0.46), (0.16, 0.57)]), collar)


def draw_sheep(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a sheep from the side; a unit is its length."""
    wool = (244, 240, 230) if rng.random() < 0.8 else (96, 88, 84)
    face = (62, 54, 54) if rng.random() < 0.7 else (232, 206, 178)
    pen.shadow(0.42, 0.05)
    _draw_legs(pen, (-0.26, -0.17, 0.1, 0.19), 0.28, 0.06, face)
    tufts = (
        (-0.26, 0.42),
        (-0.12, 0.54),
        (0.06, 0.56),
        (0.2, 0.46),
        (0.14, 0.34),
        (-0.04, 0.32),
        (-0.2, 0.32),
        (0, 0.44),
    )
    fleece = unite([pen.ellipse(u, v, 0.15, 0.13) for u, v in tufts])
    pen.paint(
        fleece,
        make_pattern(rng, "bubbly", wool, scale_color(wool, 0.78), max(pen.size / 7, 3)),
        relief=0.35,
    )
    pen.paint(pen.ellipse(0.36, 0.54, 0.11, 0.14), face, "head", relief=0.2)
    pen.paint(pen.ellipse(0.26, 0.6, 0.07, 0.035), face, "head")
    pen.paint(pen.ellipse(0.33, 0.68, 0.09, 0.06), wool, "head")
    pen.paint(pen.ellipse(0.39, 0.57, 0.034, 0.034), (250, 250, 250), "head", "eye")
    pen.paint(pen.ellipse(0.4, 0.57, 0.02, 0.022), (20, 18, 20), "head", "eye")


def draw_bird(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a bird in flight; a unit is its length, and (x, y) its belly."""
    color = pick_color(rng, ("blue", "red", "white", "black", "yellow", "pink"))
    wing = scale_color(color, 0.75)
    up = float(rng.uniform(0.35, 0.6)) * (1 if rng.random() < 0.7 else -0.7)
    pen.paint(
        pen.polygon([(0.05, 0.1), (-0.05, 0.12 + up), (-0.22, 0.1)]), scale_color(wing, 0.8), "wing"
    )
    pen.paint(pen.polygon([(-0.3, 0.1), (-0.56, 0.2), (-0.54, 0.02), (-0.3, 0.05)]), wing)
    pen.paint(pen.ellipse(-0.05, 0.08, 0.3, 0.12), color, relief=0.3)
    pen.paint(pen.ellipse(0.26, 0.15, 0.12, 0.11), color, "head")
    pen.paint(pen.polygon([(0.36, 0.18), (0.5, 0.13), (0.36, 0.1)]), (244, 168, 40), "head")
    pen.paint(pen.ellipse(0.29, 0.18, 0.03, 0.03), (16, 16, 18), "head", "eye")
    pen.paint(pen.polygon([(0.12, 0.1), (-0.2, 0.14 + up), (-0.2, 0.06)]), wing, "wing", relief=0.3)
