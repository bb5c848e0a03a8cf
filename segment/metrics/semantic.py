"""Unsupervised semantic segmentation: mean IoU after matching clusters to classes over the whole dataset."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eigenseg.data.checks import check_choice
from eigenseg.data.datasets.base import VOID, Kind
from eigenseg.data.metric import Accumulator, ItemScores, mean

Matching = Literal["hungarian", "majority", "identity"]
Counts = NDArray[np.int64]


class SemanticIoU(Accumulator[Counts]):
    """Mean IoU over classes; pixels are pooled over all images, void pixels (255) ignored.

    Args:
        classes: number of classes, background included; PASCAL VOC has 21.
        matching: ``"hungarian"`` assigns at most one cluster to each class and maximizes the sum of IoUs, ``"majority"``
            assigns each cluster to its most frequent class (several clusters may map to one class), ``"identity"``
            uses cluster ids as class ids.

    Raises:
        ValueError: if a parameter is out of range.
    """

    kind: ClassVar[Kind] = "semantic"
    main, item_score = "miou", "miou"
    item_explanation = "IoU of the classes, averaged over those of an image, with the matching of the whole dataset"

    def __init__(self, classes: int = 21, matching: Matching = "hungarian") -> None:
        super().__init__()
        if not 2 <= classes <= VOID:
            raise ValueError(f"classes must be an integer from 2 to {VOID}, got {classes}")
        check_choice("matching", matching, get_args(Matching))
        self.classes, self.matching = classes, matching

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return f"{self.matching} matching"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return f"semantic mIoU over {self.classes} classes, pixels pooled, {self.matching} matching, void ignored"

    def update(self, name: str, prediction: NDArray[np.integer], annotation: NDArray[np.integer]) -> None:
        """Score one image.

        Args:
            name: image name.
            prediction: (H, W) cluster ids from 0.
            annotation: (H, W) class ids from 0; 255 is void.

        Raises:
            ValueError: if the sizes differ or an id is out of range.
        """
        if prediction.shape != annotation.shape:
            (height, width), (rows, columns) = prediction.shape, annotation.shape
            raise ValueError(
                f"{name}: the label map has {width}x{height} pixels, the annotation {columns}x{rows}; "
                "predict in original pixels"
            )
        valid = annotation != VOID
        clusters, labels = prediction[valid].astype(np.int64), annotation[valid].astype(np.int64)
        if labels.size and labels.max() >= self.classes:
            raise ValueError(f"{name}: the annotation has class {labels.max()}, but evaluation.classes is {self.classes}")
        if clusters.size and clusters.min() < 0:
            raise ValueError(f"{name}: cluster ids must be at least 0, got {clusters.min()}")
        rows = int(clusters.max(initial=0)) + 1
        counts = np.bincount(clusters * self.classes + labels, minlength=rows * self.classes)
        self.add(name, counts.reshape(rows, self.classes))

    def compute(self) -> ItemScores:
        """``miou`` over the classes that occur, ``pixel_accuracy``, the number of ``clusters``, and ``iou_<class>``."""
        total = self._total()
        ious, correct = _class_ious(total, self.assignment())
        pixels = int(total.sum())
        values: ItemScores = {
            "miou": mean(ious),
            "pixel_accuracy": correct / pixels if pixels else None,
            "clusters": int((total.sum(axis=1) > 0).sum()),
        }
        return {**values, **{f"iou_{i}": iou for i, iou in enumerate(ious)}}

    def item_scores(self) -> dict[str, ItemScores]:
        """``miou`` of every image over its own classes, with the matching of the whole dataset."""
        assignment = self.assignment()
        scores: dict[str, ItemScores] = {}
        for name, counts in self.in_order():
            padded = np.zeros((len(assignment), self.classes), dtype=np.int64)
            padded[: len(counts)] = counts
            scores[name] = {"miou": mean(_class_ious(padded, assignment)[0])}
        return scores

    def assignment(self) -> NDArray[np.int64]:
        """Class of every cluster, -1 if unmatched: (clusters,) int64."""
        total = self._total()
        if self.matching == "majority":
            return np.where(total.sum(axis=1) > 0, total.argmax(axis=1), -1)
        if self.matching == "identity":
            ids = np.arange(len(total))
            return np.where(ids < self.classes, ids, -1)
        union = total.sum(axis=1, keepdims=True) + total.sum(axis=0, keepdims=True) - total
        rows, columns = linear_sum_assignment(total / np.maximum(union, 1), maximize=True)
        assignment = np.full(len(total), -1, dtype=np.int64)
        assignment[rows] = columns
        # A surplus cluster must not be matched to a class without annotated pixels, which would then count.
        assignment[(assignment >= 0) & (total.sum(axis=0)[assignment] == 0)] = -1
        return assignment

    def _total(self) -> Counts:
        """Contingency table of clusters and classes in pixels: (clusters, classes) int64."""
        height = max((len(counts) for counts in self.records.values()), default=1)
        total = np.zeros((height, self.classes), dtype=np.int64)
        for counts in self.records.values():
            total[: len(counts)] += counts
        return total


def _class_ious(counts: Counts, assignment: NDArray[np.int64]) -> tuple[list[float | None], int]:
    """IoU of every class, None if it is neither annotated nor predicted, and the number of correct pixels."""
    classes = counts.shape[1]
    by_class = np.zeros((classes, classes), dtype=np.int64)
    matched = assignment >= 0
    np.add.at(by_class, assignment[matched], counts[matched])
    intersections, annotated = by_class.diagonal(), counts.sum(axis=0)
    unions = by_class.sum(axis=1) + annotated - intersections
    ious = [int(inter) / int(union) if union else None for inter, union in zip(intersections, unions, strict=True)]
    return ious, int(intersections.sum())
