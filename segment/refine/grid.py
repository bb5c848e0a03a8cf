"""The bilateral grid: pixels close in color and position share a cell (Barron and Poole, ECCV 2016, section 2).

A cell is a box in (x, y, Y, U, V); only occupied cells are stored. ``splat`` sums pixels over their cells, ``slice`` copies
a cell's value to its pixels, ``blur`` mixes cells with their neighbors along the five axes. Images of a batch never
mix: the image's index is a sixth coordinate, along which there is no blur.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eigenseg.segment.refine.cells import occupied_cells
from eigenseg.segment.refine.rounding import fused_multiply_add

AXES = 5
# JPEG's full-range YUV. A gray's Y, U and V are integers but for rounding, so rounding decides its cell. Published is a
# matrix product in NumPy: fused multiply-adds from left to right, then the offset. It is computed so on every device.
_YUV = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_OFFSET = (0.0, 128.0, 128.0)
# The published hash writes coordinates in base 255, where the neighbor of 254 is 0 of the next row.
_PUBLISHED_LAST = 253


class BilateralGrid:
    """Occupied cells of a batch of images, ordered by image, V, U, Y, y, x (x fastest).

    Args:
        images: (H, W, 3) uint8 RGB each, any sizes, one device.
        sigma_spatial: side of a cell in pixels.
        sigma_luma, sigma_chroma: side of a cell in levels of Y, and of U and V, of 256.

    Raises:
        ValueError: if the grid has more than 2^62 cells.
    """

    def __init__(self, images: Sequence[Tensor], sigma_spatial: float, sigma_luma: float, sigma_chroma: float) -> None:
        points = torch.cat(
            [_coordinates(image, i, (sigma_spatial, sigma_luma, sigma_chroma)) for i, image in enumerate(images)]
        )
        self._cells = occupied_cells(points, reach=1)
        self.image = points[self._cells.order, AXES][self._cells.counts.cumsum(0) - 1]  # (V,) int64, of every cell
        self.cells_per_image = torch.bincount(self.image, minlength=len(images))  # (B,) int64
        self.pixels_per_cell = self._cells.counts  # (V,) int64
        self.published = bool(points[:, :AXES].max() <= _PUBLISHED_LAST)  # whether the published hash has no collisions
        self._neighbors = self._find_neighbors()

    def __len__(self) -> int:
        return len(self._cells)

    def splat(self, pixels: Tensor) -> Tensor:
        """Sums over the pixels of each cell: (P, K) float64, images one after the other, to (V, K)."""
        # Sorted sums, not atomic additions: bitwise the same in every run and every batch.
        return torch.segment_reduce(pixels[self._cells.order], "sum", lengths=self._cells.counts, axis=0)

    def slice(self, cells: Tensor) -> Tensor:
        """Each pixel's cell: (V, K) to (P, K)."""
        return cells[self._cells.index]

    def blur(self, cells: Tensor) -> Tensor:
        """[1 2 1] along each axis, summed over the axes; missing cells count as 0. (V, K) to (V, K)."""
        padded = torch.cat([cells, cells.new_zeros(1, cells.shape[1])])
        total = 2 * AXES * cells
        for neighbors in self._neighbors:  # in a loop: the same order of additions for any number of columns
            total += padded[neighbors]
        return total

    def per_image(self, cells: Tensor) -> Tensor:
        """Sums over the cells of each image: (V, K) to (B, K)."""
        return torch.segment_reduce(cells, "sum", lengths=self.cells_per_image, axis=0)

    def _find_neighbors(self) -> list[Tensor]:
        """Ten (V,) int64: one step up and down every axis; V for cells that are not occupied."""
        steps = [tuple(int(axis == k) for k in range(AXES + 1)) for axis in range(AXES)]
        return [side for step in steps for side in self._cells.neighbors(step)]


def _coordinates(image: Tensor, index: int, sigmas: tuple[float, float, float]) -> Tensor:
    """(HW, 6) int64: the cell's x, y, Y, U, V and the image's index."""
    height, width = image.shape[:2]
    rows, columns = (torch.arange(side, device=image.device, dtype=torch.float64) for side in (height, width))
    rows, columns = rows[:, None].expand(height, width), columns.expand(height, width)
    spatial, luma, chroma = sigmas
    levels = image.reshape(-1, 3).long()
    # Each color once: a photograph has far fewer colors than pixels, and rounding as published takes fifty operations.
    colors, color = torch.unique(levels[:, 0] << 16 | levels[:, 1] << 8 | levels[:, 2], return_inverse=True)
    red, green, blue = ((colors >> shift & 255).double() for shift in (16, 8, 0))
    yuv = [
        fused_multiply_add(blue, c, fused_multiply_add(green, b, red * a)) + offset
        for (a, b, c), offset in zip(_YUV, _OFFSET, strict=True)
    ]
    axes = [(axis / sigma).floor().long()[color] for axis, sigma in zip(yuv, (luma, chroma, chroma), strict=True)]
    cells = [(axis / spatial).floor().long().flatten() for axis in (columns, rows)] + axes
    return torch.stack([*cells, torch.full_like(color, index)], dim=1)
