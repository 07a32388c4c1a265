"""Shapes: a rendered stand-in for CIFAR-100, made in seconds and without a download.

A class is a shape, a texture and a colour: `red striped star` is one of 5 × 4 × 5. Each image has
one such thing, turned, moved and scaled by chance, before clouds, in some light and with grain. A
resnet20 gets about half of the test images right after three epochs of 10,000.
"""

from collections.abc import Sequence
from itertools import product
from math import cos, pi, sin
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from dissect_embed.datasets.classes import SPLITS, ClassCounts, ClassSplit, write_classes
from dissect_embed.datasets.mini.canvas import Canvas, Fill, Mask, make_ellipse, make_polygon, unite
from dissect_embed.datasets.mini.colors import Color, mix_colors, pick_color, scale_color
from dissect_embed.datasets.mini.materials import blend, make_pattern
from dissect_embed.datasets.mini.textures import make_fractal
from dissect_embed.errors import DatasetError
from dissect_embed.processes import map_in_processes

SHAPES: Final = ("cross", "disc", "ring", "star", "triangle")
PATTERNS: Final = ("plain", "striped", "dotted", "chequered")
COLORS: Final = ("red", "yellow", "green", "blue", "purple")
# What lies behind, in no class's strongest shade.
_BEHIND: Final = ("cream", "grey", "brown", "teal", "navy", "mint", "sky", "terracotta", "lilac")

CLASSES: Final = sorted(f"{c} {p} {s}" for c, p, s in product(COLORS, PATTERNS, SHAPES))

_SIZE = 32
_FINE = 2  # canvas pixels to a pixel, an axis; the canvas itself takes two samples a pixel


def render_shapes(
    output: Path,
    images_per_class: int = 100,
    test_images_per_class: int = 20,
    *,
    seed: int = 0,
    n_jobs: int = -1,
) -> ClassCounts:
    """Render 100 classes of 32 × 32 pixels into ``classes.h5``.

    Parameters
    ----------
    output
        The file to write; its layout is told in `dissect_embed.datasets.classes`.
    images_per_class, test_images_per_class
        How many images of each class to train and to test on. Image i of a class is the same
        however many there are.
    seed
        The same seed gives the same pixels, whatever `n_jobs`.
    n_jobs
        Processes to render with, as joblib counts them: -1 is one a core.

    Raises
    ------
    DatasetError
        If a number of images is less than 1.
    """
    n_images = dict(zip(SPLITS, (images_per_class, test_images_per_class), strict=True))
    if min(n_images.values()) < 1:
        msg = (
            f"{output}: {images_per_class} training and {test_images_per_class} test images a "
            "class; expected at least 1 of each: raise the number"
        )
        raise DatasetError(msg)
    arguments = [
        (split, label, n_images[split], seed) for split in SPLITS for label in range(len(CLASSES))
    ]
    work = map_in_processes(_render_class, arguments, n_jobs)
    total = sum(n_images.values()) * len(CLASSES)
    rendered = []
    with tqdm(desc="render shapes", total=total, unit=" images", disable=None) as bar:
        for images in work:
            rendered.append(images)
            bar.update(len(images))
    splits = {}
    for place, split in enumerate(SPLITS):
        of_split = rendered[place * len(CLASSES) : (place + 1) * len(CLASSES)]
        labels = np.repeat(np.arange(len(CLASSES), dtype=np.int64), n_images[split])
        splits[split] = ClassSplit(np.concatenate(of_split), labels)
    render = {"images_per_class": images_per_class,
              "test_images_per_class": test_images_per_class, "seed": seed}  # fmt: skip
    return write_classes(output, "shapes", CLASSES, splits, {"render": render})


def _render_class(
    split: str, label: int, n_images: int, seed: int
) -> UInt8[np.ndarray, "image y x 3"]:
    return np.stack([render_shape(split, label, index, seed) for index in range(n_images)])


