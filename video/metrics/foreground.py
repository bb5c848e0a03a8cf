"""IoU of the union foreground, frame by frame: SegTrackV2 and FBMS as unsupervised video segmentation reports them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VOID, Kind, VideoAnnotation
from eigenseg.data.metric import Accumulator, ItemScores, mean


class ForegroundIoU(Accumulator[list[float]]):
    """Any number above 0 is foreground; annotated frames only; void pixels (255 in the annotation) are left out.

    A frame in which neither has foreground scores 1. Papers average over all frames or over sequences and seldom say which,
    so both are reported.
    """

    kind: ClassVar[Kind] = "video"
    main, item_score = "sequence_iou", "iou"

    @property
    def tag(self) -> str:
        """What is printed beside every number."""
        return "one foreground"

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        return "IoU of the union foreground in every annotated frame, averaged over sequences and over frames"

    def update(self, name: str, prediction: NDArray[np.integer], annotation: VideoAnnotation) -> None:
        """Score one video: ``prediction`` is (T, H, W), 0 is background.

        Raises:
            ValueError: if the shapes differ.
        """
        if prediction.shape != annotation.labels.shape:
            raise ValueError(
                f"{name}: the prediction is (T, H, W) = {prediction.shape}, the annotation {annotation.labels.shape}"
            )
        known, found, wanted = annotation.labels != VOID, prediction > 0, annotation.labels > 0
        shared, union = ((known & pixels).sum(axis=(1, 2)).tolist() for pixels in (found & wanted, found | wanted))
        self.add(name, [hit / area if area else 1.0 for hit, area in zip(shared, union, strict=True)])

    def compute(self) -> ItemScores:
        """``sequence_iou``, ``frame_iou``, ``frames``, ``videos``."""
        videos = [ious for _, ious in self.in_order()]
        frames = [iou for ious in videos for iou in ious]
        return {
            "sequence_iou": mean(mean(ious) for ious in videos),
            "frame_iou": mean(frames),
            "frames": len(frames),
            "videos": len(videos),
        }

    def item_scores(self) -> dict[str, ItemScores]:
        """``iou`` of every video, mean over its frames."""
        return {name: {"iou": mean(ious)} for name, ious in self.in_order()}
