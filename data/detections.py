"""Predicted objects of one image, as evaluation takes them: boxes and scores, with masks or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import as_boxes
from eigenseg.data.instances import Instances
from eigenseg.data.rle import RleMasks, encode_masks


@dataclass(frozen=True)
class Detections:
    """Predicted objects of one image.

    Unlike ``Instances`` they may lack masks, and scores outside [0, 1] and boxes outside the image are allowed: result
    files of other programs are scored unchanged.

    Args:
        boxes: (n, 4) float64 xyxy half-open in pixels.
        scores: (n,) float64, higher is more confident.
        labels: (n,) int64 indices into the dataset's classes; all 0 if not given.
        masks: n masks, or None.
        unmasked: how many have no mask where others have one; ``masks`` is None then, and boxes can be scored.

    Raises:
        ValueError: if lengths differ or a number is not finite.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64] = None  # type: ignore[assignment]  # zeros are filled in
    masks: RleMasks | None = None
    unmasked: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "boxes", as_boxes(self.boxes))
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        labels: Any = self.labels
        labels = np.zeros(len(self.boxes)) if labels is None else labels
        object.__setattr__(self, "labels", np.asarray(labels, dtype=np.int64))
        for name in ("scores", "labels", "masks"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.boxes):
                raise ValueError(f"{name} has {len(values)} entries for {len(self.boxes)} boxes")
        finite = np.isfinite(self.scores)
        if not finite.all():
            first = int(np.argmin(finite))
            raise ValueError(
                f"scores must be finite numbers, got {self.scores[first]} as number {first + 1} of {len(self.scores)}"
            )

    @classmethod
    def from_instances(cls, instances: Instances) -> Detections:
        """Convert the result of a method."""
        masks = instances.masks
        if isinstance(masks, np.ndarray):
            masks = RleMasks(encode_masks(masks), instances.image_size, checked=True)
        return cls(instances.boxes.astype(np.float64), instances.scores.astype(np.float64), instances.labels, masks)

    @classmethod
    def none(cls) -> Detections:
        """No detection."""
        return cls(np.zeros((0, 4)), np.zeros(0))

    def __len__(self) -> int:
        return len(self.boxes)

    def check_masks(self) -> None:
        """Raise if there are detections and not all of them have masks.

        Raises:
            ValueError: counting those without.
        """
        if self.masks is not None or not len(self):
            return
        if self.unmasked:
            raise ValueError(
                f"{self.unmasked} of {len(self)} predictions have no mask, the others have one; complete the file"
            )
        raise ValueError("the prediction has no masks")

    def best(self) -> NDArray[np.float64]:
        """The box of the highest score, the first of equals: (1, 4), or (0, 4) if there is no detection."""
        return self.boxes[[int(np.argmax(self.scores))]] if len(self) else self.boxes
