"""Refined instances keep scores and extras, drop rejected masks, and carry the soft mask."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from eigenseg import Predictor
from eigenseg.data import Instances
from eigenseg.segment.refine import BilateralSolver, DenseCRF, MaskRefiner
from eigenseg.segment.refine.apply import refine_instances
from eigenseg.segment.refine.base import Refined

CPU = torch.device("cpu")


def result() -> Instances:
    """Three masks of a 6 x 8 image, one row each."""
    masks = np.zeros((3, 6, 8), dtype=bool)
    masks[0, 1, 1:4], masks[1, 3, 2:6], masks[2, 5, 0:2] = True, True, True
    boxes = np.array([[0, 0, 8, 6]] * 3, dtype=np.float32)
    return Instances(masks, np.array([0.9, 0.5, 0.2]), boxes, (6, 8), extras={"seed": [1, 2, 3]}, metadata={"kept": "yes"})


class Shifted:
    """Shifts every mask down by one row; rejects the second one."""

    def __call__(self, images: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Refined]:
        results = []
        for mask in masks:
            moved = torch.zeros_like(mask)
            moved[:, 1:] = mask[:, :-1]
            kept = torch.ones(len(mask), dtype=torch.bool)
            kept[1:2] = False
            results.append(Refined(moved.float() * 0.75, moved, torch.ones(len(mask)), kept))
        return results


def test_masks_boxes_and_soft_map_are_the_refined_ones_and_scores_and_extras_stay() -> None:
    image = np.zeros((6, 8, 3), dtype=np.uint8)
    nothing = Instances.empty((6, 8), "nothing")
    first, second = refine_instances(Shifted(), [image, image], [result(), nothing], CPU)
    assert second is nothing
    assert len(first) == 1  # the second was rejected, the third was shifted out of the image
    np.testing.assert_array_equal(np.argwhere(first.masks[0]), [[2, 1], [2, 2], [2, 3]])
    assert first.boxes.tolist() == [[1, 2, 4, 3]]
    assert first.scores.tolist() == [np.float32(0.9)]
    assert first.extras["seed"] == [1]
    assert (first.metadata["kept"], first.metadata["rejected"]) == ("yes", 2)
    np.testing.assert_array_equal(first.metadata["saliency"], first.masks[0] * np.float32(0.75))


def test_an_image_that_keeps_no_mask_has_a_reason() -> None:
    one = result()[1:]
    (left,) = refine_instances(Shifted(), [np.zeros((6, 8, 3), dtype=np.uint8)], [one[[1, 0]]], CPU)
    assert len(left) == 0
    assert left.reason is not None
    assert left.reason.startswith(
        "no object: refinement changed every mask too much (IoU with the masks before at most 1.00)"
    )
    assert left.metadata["rejected"] == 2


class Kept:
    """Returns fixed masks; rejects some."""

    def __init__(self, masks: np.ndarray, kept: list[bool]) -> None:
        self.masks, self.kept = torch.from_numpy(masks), torch.tensor(kept)

    def __call__(self, images: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Refined]:
        return [Refined(self.masks.float(), self.masks, torch.ones(len(self.masks)), self.kept)]


def test_parts_keep_their_parents_by_new_indices_and_stay_within_them() -> None:
    # Object 0 holds 1 (rejected), which holds 2; object 3 holds 4, whose mask sticks out, and 5, which lies outside.
    masks = np.zeros((6, 4, 8), dtype=bool)
    masks[0, :, :4], masks[1, :2, :3], masks[2, 0, :2] = True, True, True
    masks[3, :, 5:], masks[4, 1, 3:7], masks[5, 3, :2] = True, True, True
    boxes = np.array([[0, 0, 8, 4]] * 6, dtype=np.float32)
    nested = Instances(masks, np.ones(6), boxes, (4, 8), extras={"parent": [-1, 0, 1, -1, 3, 3], "seed": list(range(6))})
    refiner = Kept(masks, [True, False, True, True, True, True])
    (left,) = refine_instances(refiner, [np.zeros((4, 8, 3), dtype=np.uint8)], [nested], CPU)
    assert left.extras["seed"] == [0, 2, 3, 4]
    assert left.extras["parent"] == [-1, 0, -1, 2]
    np.testing.assert_array_equal(np.argwhere(left.masks[3]), [[1, 5], [1, 6]])


@pytest.mark.parametrize("on_disagreement", ["keep", "drop"])
def test_a_disagreeing_or_empty_mask_is_the_one_before_or_none_and_says_so(on_disagreement) -> None:  # type: ignore[no-untyped-def]
    image = np.zeros((6, 8, 3), dtype=np.uint8)
    given = result()
    (after,) = refine_instances(Shifted(), [image], [given], CPU, on_disagreement)
    if on_disagreement == "drop":
        assert after.extras == {"seed": [1], "refined": [True], "refinement_iou": [1.0]}
        assert after.metadata["rejected"] == 2
        return
    # The first moved; the second was not kept, and the third was emptied: they are as they were, boxes made tight.
    np.testing.assert_array_equal(after.masks[0], np.roll(given.masks[0], 1, axis=0))
    np.testing.assert_array_equal(after.masks[1:], given.masks[1:])
    assert after.boxes.tolist() == [[1, 2, 4, 3], [2, 3, 6, 4], [0, 5, 2, 6]]
    assert after.scores.tolist() == given.scores.tolist()
    assert after.extras == {"seed": [1, 2, 3], "refined": [True, False, False], "refinement_iou": [1.0] * 3}
    assert after.metadata["rejected"] == 0
    soft = np.roll(given.masks[:2], 1, axis=1).any(axis=0) * np.float32(0.75)  # the refiner's own, of all that remain
    np.testing.assert_array_equal(after.metadata["saliency"], soft)


def noise_and_bar() -> tuple[np.ndarray, Instances]:
    """Two flat halves, and the mask of a bar across them that follows no edge."""
    image = np.full((64, 96, 3), 60, dtype=np.uint8)
    image[:, 48:] = 200
    mask = np.zeros((1, 64, 96), dtype=bool)
    mask[0, 24:36, 8:88] = True
    return image, Instances.from_masks(mask, [0.7])


@pytest.mark.parametrize("kind", [BilateralSolver, DenseCRF])
def test_every_refiner_offers_both(kind) -> None:  # type: ignore[no-untyped-def]
    image, given = noise_and_bar()
    (dropped,) = kind(min_iou=0.5, on_disagreement="drop")([image], [given])
    assert len(dropped) == 0
    (kept,) = kind(min_iou=0.5, on_disagreement="keep")([image], [given])
    np.testing.assert_array_equal(kept.masks, given.masks)
    assert kept.extras["refined"] == [False]
    assert kept.extras["refinement_iou"][0] < 0.5
    with pytest.raises(ValueError, match="^on_disagreement must be 'keep' or 'drop', got 'fall back'"):
        kind(on_disagreement="fall back")


def test_published_choices_are_the_defaults() -> None:
    assert (BilateralSolver().min_iou, BilateralSolver().on_disagreement) == (0.5, "keep")
    assert (DenseCRF().min_iou, DenseCRF().on_disagreement) == (0.5, "drop")
    image, given = noise_and_bar()
    np.testing.assert_array_equal(BilateralSolver()([image], [given])[0].masks, given.masks)


def grown(overlapping: bool) -> tuple[Instances, np.ndarray]:
    """Masks in one row that share pixels or not, and refined masks that share more."""
    before = np.zeros((3, 1, 12), dtype=bool)
    before[0, 0, :4], before[1, 0, 3 if overlapping else 4 : 8], before[2, 0, 10:] = True, True, True
    after = np.zeros_like(before)
    after[0, 0, :6], after[1, 0, 2:10], after[2, 0, 7:] = True, True, True
    return Instances.from_masks(before, [0.9, 0.5, 0.2]), after


@pytest.mark.parametrize("overlapping", [False, True])
def test_refined_masks_share_no_pixel_that_they_did_not_share_before(overlapping: bool) -> None:
    given, after = grown(overlapping)
    refiner = Kept(after, [True] * 3)
    image = np.zeros((1, 12, 3), dtype=np.uint8)
    (apart,) = refine_instances(refiner, [image], [given], CPU)
    shared = [3] if overlapping else []  # columns of masks 0 and 1
    assert np.flatnonzero(apart.masks[0, 0]).tolist() == [0, 1, 2, 3]  # 4 and 5 stay with mask 1, which held them
    assert np.flatnonzero(apart.masks[1, 0]).tolist() == [*shared, 4, 5, 6, 7, 8, 9]  # of 8 and 9: equal soft, higher score
    assert np.flatnonzero(apart.masks[2, 0]).tolist() == [10, 11]
    if not overlapping:  # a label map shows every mask as it is
        assert np.bincount(apart.label_map().ravel(), minlength=4)[1:].tolist() == apart.areas().tolist()
    (together,) = refine_instances(refiner, [image], [given], CPU, separated=False)
    np.testing.assert_array_equal(together.masks, after)


def test_parts_share_pixels_with_their_parents_but_not_with_their_siblings() -> None:
    masks = np.zeros((4, 2, 8), dtype=bool)
    masks[0], masks[1, :, :3], masks[2, :, 4:], masks[3, 0, 5:] = True, True, True, True
    refined = masks.copy()
    refined[1, :, 3:6] = True  # part 1 grows into part 2; 3 is a part of 2
    boxes = np.array([[0, 0, 8, 2]] * 4, dtype=np.float32)
    nested = Instances(masks, [0.9, 0.3, 0.8, 0.7], boxes, (2, 8), extras={"parent": [-1, 0, 0, 2]})
    (left,) = refine_instances(Kept(refined, [True] * 4), [np.zeros((2, 8, 3), dtype=np.uint8)], [nested], CPU)
    assert left.extras["parent"] == [-1, 0, 0, 2]
    expected = masks.copy()
    expected[1, :, 3] = True
    np.testing.assert_array_equal(left.masks, expected)


@pytest.mark.parametrize("kind", [BilateralSolver, DenseCRF])
def test_reference_mode_lets_masks_overlap_as_published(kind) -> None:  # type: ignore[no-untyped-def]
    assert MaskRefiner.separate is kind().separate is True
    assert kind(compat="reference").separate is False


@pytest.mark.parametrize(("method", "base", "images"), [("maskcut", "method", 4), ("maskcut_parts", "method.base", 2)])
def test_no_pair_of_objects_or_siblings_overlaps_on_photographs(
    method: str, base: str, images: int, test_data: Path
) -> None:
    settings = ["preprocess.resize=120", "postprocess=bilateral_fine", f"{base}.max_masks=5", f"{base}.max_eigenvalue=1.0"]
    settings += ["method.min_tokens=12"] if method == "maskcut_parts" else []
    predictor = Predictor.from_config(method, backbone="color_texture", device="cpu", overrides=settings)
    pairs = 0
    for path in sorted((test_data / "coco_tiny" / "val2017").glob("*.jpg"))[:images]:
        found = predictor(path)
        parents = found.extras.get("parent", [-1] * len(found))
        for i in range(len(found)):
            for j in range(i):
                if parents[i] == parents[j]:
                    assert not (found.masks[i] & found.masks[j]).any(), (path.name, i, j)
                    pairs += 1
    assert pairs > 5


def test_a_predictor_with_a_refiner_follows_the_edge_that_patches_miss() -> None:
    rows, columns = np.indices((120, 160))
    disc = (rows - 60) ** 2 + (columns - 70) ** 2 < 37**2
    noise = np.random.default_rng(0).integers(0, 12, (120, 160, 3))
    image = (np.where(disc[..., None], (210, 60, 30), (20, 60, 120)) + noise).astype(np.uint8)

    def iou(*overrides: str) -> float:
        predictor = Predictor.from_config(
            "tokencut", backbone="color_texture", device="cpu", overrides=["preprocess.resize=120", *overrides]
        )
        mask = np.asarray(predictor(image).masks[0])
        return float((mask & disc).sum() / (mask | disc).sum())

    coarse = iou()
    assert iou("postprocess=bilateral_fine") > coarse
    assert iou("postprocess=crf_maskcut") > coarse


def test_specks_of_refined_masks_are_removed_and_blow_up_no_box() -> None:
    masks = np.zeros((1, 20, 30), dtype=bool)
    masks[0, 5:15, 5:15] = masks[0, 17:19, 20:22] = True  # 100 pixels and 4
    masks[0, 0, 29] = True  # a speck: 1 of 105
    one = Instances.from_masks(masks, [0.5])
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    for fraction, box in ((0.01, [5, 5, 22, 19]), (0.1, [5, 5, 15, 15]), (0.0, [5, 0, 30, 19])):
        (refined,) = refine_instances(Kept(masks, [True]), [image], [one], CPU, min_component=fraction)
        assert refined.boxes.tolist() == [box]
    (before,) = refine_instances(Kept(masks, [False]), [image], [one], CPU, "keep", min_component=0.1)
    np.testing.assert_array_equal(before.masks, masks)  # a mask that was not refined stays as it is


def test_refiners_remove_specks_unless_they_refine_as_published() -> None:
    assert (DenseCRF().min_component, BilateralSolver().min_component) == (0.01, 0.01)
    assert (DenseCRF(compat="reference").min_component, BilateralSolver(compat="reference").min_component) == (0, 0)
    with pytest.raises(ValueError, match="min_component must be at least 0 and below 1, got 1"):
        DenseCRF(min_component=1)


def test_the_iou_of_a_refinement_on_a_small_square_is_that_in_the_image() -> None:
    image = torch.zeros(40, 60, 3, dtype=torch.uint8)
    mask = torch.zeros(1, 40, 60, dtype=torch.bool)
    mask[0, 10:30, 20:40] = True
    (refined,) = DenseCRF(size=2, min_iou=0.5).refine_masks([image], [mask])
    union = int((refined.masks[0] | mask[0]).sum())
    expected = int((refined.masks[0] & mask[0]).sum()) / union
    assert refined.iou.tolist() == [pytest.approx(expected)]
    assert refined.kept.tolist() == [expected >= 0.5]
