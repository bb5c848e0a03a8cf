"""From an eigenvector to one object: the foreground side of a cut, its seed and the seed's component.

TokenCut (Wang et al., CVPR 2022, section 3.2) thresholds the second generalized eigenvector at its mean, calls the side of
the largest magnitude foreground, and keeps the connected component around that peak. Everything here works on a batch of
token grids of one size; grids are row-major, (height, width), in tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from eigenseg.discovery.spectral.result import orient, peak_index

# Rows touch their four neighbours, images never touch each other: one labelling call serves the whole batch.
_FOUR_NEIGHBOURS = np.zeros((3, 3, 3), dtype=bool)
_FOUR_NEIGHBOURS[1] = ndimage.generate_binary_structure(rank=2, connectivity=1)


class Bipartition(NamedTuple):
    """The two sides of a cut."""

    foreground: Tensor  # (B, H, W) bool
    seed: Tensor  # (B,) int64, row-major index of the foreground's peak


def bipartition(eigenvector: Tensor, grid: tuple[int, int], valid: Tensor | None = None) -> Bipartition:
    """Threshold at the mean; the side that holds the largest magnitude is the foreground.

    An eigenvector's sign is arbitrary, so it is fixed first: the entry of largest magnitude becomes positive. The result is
    therefore the same for ``x`` and ``-x``. Tokens exactly at the mean are background, so a constant vector has no object.

    Args:
        eigenvector: (B, N) real, one per image, any scale.
        grid: token grid (H, W) with H * W = N.
        valid: (B, N) bool; False takes a token out of the mean, the seed and the foreground.

    Raises:
        ValueError: if the grid does not hold N tokens or an entry is not finite.
    """
    batch, tokens = eigenvector.shape
    height, width = grid
    if height * width != tokens:
        raise ValueError(f"grid {height}x{width} holds {height * width} tokens, eigenvector has {tokens}")
    if not torch.isfinite(eigenvector).all():
        raise ValueError("eigenvector has entries that are not finite")
    if valid is None:
        valid = torch.ones_like(eigenvector, dtype=torch.bool)

    oriented = orient(torch.where(valid, eigenvector, 0.0))
    mean = oriented.sum(dim=1, keepdim=True) / valid.sum(dim=1, keepdim=True).clamp(min=1)
    foreground = (oriented > mean) & valid
    return Bipartition(foreground.view(batch, height, width), peak_index(oriented))


def component_of(mask: Tensor, seed: Tensor) -> Tensor:
    """Keep the 4-connected component that holds the seed; an image whose seed lies outside its mask comes back empty.

    Args:
        mask: (B, H, W) bool.
        seed: (B,) int64, row-major token index.

    Returns:
        (B, H, W) bool, on the mask's device.
    """
    found, _ = ndimage.label(mask.cpu().numpy(), structure=_FOUR_NEIGHBOURS)
    labels = torch.from_numpy(found).to(mask.device)
    wanted = labels.flatten(1).gather(1, seed[:, None])  # (B, 1); label 0 is the outside
    return (labels == wanted[:, :, None]) & mask


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes around masks.

    Args:
        masks: (B, H, W) bool.

    Returns:
        (B, 4) int64 xyxy half-open, in tokens; all 0 for an empty mask.
    """
    sides = []
    for axis in (1, 2):  # any over rows leaves columns, hence x first
        hit = masks.any(dim=axis).int()
        last = hit.shape[1] - hit.flip(1).argmax(dim=1)
        sides.append((hit.argmax(dim=1), last))
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], dim=1) * masks.flatten(1).any(dim=1, keepdim=True)
