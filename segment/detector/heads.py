"""The heads of Mask R-CNN, trained with the losses of ``losses.py``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes
from torchvision.ops import clip_boxes_to_image

from eigenseg.segment.detector.losses import box_loss, classification_loss, drop_weights, mask_loss


class SoftRoIHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's heads, trained with DropLoss and soft targets: ``targets[i]["scores"]`` are the labels' scores.

    Class 1 is the object; the boxes of class 0 are never used, so box regression is class-agnostic.
    """

    drop_iou: float | None = None

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """As torchvision's; the losses are named ``classification``, ``box`` and ``mask``."""
        if not self.training:
            result: tuple[list[dict[str, Tensor]], dict[str, Tensor]] = super().forward(features, proposals, image_shapes)
            return result
        assert targets is not None
        proposals, matches, matched_labels, deltas = self.select_training_samples(proposals, targets)
        labels = torch.cat(matched_labels)
        scores = torch.cat([_matched(target["scores"], match) for target, match in zip(targets, matches, strict=True)])
        logits, regression = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        regression = regression[:, 4:]
        weights = torch.ones_like(scores)
        if self.drop_iou is not None:
            weights = self._drop_weights(regression, proposals, image_shapes, targets, self.drop_iou)
        losses = {
            "classification": classification_loss(logits, labels, scores, weights),
            "box": box_loss(regression, torch.cat(deltas), labels, scores),
        }
        if self.has_mask():
            losses["mask"] = self._mask_loss(features, proposals, image_shapes, targets, matches, matched_labels)
        return [], losses

    @torch.no_grad()
    def _drop_weights(
        self, regression: Tensor, proposals: list[Tensor], image_shapes: list[Any], targets: list[Any], min_iou: float
    ) -> Tensor:
        boxes = self.box_coder.decode(regression, proposals)[:, 0].split([len(one) for one in proposals])
        return torch.cat(
            [
                drop_weights(clip_boxes_to_image(box, shape), target["boxes"], min_iou)
                for box, shape, target in zip(boxes, image_shapes, targets, strict=True)
            ]
        )

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[Any],
        targets: list[Any],
        matches: list[Tensor],
        labels: list[Tensor],
    ) -> Tensor:
        positive = [label > 0 for label in labels]
        regions = [boxes[chosen] for boxes, chosen in zip(proposals, positive, strict=True)]
        matches = [match[chosen] for match, chosen in zip(matches, positive, strict=True)]
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, regions, image_shapes)))[:, 1]
        side = logits.shape[-1]
        masks = [
            project_masks_on_boxes(target["masks"], boxes, match, side) if len(boxes) else logits.new_zeros(0, side, side)
            for target, boxes, match in zip(targets, regions, matches, strict=True)
        ]
        scores = [_matched(target["scores"], match) for target, match in zip(targets, matches, strict=True)]
        return mask_loss(logits, torch.cat(masks), torch.cat(scores))


def _matched(scores: Tensor, match: Tensor) -> Tensor:
    """Score of the label that each region is matched to; an image without labels has background alone."""
    return scores[match] if len(scores) else scores.new_ones(len(match))
