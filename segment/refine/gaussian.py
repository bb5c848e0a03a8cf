"""Exact separable Gaussian filtering of maps, normalized at the border."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_REACH = 8.0  # sigmas; exp(-32) is below the rounding of float64 sums
_BLOCK = 256  # rows per product: enough for speed, few enough to skip most of the empty band


class GaussianKernel:
    """D^-1/2 K D^-1/2 with K_ij = exp(-|p_i - p_j|^2 / (2 sigma^2)) over the pixels of each image, i = j included.

    K is a product of one kernel per axis, and so is the normalized one.

    Args:
        sizes: (H, W) of the images, whose pixels are stacked in one table.
        sigma: in pixels.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], sigma: float) -> None:
        self._sizes, self._sigma = list(sizes), sigma

    def __call__(self, values: Tensor) -> Tensor:
        """Filter a table (P, C) of all images' pixels."""
        pixels = [height * width for height, width in self._sizes]
        return torch.cat(
            [self._smooth(part, *size) for part, size in zip(torch.split(values, pixels), self._sizes, strict=True)]
        )

    def _smooth(self, values: Tensor, height: int, width: int) -> Tensor:
        channels = values.shape[1]
        down = smooth_rows(values.reshape(height, width * channels), self._sigma)
        turned = down.view(height, width, channels).transpose(0, 1).reshape(width, height * channels)
        across = smooth_rows(turned, self._sigma)
        return across.view(width, height, channels).transpose(0, 1).reshape(height * width, channels)


def smooth_rows(values: Tensor, sigma: float) -> Tensor:
    """The normalized kernel of one axis times (n, m)."""
    count, reach = len(values), math.ceil(_REACH * sigma)
    position = torch.arange(count, device=values.device, dtype=torch.float64)
    blocks = [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    bands = [slice(max(0, rows.start - reach), min(count, rows.stop + reach)) for rows in blocks]
    kernels = [
        torch.exp(-(((position[rows, None] - position[band]) / sigma) ** 2) / 2)
        for rows, band in zip(blocks, bands, strict=True)
    ]
    scale = torch.cat([kernel.sum(dim=1) for kernel in kernels]).rsqrt()
    return torch.cat(
        [
            (scale[rows, None] * kernel * scale[band]).to(values.dtype) @ values[band]
            for kernel, rows, band in zip(kernels, blocks, bands, strict=True)
        ]
    )
