"""Visualizations of clips: a frame with its tracks, and a contact sheet of some frames."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from eigenseg.data.clips import Clip, UnreadableFrame
from eigenseg.data.images import ImageArray, rgb_array
from eigenseg.data.results.overlay import PALETTE, caption_font, draw_caption, draw_regions
from eigenseg.data.rle import BoolArray
from eigenseg.data.tracks import Tracks

# Fills a screen, and keeps a sheet of 12 frames in a file of about half a megabyte.
_SHEET_WIDTH = 2000
_GAP = 6  # pixels between tiles
_GRAY, _DARK = (128, 128, 128), (32, 32, 32)


def draw_frame(image: ImageArray, tracks: Tracks, t: int) -> ImageArray:
    """Draw the tracks over a frame: masks with contours and ids, the highest score on top.

    A track's color follows from its id, so that it is the same in all frames.

    Args:
        image: (H, W, 3) uint8 RGB, frame ``t``.
        tracks: of the clip.
        t: index of the frame.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        ValueError: if the image has another size than the tracks.
    """
    if image.shape[:2] != tuple(tracks.image_size):
        raise ValueError(f"image must be {tracks.image_size} (H, W) pixels like the tracks, got {image.shape[:2]}")
    instances = tracks.frame(t)
    ids = [int(number) for number in instances.extras["track_id"]]
    order = instances.bottom_up()
    masks = [np.asarray(mask) for mask in instances.masks]
    canvas = draw_regions(image, masks, np.zeros((0, 4)), order, colors=[number - 1 for number in ids])
    drawing = Image.fromarray(canvas)
    pen, font = ImageDraw.Draw(drawing), caption_font(*image.shape[:2])
    for i in order:
        draw_caption(pen, str(ids[i]), _anchor(masks[i]), tuple(PALETTE[(ids[i] - 1) % len(PALETTE)].tolist()), font)
    return rgb_array(drawing)


def draw_contact_sheet(clip: Clip, tracks: Tracks, columns: int = 4, count: int = 12) -> ImageArray:
    """Draw evenly spaced frames of a clip with their tracks and names beside each other.

    Frames that cannot be read are gray. The first and the last frame are among them, unless ``count`` is 1.

    Args:
        clip: T frames (H, W).
        tracks: of the clip.
        columns: frames in a row.
        count: frames in all, at most; all frames of a shorter clip.

    Returns:
        (h, w, 3) uint8 RGB, w at most 2000.

    Raises:
        ValueError: if the tracks have another number of frames or size than the clip, or an argument is below 1.
    """
    if columns < 1 or count < 1:
        raise ValueError(f"columns and count must be at least 1, got {columns} and {count}")
    if len(tracks.frame_names) != len(clip):
        raise ValueError(f"tracks must have the {len(clip)} frames of clip {clip.name}, got {len(tracks.frame_names)}")
    indices = np.unique(np.linspace(0, len(clip) - 1, min(count, len(clip))).round().astype(int)).tolist()
    columns = min(columns, len(indices))
    height, width = clip.image_size
    scale = min(1.0, ((_SHEET_WIDTH - _GAP) // columns - _GAP) / width)
    size = max(1, int(height * scale)), max(1, int(width * scale))
    rows = -(-len(indices) // columns)
    sheet = np.full((rows * (size[0] + _GAP) + _GAP, columns * (size[1] + _GAP) + _GAP, 3), 255, dtype=np.uint8)
    for number, t in enumerate(indices):
        y = _GAP + number // columns * (size[0] + _GAP)
        x = _GAP + number % columns * (size[1] + _GAP)
        sheet[y : y + size[0], x : x + size[1]] = _tile(clip, tracks, t, size)
    return sheet


def _tile(clip: Clip, tracks: Tracks, t: int, size: tuple[int, int]) -> ImageArray:
    name = clip.frame_names[t]
    try:
        image = draw_frame(clip[t], tracks, t)
    except UnreadableFrame:
        image, name = np.full((*clip.image_size, 3), _GRAY, dtype=np.uint8), f"{name} is unreadable"
    if size != image.shape[:2]:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    drawing = Image.fromarray(image)
    # From below the lower left corner, where ids are rare.
    draw_caption(ImageDraw.Draw(drawing), name, (0, size[0] - 1), _DARK, caption_font(*size))
    return rgb_array(drawing)


def _anchor(mask: BoolArray) -> tuple[int, int]:
    """The (x, y) of the middle of a mask's highest row, where its id is written."""
    y = int(mask.any(axis=1).argmax())
    columns = np.flatnonzero(mask[y])
    return (int(columns[len(columns) // 2]), y) if len(columns) else (0, 0)
