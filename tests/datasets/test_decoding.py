"""Images and label maps of any kind: known pixels in, the same out, or a refusal."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dissect_embed.datasets.decoding import decode_colours, decode_image, decode_numbers, read_size
from dissect_embed.errors import DatasetError

NUMBERS = np.array([[0, 1, 2], [7, 200, 255]], dtype=np.uint8)
COLOURS = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14


def png(bits: int, colour: int, rows: list[bytes], width: int) -> bytes:
    """Write a PNG of a kind that Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


# ---- label maps ----


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I", "RGB", "RGBA", "RGBA, hidden"])
def test_numbers_stand_as_they_are(tmp_path, mode):
    """A palette of any colours, green for 256, alpha and blue of any value."""
    wide = mode in ("I;16", "I", "RGB", "RGBA", "RGBA, hidden")
    numbers = NUMBERS.astype(np.int64) + (np.array([0, 256, 64000]) if wide else 0)
    if mode in ("L", "P"):
        image = Image.fromarray(NUMBERS)
        if mode == "P":
            image = Image.fromarray(NUMBERS, "P")
            image.putpalette([n * 7 % 256 for n in range(768)])
    elif mode.startswith("I"):
        image = Image.fromarray(numbers.astype(np.uint16 if mode == "I;16" else np.int32))
    else:
        bands = [numbers % 256, numbers // 256, np.full_like(numbers, 217)]
        alpha = [np.full_like(numbers, 0 if "hidden" in mode else 255)]
        pixels = np.stack(bands + (alpha if "A" in mode else []), axis=2)
        image = Image.fromarray(pixels.astype(np.uint8))
    path = saved(tmp_path / ("a.tif" if mode == "I" else "a.png"), image)
    found = decode_numbers(path, path)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize(
    ("bits", "row", "expected"),
    [
        (1, b"\xa0", [1, 0, 1, 0]),
        (2, b"\x1b", [0, 1, 2, 3]),
        (4, b"\x3f\x07", [3, 15, 0, 7]),
        (16, b"\x01\x02\xff\xff\0\0\0\x01", [258, 65535, 0, 1]),
    ],
)
def test_gray_of_few_and_many_bits(bits, row, expected):
    """Pillow fills 8 bits: of two bits, 1 becomes 85."""
    found = decode_numbers(io.BytesIO(png(bits, 0, [row], 4)), "a.png")
    assert found.tolist() == [expected]


def test_a_binary_mask_is_label_1(tmp_path):
    mask = Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).convert("1")
    assert decode_numbers(saved(tmp_path / "a.png", mask), "a").tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("mode", "name", "message"),
    [
        ("LA", "a.png", "a label map of mode LA, whose values have no one meaning as numbers"),
        ("F", "a.tif", "a label map of mode F"),
        ("CMYK", "a.tif", "a label map of mode CMYK"),
    ],
)
def test_label_maps_without_one_meaning_are_refused(tmp_path, mode, name, message):
    path = saved(tmp_path / name, Image.fromarray(NUMBERS).convert(mode))
    with pytest.raises(DatasetError, match=rf"{name}: .*{message}"):
        decode_numbers(path, path)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("JPEG", {}, "a label map as JPEG may have other"),
        ("MPO", {}, "a label map as (MPO|JPEG) may have other"),
        ("TIFF", {"compression": "jpeg"}, r"a label map as TIFF \(jpeg\) may have other"),
        ("JPEG2000", {"irreversible": False}, "a label map as JPEG2000 may have other"),
        ("WEBP", {"quality": 80}, "a label map as lossy WebP may have other"),
        ("AVIF", {}, "a label map as AVIF may have other"),
    ],
)
def test_lossy_label_maps_are_refused_whatever_their_names(tmp_path, kind, options, message):
    if kind == "AVIF":
        pytest.importorskip("PIL._avif")
    path = tmp_path / "a.png"
    Image.fromarray(COLOURS).save(path, kind, **options)
    with pytest.raises(DatasetError, match=rf"a\.png: {message} numbers than were saved; use PNG"):
        decode_numbers(path, path)
    with pytest.raises(DatasetError, match=rf"a\.png: {message} colours than were saved; use PNG"):
        decode_colours(path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("PPM", {})],
)
def test_lossless_label_maps_are_read_whatever_their_names(tmp_path, kind, options):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path, kind, **options)
    np.testing.assert_array_equal(decode_colours(path), COLOURS)
    expected = COLOURS[..., 0] + 256 * COLOURS[..., 1].astype(int)
    np.testing.assert_array_equal(decode_numbers(path, path), expected)


def test_lossless_webp_with_a_profile_before_its_picture(tmp_path):
    path = tmp_path / "a.webp"
    Image.fromarray(COLOURS).save(path, lossless=True, icc_profile=b"odd")
    np.testing.assert_array_equal(decode_colours(path), COLOURS)
    frames = [Image.fromarray(COLOURS + n) for n in (0, 1)]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(DatasetError, match=r"a\.webp: a label map as lossy WebP"):
        decode_colours(path)


def test_a_gif_has_colours_and_no_numbers(tmp_path):
    path = tmp_path / "a.gif"
    image = Image.fromarray(np.array([[5, 5, 200]], dtype=np.uint8), "P")
    image.putpalette([n * 7 % 256 for n in range(768)])
    image.save(path)
    with pytest.raises(DatasetError, match=r"a\.gif: a label map as GIF may have other numbers"):
        decode_numbers(path, path)
    np.testing.assert_array_equal(decode_colours(path), np.asarray(image.convert("RGB")))


