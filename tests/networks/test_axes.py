"""Which axis is which: shapes by hand, and what networks say of their grids."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from dissect_embed.networks.axes import FEWER, IMAGES, LARGER, UnreadableError, find_reading
from dissect_embed.networks.grids import Grid, known_grids
from dissect_embed.networks.maps import Reading, fits, to_maps
from dissect_embed.settings import AXES

SMALL = (224, 224)
LARGE = (352, 288)  # by 128 and 64


def test_what_the_shapes_below_are_of():
    assert (IMAGES, FEWER, LARGER) == (3, 2, (128, 64))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # A stride of 4: 56 × 56, then 88 × 72.
        ((3, 96, 56, 56), (2, 96, 88, 72), Reading("image unit y x", 0, 96, (56, 56))),
        ((3, 56, 56, 96), (2, 88, 72, 96), Reading("image y x unit", 0, 96, (56, 56))),
        # As many units as rows and columns; as many as there are images.
        ((3, 56, 56, 56), (2, 56, 88, 72), Reading("image unit y x", 0, 56, (56, 56))),
        ((3, 3, 56, 56), (2, 3, 88, 72), Reading("image unit y x", 0, 3, (56, 56))),
        # Without padding: AlexNet's 55 × 55 at a stride of 4.
        ((3, 64, 55, 55), (2, 64, 87, 71), Reading("image unit y x", 0, 64, (55, 55))),
        # Patches of 16: 14 × 14, then 22 × 18 = 396; alone, after a class token, after five.
        ((3, 196, 192), (2, 396, 192), Reading("image token unit", 0, 192, (14, 14))),
        ((3, 197, 192), (2, 397, 192), Reading("image token unit", 1, 192, (14, 14))),
        ((3, 201, 192), (2, 401, 192), Reading("image token unit", 5, 192, (14, 14))),
        ((197, 3, 192), (397, 2, 192), Reading("token image unit", 1, 192, (14, 14))),
        ((3, 192, 196), (2, 192, 396), Reading("image unit token", 0, 192, (14, 14))),
        # Patches of 14 leave 2 pixels of 352 off: 25 × 20, after a class token.
        ((3, 257, 192), (2, 501, 192), Reading("image token unit", 1, 192, (16, 16))),
        # Patches of 30: 224 is filled up to 8 × 8, 352 × 288 to 12 × 10.
        ((3, 64, 192), (2, 120, 192), Reading("image token unit", 0, 192, (8, 8))),
        ((3, 1000), (2, 1000), Reading("image unit", 0, 1000, (1, 1))),
        ((3, 1, 192), (2, 1, 192), Reading("image token unit", 0, 192, (1, 1))),
        # Adaptive pooling: the same for every size.
        ((3, 256, 6, 6), (2, 256, 6, 6), Reading("image unit y x", 0, 256, (6, 6))),
        ((3, 512, 1, 1), (2, 512, 1, 1), Reading("image unit y x", 0, 512, (1, 1))),
    ],
)
def test_readings_by_hand(first, second, expected):
    assert find_reading(first, second, SMALL, LARGE) == expected


def test_images_that_are_not_square():
    """48 × 96 pixels, then 176 × 160."""
    size, larger = (48, 96), (176, 160)
    maps = find_reading((3, 8, 12, 24), (2, 8, 44, 40), size, larger)
    assert maps == Reading("image unit y x", 0, 8, (12, 24))
    last = find_reading((3, 12, 24, 8), (2, 44, 40, 8), size, larger)
    assert last == Reading("image y x unit", 0, 8, (12, 24))
    tokens = find_reading((3, 19, 8), (2, 111, 8), size, larger)  # patches of 16
    assert tokens == Reading("image token unit", 1, 8, (3, 6))
    pooled = find_reading((3, 8, 2, 4), (2, 8, 2, 4), size, larger)  # as the image is
    assert pooled == Reading("image unit y x", 0, 8, (2, 4))
    fixed = find_reading((3, 19, 8), (2, 19, 8), size, size, prefix=1)
    assert fixed == Reading("image token unit", 1, 8, (3, 6))
    # Patches of 16; one of 32 would leave half of it off.
    whole = find_reading((3, 7, 60), (2, 7, 60), (32, 48), (32, 48))
    assert whole == Reading("image token unit", 1, 60, (2, 3))


def test_small_images_whose_grid_grows_by_much_more_than_it_is():
    """LeNet on 32 pixels: 5 × 5 at a stride of 4, then 37 × 21; 1 × 1, then 33 × 17."""
    for n in (5, 1):
        found = find_reading((3, 16, n, n), (2, 16, n + 32, n + 16), (32, 32), (160, 96))
        assert found == Reading("image unit y x", 0, 16, (n, n))


@pytest.mark.parametrize(
    ("first", "second", "size", "reason"),
    [
        # Attention, tokens by tokens: 197 and 397.
        ((3, 6, 197, 197), (2, 6, 397, 397), LARGE, r"grows otherwise than the image, \(2, 6, 39"),
        ((3, 6, 197, 197), (2, 6, 197, 197), SMALL, r"fits no grid of positions"),
        # Attention between channels, 32 of each of four heads.
        ((3, 4, 32, 32), (2, 4, 32, 32), LARGE, r"does not grow with the image"),
        # Heads, tokens, and a head's width.
        ((3, 2, 3136, 96), (2, 2, 6336, 96), LARGE, r"grows otherwise than the image"),
        # Windows of 7 × 7, all images' in one axis; windows in an axis of their own.
        ((192, 49, 96), (286, 49, 96), LARGE, r"has no axis of the 3 images that were given"),
        ((3, 49, 64, 64), (2, 49, 64, 64), SMALL, r"fits no grid of positions"),
        ((3, 3, 401, 32), (2, 3, 401, 32), LARGE, r"does not grow with the image, \(2, 3, 401, 3"),
        # Learned queries.
        ((3, 100, 256), (2, 100, 256), LARGE, r"does not grow with the image"),
        ((3, 2, 3, 4, 5), (2, 2, 3, 4, 5), LARGE, r"is neither maps nor tokens nor vectors"),
        ((3,), (2,), LARGE, r"is neither maps nor tokens nor vectors"),
        ((3, 0), (2, 0), LARGE, r"does not grow with the image"),
        # 49 tokens of 16 × 16 units, or 256 tokens of 7 × 7.
        ((3, 49, 256), (2, 49, 256), SMALL,
         r"2 ways \('image token unit': 256 units on a grid of 7 × 7; 'image unit token': 49 un"),
        # Nine tokens, or five: 2 × 2 after five or one, 1 × 1 after eight or four.
        ((3, 9, 5), (2, 9, 5), SMALL, r"4 ways .*5 units on a grid of 2 × 2 after 5 tokens; "),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(first, second, size, reason):
    with pytest.raises(UnreadableError, match=reason):
        find_reading(first, second, SMALL, size)


@pytest.mark.parametrize("axes", AXES)
def test_axes_that_the_user_names_are_not_doubted(axes):
    """Shapes that no other rule allows: nothing grows, nothing is square."""
    shapes = {
        "image unit y x": (3, 5, 4, 7), "image y x unit": (3, 4, 7, 5), "image unit": (3, 5),
        "image token unit": (3, 26, 5), "token image unit": (26, 3, 5),
        "image unit token": (3, 5, 26),
    }  # fmt: skip
    second = tuple(2 if n == 3 else n for n in shapes[axes])
    found = find_reading(shapes[axes], second, SMALL, LARGE, axes=axes)
    grid = (5, 5) if "token" in axes else (1, 1) if axes == "image unit" else (4, 7)
    assert found == Reading(axes, 1 if "token" in axes else 0, 5, grid)


def test_axes_that_the_user_names_for_another_shape():
    with pytest.raises(UnreadableError, match=r"^cannot be read as 'image token unit'$"):
        find_reading((3, 5, 4, 7), (2, 5, 4, 7), SMALL, LARGE, axes="image token unit")


def test_what_a_network_says_of_its_grid_decides():
    """49 tokens of 256, as above; 257 tokens: 16 × 16 after one, where 14 × 14 after 61 is said."""
    shape, other = (3, 49, 256), (2, 49, 256)
    found = find_reading(shape, other, SMALL, SMALL, grids=[Grid(7, 7, 0)])
    assert found == Reading("image token unit", 0, 256, (7, 7))
    found = find_reading(shape, other, SMALL, SMALL, grids=[Grid(16, 16, 1)])
    assert found == Reading("image unit token", 0, 49, (16, 16))
    said = find_reading((3, 257, 6), (2, 257, 6), SMALL, SMALL, grids=[Grid(14, 14, 61)])
    assert said == Reading("image token unit", 61, 6, (14, 14))
    # A grid of windows is one where a network says so.
    maps = find_reading((3, 6, 64, 64), (2, 6, 64, 64), SMALL, SMALL, grids=[Grid(64, 64, 1)])
    assert maps == Reading("image unit y x", 0, 6, (64, 64))


def test_tokens_before_the_image_as_the_user_says():
    """One of the four readings above."""
    found = find_reading((3, 9, 5), (2, 9, 5), SMALL, SMALL, prefix=5)
    assert found == Reading("image token unit", 5, 5, (2, 2))
    with pytest.raises(UnreadableError, match="fits no grid"):
        find_reading((3, 9, 5), (2, 9, 5), SMALL, SMALL, prefix=3)


@pytest.mark.parametrize(
    ("axes", "prefix"),
    [(a, p) for a in AXES for p in ((0, 2) if "token" in a else (0,))],
)
def test_maps_are_where_they_were(axes, prefix):
    """Each value is set to its own place: a hundred times the unit, ten times y, and x."""
    names, (h, w, units) = axes.split(), (2, 3, 4)
    if axes == "image unit":
        h = w = 1
    sizes = {"image": 2, "unit": units, "y": h, "x": w, "token": prefix + h * w}
    output = torch.full([sizes[name] for name in names], -1.0)
    for unit in range(units):
        for y in range(h):
            for x in range(w):
                place = {"unit": unit, "y": y, "x": x, "token": prefix + y * w + x}
                at = tuple(place.get(name, slice(None)) for name in names)
                output[at] = 100 * unit + 10 * y + x
    reading = Reading(axes, prefix, units, (h, w))
    assert fits(output, reading)
    maps = to_maps(output, reading)
    expected = [[[[100 * u + 10 * y + x for x in range(w)] for y in range(h)]
                 for u in range(units)]] * 2  # fmt: skip
    torch.testing.assert_close(maps, torch.tensor(expected, dtype=torch.float32))
    assert maps.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()


def test_outputs_of_another_shape_do_not_fit():
    reading = Reading("image unit y x", 0, 4, (2, 3))
    for shape in [(5, 4, 2, 3), (1, 4, 2, 3)]:
        assert fits(torch.zeros(shape), reading)
    for shape in [(5, 3, 2, 3), (5, 4, 3, 3), (5, 4, 2, 2), (4, 2, 3)]:
        assert not fits(torch.zeros(shape), reading)


# ---- what networks say ----


def timm_network(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, pretrained=False, **options)  # type: ignore[no-any-return]


def test_known_grids_of_vision_transformers():
    small = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    plain = timm_network("vit_tiny_patch16_224", img_size=(64, 96), **small)
    assert known_grids(plain) == [Grid(4, 6, 1)]
    registers = timm_network("vit_small_patch14_reg4_dinov2", img_size=56, **small)
    assert known_grids(registers) == [Grid(4, 4, 5)]
    two = timm_network("deit_tiny_distilled_patch16_224", **small)
    assert known_grids(two) == [Grid(14, 14, 2)]
    none = timm_network("mixer_s32_224")
    assert known_grids(none) == [Grid(7, 7, 0)]
    torchvisions = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=24, mlp_dim=24
    )
    assert known_grids(torchvisions) == [Grid(4, 4, 1)]


class Says(nn.Module):
    """Says something, and has parameters of these names."""

    def __init__(self, parameters: dict[str, int], **attributes: object) -> None:
        super().__init__()
        for name, n in parameters.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(1, n, 4)))
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Says({}), []),
        (Says({}, grid_size=(3, 5)), [Grid(3, 5, 0)]),
        (Says({"cls_token": 1, "reg_token": 4}, grid_size=[3, 5]), [Grid(3, 5, 5)]),
        (Says({"cls_token": 1}, grid_size=(3, 5), num_prefix_tokens=2), [Grid(3, 5, 2)]),
        (Says({"class_token": 1}, image_size=(32, 64), patch_size=(16, 8)), [Grid(2, 8, 1)]),
        (Says({}, image_size=32, patch_size=4), [Grid(8, 8, 0)]),
        (Says({}, grid_size=7, image_size=None, patch_size=None), []),
        (Says({}, grid_size=(True, 2)), []),
        (Says({}, image_size="large", patch_size=2), []),
    ],
)
def test_known_grids_by_hand(network, expected):
    assert known_grids(network) == expected


@pytest.mark.parametrize("size", [(32, 32), (24, 48)])
def test_maps_that_lie_on_their_side_are_refused(size):
    """(image, unit, x, y): images grow more along y, these along x."""
    larger = size[0] + LARGER[0], size[1] + LARGER[1]
    shapes = [(3, 4, size[1] // 2, size[0] // 2), (2, 4, larger[1] // 2, larger[0] // 2)]
    with pytest.raises(UnreadableError, match="grows otherwise than the image"):
        find_reading(*shapes, size, larger)
