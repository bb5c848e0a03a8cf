"""Convert images of any kind to (H, W, 3) uint8 RGB, the way a viewer would show them."""

from __future__ import annotations

import errno
import functools
import importlib.util
import io
import logging
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

ImageArray = NDArray[np.uint8]
ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]

logger = logging.getLogger(__name__)

# Readable with the package pillow-heif alone.
HEIF_SUFFIXES = (".heic", ".heif", ".hif")

_ORIENTATION = 0x0112  # EXIF tag
# Bytes per pixel while an image is decoded: Pillow's four, a converted copy's four, and the array's three.
_DECODING_BYTES = 11
_ROWS_BYTES = 2**25  # 32 MiB, an image of 11 megapixels at once
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_BITS_PER_SAMPLE = 258  # TIFF tag; Pillow gives images of 12 bits the mode of those with 16
_FEW_LEVELS = 4096  # 16-bit values below it, such as those of 12-bit cameras, leave at most 16 of 256 levels of gray
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# Bytes that a decoder takes for pixels where pixels are missing, directly or after a restart marker, and skips elsewhere.
# Codes that begin with 0 and with 1: either alone may happen to end a block.
_PROBES = [
    pad + b"".join(bytes((0xFF, 0xD0 + i)) + pad for i in range(8))
    for pad in (b"\x35\xca\x6b\x94" * 24, b"\xda\x53\xa6" * 32)
]


