"""IoU of the merged foreground in every frame, as unsupervised video segmentation reports it on SegTrackV2 and FBMS."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VOID, Kind, VideoAnnotation
from eigenseg.data.metric import Accumulator, ItemScores, mean


class ForegroundIoU(Accumulator[list[float]]):
    """Any id above 0 is foreground; only annotated frames count; void pixels (255 in the annotation) are ignored.

    A frame without foreground in both scores 1. Papers average over frames or over sequences and rarely say which, so both
    are reported.
    """

    kind: ClassVar[Kind] = "video"
    main, item_score = "sequence_iou", "iou"
    item_explanation = "IoU of the foreground, averaged over the annotated frames"

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return "one foreground"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return "IoU of the merged foreground in annotated frames, averaged over sequences and over frames"

    def update(self, name: str, prediction: NDArray[np.integer], annotation: VideoAnnotation) -> None:
        """Score one video: ``prediction`` is (T, H, W), 0 is background.

        Raises:
            ValueError: if the shapes differ.
        """
        if prediction.shape != annotation.labels.shape:
            raise ValueError(
                f"{name}: the prediction is (T, H, W) = {prediction.shape}, the annotation {annotation.labels.shape}"
            )
        valid, mine, other = annotation.labels != VOID, prediction > 0, annotation.labels > 0
        intersections, unions = ((valid & pixels).sum(axis=(1, 2)).tolist() for pixels in (mine & other, mine | other))
        self.add(name, [inter / union if union else 1.0 for inter, union in zip(intersections, unions, strict=True)])

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
        """``iou`` of every video, averaged over its frames."""
        return {name: {"iou": mean(ious)} for name, ious in self.in_order()}
