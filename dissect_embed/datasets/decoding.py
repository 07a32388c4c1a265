"""Decode an image or a label map, what is there or a refusal that names it; write a label map.

Libraries convert whatever comes: gray label maps to 257 times their numbers, 16 bits a colour to
all white, hidden pixels behind alpha to what nobody sees. Here each kind of file has one meaning.

- Images: 8-bit gray, palette, red-green-blue and CMYK; 16-bit gray is scaled to 8. Alpha is
  composed over a stated colour. What a camera stored lying on its side (EXIF orientation) is turned
  only where it is said so.
- Label maps: gray of 1 to 16 bits and 32-bit integers are numbers as they stand, of a palette the
  indices; red-green-blue, with alpha or without, is ``red + 256·green``, as in Broden. Whether
  a file is lossless is told by its content, not by its name.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dissect_embed.errors import DatasetError

Orientation = Literal["refuse", "apply", "ignore"]
EXIF_ORIENTATION = 0x0112
# What Pillow multiplied numbers of few bits by, to fill 8 bits, by how the file has them.
FILLED = {"L;2": 85, "L;4": 17, "L;2I": 85, "L;4I": 17}
LARGEST = 0xFFFF  # label number
# Kinds of files that give back what was saved; of TIFF and WebP it depends.
LOSSLESS = ("PNG", "GIF", "BMP", "DIB", "PPM", "TGA", "PCX", "SGI", "SUN", "TIFF", "WEBP")
LOSSY_IN_TIFF = ("jpeg", "tiff_jpeg", "webp", "tiff_sgilog", "tiff_sgilog24")


def decode_image(
    source: Path | io.BytesIO,
    where: Path | str,
    *,
    background: Sequence[int] = (),
    orientation: Orientation = "refuse",
    setting: str = "",
) -> UInt8[np.ndarray, "y x 3"]:
    """Return the pixels of an image.

    Parameters
    ----------
    where
        The file, named in errors.
    background
        Red, green, blue, 0 to 255, behind what is transparent; none: nothing may be.
    orientation
        What becomes of a picture that its EXIF data says is turned: ``apply`` turns it as viewers
        do, ``ignore`` takes it as it is stored.
    setting
        How errors name these two where they can be set, as ``dataset.{}`` or ``--{}``.

    Raises
    ------
    DatasetError
        If it is damaged, of a kind that has no one meaning, partly transparent without a
        background, or turned.
    """

    def read(image: Image.Image) -> UInt8[np.ndarray, "y x 3"]:
        turned = _find_turn(image, where, orientation, setting)
        pixels = _to_rgb(image, where, background, setting)
        if turned:
            # Of the pixels, for not every mode can be turned with its transparency.
            upright = Image.fromarray(pixels)
            upright.getexif()[EXIF_ORIENTATION] = turned
            pixels = np.asarray(ImageOps.exif_transpose(upright))
        return pixels

    pixels: UInt8[np.ndarray, "y x 3"] = _open(source, where, read)
    return pixels


def read_size(
    path: Path, *, orientation: Orientation = "refuse", setting: str = ""
) -> tuple[int, int]:
    """Return the height and width that ``decode_image`` gives an image, mostly by its head alone.

    Raises
    ------
    DatasetError
        If it is no image, or turned.
    """

    def read(image: Image.Image) -> tuple[int, int]:
        on_its_side = _find_turn(image, path, orientation, setting) > 4
        return image.size if on_its_side else image.size[::-1]

    size: tuple[int, int] = _open(path, path, read)
    return size


def _find_turn(
    image: Image.Image, where: Path | str, orientation: Orientation, setting: str
) -> int:
    """Return the EXIF orientation by which an image is to be turned; 0 if it is not."""
    turned = int(image.getexif().get(EXIF_ORIENTATION, 1))
    if turned not in (0, 1) and orientation == "refuse":
        option = f", or set {setting.format('orientation')} to 'apply' or 'ignore'"
        msg = (
            f"{where}: stored turned (EXIF orientation {turned}); viewers turn it back, and "
            f"its labels may be of either: save it upright{option if setting else ''}"
        )
        raise DatasetError(msg)
    return turned if turned != 1 and orientation == "apply" else 0


def _to_rgb(
    image: Image.Image, where: Path | str, background: Sequence[int], setting: str
) -> UInt8[np.ndarray, "y x 3"]:
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        gray = np.asarray(image).astype(np.uint32)
        return np.repeat(((gray + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        over = np.asarray(image.convert("RGBA"))
        if over[..., 3].min() == 255:
            return np.ascontiguousarray(over[..., :3])
        if not background:
            option = f", or set {setting.format('background')} to red, green and blue behind it"
            msg = (
                f"{where}: partly transparent; save it on a ground of some colour"
                f"{option if setting else ''}"
            )
            raise DatasetError(msg)
        behind = Image.new("RGBA", image.size, (*background, 255))
        return np.asarray(Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB"))
    if image.mode not in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
        msg = (
            f"{where}: an image of mode {image.mode}, whose values have no one meaning as colours; "
            "save it as 8-bit RGB"
        )
        raise DatasetError(msg)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def decode_numbers(
    source: Path | io.BytesIO, where: Path | str, *, refuse_gray: bool = False
) -> Int[np.ndarray, "y x"]:
    """Return the label number of every pixel of a label map.

    Parameters
    ----------
    refuse_gray
        Refuse colours that are gray everywhere: who saved them meant the gray, and not
        ``red + 256·green``, which is 257 times it.

    Raises
    ------
    DatasetError
        If it is damaged, lossy, stored turned, or of a kind that has no one meaning as numbers.
    """

    def read(image: Image.Image) -> Int[np.ndarray, "y x"]:
        raw = _raw_mode(image)
        _check_exact(image, source, where, "numbers")
        if ";16" in raw and image.mode in ("RGB", "RGBA"):
            msg = (
                f"{where}: a label map of 16 bits a colour; save it as 16-bit gray or 8-bit colour"
            )
            raise DatasetError(msg)
        if image.mode in ("RGB", "RGBA"):
            # Four bytes a pixel make one number: red is its lowest byte, green the next.
            bands = np.asarray(image.convert("RGBA"))
            gray = bands[..., :1]
            if refuse_gray and gray.any() and (bands[..., 1:3] == gray).all():
                msg = (
                    f"{where}: gray saved as colour (red = green = blue everywhere), where numbers "
                    "are red + 256 · green; save it as gray (mode L), or import it as 'colours', "
                    "with a table of them"
                )
                raise DatasetError(msg)
            pixels = bands.view("<u4")[..., 0]
            return (pixels & 0xFFFF).astype(np.int64)
        if image.mode in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L", "I;16N"):
            numbers = np.asarray(image).astype(np.int64) // FILLED.get(raw, 1)
            if numbers.size and not 0 <= numbers.min() <= numbers.max() <= LARGEST:
                worst = numbers.min() if numbers.min() < 0 else numbers.max()
                msg = f"{where}: label number {worst}; a label map holds 0 to {LARGEST}"
                raise DatasetError(msg)
            return numbers
        msg = (
            f"{where}: a label map of mode {image.mode}, whose values have no one meaning as "
            "numbers; save it as gray (the number itself), with a palette (its index), or as RGB "
            "(red + 256 · green)"
        )
        raise DatasetError(msg)

    numbers: Int[np.ndarray, "y x"] = _open(source, where, read)
    return numbers


def decode_colours(mask: Path) -> Int[np.ndarray, "y x 3"]:
    """Return red, green and blue, 0 to 255, of a label map whose colours mean something.

    Raises
    ------
    DatasetError
        If it is damaged, lossy, stored turned, or of a kind that has no one meaning as colours.
    """

    def read(image: Image.Image) -> Int[np.ndarray, "y x 3"]:
        _check_exact(image, mask, mask, "colours")
        return _to_rgb(image, mask, (), "").astype(np.int64)

    colours: Int[np.ndarray, "y x 3"] = _open(mask, mask, read)
    return colours


def _check_exact(
    image: Image.Image, source: Path | io.BytesIO, where: Path | str, what: str
) -> None:
    """Check that a label map has what was saved, in its place."""
    kind = image.format or "a picture"
    lossy = kind not in LOSSLESS
    if kind == "TIFF":
        compression = image.info.get("compression")
        kind, lossy = f"TIFF ({compression})", compression in LOSSY_IN_TIFF
    elif kind == "WEBP":
        kind, lossy = "lossy WebP", not _is_lossless_webp(source)
    elif kind == "GIF" and what == "numbers":
        lossy = True  # whose colours are numbered anew when it is saved
    if lossy:
        msg = f"{where}: a label map as {kind} may have other {what} than were saved; use PNG"
        raise DatasetError(msg)
    turned = int(image.getexif().get(EXIF_ORIENTATION, 1))
    if turned not in (0, 1):
        msg = (
            f"{where}: a label map that is stored turned (EXIF orientation {turned}), and its "
            "image may lie otherwise; save it upright"
        )
        raise DatasetError(msg)


def _is_lossless_webp(source: Path | io.BytesIO) -> bool:
    """Tell whether a WebP file has one picture, and this as VP8L."""
    content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
    place = 12  # after RIFF, a size and WEBP; then there are names, sizes and what they are of
    while place + 8 <= len(content):
        if content[place : place + 4] in (b"VP8L", b"VP8 ", b"ANMF"):
            return content[place : place + 4] == b"VP8L"
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return False


def write_label_png(path: Path, numbers: Int[np.ndarray, "y x"] | UInt8[np.ndarray, "y x"]) -> None:
    """Write label numbers, up to 65535, as red + 256 · green."""
    rgb = np.zeros((*numbers.shape, 3), np.uint8)
    rgb[..., 0], rgb[..., 1] = numbers & 255, numbers.astype(np.int64) >> 8
    Image.fromarray(rgb).save(path, compress_level=6)


def _raw_mode(image: Image.Image) -> str:
    """Return how the file has its pixels, as 'L;2' or 'RGB;16B', which a mode hides."""
    tiles: Any = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _open(source: Path | io.BytesIO, where: Path | str, read: Callable[[Image.Image], Any]) -> Any:
    try:
        with Image.open(source) as image:
            return read(image)
    except DatasetError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UnidentifiedImageError) and not isinstance(source, Path):
            # Its own message has an address in memory for the file's name.
            msg = f"{where}: not an image; take it out, or fetch it again"
        else:
            msg = (
                f"{where}: cannot be decoded ({error}); the file is damaged: fetch or make it again"
            )
        raise DatasetError(msg) from error
