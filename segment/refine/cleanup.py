"""After the threshold: holes, components, and how much of a mask is still what it was.

SciPy does the searching, on the CPU; masks come back on the device they came from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

_Labels = NDArray[np.signedinteger]  # (H, W), 0 is the background
_Choice = Callable[[_Labels, int], NDArray[np.bool_]]


def fill_holes(masks: Tensor) -> Tensor:
    """Make background that the 4-connected outside does not reach part of the mask.

    Args:
        masks: (n, H, W) bool.
    """
    filled = masks.cpu().numpy().copy()
    for mask in filled:
        ndimage.binary_fill_holes(mask, output=mask)
    return torch.from_numpy(filled).to(masks.device)


def largest_component(masks: Tensor) -> Tensor:
    """Keep the largest 4-connected component of each mask, among equals the first in reading order.

    Args:
        masks: (n, H, W) bool.
    """
    return _keep(masks, _largest)


def published_component(masks: Tensor) -> Tensor:
    """Keep what TokenCut's bilateral solver keeps: the second largest of all areas, the background's among them.

    That is the largest object as a rule, but the background wherever one object covers more than it does. A mask without
    any component comes back as the whole image. Areas that are equal stay in the order of their labels, background first.

    Args:
        masks: (n, H, W) bool.
    """
    return _keep(masks, _second)


def mask_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of each pair: (n,) float64, 1 where both are empty.

    Args:
        first, second: (n, H, W) bool.
    """
    union = (first | second).flatten(1).sum(dim=1)
    shared = (first & second).flatten(1).sum(dim=1)
    return torch.where(union > 0, shared / union.clamp(min=1).double(), 1.0)


def _keep(masks: Tensor, choose: _Choice) -> Tensor:
    kept = np.empty(tuple(masks.shape), dtype=bool)
    for i, mask in enumerate(masks.cpu().numpy()):
        labels, count = ndimage.label(mask)  # 4-connected by default
        kept[i] = choose(labels, count)
    return torch.from_numpy(kept).to(masks.device)


def _largest(labels: _Labels, count: int) -> NDArray[np.bool_]:
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return labels == 1 + areas[1:].argmax() if count else np.zeros(labels.shape, dtype=bool)


def _second(labels: _Labels, count: int) -> NDArray[np.bool_]:
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    return labels == np.argsort(areas, kind="stable")[-2] if count else np.ones(labels.shape, dtype=bool)
