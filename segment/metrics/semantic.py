"""Semantic segmentation without labels: clusters are matched to classes over the whole dataset, then mean IoU."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eigenseg.data.datasets.base import VOID, Kind
from eigenseg.data.metric import Accumulator, ItemScores, mean

Matching = Literal["hungarian", "majority", "identity"]
Counts = NDArray[np.int64]


class SemanticIoU(Accumulator[Counts]):
    """Mean IoU over classes, all pixels of all images pooled, void (255) left out.

    Args:
        classes: number of classes, background included; PASCAL VOC has 21.
        matching: ``"hungarian"`` gives every class at most one cluster so that the sum of IoUs is largest, ``"majority"``
            gives every cluster the class that most of its pixels have (several clusters may share one), ``"identity"``
            takes cluster numbers as class numbers.

    Raises:
        ValueError: if a parameter is out of range.
    """

    kind: ClassVar[Kind] = "semantic"
    main, item_score = "miou", "miou"

    def __init__(self, classes: int = 21, matching: Matching = "hungarian") -> None:
        super().__init__()
        if not 2 <= classes <= VOID:
            raise ValueError(f"classes must be a number from 2 to {VOID}, got {classes}")
        if matching not in get_args(Matching):
            raise ValueError(f"matching must be one of {', '.join(get_args(Matching))}, got {matching!r}")
        self.classes, self.matching = classes, matching

    @property
    def tag(self) -> str:
        """What is printed beside every number."""
        return f"{self.matching} matching"

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        return f"semantic mIoU over {self.classes} classes, pixels pooled, {self.matching} matching, void ignored"

    def update(self, name: str, prediction: NDArray[np.integer], annotation: NDArray[np.integer]) -> None:
        """Score one image.

        Args:
            name: of the image.
            prediction: (H, W) clusters from 0.
            annotation: (H, W) classes from 0, 255 void.

        Raises:
            ValueError: if the sizes differ or a number is out of range.
        """
        if prediction.shape != annotation.shape:
            (height, width), (rows, columns) = prediction.shape, annotation.shape
            raise ValueError(
                f"{name}: the label map has {width}x{height} pixels, the annotation {columns}x{rows}; "
                "predict in original pixels"
            )
        known = annotation != VOID
        clusters, wanted = prediction[known].astype(np.int64), annotation[known].astype(np.int64)
        if wanted.size and wanted.max() >= self.classes:
            raise ValueError(
                f"{name}: the annotation has class {wanted.max()}, evaluation.classes={self.classes} allows fewer"
            )
        if clusters.size and clusters.min() < 0:
            raise ValueError(f"{name}: clusters are numbered from 0, got {clusters.min()}")
        rows = int(clusters.max(initial=0)) + 1
        counts = np.bincount(clusters * self.classes + wanted, minlength=rows * self.classes)
        self.add(name, counts.reshape(rows, self.classes))

    def compute(self) -> ItemScores:
        """``miou`` over the classes that occur, ``pixel_accuracy``, ``clusters`` (their number), and ``iou_<class>``."""
        total = self._total()
        ious, right = _class_ious(total, self.assignment())
        pixels = int(total.sum())
        values: ItemScores = {
            "miou": mean(ious),
            "pixel_accuracy": right / pixels if pixels else None,
            "clusters": int((total.sum(axis=1) > 0).sum()),
        }
        return {**values, **{f"iou_{i}": iou for i, iou in enumerate(ious)}}

    def item_scores(self) -> dict[str, ItemScores]:
        """``miou`` over the classes in an image, with the dataset's matching."""
        assignment = self.assignment()
        scores: dict[str, ItemScores] = {}
        for name, counts in self.in_order():
            padded = np.zeros((len(assignment), self.classes), dtype=np.int64)
            padded[: len(counts)] = counts
            scores[name] = {"miou": mean(_class_ious(padded, assignment)[0])}
        return scores

    def assignment(self) -> NDArray[np.int64]:
        """The class of every cluster, -1 where it has none: (clusters,) int64."""
        total = self._total()
        if self.matching == "majority":
            return np.where(total.sum(axis=1) > 0, total.argmax(axis=1), -1)
        if self.matching == "identity":
            numbers = np.arange(len(total))
            return np.where(numbers < self.classes, numbers, -1)
        union = total.sum(axis=1, keepdims=True) + total.sum(axis=0, keepdims=True) - total
        rows, columns = linear_sum_assignment(total / np.maximum(union, 1), maximize=True)
        assignment = np.full(len(total), -1, dtype=np.int64)
        assignment[rows] = columns
        # A spare cluster must not make a class count that the annotation does not have.
        assignment[(assignment >= 0) & (total.sum(axis=0)[assignment] == 0)] = -1
        return assignment

    def _total(self) -> Counts:
        """Pixels by cluster and class: (clusters, classes) int64."""
        height = max((len(counts) for counts in self.records.values()), default=1)
        total = np.zeros((height, self.classes), dtype=np.int64)
        for counts in self.records.values():
            total[: len(counts)] += counts
        return total


def _class_ious(counts: Counts, assignment: NDArray[np.int64]) -> tuple[list[float | None], int]:
    """IoU of every class, None where it neither occurs nor is predicted, and the number of right pixels."""
    classes = counts.shape[1]
    by_class = np.zeros((classes, classes), dtype=np.int64)
    given = assignment >= 0
    np.add.at(by_class, assignment[given], counts[given])
    right, wanted = by_class.diagonal(), counts.sum(axis=0)
    union = by_class.sum(axis=1) + wanted - right
    ious = [int(hit) / int(area) if area else None for hit, area in zip(right, union, strict=True)]
    return ious, int(right.sum())
