"""Which axis of a layer's output is which: images, units, and where in the image.

Found out by two passes that differ in the number of images and in their size: the axis of images is
as long as there are images, those of the place grow with the image, that of units stays. Where a
network takes one size only, what it says of its grid of patches decides, or that maps of a square
image are square; where two readings fit, the user is asked.
"""

import math
from collections.abc import Sequence

from dissect_embed.networks.grids import Grid
from dissect_embed.networks.maps import Reading
from dissect_embed.settings import AXES

Shape = tuple[int, ...]
# What two passes are made with, and by how much larger images are in the second: maps of up to 64
# pixels a position grow along both axes, along y more than along x.
IMAGES, FEWER = 3, 2
LARGER = (128, 64)
# More tokens than these before those of the image nobody has without saying so.
MAX_PREFIX = 8


class UnreadableError(Exception):
    """No reading fits, or more than one; the text says why."""


def find_reading(
    first: Shape,
    second: Shape,
    size: tuple[int, int],
    second_size: tuple[int, int],
    *,
    grids: Sequence[Grid] = (),
    axes: str | None = None,
    prefix: int | None = None,
) -> Reading:
    """Return the one reading that fits what a layer puts out.

    Parameters
    ----------
    first, second
        Its shape for ``IMAGES`` images of ``size`` pixels, and for ``FEWER`` of ``second_size``:
        larger by ``LARGER``, or the same where the network takes no other.
    grids
        What the network says of its tokens.
    axes, prefix
        What the user says.

    Raises
    ------
    UnreadableError
        If none fits, or more than one.

    Examples
    --------
    >>> find_reading((3, 56, 56, 96), (2, 88, 72, 96), (224, 224), (352, 288))
    Reading(axes='image y x unit', prefix=0, units=96, grid=(56, 56))
    """
    tried = [a for a in AXES if len(a.split()) == len(first) and axes in (None, a)]
    found = {
        a: _fit(a, first, second, size, second_size, grids, prefix, is_asked=axes is not None)
        for a in tried
        if _is_batch(a, first, second)
    }
    # What grows with the image tells more than what does not contradict.
    for sure in (True, False):
        fits = [reading for f in found.values() for is_sure, reading in f if is_sure == sure]
        if len(fits) == 1:
            return fits[0]
        if fits:
            ways = "; ".join(_explain(reading) for reading in fits)
            msg = f"can be read in {len(fits)} ways ({ways})"
            raise UnreadableError(msg)
    if len(first) not in (2, 3, 4):
        reason = "is neither maps nor tokens nor vectors"
    elif axes and not tried:
        reason = f"cannot be read as {axes!r}"
    elif not found:
        reason = f"has no axis of the {IMAGES} images that were given"
    elif size == second_size:
        reason = "fits no grid of positions"
    elif first[1:] != second[1:]:
        reason = f"grows otherwise than the image, {second} for larger ones"
    else:
        reason = f"does not grow with the image, {second} for larger ones"
    raise UnreadableError(reason)


def _is_batch(axes: str, first: Shape, second: Shape) -> bool:
    n = axes.split().index("image")
    return len(second) == len(first) and (first[n], second[n]) == (IMAGES, FEWER)


