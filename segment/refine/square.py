"""Refinement at a fixed square size, as published in MaskCut: images are squeezed into squares, masks are stretched back.

The resampling is Pillow's, as published, on the CPU; results are on the device of what was given.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from eigenseg.segment.refine.base import Refined, compare


def square_image(image: Tensor, size: int) -> Tensor:
    """An image in a square by Lanczos filtering, whatever its aspect ratio: (H, W, 3) to (size, size, 3) uint8."""
    squeezed = Image.fromarray(image.cpu().numpy()).resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(squeezed)).to(image.device)


def square_masks(masks: Tensor, size: int) -> Tensor:
    """Masks in a square, nearest by pixel centers: (n, H, W) to (n, size, size), same dtype.

    Masks that follow the patches of a grid become those of the grid at that size, to a pixel of the image at their borders.
    """
    rows, columns = ((2 * torch.arange(size, device=masks.device) + 1) * side // (2 * size) for side in masks.shape[1:])
    return masks[:, rows][:, :, columns]


def stretch(refined: Refined, before: Tensor, min_iou: float | None) -> Refined:
    """Results of a square in the image's size.

    As published a mask is resized by bicubic filtering in 8 bits, and is where that exceeds half of its maximum. Soft maps
    are bilinear.

    Args:
        refined: of the square.
        before: (n, H, W) bool or floating, the masks before in the image's size.
        min_iou: as in ``compare``, of the image's pixels; None keeps IoU and ``kept`` of the square, as published.
    """
    height, width = before.shape[1:]
    masks = np.zeros((len(refined.masks), height, width), dtype=bool)
    for mask, out in zip(refined.masks.cpu().numpy(), masks, strict=True):
        large = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BICUBIC))
        out[:] = large > large.max() / 2
    soft = refined.soft[:0].new_zeros(0, height, width)
    if len(refined.soft):
        soft = F.interpolate(
            refined.soft[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True
        )[0]
    stretched = torch.from_numpy(masks).to(refined.masks.device)
    if min_iou is None:
        return replace(refined, soft=soft, masks=stretched)
    return compare(soft, stretched, before, min_iou, refined.details)
