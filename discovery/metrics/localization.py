"""Weakly supervised object localization: Top-1 Cls, GT-known Loc and Top-1 Loc (TokenCut section 4.3)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Kind, ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, ItemScores
from eigenseg.discovery.metrics.corloc import Boxes, pairwise_iou

Compat = Literal["reference"] | None


class Localization(Accumulator[dict[str, Any] | None]):
    """Weakly supervised localization on ImageNet and CUB-200: Top-1 Cls, GT-known Loc and Top-1 Loc, in percent.

    GT-known Loc counts images whose box of the highest score has IoU >= threshold with an object, Top-1 Cls those whose
    class of the highest score is right, Top-1 Loc those where both hold. Widths and heights count both ends (x1 - x0 + 1),
    as published; object boxes are brought to that form by taking 1 off their maxima, predicted ones are taken as they are,
    which gives them a pixel more, as in TokenCut's evaluation.

    Args:
        threshold: of the IoU, inclusive.
        classes: whether the predictions carry classes; without them only GT-known Loc is reported.
        inclusive: False measures half-open boxes instead.
        compat: ``"reference"`` multiplies two negative extents of an intersection to a positive area, as TokenCut's script
            does for boxes that lie apart in both directions; None gives them 0.

    Raises:
        ValueError: if a parameter is out of range, or ``compat`` is asked for half-open boxes.
    """

    kind: ClassVar[Kind] = "objects"
    main, item_score = "gt_known_loc", "iou"

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
        """What is printed beside every number."""
        return "inclusive IoU" if self.inclusive else "half-open IoU"

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        ends = "both ends counted" if self.inclusive else "half-open boxes"
        return f"localization: the box of the highest score, IoU >= {self.threshold} with an object, {ends}"

    def update(self, name: str, prediction: Detections, annotation: ObjectAnnotation) -> None:
        """Score one image."""
        if not len(annotation):
            self.add(name, None)  # there is nothing to locate, so the image is left out
            return
        objects = annotation.boxes - np.array([0, 0, 1, 1]) if self.inclusive else annotation.boxes
        measure = _unclamped_iou if self.compat else pairwise_iou
        iou = float(measure(prediction.best(), objects, self.inclusive).max(initial=0.0))
        best = int(np.argmax(prediction.scores)) if len(prediction) else None
        right = best is not None and bool((prediction.labels[best] == annotation.labels).any())
        self.add(name, {"iou": iou, "located": iou >= self.threshold, "classified": right})

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
        kept = ("iou", "located", "classified") if self.classes else ("iou", "located")
        return {
            name: {key: None if record is None else float(record[key]) for key in kept} for name, record in self.in_order()
        }


def _percent(hits: list[bool]) -> float | None:
    return 100 * sum(hits) / len(hits) if hits else None


def _unclamped_iou(boxes: Boxes, others: Boxes, inclusive: bool) -> NDArray[np.float64]:
    """As ``pairwise_iou``, with the published script's intersections: (n, m)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (high - low + inclusive).prod(axis=2)
    areas, other_areas = ((corners[:, 2:] - corners[:, :2] + inclusive).prod(axis=1) for corners in (boxes, others))
    union = areas[:, None] + other_areas[None, :] - shared
    ious: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)
    return ious