def _fit(
    axes: str,
    first: Shape,
    second: Shape,
    size: tuple[int, int],
    second_size: tuple[int, int],
    grids: Sequence[Grid],
    prefix: int | None,
    *,
    is_asked: bool,
) -> list[tuple[bool, Reading]]:
    """Return the readings by an order of axes, and whether each is sure.

    What the user asks for is not doubted, where there is one way to do it.
    """
    names = axes.split()
    one, two = dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))
    units = one["unit"]
    if units != two["unit"] or units == 0:
        return []
    if axes == "image unit":
        return [(True, Reading(axes, 0, units, (1, 1)))]
    if "token" in names:
        n, n2 = one["token"], two["token"]
        if n == 1 == n2:
            return [(True, Reading(axes, 0, units, (1, 1)))]
        if n2 > n:
            grown = _grown_grids(n, n2, size, second_size, prefix)
            return [(True, Reading(axes, p, units, grid)) for p, grid in grown]
        if n != n2 or (size != second_size and not is_asked):
            return []
        told = {(g.prefix, (g.rows, g.columns)) for g in grids} | {
            (0, (g.rows, g.columns)) for g in grids
        }
        said = {(p, (h, w)) for p, (h, w) in told if p + h * w == n and prefix in (None, p)}
        likely = said or _likely_grids(n, size, prefix)
        if is_asked and not likely:
            likely = _square_grids(n, prefix)
        return [(bool(said), Reading(axes, p, units, grid)) for p, grid in sorted(likely)]
    grid, grid2 = (one["y"], one["x"]), (two["y"], two["x"])
    reading = Reading(axes, 0, units, grid)
    if is_asked:
        return [(True, reading)]
    if grid2[0] > grid[0] and grid2[1] >= grid[1] and size != second_size:
        return [(True, reading)] if _grows_as_images(grid, grid2, size, second_size) else []
    # Where it stays as it is, as after adaptive pooling: as wide as high, or as the image is.
    is_like_image = abs(grid[0] * size[1] - grid[1] * size[0]) < max(size)
    is_likely = grid == grid2 and (grid[0] == grid[1] or is_like_image)
    if size == second_size:
        is_said = grid in {(g.rows, g.columns) for g in grids}
        is_likely = is_likely and (is_said or _has_stride(grid, size))
    else:
        # Attention between channels: a large square of each of a few heads.
        is_likely = is_likely and units >= max(grid)
    return [(False, reading)] if is_likely else []


def _grows_as_images(
    grid: tuple[int, int], grid2: tuple[int, int], size: tuple[int, int], size2: tuple[int, int]
) -> bool:
    """Say whether a grid grows by one stride along both axes, or by as much as the image does.

    Rounding takes or gives one at a time; without padding a grid is smaller than its stride says.
    Tokens by tokens, as attention has them, grow along both axes as the area does.
    """
    grown = grid2[0] - grid[0], grid2[1] - grid[1]
    if grown[1] > grown[0] + 1:  # x before y: images grow more along y
        return False
    if abs(grown[0] / (size2[0] - size[0]) - grown[1] / (size2[1] - size[1])) * LARGER[0] <= 3:
        return True
    expected = [n * (s2 / s - 1) for n, s, s2 in zip(grid, size, size2, strict=True)]
    return all((d - 1) / 2 <= e <= 2 * (d + 1) for d, e in zip(grown, expected, strict=True))


def _has_stride(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Say whether steps of some pixels make a grid of an image, give or take one at the border."""
    return any(
        abs(size[0] / pixels - grid[0]) <= 1.5 and abs(size[1] / pixels - grid[1]) <= 1.5
        for pixels in range(1, max(size) + 1)
    )


def _grown_grids(
    n: int, n2: int, size: tuple[int, int], second_size: tuple[int, int], prefix: int | None
) -> set[tuple[int, tuple[int, int]]]:
    """Return what prefix and grid explain both numbers of tokens, by square patches."""
    found = set()
    for pixels in range(1, max(size) + 1):
        for up in (0, pixels - 1):  # patches that jut out are left off, or filled up
            h, w, h2, w2 = ((s + up) // pixels for s in (*size, *second_size))
            before = n - h * w
            if before >= 0 and before == n2 - h2 * w2 and prefix in (None, before):
                found.add((before, (h, w)))
    return found


def _likely_grids(
    n: int, size: tuple[int, int], prefix: int | None
) -> set[tuple[int, tuple[int, int]]]:
    """Return prefixes and grids of whole patches that make so many tokens."""
    found = set()
    for pixels in range(1, min(size) + 1):
        if size[0] % pixels or size[1] % pixels:
            continue
        grid = size[0] // pixels, size[1] // pixels
        before = n - grid[0] * grid[1]
        if before == prefix or (prefix is None and 0 <= before <= MAX_PREFIX):
            found.add((before, grid))
    return found


def _square_grids(n: int, prefix: int | None) -> set[tuple[int, tuple[int, int]]]:
    """Return prefixes and square grids that make so many tokens."""
    sides = range(2, math.isqrt(n) + 1)
    before = {n - side * side: side for side in sides}
    return {
        (p, (side, side))
        for p, side in before.items()
        if p == prefix or (prefix is None and p <= MAX_PREFIX)
    }


def _explain(reading: Reading) -> str:
    grid = f"a grid of {reading.grid[0]} × {reading.grid[1]}"
    before = f" after {reading.prefix} tokens" if reading.prefix else ""
    return f"{reading.axes!r}: {reading.units} units on {grid}{before}"
