"""Visualizations: tinted masks with contours, boxes and scores, and an eigenvector as a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray, rgb_array
from eigenseg.data.instances import Instances
from eigenseg.data.rle import BoolArray

# Bright, far apart on the color circle, and unlike the greens and browns of photographs.
PALETTE = np.array(
    [
        (255, 59, 107), (0, 184, 255), (255, 196, 0), (157, 78, 255), (0, 224, 160),
        (255, 122, 26), (64, 99, 255), (233, 74, 230), (140, 224, 20), (0, 150, 150),
    ],
    dtype=np.uint8,
)  # fmt: skip
_TINT = 0.42  # strong enough to see on snow, weak enough to see the object


def draw_overlay(image: ImageArray, instances: Instances) -> ImageArray:
    """Draw instances over their image, the highest score on top.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: of this image.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: if the instances are those of an image of another size.
    """
    _check_size(image, instances)
    order = instances.bottom_up()
    captions = [f"{score:.2f}" for score in instances.scores]
    return draw_regions(image, instances.masks, instances.boxes, order, captions, nothing="no object")


def draw_regions(
    image: ImageArray,
    masks: Sequence[BoolArray] | BoolArray | None,
    boxes: NDArray[np.floating],
    order: Sequence[int] | None = None,
    captions: Sequence[str] | None = None,
    nothing: str | None = None,
    colors: Sequence[int] | None = None,
) -> ImageArray:
    """Draw masks and boxes over an image, each in its own color.

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: n masks (H, W) bool, or None.
        boxes: (n, 4) xyxy in pixels; none are drawn if empty.
        order: indices in painting order, the last one on top; the given order by default.
        captions: a text for each box.
        nothing: text where there is neither a mask nor a box.
        colors: for each mask or box, the index of its color in ``PALETTE``, which repeats; 0, 1, 2... by default.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    canvas = image.copy()
    count = len(boxes) if masks is None else len(masks)
    order = range(count) if order is None else order
    tints = PALETTE[np.asarray(range(count) if colors is None else colors, dtype=np.int64) % len(PALETTE)]
    line = max(1, round(min(image.shape[:2]) / 220))
    halo = line + 2 if line > 1 else 0  # on a small image a white outline would hide too much
    for i in order if masks is not None else ():
        tint = tints[i]
        assert masks is not None
        mask = np.asarray(masks[i])
        _blend(canvas, mask, tint)
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        if halo:
            cv2.drawContours(canvas, contours, -1, (255, 255, 255), halo, cv2.LINE_AA)
        cv2.drawContours(canvas, contours, -1, tint.tolist(), line, cv2.LINE_AA)
    drawing = Image.fromarray(canvas)
    del canvas  # half a gigabyte of an image of 169 megapixels
    pen = ImageDraw.Draw(drawing)
    font = caption_font(image.shape[0], image.shape[1])
    for i in order if len(boxes) else ():
        color = tuple(tints[i].tolist())
        x0, y0, x1, y1 = (round(side) for side in boxes[i].tolist())
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=line)
        if captions and captions[i]:
            draw_caption(pen, captions[i], (x0, y0), color, font)
    if not count and nothing:
        draw_caption(pen, nothing, (0, 0), (32, 32, 32), font)
    return rgb_array(drawing)


def _blend(canvas: ImageArray, mask: BoolArray, tint: NDArray[np.uint8]) -> None:
    """Tint the pixels of a mask, in place: a table of 256 levels for each channel, with no array of floats."""
    levels = np.arange(256)[:, None] * (1 - _TINT) + tint * _TINT
    table = levels.astype(np.uint8)
    for channel in range(3):
        plane = canvas[..., channel]
        plane[mask] = table[plane[mask], channel]


def draw_heatmap(image: ImageArray, instances: Instances) -> ImageArray:
    """The eigenvector of the first instance over the image in gray; only the gray image if there is no instance.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: with ``extras["eigenvector"]`` (gh, gw) and ``metadata["geometry"]``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: if the instances are those of an image of another size.
    """
    _check_size(image, instances)
    gray = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    geometry, vectors = instances.metadata.get("geometry"), instances.extras.get("eigenvector", ())
    if not isinstance(geometry, Geometry) or not len(vectors):
        return gray
    vector = np.asarray(vectors[0], dtype=np.float32)
    low, high = vector.min(), vector.max()
    values = geometry.maps_to_image(torch.from_numpy(vector)).numpy()
    levels = ((values - low) / max(high - low, np.finfo(np.float32).tiny) * 255).clip(0, 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    blended: ImageArray = cv2.addWeighted(colors, 0.75, gray, 0.25, 0)
    return blended


def _check_size(image: ImageArray, instances: Instances) -> None:
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be (H, W, 3) uint8 RGB, got {image.shape}")
    if image.shape[:2] != instances.image_size:
        raise ValueError(
            f"image has {image.shape[0]}x{image.shape[1]} pixels (H x W), its instances are those of an image of "
            f"{instances.image_size[0]}x{instances.image_size[1]}; give the image that they were found in"
        )


def caption_font(height: int, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font for captions in an image of this size in pixels."""
    return ImageFont.load_default(size=max(11, round(min(height, width) / 24)))


def draw_caption(
    pen: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    color: tuple[int, ...],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Write a text on a colored background.

    Args:
        pen: of the image.
        text: one line.
        corner: (x, y) in pixels, the upper left corner of what the text belongs to; the text is above it if there is room,
            and never beyond the right border.
        color: RGB of the background.
        font: from ``caption_font``.
    """
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = round(right - left) + 8, round(bottom - top) + 6
    x = max(0, min(corner[0], pen.im.size[0] - width - 1))
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=color)
    pen.text((x + 4 - left, y + 3 - top), text, fill=_readable_on(color), font=font)


def _readable_on(color: tuple[int, ...]) -> tuple[int, int, int]:
    # Rec. 601 luma; black letters on light tints, white on dark ones.
    luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luma > 140 else (255, 255, 255)
