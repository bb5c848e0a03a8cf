"""Masks on token grids: connected components, boxes, corners. Grids are row-major, (height, width), in tokens.

Everything here works on any batch of masks, so the refiners use it on pixels too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from eigenseg.data.geometry import Size

# Neighbors share a side, or a side or a corner.
Connectivity = Literal[4, 8]


def label_components(masks: Tensor, connectivity: Connectivity = 4) -> tuple[Tensor, Tensor]:
    """Label the connected components of every mask.

    Args:
        masks: (B, H, W) bool.
        connectivity: 4 or 8 neighbors.

    Returns:
        Labels (B, H, W) int64 on the masks' device, 0 outside, from 1 within each mask in the order of the components'
        first pixels; and the number of components (B,) int64.

    Example:
        >>> labels, counts = label_components(torch.tensor([[[True, False, True, True]]]))
        >>> labels.tolist(), counts.tolist()
        ([[[1, 0, 2, 2]]], [2])
    """
    labels = np.zeros(tuple(masks.shape), dtype=np.int64)
    counts = [ndimage.label(mask, _structure(connectivity), output=labels[i]) for i, mask in enumerate(masks.cpu().numpy())]
    return torch.from_numpy(labels).to(masks.device), torch.tensor(counts, dtype=torch.int64, device=masks.device)


def component_sizes(labels: Tensor) -> Tensor:
    """Size of every label of ``label_components``, label 0 included: (B, H, W) -> (B, largest label + 1) int64."""
    flat = labels.flatten(1)
    sizes = flat.new_zeros(len(flat), int(flat.max()) + 1 if flat.numel() else 1)
    return sizes.scatter_add_(1, flat, torch.ones_like(flat))


def component_of(mask: Tensor, seed: Tensor) -> Tensor:
    """Keep the 4-connected component that contains the seed; a mask that does not contain its seed becomes empty.

    Args:
        mask: (B, H, W) bool.
        seed: (B,) int64, row-major token index.

    Returns:
        (B, H, W) bool, on the mask's device.

    Example:
        >>> mask = torch.tensor([[[True, False, True, True]]])
        >>> component_of(mask, torch.tensor([3])).int().tolist()
        [[[0, 0, 1, 1]]]
    """
    labels, _ = label_components(mask)
    label_of_seed = labels.flatten(1).gather(1, seed[:, None])  # (B, 1); label 0 is the outside
    return (labels == label_of_seed[:, :, None]) & mask


def largest_component(masks: Tensor, connectivity: Connectivity = 4) -> Tensor:
    """Keep the largest connected component, of equal ones the one whose first pixel comes first; empty masks stay empty.

    Args:
        masks: (B, H, W) bool.
        connectivity: 4 or 8 neighbors.

    Returns:
        (B, H, W) bool, on the masks' device.

    Example:
        >>> largest_component(torch.tensor([[[True, False, True, True]]])).int().tolist()
        [[[0, 0, 1, 1]]]
    """
    kept = np.zeros(tuple(masks.shape), dtype=bool)
    # One mask at a time: labels of a hundred large masks would take eight times the memory of the masks.
    for mask, out in zip(masks.cpu().numpy(), kept, strict=True):
        labels, count = ndimage.label(mask, _structure(connectivity))
        if count:
            sizes = np.bincount(labels.ravel(), minlength=count + 1)
            out[:] = labels == 1 + sizes[1:].argmax()
    return torch.from_numpy(kept).to(masks.device)


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes around masks.

    Args:
        masks: (B, H, W) bool.

    Returns:
        (B, 4) int64 xyxy half-open, in tokens; all 0 for an empty mask.

    Example:
        >>> mask_boxes(torch.tensor([[[False, True, True], [False, False, True]]])).tolist()
        [[1, 0, 3, 2]]
    """
    sides = []
    for axis in (1, 2):  # any over rows leaves columns, hence x first
        covered = masks.any(dim=axis).int()
        last = covered.shape[1] - covered.flip(1).argmax(dim=1)
        sides.append((covered.argmax(dim=1), last))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1) * masks.flatten(1).any(dim=1, keepdim=True)


def corners_inside(masks: Tensor) -> Tensor:
    """How many of the four corners each mask covers: (B, H, W) bool -> (B,) int64."""
    return torch.stack([masks[:, y, x] for y in (0, -1) for x in (0, -1)]).sum(dim=0)


def check_grid(tokens: Tensor, grid: Size, at_least: int = 1) -> None:
    """Raise if the grid does not match the tokens, or there are fewer tokens than a method needs.

    Args:
        tokens: (B, N, ...).
        grid: (gh, gw).
        at_least: minimum number of tokens.

    Raises:
        ValueError: with the number of tokens.
    """
    if grid[0] * grid[1] != tokens.shape[1]:
        raise ValueError(f"grid {grid[0]}x{grid[1]} holds {grid[0] * grid[1]} tokens, got {tokens.shape[1]}")
    if tokens.shape[1] < at_least:
        raise ValueError(f"at least {at_least} tokens are needed, got a grid of {grid[0]}x{grid[1]}")


def _structure(connectivity: Connectivity) -> NDArray[np.bool_]:
    structure: NDArray[np.bool_] = ndimage.generate_binary_structure(rank=2, connectivity=1 if connectivity == 4 else 2)
    return structure
