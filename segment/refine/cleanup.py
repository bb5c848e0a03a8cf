"""Postprocessing of hard masks: holes, components, and the IoU with the masks before refinement.

Hole filling and components run in SciPy on the CPU; results are on the masks' device.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def fill_holes(masks: Tensor) -> Tensor:
    """Fill holes: background that is not 4-connected to the image border becomes part of the mask.

    Args:
        masks: (n, H, W) bool.
    """
    filled = masks.cpu().numpy().copy()
    for mask in filled:
        ndimage.binary_fill_holes(mask, output=mask)
    return torch.from_numpy(filled).to(masks.device)


def remove_specks(masks: Tensor, fraction: float) -> Tensor:
    """Remove 4-connected components with less than a fraction of their mask's pixels.

    Args:
        masks: (n, H, W) bool.
        fraction: in [0, 1); 0 removes nothing.

    Example:
        >>> mask = torch.tensor([[[True, True, True, False, True]]])
        >>> remove_specks(mask, 0.3).int().tolist()
        [[[1, 1, 1, 0, 0]]]
    """
    if not fraction:
        return masks
    cleaned = masks.cpu().numpy().copy()
    for mask in cleaned:
        labels, count = ndimage.label(mask)
        if count > 1:
            areas = np.bincount(labels.ravel(), minlength=count + 1)
            areas[0] = 0
            mask &= (areas >= fraction * areas.sum())[labels]
    return torch.from_numpy(cleaned).to(masks.device)


def published_component(masks: Tensor) -> Tensor:
    """Keep the component that TokenCut's bilateral solver keeps: the second largest area, the background included.

    That is usually the largest object, but the background if one object covers more than it does. A mask without any
    component becomes the whole image. Equal areas are ordered by label, background first.

    Args:
        masks: (n, H, W) bool.
    """
    kept = np.ones(tuple(masks.shape), dtype=bool)
    for mask, out in zip(masks.cpu().numpy(), kept, strict=True):
        labels, count = ndimage.label(mask)  # 4-connected by default
        if count:
            areas = np.bincount(labels.ravel(), minlength=count + 1)
            out[:] = labels == np.argsort(areas, kind="stable")[-2]
    return torch.from_numpy(kept).to(masks.device)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of each pair: (n,) float64, 1 where both are empty.

    Args:
        first, second: (n, H, W) bool.
    """
    union = (first | second).flatten(1).sum(dim=1)
    intersection = (first & second).flatten(1).sum(dim=1)
    return torch.where(union > 0, intersection / union.clamp(min=1).double(), 1.0)
