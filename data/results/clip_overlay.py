"""Visualizations of clips: a frame with its tracks, and a contact sheet of some frames."""

from __future__ import annotations

from collections.abc import Sequence

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
    if len(tracks.frame_names) != len(clip):
        raise ValueError(f"tracks must have the {len(clip)} frames of clip {clip.name}, got {len(tracks.frame_names)}")
    sheet = ContactSheet(clip.frame_names, clip.image_size, columns, count)
    for t in sheet.indices:
        try:
            sheet.add(t, draw_frame(clip[t], tracks, t))
        except UnreadableFrame:
            sheet.add(t, None)
    return sheet.image


class ContactSheet:
    """Drawn frames beside each other, added one by one; see ``draw_contact_sheet``.

    Attributes:
        indices: of the frames that it shows; others are ignored.
        image: (h, w, 3) uint8 RGB, white where no frame was added yet.
    """

    def __init__(self, names: Sequence[str], image_size: tuple[int, int], columns: int = 4, count: int = 12) -> None:
        if columns < 1 or count < 1:
            raise ValueError(f"columns and count must be at least 1, got {columns} and {count}")
        count = min(count, len(names))
        self.names = names
        self.indices: list[int] = np.unique(np.linspace(0, len(names) - 1, count).round().astype(int)).tolist()
        self._columns = min(columns, len(self.indices))
        height, width = image_size
        scale = min(1.0, ((_SHEET_WIDTH - _GAP) // self._columns - _GAP) / width)
        self._size = max(1, int(height * scale)), max(1, int(width * scale))
        cells = -(-len(self.indices) // self._columns), self._columns
        h, w = (cell * (side + _GAP) + _GAP for cell, side in zip(cells, self._size, strict=True))
        self.image: ImageArray = np.full((h, w, 3), 255, dtype=np.uint8)

    def add(self, t: int, drawn: ImageArray | None) -> None:
        """Add frame ``t`` as ``draw_frame`` gives it, (H, W, 3) uint8 RGB; None if it cannot be read."""
        if t not in self.indices:
            return
        row, column = divmod(self.indices.index(t), self._columns)
        y, x = _GAP + row * (self._size[0] + _GAP), _GAP + column * (self._size[1] + _GAP)
        self.image[y : y + self._size[0], x : x + self._size[1]] = self._tile(self.names[t], drawn)

    def _tile(self, name: str, drawn: ImageArray | None) -> ImageArray:
        if drawn is None:
            drawn, name = np.full((*self._size, 3), _GRAY, dtype=np.uint8), f"{name} is unreadable"
        if self._size != drawn.shape[:2]:
            drawn = cv2.resize(drawn, self._size[::-1], interpolation=cv2.INTER_AREA)
        drawing = Image.fromarray(drawn)
        # From below the lower left corner, where ids are rare.
        draw_caption(ImageDraw.Draw(drawing), name, (0, self._size[0] - 1), _DARK, caption_font(*self._size))
        return rgb_array(drawing)


def _anchor(mask: BoolArray) -> tuple[int, int]:
    """The (x, y) of the middle of a mask's highest row, where its id is written."""
    y = int(mask.any(axis=1).argmax())
    columns = np.flatnonzero(mask[y])
    return (int(columns[len(columns) // 2]), y) if len(columns) else (0, 0)
