"""Targets of FOUND's training: masks that follow the edges of the image (Siméoni et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from eigenseg.segment.refine.base import hard
from eigenseg.segment.refine.bilateral import TOKENCUT, BilateralParameters, bilateral_solve
from eigenseg.segment.refine.cleanup import fill_holes, mask_iou


def solver_targets(
    images: Sequence[Tensor], masks: Tensor, min_iou: float = 0.5, parameters: BilateralParameters = TOKENCUT
) -> Tensor:
    """Masks as the bilateral solver moves them.

    The solver's output above 0.5 has its holes filled. Of its labels (the background, and each 4-connected component) the
    most frequent one is taken for the background, and all others are the target. It replaces a mask where their IoU exceeds
    ``min_iou`` (strict); other masks stay as they were.

    Args:
        images: (H, W, 3) uint8 RGB each, all of one size.
        masks: (B, H, W) bool, one per image.
        min_iou: published: 0.5.
        parameters: of the solver. Published: cells of 16 pixels, 16 levels of luma, 8 of chroma.

    Returns:
        (B, H, W) bool.

    Example:
        >>> image = torch.zeros(8, 8, 3, dtype=torch.uint8)
        >>> image[:, 5:] = 255
        >>> mask = torch.zeros(1, 8, 8, dtype=torch.bool)
        >>> mask[0, :, 4:] = True  # one column too many
        >>> solver_targets([image], mask)[0, 0].int().tolist()
        [0, 0, 0, 0, 0, 1, 1, 1]
    """
    solved = bilateral_solve(images, [mask[None] for mask in masks], parameters)
    moved = without_most_frequent(fill_holes(torch.cat([hard(one.soft) for one in solved])))
    return torch.where((mask_iou(moved, masks) > min_iou)[:, None, None], moved, masks)


def without_most_frequent(masks: Tensor) -> Tensor:
    """All pixels but those of the most frequent label; the labels are the background and each 4-connected component.

    Args:
        masks: (B, H, W) bool.

    Returns:
        (B, H, W) bool; of equally frequent labels the first in row order is left out, the background before the others.
    """
    kept = np.empty(tuple(masks.shape), dtype=bool)
    for mask, out in zip(masks.cpu().numpy(), kept, strict=True):
        labels, _ = ndimage.label(mask)
        out[:] = labels != np.bincount(labels.ravel()).argmax()
    return torch.from_numpy(kept).to(masks.device)