def read_image(path: str | os.PathLike[str]) -> ImageArray:
    """Read an image file.

    EXIF orientation is applied. Gray becomes three equal channels, palettes and CMYK are converted, 16-bit gray is divided
    by 257, transparency is composited over white, and the first frame of an animation is taken. HEIF files are read where
    pillow-heif is installed. A JPEG that lacks nothing but its end marker is read, and a warning is logged.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty, truncated, too large to be a photograph, not an image, or cannot be read, or if
            its 16-bit values stay below 256, so that it would be black; the message names it.
    """
    path = Path(path)
    if _regular_size(path) == 0:
        raise ValueError(f"{path} is empty (0 bytes)")
    try:
        with _open(path) as image:
            deep = ";16" in str(getattr(image, "tile", ""))
            try:
                image.load()
            except Exception as error:
                image = _without_end_marker(path, error)
            if deep:
                _check_color16(image, path)
            return _from_pil(image, path)
    except _RefusedError as error:
        raise ValueError(f"{path}: {error}") from None
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that Pillow can read{_heif_advice(path)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large: {error}") from None
    except MemoryError:
        raise
    # For damaged files Pillow's decoders raise OSError, SyntaxError, EOFError, RuntimeError and others.
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the system's own, such as missing permission
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
        raise ValueError(f"{path} cannot be decoded, it is truncated or damaged ({_one_line(error)})") from None


def decoding_bytes(path: str | os.PathLike[str]) -> int:
    """Memory that ``read_image`` takes at most, from the file's header; 0 if it cannot be read."""
    try:
        _regular_size(Path(path))
        with _open(Path(path)) as image:
            return image.width * image.height * _DECODING_BYTES
    except Exception:  # reading the image says what is wrong with it
        return 0


@functools.cache
def heif_is_readable() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def as_rgb(image: ImageLike) -> ImageArray:
    """Convert a path, a PIL image or an array to one form.

    Args:
        image: path, PIL image, or uint8 array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA.

    Returns:
        (H, W, 3) uint8 RGB, contiguous.

    Raises:
        TypeError: if it is none of these, or the array is not uint8.
        ValueError: if the array has another shape or no pixels.
    """
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a path, a PIL image or an HWC uint8 array, got {type(image).__name__}")
    if image.dtype != np.uint8:
        raise TypeError(f"image arrays must be uint8 in 0..255, got {image.dtype}; scale and convert first")
    if image.size == 0:
        raise ValueError(f"image has no pixels: shape {image.shape}")
    channels = 1 if image.ndim == 2 else image.shape[-1]
    if image.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise ValueError(f"image arrays must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {image.shape}")
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if channels == 4:
        return _from_pil(Image.fromarray(image))
    return np.ascontiguousarray(image)


class _RefusedError(ValueError):
    """A whole image of a kind that is not read."""


def _regular_size(path: Path) -> int:
    """Bytes of a regular file; reading anything else, such as a named pipe, might wait for ever."""
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileNotFoundError(f"no such image: {path}") from None
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise ValueError(f"{path} is a folder, expected an image")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is no regular file, expected an image")
    return status.st_size


def _open(source: Path | io.BytesIO) -> Image.Image:
    _register_heif()
    with warnings.catch_warnings():
        # Pillow warns above 89 megapixels and raises above 179; photographs in between are accepted.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(source)


@functools.cache
def _register_heif() -> None:
    if heif_is_readable():
        importlib.import_module("pillow_heif").register_heif_opener()


def _heif_advice(path: Path) -> str:
    with open(path, "rb") as stream:
        header = stream.read(12)
    is_heif = header[4:8] == b"ftyp" and header[8:11] in (b"hei", b"hev", b"mif", b"msf")
    return "; pip install 'eigenseg[heif]' to read HEIC" if is_heif and not heif_is_readable() else ""


def _without_end_marker(path: Path, error: Exception) -> Image.Image:
    """The image of a JPEG that lacks only its end marker; for every other file the error is raised again."""
    content = b"" if getattr(error, "errno", None) else path.read_bytes()
    if not content.startswith(_JPEG_START) or content.endswith(_JPEG_END):
        raise error
    content = content.removesuffix(_JPEG_END[:1])
    image = _open(io.BytesIO(content + _JPEG_END))
    image.load()
    for probe in _PROBES:  # where pixels are missing, the probe's bytes become pixels
        if ImageChops.difference(image, _open(io.BytesIO(content + probe + _JPEG_END))).getbbox() is not None:
            raise error
    logger.warning("%s lacks its end marker; no pixel is missing", path)
    return image


def _from_pil(image: Image.Image, path: Path | None = None) -> ImageArray:
    if min(image.size) < 1:
        raise _RefusedError(f"image has no pixels: size {image.size}")
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE)
    image = _upright(image)
    if image.mode in _SIXTEEN_BIT:
        return _from_gray16(np.asarray(image), 12 if bits == (12,) else 16, path)
    if image.mode == "F":
        raise _RefusedError("floating-point images are not supported; convert to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    # Converting copies, even from RGB to RGB, and takes four bytes a pixel.
    return rgb_array(image if image.mode in ("RGB", "L") else image.convert("RGB"))


def _from_gray16(values: NDArray[Any], bits: int, path: Path | None) -> ImageArray:
    highest = int(values.max())
    if values.min() < 0 or highest > 65535:
        raise _RefusedError("32-bit images are not supported; convert to 8 or 16 bits")
    if bits == 12:
        return as_rgb((values.astype(np.int32) * 255 // 4095).astype(np.uint8))
    if 0 < highest < 256:
        raise _too_dark(highest)
    if 0 < highest < _FEW_LEVELS:
        name = "image" if path is None else path
        logger.warning("%s: its 16-bit values reach only %d of 65535, so it is dark; scale them first", name, highest)
    # 65535 = 255 * 257, so white stays white and black black.
    return as_rgb((values // 257).astype(np.uint8))


def _check_color16(image: Image.Image, path: Path) -> None:
    """Raise if a color image of 16 bits is black because its values stay below 256: Pillow keeps the upper bytes alone."""
    colors = {"LA": 1, "RGB": 3, "RGBA": 3}.get(image.mode)
    if colors is None or any(high for _, high in image.getextrema()[:colors]):  # type: ignore[misc]
        return
    values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is not None and values.dtype == np.uint16 and 0 < (highest := int(values[..., :3].max())) < 256:
        raise _too_dark(highest)


def _too_dark(highest: int) -> _RefusedError:
    return _RefusedError(
        f"its 16-bit values reach only {highest} of 65535, so it would be black; scale them, or save them as 8 bits"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def rgb_array(image: Image.Image) -> ImageArray:
    """The pixels of an RGB or gray image (Pillow's modes RGB and L): (H, W, 3) uint8, a new array.

    Pillow's own conversion makes three copies on the way; here they are of some rows only.
    """
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _ROWS_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        part = np.asarray(image.crop((0, top, image.width, bottom)))
        pixels[top:bottom] = part if part.ndim == 3 else part[..., None]
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; itself, not a copy, where there is nothing to turn."""
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
