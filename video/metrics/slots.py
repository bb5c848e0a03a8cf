"""Metrics of object-centric learning: FG-ARI, mBO and Hungarian mIoU of single frames and of whole videos (tubes).

FG-ARI is the adjusted Rand index (Hubert and Arabie, 1985) over pixels of annotated objects only. mBO averages, over
objects, the best IoU with any predicted segment, so one segment may match several objects; in Hungarian mIoU it matches at
most one. Every id of a predicted label map is a segment, 0 included: slots have no background.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eigenseg.data.datasets.base import VOID, Kind, ObjectAnnotation, VideoAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Accumulator, ItemScores, mean

Counts = NDArray[np.int64]
_NAMES = ("fg_ari", "mbo", "miou")


class SampleScores(NamedTuple):
    """Scores of one frame or one tube; None without an annotated object."""

    fg_ari: float | None
    mbo: float | None
    miou: float | None


class VideoSlots(NamedTuple):
    """Scores of a video as one tube, and of each of its frames."""

    tube: SampleScores
    frames: list[SampleScores]


class SlotScores(Accumulator[VideoSlots]):
    """FG-ARI, mBO and Hungarian mIoU of videos.

    Video scores treat a whole video as one sample, so identity switches lower them; image scores treat every frame as one.
    Samples without an object are skipped, void pixels (255 in the annotation) are ignored.
    """

    kind: ClassVar[Kind] = "video"
    main, item_score = "video_fg_ari", "video_fg_ari"
    item_explanation = "adjusted Rand index over the pixels of annotated objects, over the whole video"

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return "tubes and frames"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return "object-centric: FG-ARI over object pixels, mBO and Hungarian mIoU over objects; video: tubes, image: frames"

    def update(self, name: str, prediction: NDArray[np.integer], annotation: VideoAnnotation) -> None:
        """Score one video.

        Args:
            name: video name.
            prediction: (T, H, W) segment ids from 0.
            annotation: annotated frames.

        Raises:
            ValueError: if the shapes differ or an id is negative.
        """
        if prediction.shape != annotation.labels.shape:
            raise ValueError(
                f"{name}: the prediction is (T, H, W) = {prediction.shape}, the annotation {annotation.labels.shape}"
            )
        if prediction.min(initial=0) < 0:
            raise ValueError(f"{name}: segment ids must be at least 0, got {prediction.min()}")
        frames = [contingency(p, t) for p, t in zip(prediction, annotation.labels, strict=True)]
        self.add(name, VideoSlots(score_counts(_add(frames)), [score_counts(counts) for counts in frames]))

    def compute(self) -> ItemScores:
        """``video_`` and ``image_`` with ``fg_ari``, ``mbo``, ``miou``, all in [0, 1] but ARI, which may be negative."""
        tubes = [record.tube for _, record in self.in_order()]
        frames = [frame for _, record in self.in_order() for frame in record.frames]
        return {**_means(tubes, "video"), **_means(frames, "image"), "videos": len(tubes)}

    def item_scores(self) -> dict[str, ItemScores]:
        """The same metrics of every video."""
        return {
            name: {**_means([record.tube], "video"), **_means(record.frames, "image")} for name, record in self.in_order()
        }


class ImageSlotScores(Accumulator[SampleScores]):
    """FG-ARI, mBO and Hungarian mIoU of single images with instance masks.

    Predicted masks become a label map, higher scores on top; 0 is uncovered. Pixels of crowd regions and of overlapping
    annotated masks are ignored.
    """

    kind: ClassVar[Kind] = "objects"
    main, item_score = "image_fg_ari", "image_fg_ari"
    item_explanation = "adjusted Rand index over the pixels of annotated objects"

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return "images"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return "object-centric: FG-ARI over object pixels, mBO and Hungarian mIoU over objects; no overlap or crowd pixels"

    def update(self, name: str, prediction: Detections, annotation: ObjectAnnotation) -> None:
        """Score one image.

        Raises:
            ValueError: if masks are missing or their sizes differ.
        """
        try:
            prediction.check_masks()
        except ValueError as error:
            raise ValueError(f"{name}: masks are required, but {error}") from None
        if (annotation.masks is None and len(annotation)) or annotation.image_size is None:
            raise ValueError(f"{name}: masks are required, but there are only boxes")
        for masks in (prediction.masks, annotation.masks):
            if masks is not None and masks.shape[1:] != annotation.image_size:
                raise ValueError(f"{name}: masks must have the image's size {annotation.image_size}, got {masks.shape[1:]}")
        objects, depth = np.zeros(annotation.image_size, dtype=np.int32), np.zeros(annotation.image_size, dtype=np.int32)
        crowd = np.zeros(annotation.image_size, dtype=bool)
        for i in range(len(annotation)):
            assert annotation.masks is not None
            mask = annotation.masks[i]
            if annotation.crowd[i]:
                crowd |= mask
            else:
                objects[mask] = i + 1
                depth += mask
        segments = np.zeros(annotation.image_size, dtype=np.int32)
        for i in np.argsort(-prediction.scores, kind="stable")[::-1]:
            assert prediction.masks is not None
            segments[prediction.masks[int(i)]] = i + 1
        valid = ~crowd & (depth <= 1)
        self.add(name, score_counts(contingency(segments[valid], objects[valid], void=None)))

    def compute(self) -> ItemScores:
        """``image_fg_ari``, ``image_mbo``, ``image_miou``, ``images``."""
        samples = [record for _, record in self.in_order()]
        return {**_means(samples, "image"), "images": len(samples)}

    def item_scores(self) -> dict[str, ItemScores]:
        """The same metrics of every image."""
        return {name: _means([record], "image") for name, record in self.in_order()}


def contingency(prediction: NDArray[np.integer], annotation: NDArray[np.integer], void: int | None = VOID) -> Counts:
    """Contingency table in pixels of predicted segments and annotated objects.

    Args:
        prediction, annotation: label maps of equal shape, with ids from 0.
        void: annotation id to ignore, or None.

    Returns:
        (segments, objects + 1) int64; column 0 is the background.
    """
    segments, objects = prediction.astype(np.int64).ravel(), annotation.astype(np.int64).ravel()
    if void is not None:
        segments, objects = segments[objects != void], objects[objects != void]
    columns, rows = int(objects.max(initial=0)) + 1, int(segments.max(initial=0)) + 1
    counts = np.bincount(segments * columns + objects, minlength=rows * columns)
    return counts.reshape(rows, columns)


def score_counts(counts: Counts) -> SampleScores:
    """All three metrics of one sample.

    Args:
        counts: (segments, objects + 1), from ``contingency``.
    """
    present = np.flatnonzero(counts[:, 1:].sum(axis=0)) + 1
    if not present.size:
        return SampleScores(None, None, None)
    intersection = counts[:, present]
    union = counts.sum(axis=1, keepdims=True) + intersection.sum(axis=0, keepdims=True) - intersection
    ious = intersection / np.maximum(union, 1)
    rows, columns = linear_sum_assignment(ious, maximize=True)
    return SampleScores(
        adjusted_rand_index(intersection), float(ious.max(axis=0).mean()), float(ious[rows, columns].sum() / present.size)
    )


def adjusted_rand_index(counts: Counts) -> float:
    """ARI of two partitions from their contingency table (n, m); 1 if both are trivial in the same way.

    With pairs(x) = x (x - 1) / 2: (sum pairs(n_ij) - E) / ((sum pairs(a_i) + sum pairs(b_j)) / 2 - E), where
    E = sum pairs(a_i) * sum pairs(b_j) / pairs(n).
    """

    def pairs(values: Counts) -> float:
        # float64, because the product of two sums of pairs would overflow int64 on a long video.
        sizes = values.astype(np.float64)
        return float((sizes * (sizes - 1) / 2).sum())

    total = pairs(counts.sum(keepdims=True))
    first, second = pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = first * second / total if total else 0.0
    denominator = (first + second) / 2 - expected
    return (pairs(counts) - expected) / denominator if denominator else 1.0


def _means(samples: list[SampleScores], prefix: str) -> ItemScores:
    return {f"{prefix}_{name}": mean([sample[i] for sample in samples]) for i, name in enumerate(_NAMES)}


def _add(tables: list[Counts]) -> Counts:
    rows, columns = (max(table.shape[axis] for table in tables) for axis in (0, 1))
    total = np.zeros((rows, columns), dtype=np.int64)
    for table in tables:
        total[: table.shape[0], : table.shape[1]] += table
    return total