def test_a_label_map_that_is_stored_turned_is_refused(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, read in (("L", lambda p: decode_numbers(p, p)), ("RGB", decode_colours)):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(NUMBERS).convert(mode).save(path, exif=exif)
        with pytest.raises(DatasetError, match=rf"{mode}\.png: .* turned \(EXIF orientation 6\)"):
            read(path)
        exif[0x0112] = 1
        Image.fromarray(NUMBERS).convert(mode).save(path, exif=exif)
        assert read(path).shape[:2] == (2, 3)
        exif[0x0112] = 6


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_gray_saved_as_colour_is_refused_where_it_is_asked_for(tmp_path, mode):
    """A number below 256 has no green, one above has no blue as Broden writes it."""
    path = saved(tmp_path / "a.png", Image.fromarray(NUMBERS).convert(mode))
    message = r"a\.png: gray saved as colour .*; save it as gray \(mode L\)"
    with pytest.raises(DatasetError, match=message):
        decode_numbers(path, path, refuse_gray=True)
    np.testing.assert_array_equal(decode_numbers(path, path), NUMBERS.astype(int) * 257)
    for pixels in (np.zeros((1, 2, 3), np.uint8), np.array([[[1, 1, 0], [9, 9, 9]]], np.uint8)):
        saved(path, Image.fromarray(pixels).convert(mode))
        red, green = pixels[..., 0].astype(int), pixels[..., 1].astype(int)
        found = decode_numbers(path, path, refuse_gray=True)
        np.testing.assert_array_equal(found, red + 256 * green)


def test_sixteen_bits_a_colour_and_impossible_numbers_are_refused(tmp_path):
    deep = png(16, 2, [b"\x01\x02\x03\x04\x05\x06"], 1)
    with pytest.raises(DatasetError, match=r"d\.png: a label map of 16 bits a colour; save it as"):
        decode_numbers(io.BytesIO(deep), "d.png")
    for number in (-1, 65536):
        image = Image.fromarray(np.array([[0, number]], dtype=np.int32))
        path = saved(tmp_path / "a.tif", image)
        with pytest.raises(
            DatasetError, match=rf"label number {number}; a label map holds 0 to 65"
        ):
            decode_numbers(path, path)


# ---- images ----


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK", "RGBA", "LA"])
def test_images_of_every_mode(tmp_path, mode):
    image = Image.fromarray(COLOURS)
    image = image.convert(mode) if mode != "P" else image.quantize(6)
    path = saved(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), image)
    expected = np.asarray(image.convert("RGB"))
    found = decode_image(path, path)
    np.testing.assert_array_equal(found, expected)
    if mode == "RGB":
        np.testing.assert_array_equal(found, COLOURS)


def test_sixteen_bits_are_scaled(tmp_path):
    """To the nearest of 256, where Pillow makes all of them white."""
    deep = np.array([[0, 128, 129, 257, 65535, 40000]], dtype=np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(deep))
    assert decode_image(path, path)[0, :, 1].tolist() == [0, 0, 1, 1, 255, 156]


def test_what_is_transparent_lies_on_a_stated_colour(tmp_path):
    pixels = np.full((1, 3, 4), 200, dtype=np.uint8)
    pixels[0, :, 3] = 255, 0, 51
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    with pytest.raises(
        DatasetError, match=r"a\.png: partly transparent; .*, or set dataset\.background to red"
    ):
        decode_image(path, path, setting="dataset.{}")
    with pytest.raises(DatasetError, match=r"a\.png: partly transparent; .* some colour$"):
        decode_image(path, path)
    found = decode_image(path, path, background=(100, 0, 255))
    assert found[0].tolist() == [[200, 200, 200], [100, 0, 255], [120, 40, 244]]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([9, 9, 9, 200, 200, 200])
    path = saved(tmp_path / "p.png", palette, transparency=0)
    with pytest.raises(DatasetError, match=r"p\.png: partly transparent"):
        decode_image(path, path)
    assert decode_image(path, path, background=(1, 2, 3))[0].tolist() == [[1, 2, 3], [200] * 3]


@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_what_is_stored_turned_is_asked_about(tmp_path, mode):
    image = Image.fromarray(COLOURS).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees to the right
    path = saved(tmp_path / "a.png", image, exif=exif)
    with pytest.raises(
        DatasetError,
        match=r"a\.png: stored turned \(EXIF orientation 6\); .*, or set --orientation to 'apply'",
    ):
        decode_image(path, path, setting="--{}")
    with pytest.raises(DatasetError, match=r"a\.png: stored turned .*: save it upright$"):
        decode_image(path, path)
    stored = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(path, path, orientation="ignore"), stored)
    assert read_size(path, orientation="ignore") == stored.shape[:2]
    assert read_size(path, orientation="apply") == stored.shape[1::-1]
    with pytest.raises(DatasetError, match=r"a\.png: stored turned .*, or set --orientation to"):
        read_size(path, setting="--{}")
    turned = decode_image(path, path, orientation="apply")
    np.testing.assert_array_equal(turned, np.rot90(stored, -1))


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_images_without_one_meaning_are_refused(tmp_path, mode):
    image = Image.fromarray(NUMBERS).convert("F") if mode == "F" else Image.fromarray(COLOURS)
    if mode == "LAB":
        image = Image.frombytes("LAB", (3, 2), COLOURS.tobytes())
    path = saved(tmp_path / "a.tif", image)
    with pytest.raises(
        DatasetError, match=rf"a\.tif: an image of mode {mode}, whose values have no"
    ):
        decode_image(path, path)
