"""Boxes by name: ``{"000005.jpg": [x0, y0, x1, y1], ...}``, one file for a whole dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from eigenseg.data.datasets.base import ObjectAnnotation, as_boxes
from eigenseg.data.detections import Detections
from eigenseg.data.json_files import check_shape
from eigenseg.data.json_shapes import Box, ScoredBoxes
from eigenseg.data.predictions.base import stem, without

FORM = '{"boxes": [...], "scores": [...]}'


class BoxPredictions:
    """One or several boxes per image, xyxy half-open in original pixels.

    An entry is one box ``[x0, y0, x1, y1]`` (without a score), a list of boxes, the best one first, or
    ``{"boxes": [...], "scores": [...], "labels": [...]}`` with ``labels`` optional. An image that is not in the file, or
    has an empty list, has no prediction.

    Args:
        entries: the file's content.
        source: the file's name, for messages.

    Raises:
        ValueError: if two names differ in their suffix only.
    """

    def __init__(self, entries: Mapping[str, Any], source: str = "predictions") -> None:
        self._source, self._entries = source, entries
        self._by_stem = {stem(name): name for name in entries}
        if len(self._by_stem) < len(entries):
            raise ValueError(f"{source}: two names differ in their suffix only; keep one of them")

    def names(self) -> Iterable[str]:
        """Names in the file."""
        return self._entries

    def lacks(self, item: str) -> bool:
        """Whether the file does not mention an item."""
        return self._key(item) is None

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Names in the file that match no item."""
        return without(self._entries, items)

    def read(self, item: str, annotation: ObjectAnnotation) -> Detections:
        """The boxes of an image; a list without scores gets 1, 1/2, 1/3 ..., so that its order is kept."""
        key = self._key(item)
        if key is None:
            return Detections.none()
        try:
            return _read(self._entries[key])
        except ValueError as error:
            raise ValueError(f"{self._source}: {key}: {error}") from None

    def _key(self, item: str) -> str | None:
        return item if item in self._entries else self._by_stem.get(stem(item))


def _read(entry: Any) -> Detections:
    if isinstance(entry, dict):
        scored = check_shape(entry, ScoredBoxes, "this", "an object with boxes and scores")
        labels: Any = scored.get("labels")
        return Detections(as_boxes(scored["boxes"]), np.array(scored["scores"], dtype=np.float64), labels)
    if not isinstance(entry, list):
        raise ValueError(f"it must be a list of boxes, or an object with boxes and scores, got {entry!r}")
    single = bool(entry) and not isinstance(entry[0], list)
    boxes = as_boxes(check_shape([entry] if single else entry, list[Box], "this", "a box or a list of boxes"))
    return Detections(boxes, 1 / np.arange(1, len(boxes) + 1))
