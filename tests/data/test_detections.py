"""Predicted objects are complete and finite, and the best one is the first of the highest score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from metric_samples import rle_masks

from eigenseg.data.detections import Detections

TWO = np.array([[0.0, 0, 4, 4], [1, 1, 3, 5]])


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_rejected_with_its_value(score: float) -> None:
    with pytest.raises(ValueError, match=r"scores must be finite numbers, got -?(nan|inf) as number 2 of 2$"):
        Detections(TWO, np.array([0.5, score]))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_the_best_box_is_the_first_with_the_highest_score(scores: list[int]) -> None:
    boxes = np.array([[i, 0, i + 1, 1] for i in range(len(scores))], dtype=np.float64)
    best = next(i for i, score in enumerate(scores) if all(score >= other for other in scores))
    np.testing.assert_array_equal(Detections(boxes, np.array(scores, dtype=np.float64)).best(), boxes[[best]])


def test_without_detections_there_is_no_best_box() -> None:
    nothing = Detections.none()
    assert (len(nothing), nothing.best().shape, nothing.boxes.dtype) == (0, (0, 4), np.float64)


def test_an_empty_list_of_boxes_has_no_detections() -> None:
    empty: Any = []
    assert Detections(empty, empty, empty).best().shape == (0, 4)


def test_without_labels_everything_has_class_0() -> None:
    np.testing.assert_array_equal(Detections(TWO, np.ones(2)).labels, [0, 0])
    np.testing.assert_array_equal(Detections(TWO, np.ones(2), np.array([3, 1])).labels, [3, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones(3)}, "scores has 3 entries for 2 boxes"),
        ({"labels": np.ones(1, dtype=np.int64)}, "labels has 1 entries for 2 boxes"),
        ({"masks": rle_masks(np.ones((3, 5, 5), dtype=bool))}, "masks has 3 entries for 2 boxes"),
        ({"boxes": np.ones((2, 5))}, r"boxes must be \(n, 4\) xyxy, got shape \(2, 5\)"),
        ({"boxes": np.array([[0.0, 0, 1, 1], [3, 0, 2, 1]])}, r"x0 <= x1 and y0 <= y1, got \[3\.0, 0\.0, 2\.0, 1\.0\]"),
        ({"boxes": np.array([[0.0, 4, 1, 1], [3, 0, 4, 1]])}, r"x0 <= x1 and y0 <= y1, got \[0\.0, 4\.0, 1\.0, 1\.0\]"),
        (
            {"boxes": np.array([[0.0, 0, 1, np.nan], [3, 0, 4, 1]])},
            r"must be finite xyxy .*, got \[0\.0, 0\.0, 1\.0, nan\]",
        ),
    ],
)
def test_inconsistent_fields_are_rejected_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(**({"boxes": TWO, "scores": np.ones(2)} | change))


def test_scores_below_0_and_boxes_outside_the_image_are_kept_unchanged() -> None:
    boxes = np.array([[-5.5, 0, 1e4, 1], [0, 0, 1, 1]])
    kept = Detections(boxes, np.array([-1.0, -2.0]))
    np.testing.assert_array_equal(kept.boxes, boxes)
    np.testing.assert_array_equal(kept.best(), boxes[:1])
