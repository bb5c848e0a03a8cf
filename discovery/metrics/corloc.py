"""CorLoc: the percentage of images in which one predicted box localizes an object (LOST, TokenCut and successors)."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from eigenseg.data.checks import check_choice
from eigenseg.data.datasets.base import Kind, ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, ItemScores, mean

Hard = Literal["keep", "no_difficult", "no_hard"]
Boxes = NDArray[np.float64]


def pairwise_iou(boxes: Boxes, others: Boxes, inclusive: bool = False) -> NDArray[np.float64]:
    """Intersection over union of every pair.

    Args:
        boxes: (n, 4) xyxy in pixels.
        others: (m, 4) xyxy in pixels.
        inclusive: whether boxes include their maxima: widths and heights are then x1 - x0 + 1 and y1 - y0 + 1.

    Returns:
        (n, m) float64; 0 if both boxes have zero area.
    """
    grow = np.array([0, 0, 1, 1]) if inclusive else np.zeros(4)
    ious: NDArray[np.float64] = box_iou(torch.from_numpy(boxes + grow), torch.from_numpy(others + grow)).numpy()
    return np.nan_to_num(ious)  # torchvision divides 0 by 0 if both boxes have zero area


class CorLoc(Accumulator[float | None]):
    """Percentage of images whose highest-scoring box has IoU >= threshold with any object of any class.

    The published protocol (Vo et al., ECCV 2020; LOST section 4.1; TokenCut section 4.1): objects are half-open boxes in
    continuous coordinates, difficult and truncated ones count, crowd regions do not. An image without a prediction
    is a miss; an image without an object that counts is skipped.

    Args:
        threshold: smallest IoU that counts as a match.
        hard: which objects count: ``"keep"`` all (published), ``"no_difficult"`` all but difficult ones, ``"no_hard"`` all
            but difficult and truncated ones.
        round_boxes: round the corners of the annotated boxes to integers, halves to even, as published for COCO20k.

    Raises:
        ValueError: if a parameter is out of range.
    """

    kind: ClassVar[Kind] = "objects"
    main, item_score = "corloc", "iou"
    item_explanation = "IoU of the highest-scoring box with the object that it fits best"

    def __init__(self, threshold: float = 0.5, hard: Hard = "keep", round_boxes: bool = False) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {threshold}")
        check_choice("hard", hard, get_args(Hard))
        self.threshold, self.hard, self.round_boxes = threshold, hard, round_boxes

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return {"keep": "all objects", "no_difficult": "no difficult", "no_hard": "no difficult or truncated"}[self.hard]

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        but = {"keep": "", "no_difficult": " that is not difficult", "no_hard": " that is neither difficult nor truncated"}
        rounded = ", corners rounded" if self.round_boxes else ""
        return f"CorLoc: highest-scoring box, IoU >= {self.threshold} with any object{but[self.hard]}{rounded}"

    def update(self, name: str, prediction: Detections, annotation: ObjectAnnotation) -> None:
        """Score one image."""
        ignored = annotation.crowd.copy()
        if self.hard != "keep":
            ignored |= annotation.difficult
        if self.hard == "no_hard":
            ignored |= annotation.truncated
        objects = annotation.boxes[~ignored]
        objects = np.rint(objects) if self.round_boxes else objects
        self.add(name, float(pairwise_iou(prediction.best(), objects).max(initial=0.0)) if len(objects) else None)

    def compute(self) -> ItemScores:
        """``corloc`` in percent, ``hits``, ``images``, and the mean IoU of the predicted boxes, ``mean_best_iou``."""
        ious = [iou for _, iou in self.in_order() if iou is not None]
        correct = sum(iou >= self.threshold for iou in ious)
        corloc = 100 * correct / len(ious) if ious else None
        return {"corloc": corloc, "hits": correct, "images": len(ious), "mean_best_iou": mean(ious)}

    def item_scores(self) -> dict[str, ItemScores]:
        """``iou`` with the best matching object, and ``hit``; None for an image that is skipped."""
        return {
            name: {"iou": iou, "hit": None if iou is None else float(iou >= self.threshold)}
            for name, iou in self.in_order()
        }
