"""CorLoc counts the same images as published evaluations, and each known mistake gives its own known value."""

from __future__ import annotations

import gzip
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from eigenseg.data.datasets.base import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.discovery.metrics.corloc import CorLoc, pairwise_iou

Boxes = np.ndarray
corners = st.tuples(*[st.integers(0, 7)] * 4).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1]
)
box_lists = st.lists(corners, max_size=4).map(lambda boxes: np.array(boxes, dtype=np.float64).reshape(-1, 4))


def one(box: list[float], score: float = 1.0) -> Detections:
    return Detections(np.array([box], dtype=np.float64), np.array([score]))


def scored(prediction: Detections, boxes: Any, metric: CorLoc | None = None, **flags: Any) -> dict[str, float | None]:
    metric = metric or CorLoc()
    metric.update("image", prediction, ObjectAnnotation(np.array(boxes, dtype=np.float64).reshape(-1, 4), **flags))
    return metric.compute()


@pytest.fixture(scope="module")
def lost(test_data: Path) -> list[tuple[str, list[int], Boxes, np.ndarray]]:
    """For each image of VOC07 trainval: name, LOST's box, object corners as in the files, difficult flags."""
    boxes, predictions = (
        json.loads(gzip.decompress((test_data / "voc07" / f"{name}.json.gz").read_bytes()))
        for name in ("voc2007_trainval_boxes", "lost_vits16_predictions")
    )
    return [
        (
            image["file_name"],
            predictions[image["file_name"]],
            np.array([entry["bbox_1based_xyxy"] for entry in image["objects"]], dtype=np.float64),
            np.array([entry["difficult"] for entry in image["objects"]], dtype=bool),
        )
        for image in boxes
    ]


@pytest.mark.parametrize(
    ("subtracted", "hard", "correct"),
    [
        ((1, 1, 0, 0), "keep", 3102),
        ((0, 0, 0, 0), "keep", 3080),
        ((1, 1, 1, 1), "keep", 3082),
        ((1, 1, 0, 0), "no_difficult", 3065),
    ],
)
def test_lost_on_voc07_has_the_published_counts_and_every_mistake_its_own_number(
    lost: list[Any], subtracted: tuple[int, ...], hard: Any, correct: int
) -> None:
    metric = CorLoc(hard=hard)
    for name, box, objects, difficult in lost:
        metric.update(name, one(box), ObjectAnnotation(objects - np.array(subtracted), difficult=difficult))
    values = metric.compute()
    assert (values["hits"], values["images"]) == (correct, 5011)
    assert values["corloc"] == pytest.approx(100 * correct / 5011, abs=1e-12)
    if correct == 3102:
        assert values["mean_best_iou"] == pytest.approx(0.562249, abs=5e-7)


def test_lost_on_voc07_with_inclusive_boxes_is_the_fourth_mistake(lost: list[Any]) -> None:
    ious = [pairwise_iou(np.array([box], dtype=np.float64), objects - 1, inclusive=True) for _, box, objects, _ in lost]
    assert sum(iou.max() >= 0.5 for iou in ious) == 3094


@settings(deadline=None)
@given(box_lists, box_lists, st.booleans())
def test_iou_is_intersection_over_union_in_pixels(boxes: Boxes, others: Boxes, inclusive: bool) -> None:
    def pixels(box: np.ndarray) -> set[tuple[int, int]]:
        x0, y0, x1, y1 = (int(corner) for corner in box)
        return {(x, y) for x in range(x0, x1 + inclusive) for y in range(y0, y1 + inclusive)}

    ious = pairwise_iou(boxes, others, inclusive)
    assert ious.shape == (len(boxes), len(others))
    for i, box in enumerate(boxes):
        for j, other in enumerate(others):
            mine, theirs = pixels(box), pixels(other)
            assert ious[i, j] == float(Fraction(len(mine & theirs), len(mine | theirs)))


def test_boxes_without_area_have_iou_0_even_with_themselves() -> None:
    point = np.array([[3.0, 3, 3, 3]])
    assert pairwise_iou(point, np.concatenate([point, [[0, 0, 5, 5]]])).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("width", [1, 2, 3, 7, 96, 353])
def test_an_iou_of_exactly_one_half_counts_and_slightly_less_does_not(width: int) -> None:
    assert scored(one([0, 0, width, 5]), [[0, 0, 2 * width, 5]])["hits"] == 1
    assert scored(one([0, 0, width, 5]), [[0, 0, 2 * width + 1e-9, 5]])["hits"] == 0


def test_an_iou_equal_to_a_custom_threshold_counts() -> None:
    assert scored(one([0, 0, 3, 1]), [[0, 0, 4, 1]], CorLoc(threshold=0.75))["corloc"] == 100
    assert scored(one([0, 0, 3, 1]), [[0, 0, 4, 1]], CorLoc(threshold=0.76))["corloc"] == 0


