"""Refined instances keep scores and extras, drop rejected masks, and carry the soft mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eigenseg import Predictor
from eigenseg.data import Instances
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
    assert left.reason == "no object: refinement rejected all masks, they follow no edge of the image"
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
