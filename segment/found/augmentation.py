"""Augmentation of FOUND's training: a random scale, a crop, sometimes a blur (Siméoni et al., CVPR 2023)."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image

from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray
from eigenseg.discovery.extractor import FittedImage

_BLUR_SIGMA = (0.1, 2.0)  # pixels; the range of DINO's own augmentation


def random_crop(
    image: ImageArray,
    rng: np.random.Generator,
    size: int,
    patch_size: int,
    scales: tuple[float, float] = (0.1, 3.0),
    blur: float = 0.5,
) -> FittedImage:
    """Scale an image, crop a square from it, and blur it with some probability.

    Where the scaled image is smaller than the square, the rest is padding, which becomes the mean color.

    Args:
        image: (H, W, 3) uint8 RGB.
        rng: random numbers of this sample.
        size: side of the square in pixels; rounded up to whole patches.
        patch_size: of the backbone in pixels.
        scales: lowest and highest factor; uniform in between.
        blur: probability of a Gaussian blur.

    Example:
        >>> crop = random_crop(np.zeros((30, 400, 3), np.uint8), np.random.default_rng(0), 64, 16, scales=(1.0, 1.0))
        >>> crop.image.shape, tuple(crop.pixels.shape)
        ((30, 64, 3), (3, 64, 64))
    """
    side = -(-size // patch_size) * patch_size
    scale = rng.uniform(*scales)
    scaled = [max(1, round(length * scale)) for length in image.shape[:2]]
    rows, columns = (min(side, length) for length in scaled)
    top, left = (int(rng.integers(length - part + 1)) for length, part in zip(scaled, (rows, columns), strict=True))
    # Only the crop is resampled: three times a photograph would be a hundred megabytes.
    # Rounding of the scaled sides may reach beyond the image by a fraction of a pixel.
    right, bottom = min((left + columns) / scale, image.shape[1]), min((top + rows) / scale, image.shape[0])
    box = (min(left / scale, right), min(top / scale, bottom), right, bottom)
    cropped = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR, box=box))
    if rng.random() < blur:
        cropped = cv2.GaussianBlur(cropped, (0, 0), rng.uniform(*_BLUR_SIGMA))
    pixels = torch.zeros(3, side, side, dtype=torch.uint8)
    pixels[:, :rows, :columns] = torch.from_numpy(np.array(cropped)).permute(2, 0, 1)
    return FittedImage(cropped, pixels, Geometry((rows, columns), (rows, columns), (side, side), patch_size))
