"""Reading pictures of any kind as RGB uint8, and DataError, which the whole project raises."""

import threading
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

DRAWINGS = ("EPS", "WMF")  # Pillow renders the first with Ghostscript and the second with Windows
MAX_MEGAPIXELS = 300  # phones take photos of 200; Pillow's own limit is 179
# The header of a damaged file can claim any size. For a blank picture, PNG packs 1,032 pixels into a byte, or 8,256
# one-bit pixels, and GIF up to 2,731. Below LARGE megapixels a false claim costs little.
LARGE, PIXELS_PER_BYTE, ONE_BIT_PIXELS_PER_BYTE = 50, 3_000, 10_000
STRIP = 1_000_000  # pixels converted at a time, so that no further copy of a large photo is in memory

_PILLOW_LIMIT = threading.Lock()


class DataError(ValueError):
    """A mistake in the user's data, described in one sentence."""


def read_image(path: str | Path) -> np.ndarray:  # (H, W, 3) RGB uint8
    """Read any picture as upright RGB uint8: colour, gray, RGBA, palette, CMYK or 16 bits a channel.

    The name's ending is not trusted (the course's .jpg files are RGBA PNGs). Alpha is dropped.
    Raises DataError for a missing, unreadable or truncated file, 32 bits a channel, over MAX_MEGAPIXELS, or a file
    too small for the pixels that it claims.
    """
    return _decode(Path(path), str(path))


def decode_image(content: bytes, name: str) -> np.ndarray:  # (H, W, 3) RGB uint8
    """`read_image` for a file's content; raises DataError that calls the picture `name`."""
    return _decode(BytesIO(content), name)


def _decode(file: Path | BytesIO, name: str) -> np.ndarray:  # (H, W, 3) RGB uint8
    try:
        if isinstance(file, Path) and not file.is_file():
            raise DataError(f"{name}: not a file" if file.exists() else f"{name}: no such file")
        with _pillow_limit_off():
            picture = Image.open(file)
        with picture:
            _check_size(picture, file, name)
            if picture.format in DRAWINGS:
                raise ValueError("a drawing that needs another program to render it, save it as PNG")
            _check_pixels(picture)
            ImageOps.exif_transpose(picture, in_place=True)
            return _rgb(picture)
    except DataError:
        raise
    except Exception as error:  # Pillow and its decoders raise many types for damaged files
        raise DataError(f"{name}: not a readable picture ({_line(error)})") from None


def _line(error):
    return " ".join(str(error).partition(" <_io.")[0].split()) or type(error).__name__  # how Pillow names open files


@contextmanager
def _pillow_limit_off():
    """Lets Image.open read a header of any size; the limit is global to the process, so it is restored at once."""
    with _PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(picture, file, name):
    """Raise DataError for more pixels than MAX_MEGAPIXELS or than the file can hold."""
    pixels, size = picture.width * picture.height, f"{picture.width} x {picture.height} pixels"
    if pixels > MAX_MEGAPIXELS * 1_000_000:
        raise DataError(f"{name}: over {MAX_MEGAPIXELS} megapixels, save it smaller")
    count = file.stat().st_size if isinstance(file, Path) else file.getbuffer().nbytes
    per_byte = ONE_BIT_PIXELS_PER_BYTE if picture.mode == "1" else PIXELS_PER_BYTE
    if pixels > max(LARGE * 1_000_000, per_byte * count):
        raise DataError(f"{name}: {count} bytes are too few for a photo of {size}, it is damaged or blank")


def _check_pixels(picture):
    """Raise ValueError for a Pillow image without pixels, or with 32 bits a channel, whose white level is unknown."""
    if not picture.width or not picture.height:
        raise ValueError("it has no pixels")
    # Pillow opens some 16-bit files as mode I, which means 32 bits in all other formats.
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in ("PNG", "PPM")):
        raise ValueError("it has 32 bits a channel, save it with 8 or 16")


def _rgb(picture):
    """The pixels of a Pillow image as they are stored; raises whatever Pillow raises."""
    width, height = picture.size
    image, rows = np.empty((height, width, 3), np.uint8), max(1, STRIP // width)
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(top + rows, height)))
        if strip.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it at 255
            strip = Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))
        image[top : top + rows] = np.asarray(strip.convert("RGB"))
    return image


def as_rgb(image) -> np.ndarray:  # (H, W, 3) uint8
    """A path or Pillow image (see read_image), or an array that is RGB, RGBA or gray, uint8 or uint16, as RGB uint8.

    Raises DataError for anything else.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        try:
            _check_pixels(image)
            return _rgb(ImageOps.exif_transpose(image))
        except Exception as error:
            raise DataError(f"an image that Pillow cannot read ({_line(error)})") from None
    try:
        image = np.asarray(image)
    except ValueError:
        raise DataError("lists of different lengths are not an image: expected RGB uint8 (H, W, 3)") from None
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape:
        raise DataError(f"an image of shape {image.shape} and type {image.dtype}: expected RGB uint8 (H, W, 3)")
    if image.ndim == 2 or image.shape[2] == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if image.shape[2] not in (3, 4):
        raise DataError(f"an image with {image.shape[2]} channels: expected gray, RGB or RGBA")
    return np.ascontiguousarray(image[..., :3])
