"""Localization counts both ends of a box as published; its three numbers are two conditions and their conjunction."""

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


def iou_of(metric: Localization, found: Any, objects: Any) -> float:
    boxes = np.array(objects, dtype=np.float64).reshape(-1, 4)
    metric.update("image", Detections(np.array([found], dtype=np.float64), np.ones(1)), ObjectAnnotation(boxes))
    value = metric.item_scores()["image"]["iou"]
    assert value is not None
    return value


@settings(deadline=None)
@given(corners, st.lists(corners, min_size=1, max_size=3))
def test_the_iou_is_a_count_of_pixels_with_the_predicted_maxima_inside(found: list[int], objects: list[list[int]]) -> None:
    def pixels(box: list[int], end: int) -> set[tuple[int, int]]:
        return set(itertools.product(range(box[0], box[2] + end), range(box[1], box[3] + end)))

    # Objects are half-open, so their own maxima lie outside; predicted maxima count, which is the published pixel more.
    expected = max(len(pixels(found, 1) & pixels(box, 0)) / len(pixels(found, 1) | pixels(box, 0)) for box in objects)
    assert iou_of(Localization(), found, objects) == expected
    half_open = max(len(pixels(found, 0) & pixels(box, 0)) / len(pixels(found, 0) | pixels(box, 0)) for box in objects)
    assert iou_of(Localization(inclusive=False), found, objects) == half_open


def published(found: list[int], box: list[int]) -> tuple[int, int]:
    """Shared and covered area of the published script: both ends count, negative extents are multiplied."""
    inner = [box[0], box[1], box[2] - 1, box[3] - 1]
    width = min(found[2], inner[2]) - max(found[0], inner[0]) + 1
    height = min(found[3], inner[3]) - max(found[1], inner[1]) + 1
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (found, inner)]
    return width * height, sum(areas) - width * height


@settings(deadline=None)
@given(corners, corners)
def test_the_reference_variant_is_the_published_formula_unclamped(found: list[int], box: list[int]) -> None:
    shared, covered = published(found, box)
    assume(covered != 0)
    assert iou_of(Localization(compat="reference"), found, [box]) == max(shared / covered, 0.0)


def test_boxes_apart_in_both_directions_meet_in_the_reference_variant_only() -> None:
    found, box = [0, 0, 3, 3], [9, 9, 13, 13]
    assert published(found, box) == (25, 7)
    assert iou_of(Localization(compat="reference"), found, [box]) == pytest.approx(25 / 7, abs=1e-15)
    assert iou_of(Localization(), found, [box]) == 0


def test_boxes_apart_in_one_direction_meet_in_neither() -> None:
    assert iou_of(Localization(compat="reference"), [0, 0, 3, 3], [[9, 0, 13, 4]]) == 0
    assert iou_of(Localization(), [0, 0, 3, 3], [[9, 0, 13, 4]]) == 0


NEAR, FAR = [0.0, 0, 9, 9], [40.0, 40, 49, 49]


@pytest.mark.parametrize(
    ("box", "label", "expected"),
    [(NEAR, 2, (100, 100, 100)), (NEAR, 1, (100, 0, 0)), (FAR, 2, (0, 100, 0)), (FAR, 1, (0, 0, 0))],
)
def test_top1_loc_needs_the_right_place_and_the_right_class(box: list[float], label: int, expected: Any) -> None:
    metric = Localization(classes=True)
    annotation = ObjectAnnotation(np.array([[0.0, 0, 10, 10]]), np.array([2]))
    metric.update("image", Detections(np.array([box]), np.ones(1), np.array([label])), annotation)
    values = metric.compute()
    assert tuple(values[key] for key in ("gt_known_loc", "top1_cls", "top1_loc")) == expected


def test_place_and_class_are_those_of_the_highest_score_and_right_ones_below_it_do_not_help() -> None:
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


def test_the_published_product_without_a_union_scores_nothing() -> None:
    # Two negative extents: areas 4 and 4, "intersection" (-1) * (-8) = 8, union 0.
    assert iou_of(Localization(compat="reference"), [0, 0, 1, 1], [[3, 10, 5, 12]]) == 0.0


def test_without_classes_only_the_place_is_reported() -> None:
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
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Localization(**options)
