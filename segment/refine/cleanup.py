"""After the threshold: holes, components, and how much of a mask is still what it was.

SciPy does the searching, on the CPU; masks come back on the device they came from.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def fill_holes(masks: Tensor) -> Tensor:
    """Make background that the 4-connected outside does not reach part of the mask.

    Args:
        masks: (n, H, W) bool.
    """
    filled = masks.cpu().numpy().copy()
    for mask in filled:
        ndimage.binary_fill_holes(mask, output=mask)
    return torch.from_numpy(filled).to(masks.device)


def published_component(masks: Tensor) -> Tensor:
    """Keep what TokenCut's bilateral solver keeps: the second largest of all areas, the background's among them.

    That is the largest object as a rule, but the background wherever one object covers more than it does. A mask without
    any component comes back as the whole image. Areas that are equal stay in the order of their labels, background first.

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
    shared = (first & second).flatten(1).sum(dim=1)
    return torch.where(union > 0, shared / union.clamp(min=1).double(), 1.0)
