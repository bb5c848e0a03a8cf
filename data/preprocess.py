"""From an image to a model's input, and the geometry to map results back.

The published methods differ in this step, so it is a parameter with a preset per method:

======  ==================================================  =======================================
mode    what happens                                        published use
======  ==================================================  =======================================
pad     native size, zeros at the right and bottom          TokenCut and LOST discovery, FOUND
round   each side to the nearest multiple of the patch      TokenCut saliency
square  both sides to ``resize``, aspect ratio ignored      MaskCut (480)
crop    native size, right and bottom remainder cut off     Deep Spectral
======  ==================================================  =======================================

Padding is added after normalization, so its value is the dataset's mean color.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.data.geometry import Geometry, Size
from eigenseg.data.images import ImageArray

Mode = Literal["pad", "round", "square", "crop"]


@dataclass(frozen=True)
class Preprocess:
    """How an image is fitted to the patch grid. ``None`` takes the preset's value.

    Args:
        mode: see the table above.
        resize: length of the shorter side in pixels, or of both sides with ``square``. ``None`` or 0: native size.
        max_tokens: a larger grid raises, because memory and time grow with its square; 16,384 tokens are a
            2048 x 2048 image at patch 16.

    Raises:
        ValueError: if the mode is unknown or a number is out of range.

    Example:
        >>> plan_geometry((375, 500), patch_size=16, preprocess=Preprocess(mode="pad")).input_size
        (384, 512)
    """

    mode: Mode | None = None
    resize: int | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.mode is not None:
            check_choice("preprocess.mode", self.mode, get_args(Mode))
        if self.resize is not None and self.resize < 0:
            raise ValueError(f"preprocess.resize must be a number of pixels (0: native size), got {self.resize}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"preprocess.max_tokens must be positive, got {self.max_tokens}")

    def over(self, preset: Preprocess) -> Preprocess:
        """These settings, and the preset's where these are ``None``."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}
        return replace(preset, **given)


# Defaults where neither the user, the backbone nor the method sets a value.
NATIVE = Preprocess(mode="pad", resize=0, max_tokens=16_384)


def plan_geometry(image_size: Size, patch_size: int, preprocess: Preprocess) -> Geometry:
    """Compute all sizes of an image.

    Args:
        image_size: (H, W) pixels.
        patch_size: p.
        preprocess: settings; ``None`` fields are taken from ``NATIVE``.

    Raises:
        ValueError: if the grid holds more than ``max_tokens`` patches, or a crop leaves none.
    """
    settings = preprocess.over(NATIVE)
    shorter, target = min(image_size), settings.resize or 0
    if settings.mode == "square":
        if not target:
            raise ValueError("preprocess.mode=square needs preprocess.resize, the side in pixels")
        sides = (_nearest_multiple(target, patch_size),) * 2
        geometry = Geometry(image_size, sides, sides, patch_size)
    elif settings.mode == "round":
        scale = target / shorter if target else 1.0
        sides = tuple(_nearest_multiple(side * scale, patch_size) for side in image_size)  # type: ignore[assignment]
        geometry = Geometry(image_size, sides, sides, patch_size)
    else:
        scaled = image_size
        if target:
            scaled = tuple(max(1, round(side * target / shorter)) for side in image_size)  # type: ignore[assignment]
        fit = _multiple_above if settings.mode == "pad" else _multiple_below
        inputs = (fit(scaled[0], patch_size), fit(scaled[1], patch_size))
        if min(inputs) < patch_size:
            raise ValueError(
                f"an image of {image_size[1]}x{image_size[0]} pixels holds no whole patch of {patch_size}; "
                f"enlarge it with preprocess.resize or use preprocess.mode=pad"
            )
        geometry = Geometry(image_size, scaled, inputs, patch_size)
    rows, columns = geometry.grid
    limit = settings.max_tokens or rows * columns
    resized = f", resized to preprocess.resize={target}," if target else ""
    if rows * columns > limit:
        raise ValueError(
            f"an image of {image_size[1]}x{image_size[0]} pixels{resized} makes {rows}x{columns} = {rows * columns} "
            f"tokens, more than max_tokens={limit}; shrink it with a smaller preprocess.resize (shorter side in pixels), "
            "or raise preprocess.max_tokens"
        )
    return geometry


def fit_image(image: ImageArray, geometry: Geometry) -> Tensor:
    """Resize (Lanczos, as in the published code), then pad with zeros or crop; works on any thread.

    Args:
        image: (H, W, 3) uint8 RGB.
        geometry: from ``plan_geometry``.

    Returns:
        (3, h, w) uint8 on the CPU.
    """
    height, width = geometry.scaled_size
    if image.shape[:2] != geometry.image_size:
        raise ValueError(f"the image has {image.shape[:2]} pixels, its geometry {geometry.image_size}")
    if (height, width) != geometry.image_size:
        image = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    canvas = torch.zeros(3, *geometry.input_size, dtype=torch.uint8)
    rows, columns = min(height, geometry.input_size[0]), min(width, geometry.input_size[1])
    canvas[:, :rows, :columns] = torch.from_numpy(np.array(image[:rows, :columns])).permute(2, 0, 1)
    return canvas


def normalize_images(
    pixels: Tensor, geometries: Sequence[Geometry], mean: tuple[float, ...], std: tuple[float, ...]
) -> Tensor:
    """Normalize fitted images on their device; padding becomes 0, the mean color.

    Args:
        pixels: (B, 3, h, w) uint8 from ``fit_image``.
        geometries: one per image.
        mean, std: per channel, for values in [0, 1].

    Returns:
        (B, 3, h, w) float32 on the device of ``pixels``.
    """
    values = pixels.float().div_(255)
    center, scale = (values.new_tensor(statistic)[:, None, None] for statistic in (mean, std))
    values.sub_(center).div_(scale)
    for image, geometry in zip(values, geometries, strict=True):
        height, width = geometry.scaled_size
        image[:, height:] = 0
        image[:, :, width:] = 0
    return values


def prepare_image(image: ImageArray, geometry: Geometry, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Fit and normalize one image: (3, h, w) float32 on the CPU; see ``fit_image`` and ``normalize_images``."""
    return normalize_images(fit_image(image, geometry)[None], [geometry], mean, std)[0]


def grid_colors(image: ImageArray, geometry: Geometry) -> Tensor:
    """One color per patch: the whole image resized to the grid by Pillow's bilinear filter.

    Args:
        image: (H, W, 3) uint8 RGB.
        geometry: from ``plan_geometry``.

    Returns:
        (N, 3) float32 in [0, 1], row-major.
    """
    rows, columns = geometry.grid
    small = Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small)).float().div(255).flatten(0, 1)


def _nearest_multiple(side: float, patch: int) -> int:
    # Python rounds halves to even, as the published saliency script does; never below one patch.
    return max(1, round(side / patch)) * patch


def _multiple_above(side: int, patch: int) -> int:
    return -(-side // patch) * patch


def _multiple_below(side: int, patch: int) -> int:
    return side // patch * patch
