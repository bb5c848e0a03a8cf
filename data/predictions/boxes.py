"""Boxes by name: ``{"000005.jpg": [x0, y0, x1, y1], ...}``, one file for a whole dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from eigenseg.data.datasets.base import ObjectAnnotation, as_boxes
from eigenseg.data.detections import Detections
from eigenseg.data.json_values import is_number, quoted
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
        entry: Any = self._entries[key]
        try:
            if isinstance(entry, dict):
                for name in ("boxes", "scores"):
                    if name not in entry:
                        raise ValueError(f'it has no "{name}"; an entry is one box, a list of boxes, or {FORM}')
                for i, score in enumerate(entry["scores"], start=1):
                    if not is_number(score):
                        raise ValueError(
                            f"score {i} of {len(entry['scores'])} is {quoted(score)}; a score is a finite number"
                        )
                labels: Any = entry.get("labels")
                return Detections(entry["boxes"], entry["scores"], labels)
            boxes = as_boxes([entry] if entry and not isinstance(entry[0], list) else entry)
            return Detections(boxes, 1 / np.arange(1, len(boxes) + 1))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._source}: {key}: {error}") from None

    def _key(self, item: str) -> str | None:
        return item if item in self._entries else self._by_stem.get(stem(item))
