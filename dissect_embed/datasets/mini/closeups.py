"""Close-ups: textures that fill the image, and surfaces of one or several materials."""

import numpy as np

from dissect_embed.datasets.mini.canvas import Canvas, Mask, Pen, make_polygon
from dissect_embed.datasets.mini.colors import PALETTE, Color, pick_color, scale_color
from dissect_embed.datasets.mini.concepts import CONCEPTS
from dissect_embed.datasets.mini.materials import blend, make_material
from dissect_embed.datasets.mini.textures import TEXTURES

# Textures that can lie over another one and leave it to be seen.
_OVERLAYS = ("striped", "dotted", "zigzagged", "grid", "honeycombed", "cracked", "sprinkled")


def _pick_apart(rng: np.random.Generator, *others: Color) -> Color:
    """Draw a colour that is not close to any of the others."""
    while True:
        color = pick_color(rng, tuple(PALETTE))
        if all(sum(abs(a - b) for a, b in zip(color, o, strict=True)) > 170 for o in others):
            return color


def _cover(canvas: Canvas) -> Mask:
    size = canvas.size
    return make_polygon([(0, 0), (size, 0), (size, size), (0, size)], size)


def draw_texture(canvas: Canvas, rng: np.random.Generator, name: str) -> list[str]:
    """Fill the canvas with a texture, sometimes with a second one over it; return their names."""
    size = canvas.size
    period = size * float(rng.uniform(0.05, 0.14))
    low = _pick_apart(rng)
    high = _pick_apart(rng, low)
    surface = blend(TEXTURES[name](rng, size, size, period), low, high)
    names = [name]
    if rng.random() < 0.35:
        other = _OVERLAYS[rng.integers(len(_OVERLAYS))]
        if other != name:
            over = TEXTURES[other](rng, size, size, period * float(rng.uniform(1.6, 2.6)))
            ink = np.array(_pick_apart(rng, low, high), np.float32)
            surface = surface + over[..., None] * (ink - surface)
            names.append(other)
    canvas.paint(_cover(canvas), lambda height, width: surface, relief=float(rng.uniform(0, 0.4)))
    return names


def draw_material(canvas: Canvas, rng: np.random.Generator, name: str) -> None:
    """Fill the canvas with a material; often solids of other materials lie before it."""
    size = canvas.size
    names = CONCEPTS["material"]
    scale = size / 224 * float(rng.uniform(0.8, 2.0))
    canvas.gain = np.full(3, rng.uniform(0.8, 1.15), np.float32)
    canvas.paint(
        _cover(canvas),
        make_material(rng, name, scale),
        ("", "", "", name),
        relief=float(rng.uniform(0, 0.35)),
    )
    for _ in range((0, 0, 1, 1, 2, 3)[rng.integers(6)]):
        other = names[rng.integers(len(names))]
        radius = size * float(rng.uniform(0.16, 0.36))
        x, y = (float(v) * size for v in rng.uniform(0.1, 0.9, size=2))
        pen = Pen(canvas, x, y, radius, "")
        fill = make_material(rng, other, scale * float(rng.uniform(0.7, 1.1)))
        canvas.darken(pen.ellipse(0.12, -0.85, 1.0, 0.3), 0.35)
        kind = rng.integers(3)
        if kind == 0:
            pen.paint(pen.ellipse(0, 0, 1, 1), fill, material=other, relief=0.7)
        elif kind == 1:
            pen.paint(pen.box(-0.9, -0.9, 0.9, 0.7), fill, material=other, relief=0.2)
            lid = [(-0.9, 0.7), (0.9, 0.7), (1.15, 1.0), (-0.65, 1.0)]
            pen.paint(pen.polygon(lid), fill, material=other, relief=-0.1)
            canvas.darken(pen.polygon([(0.9, -0.9), (1.15, -0.6), (1.15, 1.0), (0.9, 0.7)]), 0.2)
        else:
            pen.paint(
                pen.polygon([(-1, -0.9), (1, -0.9), (0, 1)]), fill, material=other, relief=0.5
            )
    if rng.random() < 0.3:
        # Something without a material label lies on top.
        color = pick_color(rng)
        x, y = (float(v) * size for v in rng.uniform(0.2, 0.8, size=2))
        pen = Pen(canvas, x, y, size * 0.08, "")
        pen.paint(pen.ellipse(0, 0, 1, 1), color, relief=0.8)
        pen.paint(pen.ellipse(-0.3, 0.35, 0.22, 0.18), scale_color(color, 1.6))
