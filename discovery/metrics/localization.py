"""Weakly supervised object localization: Top-1 Cls, GT-known Loc and Top-1 Loc (TokenCut section 4.3)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.checks import Compat
from eigenseg.data.datasets.base import Kind, ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, ItemScores
from eigenseg.discovery.metrics.corloc import Boxes, pairwise_iou


class Localization(Accumulator[dict[str, Any] | None]):
    """Weakly supervised localization on ImageNet and CUB-200: Top-1 Cls, GT-known Loc and Top-1 Loc, in percent.

    GT-known Loc counts images whose highest-scoring box has IoU >= threshold with an object, Top-1 Cls those whose
    highest-scoring class is correct, Top-1 Loc those where both hold. Boxes include their maxima, so widths are
    x1 - x0 + 1, as published. 1 is subtracted from the maxima of ground truth boxes; predicted boxes are used as they are,
    which makes them one pixel larger, as in TokenCut's evaluation.

    Args:
        threshold: smallest IoU that counts as a match.
        classes: whether predictions have class labels; without them only GT-known Loc is reported.
        inclusive: False treats all boxes as half-open instead.
        compat: ``"reference"`` multiplies two negative extents of an intersection to a positive area, as TokenCut's script
            does for boxes that are disjoint along both axes; None gives them IoU 0.

    Raises:
        ValueError: if a parameter is out of range, or ``compat`` is combined with half-open boxes.
    """

    kind: ClassVar[Kind] = "objects"
    main, item_score = "gt_known_loc", "iou"
    item_explanation = "IoU of the highest-scoring box with the object that it fits best"

    def __init__(
        self, threshold: float = 0.5, classes: bool = False, inclusive: bool = True, compat: Compat = None
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {threshold}")
        if compat not in (None, "reference") or (compat and not inclusive):
            raise ValueError(f"compat must be null, or 'reference' with inclusive boxes, got {compat!r}")
        self.threshold, self.classes, self.inclusive, self.compat = threshold, classes, inclusive, compat

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return "inclusive IoU" if self.inclusive else "half-open IoU"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        ends = "boxes include their maxima" if self.inclusive else "half-open boxes"
        return f"localization: highest-scoring box, IoU >= {self.threshold} with an object, {ends}"

    def update(self, name: str, prediction: Detections, annotation: ObjectAnnotation) -> None:
        """Score one image."""
        if not len(annotation):
            self.add(name, None)  # no object to localize, so the image is skipped
            return
        objects = annotation.boxes - np.array([0, 0, 1, 1]) if self.inclusive else annotation.boxes
        iou_matrix = _unclamped_iou if self.compat else pairwise_iou
        iou = float(iou_matrix(prediction.best(), objects, self.inclusive).max(initial=0.0))
        best = int(np.argmax(prediction.scores)) if len(prediction) else None
        correct = best is not None and bool((prediction.labels[best] == annotation.labels).any())
        self.add(name, {"iou": iou, "located": iou >= self.threshold, "classified": correct})

    def compute(self) -> ItemScores:
        """``gt_known_loc``, and with classes ``top1_cls`` and ``top1_loc``, in percent; ``images``."""
        records = [record for _, record in self.in_order() if record is not None]
        values: ItemScores = {"gt_known_loc": _percent([record["located"] for record in records])}
        if self.classes:
            values["top1_cls"] = _percent([record["classified"] for record in records])
            values["top1_loc"] = _percent([record["located"] and record["classified"] for record in records])
        return {**values, "images": len(records)}

    def item_scores(self) -> dict[str, ItemScores]:
        """``iou``, ``located`` and, with classes, ``classified``."""
        keys = ("iou", "located", "classified") if self.classes else ("iou", "located")
        return {
            name: {key: None if record is None else float(record[key]) for key in keys} for name, record in self.in_order()
        }


def _percent(outcomes: list[bool]) -> float | None:
    return 100 * sum(outcomes) / len(outcomes) if outcomes else None


def _unclamped_iou(boxes: Boxes, others: Boxes, inclusive: bool) -> NDArray[np.float64]:
    """``pairwise_iou`` with the published script's intersections: (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    intersection = (high - low + inclusive).prod(axis=2)
    areas, other_areas = ((corners[:, 2:] - corners[:, :2] + inclusive).prod(axis=1) for corners in (boxes, others))
    union = areas[:, None] + other_areas[None, :] - intersection
    ious: NDArray[np.float64] = np.divide(intersection, union, out=np.zeros_like(intersection), where=union != 0)
    return ious
