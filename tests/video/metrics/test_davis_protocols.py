"""Matching equals a search over all assignments, and unusual videos have defined scores."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from metric_references import slow_pairs
from metric_samples import as_video, clip, slow_contour, slow_jaccard

from eigenseg.video.metrics import DavisScore, score_video

seeds = st.integers(0, 2**32 - 1)
SIZE = (12, 16)


def best_gain(gain: np.ndarray) -> float:
    """The largest sum of gains (P, O) over all matchings of objects to distinct proposals."""
    proposals, objects = gain.shape
    return max(
        sum(gain[p, o] for o, p in enumerate(matches)) for matches in itertools.permutations(range(proposals), objects)
    )


def some_video(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Annotations with void and objects that come and go, and accurate and wrong proposals that are sometimes missing."""
    annotation = clip(rng, 4, SIZE, int(rng.integers(1, 4)), void=True)
    ids = np.array([0, *rng.permutation(4) + 1])
    prediction = ids[np.where(annotation == 255, 0, annotation)]
    prediction = np.where(rng.random(prediction.shape) < rng.choice([0.05, 0.5]), clip(rng, 4, SIZE, 4), prediction)
    prediction[rng.random(4) < 0.2] = 0
    return prediction.astype(np.int32), annotation


@settings(deadline=None, max_examples=25)
@given(seeds)
def test_unsupervised_matching_is_the_best_assignment_for_the_whole_video(seed: int) -> None:
    prediction, annotation = some_video(np.random.default_rng(seed))
    scores, pairs = score_video(prediction, annotation), slow_pairs(prediction, annotation)
    check_rows(scores, pairs)
    assert (scores.proposals == scores.proposals[:, :1]).all()
    gain = pairs.mean(axis=(0, 3))
    reached = sum(gain[p, o] for o, p in enumerate(scores.proposals[:, 0]))
    if len(scores.proposals):
        assert reached == pytest.approx(best_gain(gain), abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(seeds, st.booleans())
def test_oracle_matching_is_the_best_assignment_in_every_frame(seed: int, overlap: bool) -> None:
    rng = np.random.default_rng(seed)
    prediction, annotation = some_video(rng)
    if overlap:
        prediction = np.stack([clip(rng, 4, SIZE, 1) > 0 for _ in range(2)] + [prediction == 1, prediction > 1])
    scores, pairs = score_video(prediction, annotation, "oracle_per_frame"), slow_pairs(prediction, annotation)
    check_rows(scores, pairs)
    for t in range(len(annotation)):
        gain = pairs[:, :, :, t].sum(axis=0)
        reached = sum(gain[p, o] for o, p in enumerate(scores.proposals[:, t]))
        if len(scores.proposals):
            assert reached == pytest.approx(best_gain(gain), abs=1e-12)


def check_rows(scores: Any, pairs: np.ndarray) -> None:
    """Every row has the scores of its own proposal, and no proposal is matched to two objects."""
    assert scores.jaccard.shape == pairs.shape[2:]
    for o, t in np.ndindex(*scores.jaccard.shape):
        expected = pairs[:, scores.proposals[o, t], o, t]
        assert (scores.jaccard[o, t], scores.contour[o, t]) == pytest.approx(tuple(expected), abs=1e-12)
    for column in scores.proposals.T:
        assert len(set(column.tolist())) == len(column)


def square_with_holes(side: int, step: int) -> np.ndarray:
    """A square of 60 pixels in a frame of 120 x 160, with equally spaced square holes."""
    mask = np.zeros((120, 160), dtype=bool)
    mask[30:90, 50:110] = True
    for top in range(6, 60 - side - 5, step):
        for left in range(6, 60 - side - 5, step):
            mask[30 + top : 30 + top + side, 50 + left : 50 + left + side] = False
    return mask


@pytest.mark.parametrize("mode", ["unsupervised", "oracle_per_frame"])
@pytest.mark.parametrize("deciding", ["F", "J"])
def test_matching_weighs_j_and_f_equally(mode: Any, deciding: str) -> None:
    annotation = square_with_holes(0, 100)
    if deciding == "F":
        # The wrong one has the higher J: a square shifted by more than the tolerance.
        wrong, right = np.roll(annotation, 5, axis=(0, 1)), square_with_holes(36, 100)
    else:
        # The wrong one has the higher F: single-pixel holes have much boundary and little area.
        wrong, right = square_with_holes(44, 100), square_with_holes(1, 5)
    wrong_j, wrong_f, right_j, right_f = (
        score for mask in (wrong, right) for score in (slow_jaccard(mask, annotation), slow_contour(mask, annotation, 2))
    )
    assert (wrong_j > right_j) if deciding == "F" else (wrong_f > right_f)
    assert right_j + right_f > wrong_j + wrong_f + 0.1
    if mode == "unsupervised":  # proposals must not overlap, so they alternate over frames
        prediction = np.stack([wrong.astype(np.int32), 2 * right.astype(np.int32)] * 2)
    else:
        prediction = np.stack([np.stack([mask] * 4) for mask in (wrong, right)])
    scores = score_video(prediction, np.stack([annotation.astype(np.uint8)] * 4), mode)
    assert (scores.proposals == 1).all()


def two_squares(frames: int = 6, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    maps = np.zeros((frames, *size), dtype=np.uint8)
    maps[:, 5:20, 5:20], maps[:, 15:35, 35:55] = 1, 2
    return maps


def values_of(prediction: np.ndarray, annotation: np.ndarray, mode: Any = "unsupervised", **options: Any) -> dict[str, Any]:
    metric = DavisScore(mode, **options)
    metric.update("clip", prediction, as_video(annotation))
    return metric.compute()


def test_identity_switches_lower_the_official_score_and_not_the_per_frame_oracle() -> None:
    annotation = two_squares()
    swapped = annotation.copy()
    swapped[::2] = np.array([0, 2, 1])[annotation[::2]]
    assert values_of(annotation, annotation)["J&F"] == values_of(swapped, annotation, "oracle_per_frame")["J&F"] == 1
    assert values_of(swapped, annotation)["J&F"] == pytest.approx(0.5)
    permuted = np.array([0, 2, 1])[annotation]
    assert values_of(permuted, annotation)["J&F"] == 1
    assert values_of(permuted, annotation, "semi_supervised")["J&F"] == 0
    assert values_of(permuted, annotation, "davis2016")["J&F"] == 1


def test_void_is_ignored_and_semi_supervised_treats_it_as_background() -> None:
    annotation, prediction = np.zeros((3, 200, 200), dtype=np.uint8), np.zeros((3, 200, 200), dtype=np.uint8)
    annotation[:, 100:150, 100:150], annotation[:, 50:100, 100:150], prediction[:, 50:150, 100:150] = 1, 255, 1
    for mode in ("unsupervised", "oracle_per_frame"):
        values = values_of(prediction, annotation, mode)
        assert (values["J_mean"], values["F_mean"]) == (1, 1)
    assert values_of(prediction, annotation, "semi_supervised")["J_mean"] == 0.5


def test_objects_that_are_absent_from_the_first_frame_do_not_count() -> None:
    annotation = two_squares()
    annotation[0][annotation[0] == 2] = 0
    values = values_of(np.where(two_squares() == 1, 7, 0), annotation)
    assert (values["objects"], values["J_mean"]) == (1, 1)


@pytest.mark.parametrize("mode", ["semi_supervised", "unsupervised", "oracle_per_frame"])
@pytest.mark.parametrize("later", [1, 2, 5])
def test_an_annotation_with_an_empty_first_frame_has_no_objects_and_no_score(mode: Any, later: int) -> None:
    annotation = np.zeros((4, *SIZE), dtype=np.uint8)
    for i in range(1, later + 1):
        annotation[2, i] = i
    prediction = np.zeros_like(annotation) if mode == "semi_supervised" else annotation
    values = values_of(prediction, annotation, mode)
    assert (values["objects"], values["videos"], values["J&F"], values["J_recall"]) == (0, 1, None, None)


@pytest.mark.parametrize("mode", ["davis2016", "semi_supervised", "unsupervised", "oracle_per_frame"])
def test_an_empty_prediction_scores_0_in_frames_with_an_object_and_1_in_empty_frames(mode: Any) -> None:
    annotation = two_squares(6)
    annotation[2:4] = 0
    values = values_of(np.zeros_like(annotation), annotation, mode)
    # Two of six frames are empty; without the first and last, two of four.
    expected = 2 / 4 if mode in ("davis2016", "semi_supervised") else 2 / 6
    assert (values["J_mean"], values["F_mean"]) == pytest.approx((expected, expected))
    assert values["objects"] == (1 if mode == "davis2016" else 2)


def test_extra_proposals_are_not_penalized_and_missing_ones_are_empty() -> None:
    annotation = two_squares()
    extra = annotation.copy()
    extra[:, 36:39, 2:8] = 20
    assert values_of(extra, annotation)["J&F"] == 1
    assert values_of(np.where(annotation == 1, 1, 0), annotation)["J&F"] == 0.5
    assert values_of(np.where(annotation == 1, 1, 0), annotation, "semi_supervised")["J&F"] == 0.5


@pytest.mark.parametrize(
    ("highest", "mode", "message"),
    [
        (21, "unsupervised", "clip: the prediction has 21 proposals .its highest id., at most 20 are allowed"),
        (
            255,
            "unsupervised",
            "clip: the prediction has 255 proposals .its highest id., at most 20 .* 255 marks void pixels",
        ),
        (301, "oracle_per_frame", "clip: the prediction has 301 proposals .its highest id., at most 300 are allowed"),
        (3, "semi_supervised", "clip: the prediction has id 3, but the first frame of the annotation has 2 objects"),
        (255, "semi_supervised", "clip: the prediction has id 255, but the first frame of the annotation has 2 objects"),
    ],
)
def test_ids_that_the_mode_does_not_allow_raise(highest: int, mode: Any, message: str) -> None:
    prediction = two_squares().astype(np.int32)
    prediction[3, 0, 0] = highest
    with pytest.raises(ValueError, match=message):
        values_of(prediction, two_squares(), mode)


def test_the_limits_are_20_and_300_and_can_be_set() -> None:
    prediction = two_squares().astype(np.int32)
    for highest, mode, limit in ((20, "unsupervised", None), (300, "oracle_per_frame", None), (30, "unsupervised", 30)):
        prediction[3, 0, 0] = highest
        assert values_of(prediction, two_squares(), mode, max_proposals=limit)["J&F"] == 1
    stack = np.zeros((6, *two_squares().shape), dtype=bool)
    with pytest.raises(ValueError, match="clip: the prediction has 6 proposals .its highest id., at most 5 are allowed"):
        values_of(stack, two_squares(), "oracle_per_frame", max_proposals=5)


@pytest.mark.parametrize("shape", [(5, 40, 60), (7, 40, 60), (6, 60, 40), (6, 40, 61)])
def test_a_shape_mismatch_raises_with_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"clip: the prediction is \(T, H, W\) = \(.*\), the annotation \(6, 40, 60\)"
    ) as caught:
        values_of(np.zeros(shape, dtype=np.uint8), two_squares())
    assert str(shape) in str(caught.value)


def test_overlapping_masks_require_the_oracle() -> None:
    with pytest.raises(ValueError, match="need mode oracle_per_frame, got unsupervised"):
        score_video(np.zeros((1, *two_squares().shape), dtype=bool), two_squares())


@pytest.mark.parametrize("mode", ["davis2016", "semi_supervised"])
def test_protocols_without_the_first_and_last_frame_need_one_between(mode: Any) -> None:
    with pytest.raises(
        ValueError, match="clip: the video has 2 frames; at least 3 are needed, because the first and last are not scored"
    ):
        values_of(two_squares(2), two_squares(2), mode)
    assert values_of(two_squares(3), two_squares(3), mode)["J&F"] == 1
    assert values_of(two_squares(2), two_squares(2))["J&F"] == 1


def test_the_tolerance_of_f_can_be_set() -> None:
    shifted = np.roll(two_squares(), 2, axis=(1, 2))
    assert values_of(shifted, two_squares(), bound_th=3)["F_mean"] == 1
    assert values_of(shifted, two_squares(), bound_th=1)["F_mean"] < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mode": "davis"},
            "mode must be 'davis2016', 'semi_supervised', 'unsupervised' or 'oracle_per_frame', got 'davis'",
        ),
        ({"bound_th": 0}, "bound_th must be above 0, got 0"),
        ({"max_proposals": 0}, "max_proposals must be at least 1, got 0"),
    ],
)
def test_options_out_of_range_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DavisScore(**options)


