"""Draw the shapes of labelme as its own conversion does."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image, ImageDraw

from dissect_embed.datasets.index import format_size
from dissect_embed.errors import DatasetError

# The points of each, or the least.
SHAPES = {
    "polygon": 3, "rectangle": 2, "oriented_rectangle": 4, "rotation": 4, "circle": 2, "line": 2,
    "linestrip": 2, "point": 1, "mask": 2,
}  # fmt: skip
LINE_WIDTH, POINT_RADIUS = 10, 5  # in pixels


class Shape(NamedTuple):
    """What was drawn on an image."""

    label: str
    kind: str
    points: tuple[tuple[float, float], ...]
    where: str  # for people
    mask: Bool[np.ndarray, "y x"] | None = None  # of the kind 'mask': the pixels in its box


def check_inside(shape: Shape, size: tuple[int, int]) -> None:
    """Check that a shape has a pixel of its image, of a height and width in pixels.

    Raises
    ------
    DatasetError
        If it has none.
    """
    left, top, right, bottom = _box(shape)
    if left >= size[1] or top >= size[0] or right < 0 or bottom < 0:
        msg = (
            f"{shape.where}: lies outside of its image of {format_size(size)} pixels (height × "
            "width); delete it, or take the image it was drawn on"
        )
        raise DatasetError(msg)


def juts_out(shape: Shape, size: tuple[int, int]) -> bool:
    """Tell whether a part of a shape is not in its image, of a height and width in pixels."""
    left, top, right, bottom = _box(shape)
    return left < 0 or top < 0 or right > size[1] or bottom > size[0]


def _box(shape: Shape) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom."""
    if shape.kind == "circle":
        (x, y), (edge_x, edge_y) = shape.points[:2]
        radius = float(np.hypot(edge_x - x, edge_y - y))
        return x - radius, y - radius, x + radius, y + radius
    if shape.kind == "point":
        x, y = shape.points[0]
        return x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS
    xs, ys = zip(*shape.points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def draw_shapes(
    shapes: Sequence[Shape], size: tuple[int, int], number: Mapping[str, int]
) -> Int[np.ndarray, "y x"]:
    """Return the number of the uppermost shape at every pixel; 0 where there is none.

    Raises
    ------
    DatasetError
        If a shape lies outside of the image, whose height and width is ``size``.
    """
    canvas = Image.new("I", size[::-1])
    pen = ImageDraw.Draw(canvas)
    for shape in shapes:
        fill = number[shape.label]
        check_inside(shape, size)
        left, top, right, bottom = _box(shape)
        if shape.mask is not None:
            stamp = Image.fromarray(shape.mask)
            canvas.paste(fill, (int(left), int(top)), stamp)
        elif shape.kind == "rectangle":
            pen.rectangle((left, top, right, bottom), fill=fill, outline=fill)
        elif shape.kind in ("circle", "point"):
            pen.ellipse((left, top, right, bottom), fill=fill, outline=fill)
        elif shape.kind in ("line", "linestrip"):
            pen.line(shape.points, fill=fill, width=LINE_WIDTH)
        else:
            pen.polygon(shape.points, fill=fill, outline=fill)
    return np.asarray(canvas).astype(np.int64)
