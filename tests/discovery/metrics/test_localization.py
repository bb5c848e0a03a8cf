"""Localization uses inclusive boxes as published; its three metrics are two conditions and their conjunction."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from eigenseg.data.datasets.base import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.discovery.metrics.localization import Localization

corners = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1]
)


def iou_of(metric: Localization, pred: Any, objects: Any) -> float:
    boxes = np.array(objects, dtype=np.float64).reshape(-1, 4)
    metric.update("image", Detections(np.array([pred], dtype=np.float64), np.ones(1)), ObjectAnnotation(boxes))
    value = metric.item_scores()["image"]["iou"]
    assert value is not None
    return value


@settings(deadline=None)
@given(corners, st.lists(corners, min_size=1, max_size=3))
def test_iou_counts_pixels_with_the_predicted_maxima_included(pred: list[int], objects: list[list[int]]) -> None:
    def pixels(box: list[int], end: int) -> set[tuple[int, int]]:
        return set(itertools.product(range(box[0], box[2] + end), range(box[1], box[3] + end)))

    # Objects are half-open, so their maxima are excluded; predicted maxima are included, the published extra pixel.
    expected = max(len(pixels(pred, 1) & pixels(box, 0)) / len(pixels(pred, 1) | pixels(box, 0)) for box in objects)
    assert iou_of(Localization(), pred, objects) == expected
    half_open = max(len(pixels(pred, 0) & pixels(box, 0)) / len(pixels(pred, 0) | pixels(box, 0)) for box in objects)
    assert iou_of(Localization(inclusive=False), pred, objects) == half_open


def published(pred: list[int], box: list[int]) -> tuple[int, int]:
    """Intersection and union of the published script: inclusive boxes, negative extents are multiplied."""
    inner = [box[0], box[1], box[2] - 1, box[3] - 1]
    width = min(pred[2], inner[2]) - max(pred[0], inner[0]) + 1
    height = min(pred[3], inner[3]) - max(pred[1], inner[1]) + 1
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (pred, inner)]
    return width * height, sum(areas) - width * height


@settings(deadline=None)
@given(corners, corners)
def test_compat_reference_is_the_unclamped_published_formula(pred: list[int], box: list[int]) -> None:
    intersection, union = published(pred, box)
    assume(union != 0)
    assert iou_of(Localization(compat="reference"), pred, [box]) == max(intersection / union, 0.0)


def test_boxes_disjoint_along_both_axes_overlap_in_compat_reference_only() -> None:
    pred, box = [0, 0, 3, 3], [9, 9, 13, 13]
    assert published(pred, box) == (25, 7)
    assert iou_of(Localization(compat="reference"), pred, [box]) == pytest.approx(25 / 7, abs=1e-15)
    assert iou_of(Localization(), pred, [box]) == 0


def test_boxes_disjoint_along_one_axis_never_overlap() -> None:
    assert iou_of(Localization(compat="reference"), [0, 0, 3, 3], [[9, 0, 13, 4]]) == 0
    assert iou_of(Localization(), [0, 0, 3, 3], [[9, 0, 13, 4]]) == 0


NEAR, FAR = [0.0, 0, 9, 9], [40.0, 40, 49, 49]


@pytest.mark.parametrize(
    ("box", "label", "expected"),
    [(NEAR, 2, (100, 100, 100)), (NEAR, 1, (100, 0, 0)), (FAR, 2, (0, 100, 0)), (FAR, 1, (0, 0, 0))],
)
def test_top1_loc_requires_the_correct_box_and_the_correct_class(box: list[float], label: int, expected: Any) -> None:
    metric = Localization(classes=True)
    annotation = ObjectAnnotation(np.array([[0.0, 0, 10, 10]]), np.array([2]))
    metric.update("image", Detections(np.array([box]), np.ones(1), np.array([label])), annotation)
    values = metric.compute()
    assert tuple(values[key] for key in ("gt_known_loc", "top1_cls", "top1_loc")) == expected


def test_only_the_highest_scoring_box_and_class_count() -> None:
    metric = Localization(classes=True)
    annotation = ObjectAnnotation(np.array([[0.0, 0, 10, 10], [60, 60, 70, 70]]), np.array([2, 5]))
    boxes = np.array([FAR, NEAR])
    metric.update("a", Detections(boxes, np.array([0.9, 0.8]), np.array([1, 2])), annotation)
    metric.update("b", Detections(boxes, np.array([0.8, 0.9]), np.array([1, 5])), annotation)
    metric.update("c", Detections.none(), annotation)
    metric.update("d", Detections(boxes, np.ones(2), np.array([1, 2])), ObjectAnnotation(np.zeros((0, 4))))
    third = pytest.approx(100 / 3, abs=1e-12)
    assert metric.compute() == {"gt_known_loc": third, "top1_cls": third, "top1_loc": third, "images": 3}
    assert metric.item_scores() == {
        "a": {"iou": 0.0, "located": 0.0, "classified": 0.0},
        "b": {"iou": 1.0, "located": 1.0, "classified": 1.0},
        "c": {"iou": 0.0, "located": 0.0, "classified": 0.0},
        "d": {"iou": None, "located": None, "classified": None},
    }


def test_compat_reference_with_an_empty_union_scores_0() -> None:
    # Two negative extents: areas 4 and 4, "intersection" (-1) * (-8) = 8, union 0.
    assert iou_of(Localization(compat="reference"), [0, 0, 1, 1], [[3, 10, 5, 12]]) == 0.0


def test_without_classes_only_gt_known_loc_is_reported() -> None:
    metric = Localization()
    metric.update("a", Detections(np.array([NEAR]), np.ones(1)), ObjectAnnotation(np.array([[0.0, 0, 10, 10]])))
    assert metric.compute() == {"gt_known_loc": 100.0, "images": 1}
    assert metric.item_scores() == {"a": {"iou": 1.0, "located": 1.0}}


def test_an_iou_of_exactly_the_threshold_is_located() -> None:
    assert iou_of(metric := Localization(), [0, 0, 4, 9], [[0, 0, 10, 10]]) == 0.5
    assert metric.compute()["gt_known_loc"] == 100
    assert iou_of(metric := Localization(threshold=0.51), [0, 0, 4, 9], [[0, 0, 10, 10]]) == 0.5
    assert metric.compute()["gt_known_loc"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\], got 0\.0"),
        ({"compat": "published"}, "compat must be null, or 'reference' with inclusive boxes, got 'published'"),
        ({"compat": "reference", "inclusive": False}, "compat must be null, or 'reference' with inclusive boxes"),
    ],
)
def test_incompatible_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Localization(**options)