def test_in_davis2016_an_object_that_appears_later_is_scored_from_the_first_frame() -> None:
    annotation = np.zeros((4, 6, 8), dtype=np.uint8)
    annotation[2:, 2:4, 2:5] = 255
    scores = score_video((annotation > 0).astype(np.int32), annotation, "davis2016")
    np.testing.assert_array_equal(scores.jaccard, np.ones((1, 2)))


@pytest.mark.parametrize("mode", ["semi_supervised", "unsupervised", "oracle_per_frame"])
def test_a_prediction_of_0_and_255_is_no_numbering_of_objects(mode: Any) -> None:
    annotation = np.minimum(two_squares(), 1)
    with pytest.raises(
        ValueError,
        match=r"clip: the prediction holds 0 and 255 alone; number objects from 1, or score .*evaluation=davis2016",
    ):
        values_of(annotation * 255, annotation, mode)
    assert values_of(annotation * 255, annotation, "davis2016")["J&F"] == 1


def test_semi_supervised_checks_ids_in_scored_frames_only() -> None:
    annotation = np.ones((4, 6, 8), dtype=np.uint8)
    prediction = annotation.astype(np.int32)
    prediction[0] = prediction[-1] = 9
    np.testing.assert_array_equal(score_video(prediction, annotation, "semi_supervised").jaccard, np.ones((1, 2)))
    prediction[1] = 9
    with pytest.raises(ValueError, match="the prediction has id 9, but the first frame of the annotation has 1 objects"):
        score_video(prediction, annotation, "semi_supervised")
