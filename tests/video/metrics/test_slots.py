"""FG-ARI, mBO and Hungarian mIoU equal the published ones, scikit-learn and a search over all assignments."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from metric_references import slow_scores
from metric_samples import as_video, rle_masks
from sklearn.metrics import adjusted_rand_score

from eigenseg.data.datasets.base import ObjectAnnotation
from eigenseg.data.detections import Detections
from eigenseg.video.metrics import ImageSlotScores, SlotScores
from eigenseg.video.metrics.slots import adjusted_rand_index, contingency, score_counts

Sample = tuple[np.ndarray, np.ndarray]


def pairs_of(shape: tuple[int, ...], void: bool = True) -> st.SearchStrategy[Sample]:
    ids = st.sampled_from([0, 1, 2, 4, 255] if void else [0, 1, 2, 4])
    return st.tuples(arrays(np.uint8, shape, elements=st.integers(0, 4)), arrays(np.uint8, shape, elements=ids))


def evaluate(*videos: Sample) -> dict[str, Any]:
    metric = SlotScores()
    for i, (prediction, annotation) in enumerate(videos):
        metric.update(str(i), prediction, as_video(annotation))
    return metric.compute()


@pytest.fixture(scope="module")
def golden(test_data: Path) -> dict[str, Any]:
    return dict(np.load(test_data / "golden_video" / "slot_metrics.npz"))


OFFICIAL = {"fg_ari": "fg_ari", "mbo": "mbo", "miou": "miou_hungarian"}


def test_all_videos_together_score_as_in_the_published_code(golden: dict[str, Any]) -> None:
    values = evaluate(*zip(golden["pred_labels"], golden["true_labels"], strict=True))
    expected = {f"{p}_{ours}": float(golden[f"{p}_{name}"]) for p in ("video", "image") for ours, name in OFFICIAL.items()}
    assert {key: values[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert values["videos"] == 3


@pytest.mark.parametrize("video", range(3))
def test_each_video_scores_as_in_the_published_code(golden: dict[str, Any], video: int) -> None:
    metric = SlotScores()
    metric.update("v", golden["pred_labels"][video], as_video(golden["true_labels"][video]))
    for prefix, (ours, name) in itertools.product(("video", "image"), OFFICIAL.items()):
        expected = float(golden[f"{prefix}_{name}_per_video"][video])
        value = metric.item_scores()["v"][f"{prefix}_{ours}"]
        assert value == metric.compute()[f"{prefix}_{ours}"]
        # A video without foreground has None here and NaN in the published code.
        assert value is None if np.isnan(expected) else value == pytest.approx(expected, abs=1e-12)


def test_ari_with_the_background_as_a_class_equals_the_published_one(golden: dict[str, Any]) -> None:
    tubes = [contingency(p, t) for p, t in zip(golden["pred_labels"], golden["true_labels"], strict=True)]
    ours = [adjusted_rand_index(table) for table in tubes]
    np.testing.assert_allclose(ours, golden["video_ari_all_per_video"], rtol=0, atol=1e-12)


def test_tube_ious_equal_the_published_ones(golden: dict[str, Any]) -> None:
    for prediction, annotation, expected in zip(
        golden["pred_labels"], golden["true_labels"], golden["pairwise_tube_iou"], strict=True
    ):
        for number in range(1, 4):
            if (annotation == number).any():
                scores = score_counts(contingency(prediction, annotation == number))
                assert scores.mbo == pytest.approx(expected[number - 1].max(), abs=1e-12)


labelings = st.integers(1, 40).flatmap(lambda n: st.tuples(*[arrays(np.int64, n, elements=st.integers(0, 5))] * 2))


@given(labelings)
def test_ari_equals_scikit_learn(pair: Sample) -> None:
    table = contingency(pair[0], pair[1], void=None)
    assert adjusted_rand_index(table) == pytest.approx(adjusted_rand_score(pair[1], pair[0]), abs=1e-12)


def test_ari_of_a_long_video_does_not_overflow() -> None:
    pixels = 90 * 480 * 854
    table = np.array([[pixels // 2, 0], [0, pixels // 2]])
    assert adjusted_rand_index(table) == 1
    # Independent partitions into halves have chance level.
    assert adjusted_rand_index(np.full((2, 2), pixels // 4)) == pytest.approx(0, abs=1e-7)


def test_one_segment_for_one_object_has_ari_1_and_for_two_objects_0() -> None:
    assert adjusted_rand_index(np.array([[50]])) == 1
    assert adjusted_rand_index(np.array([[20, 30]])) == pytest.approx(0, abs=1e-15)
    assert adjusted_rand_index(np.array([[1]])) == 1


@settings(deadline=None)
@given(pairs_of((3, 2, 5)))
def test_tubes_and_frames_equal_a_slow_count(sample: Sample) -> None:
    prediction, annotation = sample
    values = evaluate(sample)
    tube = slow_scores(prediction, annotation)
    frames = [scores for scores in map(slow_scores, prediction, annotation) if scores is not None]
    for i, name in enumerate(OFFICIAL):
        assert values[f"video_{name}"] == (None if tube is None else pytest.approx(tube[i], abs=1e-12))
        mean = np.mean([scores[i] for scores in frames]) if frames else None
        assert values[f"image_{name}"] == (None if mean is None else pytest.approx(mean, abs=1e-12))


@settings(deadline=None)
@given(pairs_of((2, 2, 5)), st.integers(0, 4))
def test_predictions_on_void_pixels_are_ignored(sample: Sample, arbitrary: int) -> None:
    prediction, annotation = sample
    assert evaluate((np.where(annotation == 255, arbitrary, prediction), annotation)) == evaluate(sample)


@settings(deadline=None)
@given(pairs_of((2, 2, 5)), st.integers(0, 4))
def test_fg_ari_ignores_the_background(sample: Sample, arbitrary: int) -> None:
    prediction, annotation = sample
    changed = evaluate((np.where(annotation == 0, arbitrary, prediction), annotation))
    assert [changed[f"{p}_fg_ari"] for p in ("video", "image")] == [
        evaluate(sample)[f"{p}_fg_ari"] for p in ("video", "image")
    ]


@settings(deadline=None)
@given(pairs_of((2, 2, 5)), st.permutations(range(5)))
def test_scores_do_not_depend_on_the_order_of_segment_ids(sample: Sample, ids: list[int]) -> None:
    permuted, values = evaluate((np.array(ids)[sample[0]], sample[1])), evaluate(sample)
    assert permuted == {key: value if value is None else pytest.approx(value, abs=1e-12) for key, value in values.items()}


def test_identity_switches_lower_tube_scores_and_not_frame_scores() -> None:
    annotation = np.zeros((4, 6, 8), dtype=np.uint8)
    annotation[:, :, :3], annotation[:, :, 5:] = 1, 2
    swapped = annotation.copy()
    swapped[2:] = np.array([0, 2, 1])[annotation[2:]]
    right, wrong = evaluate((annotation, annotation)), evaluate((swapped, annotation))
    assert all(right[f"{prefix}_{name}"] == 1 for prefix in ("video", "image") for name in OFFICIAL)
    assert all(wrong[f"image_{name}"] == 1 for name in OFFICIAL)
    # Half of every tube is lost: IoU 1/3, and the partitions are no better than chance.
    assert (wrong["video_mbo"], wrong["video_miou"]) == pytest.approx((1 / 3, 1 / 3))
    assert wrong["video_fg_ari"] < 0


def test_a_segment_may_match_two_objects_in_mbo_and_one_in_miou() -> None:
    annotation = np.array([[[1, 1, 2, 2, 2, 2]]], dtype=np.uint8)
    values = evaluate((np.zeros_like(annotation), annotation))
    assert values["video_mbo"] == pytest.approx((2 / 6 + 4 / 6) / 2)
    assert values["video_miou"] == pytest.approx(4 / 6 / 2)


def test_videos_and_frames_without_an_object_are_skipped() -> None:
    annotation = np.array([[[1, 1, 2, 2]], [[0, 0, 0, 0]]], dtype=np.uint8)
    empty = np.full_like(annotation, 255)
    empty[0] = 0
    values = evaluate((annotation, annotation), (annotation, empty))
    assert values == {f"{p}_{name}": 1.0 for p in ("video", "image") for name in OFFICIAL} | {"videos": 2}


def test_invalid_shapes_and_ids_raise() -> None:
    annotation = np.zeros((2, 3, 4), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"v: the prediction is \(T, H, W\) = \(2, 4, 3\), the annotation \(2, 3, 4\)"):
        SlotScores().update("v", annotation.transpose(0, 2, 1), as_video(annotation))
    with pytest.raises(ValueError, match="segment ids must be at least 0, got -1"):
        SlotScores().update("v", annotation.astype(int) - 1, as_video(annotation))


def image_scores(predicted: np.ndarray, scores: list[float], annotated: np.ndarray, crowd: list[bool] | None = None) -> Any:
    size = (annotated.shape[1], annotated.shape[2])
    boxes, flags = np.zeros((len(annotated), 4)), np.array(crowd or [False] * len(annotated))
    metric = ImageSlotScores()
    metric.update(
        "image",
        Detections(np.zeros((len(predicted), 4)), np.array(scores), masks=rle_masks(predicted)),
        ObjectAnnotation(boxes, image_size=size, masks=rle_masks(annotated), crowd=flags),
    )
    values = metric.compute()
    assert metric.item_scores()["image"] == {key: value for key, value in values.items() if key != "images"}
    return tuple(values[f"image_{name}"] for name in OFFICIAL)


@settings(deadline=None)
@given(
    arrays(bool, (3, 3, 5)),
    arrays(bool, (3, 3, 5)),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_masks_of_an_image_score_as_a_label_map_with_the_highest_score_on_top(
    predicted: np.ndarray, annotated: np.ndarray, scores: list[int], crowd: list[bool]
) -> None:
    prediction, annotation = np.zeros((3, 5), dtype=np.uint8), np.zeros((3, 5), dtype=np.uint8)
    for pixel in np.ndindex(3, 5):
        # The highest score; ties go to the first mask.
        covering = [i for i in range(3) if predicted[i][pixel]]
        prediction[pixel] = max(covering, key=lambda i: (scores[i], -i), default=-1) + 1
        objects = [i for i in range(3) if annotated[i][pixel]]
        ignored = len([i for i in objects if not crowd[i]]) > 1 or any(crowd[i] for i in objects)
        annotation[pixel] = 255 if ignored else objects[0] + 1 if objects else 0
    expected = slow_scores(prediction, annotation)
    ours = image_scores(predicted, [float(score) for score in scores], annotated, crowd)
    assert ours == ((None, None, None) if expected is None else pytest.approx(expected, abs=1e-12))


def test_images_require_masks_of_their_own_size() -> None:
    square = rle_masks(np.ones((1, 4, 5), dtype=bool))
    boxes, one = np.zeros((1, 4)), np.ones(1)
    annotation = ObjectAnnotation(boxes, image_size=(4, 5), masks=square)
    for prediction, target in (
        (Detections(boxes, one), annotation),
        (Detections(boxes, one, masks=square), ObjectAnnotation(boxes, image_size=(4, 5))),
        (Detections(boxes, one, masks=square), ObjectAnnotation(boxes, masks=square)),
    ):
        with pytest.raises(ValueError, match="a: masks are required, but (there are only|the prediction has no)"):
            ImageSlotScores().update("a", prediction, target)
    turned = Detections(boxes, one, masks=rle_masks(np.ones((1, 5, 4), dtype=bool)))
    with pytest.raises(ValueError, match=r"a: masks must have the image's size \(4, 5\), got \(5, 4\)"):
        ImageSlotScores().update("a", turned, annotation)
