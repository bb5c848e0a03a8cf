"""Scores of single images, the order of equal scores, and inputs that cannot be scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from metric_samples import near, objects, rle_masks

from eigenseg.data.datasets.base import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.segment.metrics import CocoAP

BOX = np.array([[0.0, 0, 4, 4]])
KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def evaluate(prediction: Detections, annotation: ObjectAnnotation, **options: Any) -> dict[str, float | None]:
    metric = CocoAP("bbox", **options)
    metric.update("a", prediction, annotation)
    return metric.compute()


def filled(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(size)
    inside: np.ndarray = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return inside


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["bbox", "segm"]), st.booleans(), st.booleans())
def test_best_iou_is_the_mean_over_objects_of_the_best_matching_prediction(
    seed: int, regions: Any, agnostic: bool, difficult_as_crowd: bool
) -> None:
    rng = np.random.default_rng(seed)
    annotation = objects(rng, (25, 30), int(rng.integers(0, 5)))
    prediction = near(rng, annotation, int(rng.integers(0, 3)))
    # A margin around the image, because boxes may leave it.
    shift = np.array([5, 5, 5, 5])
    object_masks, predicted_masks = (
        [filled(box + shift, (40, 40)) for box in boxes] if regions == "bbox" else list(masks or [])
        for boxes, masks in ((annotation.boxes, annotation.masks), (prediction.boxes, prediction.masks))
    )
    best = [
        max(
            [
                int((mine & mask).sum()) / int((mine | mask).sum())
                for mine, label in zip(predicted_masks, prediction.labels, strict=True)
                if agnostic or label == annotation.labels[i]
            ],
            default=0.0,
        )
        for i, mask in enumerate(object_masks)
        if not (annotation.crowd[i] or (difficult_as_crowd and annotation.difficult[i]))
    ]
    metric = CocoAP(regions, agnostic, difficult_as_crowd=difficult_as_crowd)
    metric.update("image", prediction, annotation)
    values = metric.item_scores()["image"]
    assert (values["objects"], values["predictions"]) == (len(best), len(prediction))
    assert values["best_iou"] == (pytest.approx(sum(best) / len(best), abs=1e-12) if best else None)


def two_images(first_id: int | None, second_id: int | None) -> float:
    """AP of two images with equal scores: image a has a false positive, image b a true positive."""
    metric = CocoAP("bbox")
    metric.update("b", Detections(BOX, np.ones(1)), ObjectAnnotation(BOX, image_id=second_id))
    metric.update("a", Detections(BOX + 9, np.ones(1)), ObjectAnnotation(np.zeros((0, 4)), image_id=first_id))
    value = metric.compute()["AP"]
    assert value is not None
    return value


def test_equal_scores_of_several_images_are_ordered_by_id_or_without_ids_by_name() -> None:
    assert two_images(None, None) == pytest.approx(0.5)
    assert two_images(1, 2) == pytest.approx(0.5)
    assert two_images(2, 1) == pytest.approx(1)
    assert two_images(10, 9) == pytest.approx(1)


def test_equal_scores_within_an_image_are_ordered_by_class_and_then_as_given() -> None:
    wrong_and_right = np.concatenate([BOX + 9, BOX])
    for labels, expected in (((0, 0), 0.5), ((1, 0), 1.0), ((0, 1), 0.5)):
        metric = CocoAP("bbox")
        metric.update("a", Detections(wrong_and_right, np.ones(2), np.array(labels)), ObjectAnnotation(BOX))
        assert metric.compute()["AP"] == pytest.approx(expected)


def test_a_wrong_class_matters_per_class_and_not_class_agnostic() -> None:
    for agnostic, expected in ((True, 1.0), (False, 0.0)):
        metric = CocoAP("bbox", agnostic)
        metric.update("a", Detections(BOX, np.ones(1), np.array([1])), ObjectAnnotation(BOX, np.array([2])))
        assert metric.compute()["AP"] == pytest.approx(expected)
        assert metric.item_scores()["a"]["best_iou"] == expected


def test_without_annotated_objects_there_are_no_values() -> None:
    prediction = Detections(np.array([[0.0, 0, 4, 4]]), np.ones(1))
    assert evaluate(prediction, ObjectAnnotation(np.zeros((0, 4)))) == dict.fromkeys(KEYS)
    assert CocoAP("bbox").compute() == dict.fromkeys(KEYS)


def test_a_single_annotation_is_matched_although_evaluators_lose_id_0() -> None:
    box = np.array([[0.0, 0, 4, 4]])
    values = evaluate(Detections(box, np.ones(1)), ObjectAnnotation(box, image_id=0))
    assert (values["AP"], values["AR1"]) == (1, 1)


def test_ap_uses_the_last_detection_limit_and_object_size_is_the_annotated_area() -> None:
    boxes = np.array([[10.0 * i, 0, 10.0 * i + 8, 8] for i in range(150)])
    item = Detections(boxes, np.linspace(1, 0.1, 150)), ObjectAnnotation(boxes, areas=np.full(150, 5000.0))
    more = evaluate(*item, max_detections=(1, 10, 300))
    assert list(more) == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR300", "ARs", "ARm", "ARl"]
    assert [more[key] for key in ("AP", "AR1", "AR10", "AR300", "ARm")] == pytest.approx([1, 1 / 150, 1 / 15, 1, 1])
    assert (more["ARs"], more["APl"]) == (None, None)
    # 100 of 150 detected: precision is 1 at the 67 recalls 0, 0.01 ... 0.66 of 101.
    fewer = evaluate(*item)
    assert [fewer[key] for key in ("AP", "AR100")] == pytest.approx([67 / 101, 100 / 150])


SQUARE = np.ones((1, 6, 8), dtype=bool)


def test_masks_of_another_size_than_the_image_raise_with_both_sizes() -> None:
    masks = rle_masks(SQUARE)
    prediction, annotation = Detections(BOX, np.ones(1), masks=masks), ObjectAnnotation(BOX, masks=masks)
    sizes = r"masks have 8x6 pixels, the image has 6x8; predictions must be in original pixels"
    turned = ObjectAnnotation(BOX, image_size=(8, 6), masks=rle_masks(SQUARE.transpose(0, 2, 1)))
    for regions in ("segm", "boundary"):
        with pytest.raises(ValueError, match=f"photo.jpg: the prediction's {sizes}"):
            CocoAP(regions).update("photo.jpg", prediction, turned)
    with pytest.raises(ValueError, match=f"photo.jpg: the annotation's {sizes}"):
        CocoAP().update("photo.jpg", Detections.none(), ObjectAnnotation(BOX, image_size=(8, 6), masks=annotation.masks))
    CocoAP("bbox").update("photo.jpg", prediction, turned)


@pytest.mark.parametrize("source", ["prediction", "annotation"])
def test_missing_masks_raise(source: str) -> None:
    prediction = Detections(BOX, np.ones(1), masks=None if source == "prediction" else rle_masks(SQUARE))
    annotation = ObjectAnnotation(BOX, image_size=(6, 8), masks=None if source == "annotation" else rle_masks(SQUARE))
    with pytest.raises(ValueError, match=f"a: the {source} has no masks; score boxes with evaluation.regions=bbox"):
        CocoAP().update("a", prediction, annotation)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": "box"}, "regions must be 'bbox', 'segm' or 'boundary', got 'box'"),
        ({"max_detections": (1, 10)}, r"max_detections must be three ascending numbers, got \[1, 10\]"),
        ({"max_detections": (1, 100, 10)}, r"three ascending numbers, got \[1, 100, 10\]"),
        ({"max_detections": (1, 10, 10)}, r"three ascending numbers, got \[1, 10, 10\]"),
        ({"max_detections": (0, 10, 100)}, r"three ascending numbers, got \[0, 10, 100\]"),
    ],
)
def test_options_out_of_range_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CocoAP(**options)


def test_a_class_outside_the_dataset_raises_only_per_class() -> None:
    annotation = ObjectAnnotation(np.array([[0.0, 0, 4, 4]]))
    foreign = Detections(np.array([[0.0, 0, 4, 4]]), np.ones(1), np.array([-1]))
    CocoAP("bbox").update("a", foreign, annotation)
    with pytest.raises(ValueError, match="a: the prediction has a class that is not in the dataset"):
        CocoAP("bbox", class_agnostic=False).update("a", foreign, annotation)
