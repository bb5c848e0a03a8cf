"""Where boxes lie in their images: what shows that they were written in another form than they are read in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.geometry import Size

# Detectors overshoot by rounding and by a few pixels of regression; a twentieth of the side is neither.
_MARGIN = 0.05
# A few wild boxes are a detector's own; of boxes in a wrong form about three in four leave their images.
_MANY = 0.25
_ONE_PIXEL = 1.0  # boxes that end in the first pixel are fractions of the sides


@dataclass
class BoxPlacement:
    """Counts of boxes over the images of a dataset whose sizes are known.

    Args:
        boxes: all of them.
        off: that lie outside their image or reach beyond it by more than a twentieth of its side.
        as_corners: whose x, y, width, height are the corners x0, y0, x1, y1 of a box inside the image.
        in_first_pixel: that end in the first pixel.

    Example:
        >>> placement = BoxPlacement()
        >>> placement.add(np.array([[60.0, 50, 140, 120]]), (80, 100))  # corners 60, 50, 80, 70 as widths
        >>> placement.notes(xywh=True)[0][:50]
        '1 of 1 boxes reach beyond their images as x, y, wi'
    """

    boxes: int = 0
    off: int = 0
    as_corners: int = 0
    in_first_pixel: int = 0

    def add(self, boxes: NDArray[np.float64], image_size: Size | None) -> None:
        """Count the boxes of one image.

        Args:
            boxes: (n, 4) xyxy in pixels.
            image_size: (H, W), or None if unknown; its boxes are not counted then.
        """
        if image_size is None or not len(boxes):
            return
        sides = np.array([image_size[1], image_size[0]], dtype=np.float64)
        low, high = boxes[:, :2], boxes[:, 2:]
        extent, margin = high - low, _MARGIN * sides
        off = ((low >= sides) | (high <= 0) | (low < -margin) | (high > sides + margin)).any(axis=1)
        corners = ((extent >= low) & (extent <= sides + 1)).all(axis=1)  # inclusive corners may end one pixel outside
        self.boxes += len(boxes)
        self.off += int(off.sum())
        self.as_corners += int(corners.sum())
        self.in_first_pixel += int((high <= _ONE_PIXEL).all(axis=1).sum())

    def merge(self, other: BoxPlacement) -> None:
        """Add the counts of other images."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def notes(self, xywh: bool = False, what: str = "boxes") -> list[str]:
        """One sentence if the boxes are hardly what they are read as, else none.

        Args:
            xywh: whether the file holds x, y, width and height, as COCO's do, and not corners.
            what: the boxes are.
        """
        form = "x, y, width, height" if xywh else "x0, y0, x1, y1"
        if self.off > _MANY * self.boxes:
            if xywh and self.as_corners == self.boxes:
                return [
                    f"{self.off} of {self.boxes} {what} reach beyond their images as {form}, and all lie inside as "
                    "x0, y0, x1, y1; COCO files hold x, y, width and height"
                ]
            return [
                f"{self.off} of {self.boxes} {what} lie outside their images or reach far beyond them; they are read as "
                f"{form} in pixels of the original image"
            ]
        if self.boxes and self.in_first_pixel == self.boxes:
            return [f"all {self.boxes} {what} end in the first pixel; they are read as {form} in pixels, not in fractions"]
        return []


@dataclass
class Placements:
    """Where the predicted and the annotated boxes of a dataset lie."""

    predicted: BoxPlacement = field(default_factory=BoxPlacement)
    annotated: BoxPlacement = field(default_factory=BoxPlacement)

    def merge(self, other: Placements) -> None:
        """Add the counts of other images."""
        self.predicted.merge(other.predicted)
        self.annotated.merge(other.annotated)
