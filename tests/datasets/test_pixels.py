"""Pictures from anywhere: what a network sees is what a person sees, or it is refused."""

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.pixels import read_picture
from dissect_embed.errors import DatasetError


def saved(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_gray_and_opaque_pictures_are_read(tmp_path):
    gray = np.full((6, 9), 40, dtype=np.uint8)
    opaque = np.full((6, 9, 4), 255, dtype=np.uint8)
    for pixels, value in ((gray, 40), (opaque, 255)):
        read = read_picture(saved(tmp_path / "a.png", pixels), (4, 4))
        assert read.shape == (4, 4, 3)
        assert (read == value).all()


def test_what_a_network_would_see_otherwise_is_refused(tmp_path):
    deep = saved(tmp_path / "deep.png", np.full((6, 9), 40_000, dtype=np.uint16))
    assert (read_picture(deep, (4, 4)) == 156).all()
    clear = np.full((6, 9, 4), 255, dtype=np.uint8)
    clear[2, 3, 3] = 0
    with pytest.raises(DatasetError, match=r"clear\.png: partly transparent; save it on a ground"):
        read_picture(saved(tmp_path / "clear.png", clear), (4, 4))
