"""Values of json files: boxes as COCO writes them, numbers, and how messages quote what is neither."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

_QUOTED = 80  # characters; a box with many digits fits, a list of a thousand numbers does not


def boxes_of_xywh(boxes: Iterable[Any]) -> NDArray[np.float64]:
    """Convert the boxes of a COCO file, x, y, width and height.

    Returns:
        (n, 4) float64 xyxy.

    Raises:
        ValueError: if one is not four finite numbers, or has a negative width or height; it is quoted as it is in the file.

    Example:
        >>> boxes_of_xywh([[3, 2, 4, 1]]).tolist()
        [[3.0, 2.0, 7.0, 3.0]]
    """
    boxes = list(boxes)
    for box in boxes:
        if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(is_number(side) for side in box):
            raise ValueError(f"a bbox must have four numbers, x, y, width and height, got {quoted(box)}")
        if box[2] < 0 or box[3] < 0:
            raise ValueError(f"a bbox is x, y, width, height, and no width or height is negative, got {quoted(box)}")
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return corners


def is_number(value: Any) -> bool:
    """Whether a value of a json file is a finite number; true and false are none."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def quoted(value: Any) -> str:
    """A value as a json file holds it, for messages; a long one is cut.

    Example:
        >>> quoted(None), quoted(float("nan")), quoted([3, 2, -4, 1])
        ('null', 'NaN', '[3, 2, -4, 1]')
    """
    text = json.dumps(value, default=str)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
