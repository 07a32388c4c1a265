"""How maps are drawn: brightness by a unit's own threshold, and a line where it fires."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dissect_embed.figures.maps import DARKEST, draw_map, outline, shade, share_of_threshold

MAPS = np.array([[-1.0, 0.0, 0.5], [1.0, 2.0, 4.0], [0.0, 2.0, 1.0]])


def test_brightness_is_the_share_of_the_threshold():
    share = share_of_threshold(MAPS, 2.0)
    np.testing.assert_array_equal(share, [[0, 0, 0.25], [0.5, 1, 1], [0, 1, 0.5]])
    pixels = np.full((3, 3, 3), 200, dtype=np.uint8)
    expected = np.round(200 * (DARKEST + (1 - DARKEST) * share))
    np.testing.assert_array_equal(shade(pixels, share)[:, :, 1], expected)


@pytest.mark.parametrize("threshold", [0.0, -0.5])
def test_of_a_threshold_that_is_not_positive_there_is_no_share(threshold):
    np.testing.assert_array_equal(share_of_threshold(MAPS, threshold), MAPS > threshold)


def test_the_outline_is_the_rim_of_a_region():
    fires = np.zeros((6, 7), dtype=bool)
    fires[1:5, 1:6] = True
    rim = fires.copy()
    rim[2:4, 2:5] = False
    np.testing.assert_array_equal(outline(fires), rim)
    # Where a region reaches the picture's edge it has no rim.
    fires[:, :3] = True
    assert not outline(fires)[2:4, 0].any()


def test_a_line_goes_where_the_threshold_is_crossed():
    ramp = np.tile(np.linspace(0, 3, 7), (5, 1))  # 1.25 between columns 2 and 3
    ax = Figure().subplots()
    draw_map(ax, np.full((5, 7, 3), 90, dtype=np.uint8), ramp, 1.25)
    image = ax.images[0].get_array()
    assert (image[:, 3:] == 90).all()
    assert (image[:, 0] == 90 * DARKEST).all()
    lines = ax.collections[0].get_paths()
    assert {round(x, 6) for path in lines for x, _ in path.vertices} == {2.5}


@pytest.mark.parametrize("threshold", [9.0, -9.0])
def test_where_nothing_or_all_fires_there_is_no_line(threshold):
    ax = Figure().subplots()
    draw_map(ax, np.zeros((3, 3, 3), dtype=np.uint8), MAPS, threshold)
    assert not ax.collections
