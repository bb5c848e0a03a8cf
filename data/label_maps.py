"""Annotations and predictions that are stored as images: label maps and gray maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

_LABEL_MODES = ("P", "L", "1", "I;16", "I;16B", "I;16L", "I")


def read_label_map(path: str | os.PathLike[str]) -> NDArray[np.int32]:
    """Read a label map: (H, W) int32. A palette image yields its indices, not its colors.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read or has color channels.
    """
    with _open(path) as image:
        if image.mode not in _LABEL_MODES:
            raise ValueError(f"{path} has mode {image.mode}; a label map has one channel (palette, 8 or 16 bits)")
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
    return values.astype(np.int32)


def read_gray_map(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a soft or hard map as 8-bit gray: (H, W) uint8. Colors become luma, 1-bit images become 0 and 255.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, has more than 8 bits, or is partly transparent: a cutout's mask is its alpha
            channel, which luma would drop.
    """
    with _open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{path} has mode {image.mode}; a gray map has 8 bits")
        # A gray level that a PNG declares transparent is still that level.
        alpha = image.mode not in ("1", "L") and image.has_transparency_data
        if alpha and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
            raise ValueError(
                f"{path} has an alpha channel that is not opaque everywhere; a gray map has one channel: save the alpha as "
                "a gray image if it is the mask, or remove it"
            )
        return np.array(image.convert("L"))


def _open(path: str | os.PathLike[str]) -> Image.Image:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        image: Any = Image.open(path)
        image.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that Pillow can read") from None
    except Exception as error:  # Pillow's decoders raise many types for damaged files
        raise ValueError(f"{path} cannot be decoded, it is truncated or damaged ({error})") from None
    return image  # type: ignore[no-any-return]
