"""Label maps as images in the colors of DAVIS and PASCAL VOC: one fixed color per number."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eigenseg.data.files import write_bytes


def _voc_colors() -> NDArray[np.uint8]:
    """The color of every number from 0 to 255: (256, 3) uint8 RGB.

    Bits 0, 1, 2 of the number are the highest bits of red, green and blue, bits 3, 4, 5 the next lower ones, and so on.
    """
    numbers = np.arange(256)
    colors = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        colors[:, bit % 3] |= ((numbers >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    colors.setflags(write=False)
    return colors


# The official DAVIS annotations hold the first entries of this table, as many as the sequence has objects, and black after.
DAVIS_PALETTE = _voc_colors()


def write_label_map(path: str | os.PathLike[str], labels: NDArray[np.integer[Any]]) -> None:
    """Write a label map as PNG, atomically: equal labels give equal bytes.

    Up to 255 it is an 8-bit indexed image with ``DAVIS_PALETTE``, above a 16-bit gray image;
    ``eigenseg.data.label_maps.read_label_map`` reads both.

    Args:
        path: ends in ``.png``; its folder is created.
        labels: (H, W) integer in [0, 65535], 0 is background.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if they have another shape or range, or the path another suffix.
        OutputError: if the file cannot be written.
    """
    path, labels = Path(path), np.asarray(labels)
    if path.suffix.lower() != ".png":
        raise ValueError(f"path must end in .png, got {path}; other formats change the labels")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if labels.ndim != 2 or not labels.size:
        raise ValueError(f"labels must be (H, W) with at least one pixel, got {labels.shape}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 65535:
        raise ValueError(f"labels must lie in [0, 65535], the range of a 16-bit PNG, got {low} to {high}")
    image = Image.fromarray(labels.astype(np.uint8 if high <= 255 else np.uint16))
    if high <= 255:
        image.putpalette(DAVIS_PALETTE.ravel().tolist())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
