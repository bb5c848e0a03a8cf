"""Position embeddings resized to the image's grid of patches.

The published DINO code resizes the table by bicubic interpolation with a *scale factor* of (patches + 0.1) / table side,
and that factor, not the ratio of the sizes, places the sampling points. Interpolating to the target size instead, as other
libraries do, shifts every sample and changes the keys by 3 to 7 % away from the training size. DINOv2 without registers was
published with the same code.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor

PositionRule = Literal["dino", "timm"]


def resize_positions(table: Tensor, grid: tuple[int, int], prefix: int, rule: PositionRule) -> Tensor:
    """Resize a learned position table to a grid of patches.

    Args:
        table: (1, prefix + side^2, D) trained on a square grid.
        grid: target (gh, gw), in patches.
        prefix: leading entries, of CLS, which are kept as they are.
        rule: ``"dino"``, the published DINO form (``vision_transformer.py``, ``interpolate_pos_encoding``);
            ``"timm"``, bicubic with antialiasing to the target size.

    Returns:
        (1, prefix + gh * gw, D), the table itself where the grid is the trained one.
    """
    side = math.isqrt(table.shape[1] - prefix)
    if grid == (side, side):
        return table
    if rule == "timm":
        resized: Tensor = resample_abs_pos_embed(table, list(grid), [side, side], num_prefix_tokens=prefix)
        return resized
    square = table[:, prefix:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    # The 0.1 keeps floor(side * factor) from falling one short; being part of the factor, it also moves the samples.
    factor = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    scaled = F.interpolate(square, scale_factor=factor, mode="bicubic")
    return torch.cat([table[:, :prefix], scaled.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
