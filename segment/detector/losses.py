"""Losses of a detector that is trained on pseudo-labels: DropLoss (CutLER) and soft targets (CuVLER).

Pseudo-labels miss objects. DropLoss does not punish a detection where there is no label: a region whose regressed box
meets no label has no classification loss. Labels are also wrong; a soft target trusts each as much as its score s says, and
gives a region that is matched to it the target (1 - s, s) for background and object. With s = 1 and all weights 1 the three
losses are those of Mask R-CNN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

# Where the box loss turns from quadratic to linear; torchvision's and detectron2's value for these targets.
_BETA = 1 / 9


def drop_weights(boxes: Tensor, labels: Tensor, min_iou: float = 0.01) -> Tensor:
    """Weight of each region in the classification loss: 0 if its regressed box meets no label, else 1.

    DropLoss (Wang et al., CutLER, CVPR 2023): 1[max_j IoU(box_i, label_j) > tau]. It goes over all labels of the
    image; the published code compares with as many of the regions' matches as there are different ones among the first
    hundred, which may be one label several times and another one not at all.

    Args:
        boxes: (n, 4) float xyxy pixels, regressed, of one image.
        labels: (g, 4) float xyxy pixels, all of this image; without any, every weight is 0.
        min_iou: tau; published 0.01.

    Returns:
        (n,) of the boxes' dtype.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 4, 4], [6, 6, 9, 9]])
        >>> drop_weights(boxes, torch.tensor([[1.0, 1, 5, 5]])).tolist()
        [1.0, 0.0]
    """
    if not len(labels):
        return boxes.new_zeros(len(boxes))
    largest: Tensor = box_iou(boxes, labels).amax(dim=1)
    return (largest > min_iou).to(boxes.dtype)


def classification_loss(logits: Tensor, labels: Tensor, scores: Tensor, weights: Tensor) -> Tensor:
    """Weighted cross-entropy with soft targets, averaged over all regions, those of weight 0 among them.

    CuVLER (Arica et al., CVPR 2024): the target is (1 - s, s) where the region is matched to a label of score s, else
    (1, 0).

    Args:
        logits: (n, 2) float, background and object.
        labels: (n,) int64, 1 where the region is matched to a label, else 0.
        scores: (n,) float in [0, 1], s; of background it does not matter.
        weights: (n,) float, such as ``drop_weights``.

    Returns:
        A scalar; 0 without regions.
    """
    objectness = torch.where(labels > 0, scores.to(logits.dtype), 0.0)
    targets = torch.stack([1 - objectness, objectness], dim=1)
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (weights.to(logits.dtype) * losses).sum() / max(1, len(logits))


def box_loss(regression: Tensor, targets: Tensor, labels: Tensor, scores: Tensor) -> Tensor:
    """Smooth L1 of the matched regions times their scores, divided by the number of all regions.

    Args:
        regression, targets: (n, 4) float, box deltas.
        labels, scores: (n,), as in ``classification_loss``.

    Returns:
        A scalar; 0 if no region is matched.
    """
    matched = labels > 0
    losses = F.smooth_l1_loss(regression[matched], targets[matched], beta=_BETA, reduction="none").sum(dim=1)
    return (scores[matched].to(regression.dtype) * losses).sum() / max(1, len(labels))


def mask_loss(logits: Tensor, targets: Tensor, scores: Tensor) -> Tensor:
    """Binary cross-entropy of the masks of matched regions times their scores, averaged over regions and pixels.

    Args:
        logits: (m, M, M) float.
        targets: (m, M, M) float in [0, 1].
        scores: (m,) float in [0, 1].

    Returns:
        A scalar; 0, still a part of the graph, without a region.
    """
    if not len(logits):
        return logits.sum()  # the mask head takes part in every backward pass, as several processes require
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=(1, 2))
    return (scores.to(logits.dtype) * losses).mean()
