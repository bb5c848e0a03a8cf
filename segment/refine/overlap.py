"""Masks that are refined one by one, made disjoint again where they were before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def separate(
    masks: Tensor, before: Tensor, soft: Tensor, scores: Sequence[float], depths: Sequence[int] | None = None
) -> Tensor:
    """Take pixels away until masks share only pixels that they shared before.

    A pixel of several refined masks stays in those that held it before; if there are none, it goes to the mask with the
    largest soft value there, of equal ones to the highest score, then the first. So a mask loses only pixels by which it
    grew, and every pixel of some refined mask is in one of the results.

    Args:
        masks: (n, H, W) bool, refined; an empty one takes nothing.
        before: (n, H, W) bool, the same masks before.
        soft: (n, H, W) floating, the soft maps of the refined masks.
        scores: n numbers.
        depths: n integers; masks of different depths, such as objects and their parts, may share pixels. All are of one
            depth by default.

    Returns:
        (n, H, W) bool, each within its refined mask.

    Example:
        >>> before = torch.tensor([[[True, False, False, False]], [[False, False, False, True]]])
        >>> refined = torch.tensor([[[True, True, True, False]], [[True, True, True, True]]])
        >>> soft = torch.tensor([[[0.9, 0.8, 0.6, 0.1]], [[0.95, 0.6, 0.7, 0.9]]])
        >>> separate(refined, before, soft, [0.5, 0.5]).int().tolist()
        [[[1, 1, 0, 0]], [[0, 0, 1, 1]]]
    """
    depths = [0] * len(masks) if depths is None else depths
    result = torch.empty_like(masks)
    for depth in set(depths):
        rivals = [i for i in range(len(masks)) if depths[i] == depth]
        held = (masks[rivals] & before[rivals]).any(dim=0)  # by a mask that had the pixel before
        best = torch.full_like(soft[0], -torch.inf)
        winner = torch.full_like(held, -1, dtype=torch.int64)
        for i in sorted(rivals, key=lambda i: -scores[i]):
            ahead = masks[i] & (soft[i] > best)
            best, winner = torch.where(ahead, soft[i], best), torch.where(ahead, i, winner)
        for i in rivals:
            result[i] = masks[i] & torch.where(held, before[i], winner == i)
    return result