def render_shape(split: str, label: int, index: int, seed: int = 0) -> UInt8[np.ndarray, "32 32 3"]:
    """Render one image of a class; it depends on nothing but the arguments.

    Parameters
    ----------
    split
        ``train`` or ``test``.
    label
        The class, a place in `CLASSES`.
    index
        Which of the class's images.
    seed
        The data set's seed.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), label, index])
    name, pattern, shape = CLASSES[label].split()
    canvas = Canvas(_SIZE * _FINE)
    color = scale_color(pick_color(rng, (name,), jitter=24), float(rng.uniform(0.85, 1.1)))
    behind = _draw_behind(canvas, rng)
    x, y = rng.uniform(0.42, 0.58, size=2) * canvas.size
    radius = float(rng.uniform(0.34, 0.42)) * canvas.size
    turn = float(rng.uniform(-0.25, 0.25))
    # A rim sets the thing off where it has the colour of what lies behind.
    rim = mix_colors(behind, (0, 0, 0) if sum(behind) > 300 else (255, 255, 255), 0.5)
    canvas.paint(_outline(shape, float(x), float(y), radius + 2, turn, canvas.size), rim, relief=0)
    mask = _outline(shape, float(x), float(y), radius, turn, canvas.size)
    canvas.paint(mask, _choose_fill(rng, pattern, color), relief=float(rng.uniform(0, 0.3)))
    rgb = canvas.rgb.reshape(_SIZE, _FINE, _SIZE, _FINE, 3).mean(axis=(1, 3), dtype=np.float32)
    light = rng.uniform(0.7, 1.15) * rng.uniform(0.92, 1.08, size=3)  # and its tint
    grain = rng.normal(0, rng.uniform(1, 6), size=rgb.shape)
    return np.asarray(np.clip(np.rint(rgb * light + grain), 0, 255).astype(np.uint8))


def _draw_behind(canvas: Canvas, rng: np.random.Generator) -> Color:
    """Fill the canvas with clouds of two colours and perhaps a blot; return their mean colour."""
    low, high = (pick_color(rng, _BEHIND, jitter=25) for _ in range(2))
    canvas.rgb[:] = blend(make_fractal(rng, canvas.size, canvas.size, canvas.size / 2), low, high)
    if rng.random() < 0.5:
        x, y = rng.uniform(0, canvas.size, size=2)
        rx, ry = rng.uniform(0.05, 0.2, size=2) * canvas.size
        blot = make_ellipse(float(x), float(y), float(rx), float(ry), canvas.size)
        canvas.paint(blot, pick_color(rng, _BEHIND, jitter=25), relief=0)
    return mix_colors(low, high, 0.5)


def _choose_fill(rng: np.random.Generator, pattern: str, color: Color) -> Fill:
    if pattern == "plain":
        return color
    # The second colour is a light or a dark one, so that the first alone names the class.
    other = (245, 245, 240) if rng.random() < 0.5 else (25, 25, 30)
    period = float(rng.uniform(6.5, 8.5)) * _FINE
    return make_pattern(rng, pattern, color, mix_colors(color, other, 0.8), period)


def _outline(shape: str, x: float, y: float, radius: float, turn: float, size: int) -> Mask:
    """Mask of a shape, turned by so many radians."""
    if shape in ("disc", "ring"):
        disc = make_ellipse(x, y, radius * 0.9, radius * 0.9, size)
        hole = make_ellipse(x, y, radius * 0.42, radius * 0.42, size)
        return disc if shape == "disc" else _cut(disc, hole)

    def place(points: Sequence[tuple[float, float]]) -> Mask:
        c, s = radius * cos(turn), radius * sin(turn)
        return make_polygon([(x + c * u - s * v, y + s * u + c * v) for u, v in points], size)

    if shape == "cross":
        bars = (1.0, 0.36), (0.36, 1.0)
        return unite([place([(-u, -v), (u, -v), (u, v), (-u, v)]) for u, v in bars])
    n_corners, reach = (10, (1.15, 0.5)) if shape == "star" else (3, (1.1, 1.1))
    angles = [2 * pi * k / n_corners for k in range(n_corners)]
    return place([(reach[k % 2] * sin(a), -reach[k % 2] * cos(a)) for k, a in enumerate(angles)])


def _cut(mask: Mask, hole: Mask) -> Mask:
    """Take a hole out of a mask that surrounds it."""
    inside = mask.inside.copy()
    y, x = 2 * (hole.y - mask.y), 2 * (hole.x - mask.x)
    inside[y : y + hole.inside.shape[0], x : x + hole.inside.shape[1]] &= ~hole.inside
    return Mask(mask.y, mask.x, inside)
