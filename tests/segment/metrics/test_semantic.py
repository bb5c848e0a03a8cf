"""Clusters are matched to classes as an exhaustive search matches them, over the pixels of all images."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from eigenseg.segment.metrics import SemanticIoU

Images = list[tuple[np.ndarray, np.ndarray]]
CLASSES = 3


def images_with(clusters: int) -> st.SearchStrategy[Images]:
    """One or two images; all classes occur in the first."""
    annotation = arrays(np.uint8, (2, 6), elements=st.sampled_from([0, 1, 2, 255])).map(
        lambda values: np.concatenate([np.arange(CLASSES, dtype=np.uint8), values.ravel()]).reshape(3, 5)
    )
    prediction = arrays(np.int64, (3, 5), elements=st.integers(0, clusters - 1))
    return st.lists(st.tuples(prediction, annotation), min_size=1, max_size=2)


def evaluate(images: Images, matching: Any = "hungarian", classes: int = CLASSES) -> tuple[SemanticIoU, dict[str, Any]]:
    metric = SemanticIoU(classes, matching)
    for i, (prediction, annotation) in enumerate(images):
        metric.update(str(i), prediction, annotation)
    return metric, metric.compute()


def pooled(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Clusters and classes of all pixels that are not void."""
    prediction, annotation = (np.concatenate([image[i].ravel() for image in images]) for i in (0, 1))
    return prediction[annotation != 255], annotation[annotation != 255].astype(int)


def class_ious(mapped: np.ndarray, annotation: np.ndarray) -> list[float]:
    return [
        int(((mapped == c) & (annotation == c)).sum()) / int(((mapped == c) | (annotation == c)).sum())
        for c in range(CLASSES)
    ]


@pytest.mark.parametrize("clusters", [2, 3, 5])
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_hungarian_is_the_best_of_all_assignments(clusters: int, data: st.DataObject) -> None:
    images = data.draw(images_with(clusters))
    metric, values = evaluate(images)
    prediction, annotation = pooled(images)
    # Every cluster is assigned to a class of its own, or to none.
    targets = [*range(CLASSES), *[-1] * clusters]
    best = max(
        sum(class_ious(np.array(assigned)[prediction], annotation))
        for assigned in set(itertools.permutations(targets, clusters))
    )
    assert values["miou"] == pytest.approx(best / CLASSES, abs=1e-12)
    mapped = metric.assignment()[prediction]
    assert [values[f"iou_{c}"] for c in range(CLASSES)] == pytest.approx(class_ious(mapped, annotation), abs=1e-12)
    assert values["pixel_accuracy"] == pytest.approx((mapped == annotation).mean(), abs=1e-12)
    assert values["clusters"] == len(set(prediction.tolist()))
    matched = [c for c in metric.assignment().tolist() if c >= 0]
    assert len(set(matched)) == len(matched)


