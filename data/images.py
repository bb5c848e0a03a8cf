"""Convert images of any kind to (H, W, 3) uint8 RGB, the way a viewer would show them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

ImageArray = NDArray[np.uint8]
ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]

_ORIENTATION = 0x0112  # EXIF tag
# Bytes per pixel while an image is decoded: Pillow's four, a converted copy's four, and the array's three.
_DECODING_BYTES = 11
_ROWS_BYTES = 2**25  # 32 MiB, an image of 11 megapixels at once
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: str | os.PathLike[str]) -> ImageArray:
    """Read an image file.

    EXIF orientation is applied. Gray becomes three equal channels, palettes and CMYK are converted, 16-bit gray is divided
    by 257, transparency is composited over white, and the first frame of an animation is taken.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is empty, truncated, too large to be a photograph or not an image; the message names it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such image: {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected an image")
    if not path.is_file():  # reading a pipe would wait for ever
        raise ValueError(f"{path} is no regular file, expected an image")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            # Pillow warns above 89 megapixels and raises above 179; photographs in between are accepted.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that Pillow can read") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} is too large: {error}") from None
    # For damaged files Pillow's decoders raise OSError, SyntaxError, EOFError, RuntimeError and others.
    except Exception as error:
        raise ValueError(f"{path} cannot be decoded, it is truncated or damaged ({error})") from None
    with image:
        try:
            return _from_pil(image)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def decoding_bytes(path: str | os.PathLike[str]) -> int:
    """Memory that ``read_image`` takes at most, from the file's header; 0 if it cannot be read."""
    try:
        if not os.path.isfile(path):
            return 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.width * image.height * _DECODING_BYTES
    except Exception:  # reading the image says what is wrong with it
        return 0


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


def _from_pil(image: Image.Image) -> ImageArray:
    if min(image.size) < 1:
        raise ValueError(f"image has no pixels: size {image.size}")
    image = _upright(image)
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32-bit images are not supported; convert to 8 or 16 bits")
        # 65535 = 255 * 257, so white stays white and black black.
        return as_rgb((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point images are not supported; convert to 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    # Converting copies, even from RGB to RGB.
    return rgb_array(image if image.mode == "RGB" else image.convert("RGB"))


def rgb_array(image: Image.Image) -> ImageArray:
    """The pixels of an RGB image: (H, W, 3) uint8, a new array.

    Pillow's own conversion makes three copies on the way; here they are of some rows only.
    """
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _ROWS_BYTES // (3 * image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; itself, not a copy, where there is nothing to turn."""
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
