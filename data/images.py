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
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes)")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected an image")
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
    image = ImageOps.exif_transpose(image)
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
    return np.array(image.convert("RGB"))