def test_an_image_without_a_prediction_is_a_miss_and_one_without_an_object_is_skipped() -> None:
    metric = CorLoc()
    metric.update("hit", one([0, 0, 4, 4]), ObjectAnnotation(np.array([[0.0, 0, 4, 4]])))
    metric.update("no prediction", Detections.none(), ObjectAnnotation(np.array([[0.0, 0, 4, 4]])))
    metric.update("no object", one([0, 0, 4, 4]), ObjectAnnotation(np.zeros((0, 4))))
    assert metric.compute() == {"corloc": 50.0, "hits": 1, "images": 2, "mean_best_iou": 0.5}
    assert metric.item_scores() == {
        "hit": {"iou": 1.0, "hit": 1.0},
        "no prediction": {"iou": 0.0, "hit": 0.0},
        "no object": {"iou": None, "hit": None},
    }


BOTH = np.array([[0.0, 0, 4, 4], [10, 10, 14, 14]])


@pytest.mark.parametrize(
    ("flag", "counts"),
    [
        ("crowd", {"keep": False, "no_difficult": False, "no_hard": False}),
        ("difficult", {"keep": True, "no_difficult": False, "no_hard": False}),
        ("truncated", {"keep": True, "no_difficult": True, "no_hard": False}),
    ],
)
@pytest.mark.parametrize("hard", ["keep", "no_difficult", "no_hard"])
def test_the_hard_option_selects_which_objects_count(flag: str, counts: dict[str, bool], hard: Any) -> None:
    flagged = {flag: np.array([True, False])}
    assert scored(one([0, 0, 4, 4]), BOTH, CorLoc(hard=hard), **flagged)["hits"] == counts[hard]
    assert scored(one([10, 10, 14, 14]), BOTH, CorLoc(hard=hard), **flagged)["hits"] == 1
    alone = scored(one([0, 0, 4, 4]), BOTH[:1], CorLoc(hard=hard), **{flag: np.array([True])})
    assert alone["images"] == counts[hard]


def test_dropping_hard_objects_does_not_modify_the_annotation() -> None:
    annotation = ObjectAnnotation(BOTH, difficult=np.array([True, False]), truncated=np.array([False, True]))
    CorLoc(hard="no_hard").update("image", one([0, 0, 4, 4]), annotation)
    np.testing.assert_array_equal(annotation.crowd, [False, False])


def test_corners_are_rounded_with_halves_to_even() -> None:
    annotation = [[0.5, 1.5, 2.5, 3.5]]
    assert scored(one([0, 2, 2, 4]), annotation, CorLoc(round_boxes=True))["mean_best_iou"] == 1
    assert scored(one([0.5, 1.5, 2.5, 3.5]), annotation)["mean_best_iou"] == 1


def test_only_the_highest_scoring_box_counts() -> None:
    prediction = Detections(np.array([[50.0, 50, 60, 60], [0, 0, 4, 4], [0, 0, 4, 5]]), np.array([0.2, 0.9, 0.9]))
    assert scored(prediction, [[0, 0, 4, 4]])["mean_best_iou"] == 1
    assert scored(prediction, [[50, 50, 60, 60]])["hits"] == 0


@settings(deadline=None)
@given(st.lists(st.tuples(box_lists, st.lists(st.integers(0, 3), min_size=4, max_size=4), box_lists), max_size=6))
def test_corloc_equals_a_count_in_exact_fractions(images: list[Any]) -> None:
    metric, correct, counted = CorLoc(), 0, 0
    for i, (boxes, scores, objects) in enumerate(images):
        metric.update(
            str(i), Detections(boxes, np.array(scores[: len(boxes)], dtype=np.float64)), ObjectAnnotation(objects)
        )
        counted += len(objects) > 0
        best = max(range(len(boxes)), key=lambda j: (scores[j], -j), default=None)
        correct += best is not None and any(
            Fraction(pixel_overlap(boxes[best], box), pixel_union(boxes[best], box)) >= Fraction(1, 2) for box in objects
        )
    values = metric.compute()
    assert (values["hits"], values["images"]) == (correct, counted)
    assert values["corloc"] == (100 * correct / counted if counted else None)


def pixel_overlap(box: np.ndarray, other: np.ndarray) -> int:
    sides = [min(box[2 + axis], other[2 + axis]) - max(box[axis], other[axis]) for axis in (0, 1)]
    return int(max(sides[0], 0) * max(sides[1], 0))


def pixel_union(box: np.ndarray, other: np.ndarray) -> int:
    areas = [int((one[2] - one[0]) * (one[3] - one[1])) for one in (box, other)]
    return sum(areas) - pixel_overlap(box, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\], got 0\.0"),
        ({"threshold": 1.01}, r"threshold must lie in \(0, 1\], got 1\.01"),
        ({"hard": "none"}, "hard must be 'keep', 'no_difficult' or 'no_hard', got 'none'"),
    ],
)
def test_options_out_of_range_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CorLoc(**options)
