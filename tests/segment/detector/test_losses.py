"""The detector's losses against loops over regions, labels and pixels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import fastrcnn_loss

from eigenseg.segment.detector.losses import box_loss, classification_loss, drop_weights, mask_loss


def iou(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    inter = max(0.0, width) * max(0.0, height)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return inter / (areas - inter)


def some_boxes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 80
    return torch.cat([corners, corners + 1 + 20 * torch.rand(count, 2, generator=generator, dtype=torch.float64)], dim=1)


def brute_weights(boxes: Tensor, labels: Tensor, min_iou: float) -> list[float]:
    return [float(any(iou(box, label) > min_iou for label in labels.tolist())) for box in boxes.tolist()]


@pytest.mark.parametrize("min_iou", [0.0, 0.01, 0.3])
def test_a_region_counts_if_its_box_meets_any_label(min_iou: float) -> None:
    boxes, labels = some_boxes(200, 0), some_boxes(5, 1)
    expected = brute_weights(boxes, labels, min_iou)
    assert 0 < sum(expected) < 200
    assert drop_weights(boxes, labels, min_iou).tolist() == expected


def test_duplicates_of_one_label_hide_no_other_one() -> None:
    first, second = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
    labels = torch.tensor([first, first, first, second])
    boxes = torch.tensor([[1.0, 1, 9, 9], [1, 1, 9, 9], [51, 51, 59, 59], [25, 25, 30, 30]])
    assert drop_weights(boxes, labels).tolist() == [1, 1, 1, 0] == brute_weights(boxes, labels, 0.01)
    assert drop_weights(boxes, labels[[3, 0]]).tolist() == [1, 1, 1, 0]


def test_an_iou_of_exactly_the_threshold_drops_the_region() -> None:
    boxes, labels = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 10, 10]])
    assert drop_weights(boxes, labels, 0.5).tolist() == [0]
    assert drop_weights(boxes, labels, 0.49).tolist() == [1]


def test_without_labels_every_region_is_dropped() -> None:
    assert drop_weights(some_boxes(3, 0), torch.zeros(0, 4)).tolist() == [0, 0, 0]


def some_regions() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits, labels, scores and weights of 40 regions; three are matched to one and the same label, of score 0.3."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    labels = (torch.arange(40) % 4 == 0).long()
    scores = torch.rand(40, generator=generator, dtype=torch.float64)
    scores[[0, 4, 8]] = 0.3
    weights = (torch.rand(40, generator=generator) > 0.3).double()
    return logits, labels, scores, weights


def test_soft_classification_is_the_cross_entropy_of_every_region() -> None:
    logits, labels, scores, weights = some_regions()
    total = 0.0
    for (background, thing), label, score, weight in zip(
        logits.tolist(), labels.tolist(), scores.tolist(), weights.tolist(), strict=True
    ):
        norm = math.log(math.exp(background) + math.exp(thing))
        object_part = score if label else 0.0
        total += weight * -((1 - object_part) * (background - norm) + object_part * (thing - norm))
    assert float(classification_loss(logits, labels, scores, weights)) == pytest.approx(total / 40, rel=1e-12)


def test_soft_boxes_are_divided_by_all_regions() -> None:
    _, labels, scores, _ = some_regions()
    generator = torch.Generator().manual_seed(5)
    regression, targets = torch.randn(2, 40, 4, generator=generator, dtype=torch.float64)
    targets[0, 0] = regression[0, 0] + 0.05  # within the quadratic part
    total = 0.0
    for i in range(40):
        for k in range(4):
            distance = abs(float(regression[i, k] - targets[i, k]))
            loss = distance**2 * 9 / 2 if distance < 1 / 9 else distance - 1 / 18
            total += float(labels[i] * scores[i]) * loss
    assert float(box_loss(regression, targets, labels, scores)) == pytest.approx(total / 40, rel=1e-12)


def test_soft_masks_are_averaged_over_regions_and_pixels() -> None:
    generator = torch.Generator().manual_seed(6)
    logits = 2 * torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    targets = torch.rand(3, 4, 4, generator=generator, dtype=torch.float64)
    scores = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64)
    total = 0.0
    for i in range(3):
        for logit, target in zip(logits[i].flatten().tolist(), targets[i].flatten().tolist(), strict=True):
            probability = 1 / (1 + math.exp(-logit))
            entropy = target * math.log(probability) + (1 - target) * math.log(1 - probability)
            total -= float(scores[i]) * entropy
    assert float(mask_loss(logits, targets, scores)) == pytest.approx(total / 48, rel=1e-12)


def test_scores_and_weights_of_one_give_the_losses_of_mask_rcnn() -> None:
    logits, labels, _, _ = some_regions()
    ones = torch.ones(40, dtype=torch.float64)
    deltas, targets = torch.randn(2, 40, 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    expected = fastrcnn_loss(logits, torch.cat([torch.zeros(40, 4), deltas], dim=1), [labels], [targets])
    got = classification_loss(logits, labels, ones, ones), box_loss(deltas, targets, labels, ones)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


def test_nothing_to_learn_from_gives_zero_and_a_gradient() -> None:
    logits, empty = torch.zeros(0, 3, 3, requires_grad=True), torch.zeros(0)
    loss = mask_loss(logits, torch.zeros(0, 3, 3), empty)
    loss.backward()
    assert (loss.item(), logits.grad is not None) == (0, True)
    assert float(classification_loss(torch.zeros(0, 2), empty.long(), empty, empty)) == 0
    assert float(box_loss(torch.zeros(0, 4), torch.zeros(0, 4), empty.long(), empty)) == 0
