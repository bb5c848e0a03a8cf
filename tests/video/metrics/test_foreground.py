"""IoU of the merged foreground equals a loop over pixels, with both averages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from eigenseg.data.datasets import VideoAnnotation
from eigenseg.video.metrics import ForegroundIoU

labels = arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 0, 1, 2, 255]))


def annotation(maps: np.ndarray) -> VideoAnnotation:
    return VideoAnnotation(tuple(str(i) for i in range(len(maps))), maps)


@given(labels, labels)
def test_iou_of_a_frame_equals_a_loop_over_its_pixels(predicted: np.ndarray, annotated: np.ndarray) -> None:
    metric, ious = ForegroundIoU(), []
    metric.update("v", predicted.astype(np.int32), annotation(annotated))
    for mine, other in zip(predicted, annotated, strict=True):
        intersection = union = 0
        for a, b in zip(mine.ravel().tolist(), other.ravel().tolist(), strict=True):
            if b != 255:
                intersection += a > 0 and b > 0
                union += a > 0 or b > 0
        ious.append(intersection / union if union else 1.0)
    assert metric.compute()["frame_iou"] == pytest.approx(np.mean(ious), abs=1e-12)


def test_sequence_iou_weighs_sequences_equally_and_frame_iou_by_their_length() -> None:
    metric, full = ForegroundIoU(), np.ones((3, 2, 2), dtype=np.uint8)
    metric.update("long", full.astype(np.int32), annotation(full))
    metric.update("short", np.zeros((1, 2, 2), dtype=np.int32), annotation(full[:1]))
    assert metric.compute() == {"sequence_iou": 0.5, "frame_iou": 0.75, "frames": 4, "videos": 2}
    assert metric.item_scores() == {"long": {"iou": 1.0}, "short": {"iou": 0.0}}


def test_a_shape_mismatch_raises_with_the_name_of_the_video() -> None:
    with pytest.raises(ValueError, match=r"dog: the prediction is \(T, H, W\) = \(2, 2, 2\), the annotation \(1, 2, 2\)"):
        ForegroundIoU().update("dog", np.zeros((2, 2, 2), dtype=np.int32), annotation(np.ones((1, 2, 2), dtype=np.uint8)))