@settings(deadline=None, max_examples=40)
@given(images_with(5))
def test_majority_assigns_each_cluster_to_its_most_frequent_class(images: Images) -> None:
    _, values = evaluate(images, "majority")
    prediction, annotation = pooled(images)
    # Ties go to the lower class.
    common = {c: max(range(CLASSES), key=lambda k: ((annotation[prediction == c] == k).sum(), -k)) for c in set(prediction)}
    mapped = np.array([common[cluster] for cluster in prediction])
    assert [values[f"iou_{c}"] for c in range(CLASSES)] == pytest.approx(class_ious(mapped, annotation), abs=1e-12)
    assert values["miou"] == pytest.approx(np.mean(class_ious(mapped, annotation)), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(images_with(5))
def test_identity_uses_cluster_ids_as_classes_and_ids_beyond_the_classes_are_wrong(images: Images) -> None:
    _, values = evaluate(images, "identity")
    prediction, annotation = pooled(images)
    assert [values[f"iou_{c}"] for c in range(CLASSES)] == pytest.approx(class_ious(prediction, annotation), abs=1e-12)
    assert values["pixel_accuracy"] == pytest.approx((prediction == annotation).mean(), abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(images_with(4), st.permutations(range(4)), st.sampled_from(["hungarian", "majority"]))
def test_scores_do_not_depend_on_the_order_of_cluster_ids(images: Images, ids: list[int], matching: Any) -> None:
    permuted = [(np.array(ids)[prediction], annotation) for prediction, annotation in images]
    assert evaluate(permuted, matching)[1]["miou"] == pytest.approx(evaluate(images, matching)[1]["miou"], abs=1e-12)


def test_one_matching_for_the_whole_dataset_also_scores_the_items() -> None:
    # Cluster 0 is class 0 in the first image and class 1 in the larger second one.
    first = (np.array([[0, 0, 1]]), np.array([[0, 0, 1]]))
    second = (np.array([[0, 0, 0, 1, 1]]), np.array([[1, 1, 1, 0, 0]]))
    metric, values = evaluate([first, second], classes=2)
    assert metric.assignment().tolist() == [1, 0]
    assert values["miou"] == pytest.approx((2 / 5 + 3 / 6) / 2, abs=1e-12)
    assert metric.item_scores() == {"0": {"miou": 0.0}, "1": {"miou": 1.0}}


def test_miou_of_an_item_averages_the_classes_in_its_image() -> None:
    first = (np.array([[0, 1, 2, 2]]), np.array([[0, 1, 2, 2]]))
    second = (np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]]))
    metric, _ = evaluate([first, second, (np.zeros((1, 1), dtype=int), np.full((1, 1), 255))])
    assert metric.item_scores() == {"0": {"miou": 1.0}, "1": {"miou": (2 / 3 + 1 / 2) / 2}, "2": {"miou": None}}


def test_void_pixels_are_ignored() -> None:
    annotation = np.array([[0, 1, 255, 255]])
    for arbitrary in (0, 1, 7):
        _, values = evaluate([(np.array([[0, 1, arbitrary, arbitrary]]), annotation)], "identity", classes=2)
        assert (values["miou"], values["pixel_accuracy"], values["clusters"]) == (1.0, 1.0, 2)


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_iou_and_does_not_count() -> None:
    _, values = evaluate([(np.array([[0, 1]]), np.array([[0, 1]]))], "identity", classes=4)
    assert (values["miou"], values["iou_2"], values["iou_3"]) == (1.0, None, None)


def test_an_absent_class_that_is_predicted_counts_as_0() -> None:
    _, values = evaluate([(np.array([[0, 1, 2]]), np.array([[0, 1, 1]]))], "identity")
    assert (values["iou_2"], values["miou"]) == (0.0, 0.5)


def test_surplus_clusters_stay_unmatched_and_their_pixels_are_wrong() -> None:
    metric, values = evaluate([(np.array([[0, 0, 1, 1, 2]]), np.array([[0, 0, 1, 1, 1]]))], classes=2)
    assert metric.assignment().tolist() == [0, 1, -1]
    assert (values["miou"], values["pixel_accuracy"], values["clusters"]) == (pytest.approx(5 / 6), 0.8, 3)


def test_invalid_input_raises_with_the_name_and_the_value() -> None:
    metric, flat = SemanticIoU(3), np.zeros((2, 3), dtype=int)
    with pytest.raises(ValueError, match="a: the label map has 3x2 pixels, the annotation 2x3; predict in original pixels"):
        metric.update("a", flat, flat.T)
    with pytest.raises(ValueError, match="a: the annotation has class 3, but evaluation.classes is 3"):
        metric.update("a", flat, flat + 3)
    with pytest.raises(ValueError, match="a: cluster ids must be at least 0, got -1"):
        metric.update("a", flat - 1, flat)
    for classes in (1, 256):
        with pytest.raises(ValueError, match=rf"classes must be an integer from 2 to 255, got {classes}"):
            SemanticIoU(classes)
    with pytest.raises(ValueError, match="matching must be 'hungarian', 'majority' or 'identity', got 'best'"):
        SemanticIoU(3, "best")  # type: ignore[arg-type]


def test_a_surplus_cluster_does_not_make_an_absent_class_count() -> None:
    metric = SemanticIoU(classes=3)
    metric.update("a", np.array([[0, 0, 1, 2]]), np.array([[0, 0, 1, 1]]))
    values = metric.compute()
    assert values["iou_2"] is None
    assert values["miou"] == pytest.approx((1 + 1 / 2) / 2)
