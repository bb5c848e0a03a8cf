"""Occupied cells of a sparse integer grid in many dimensions: sorted once, looked up by binary search.

Both refiners put pixels on a five-dimensional grid that is mostly empty. A cell's code is one 64-bit number: its
coordinates in a mixed radix, wide enough for every neighbor, so that no two cells have the same code. Sorting the codes
groups the pixels of a cell deterministically, independent of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGEST = 2**62  # room for a step in both directions within int64


@dataclass(frozen=True)
class Cells:
    """Cells in ascending order, the first coordinate running fastest, and the points in them.

    Args:
        codes: (M,) int64, ascending; one number per cell.
        index: (n,) int64, the cell of every point.
        order: (n,) int64, the points sorted by cell, those of one cell in their own order.
        counts: (M,) int64, points in every cell.
        strides: increment of the code for one step in each coordinate.
    """

    codes: Tensor
    index: Tensor
    order: Tensor
    counts: Tensor
    strides: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def neighbors(self, step: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Indices of the cells one ``step`` after and before each: two (M,) int64, M for cells that are not occupied."""
        target = self.codes + sum(a * b for a, b in zip(step, self.strides, strict=True))
        index = torch.searchsorted(self.codes, target).clamp(max=len(self) - 1)
        exists = self.codes[index] == target
        after = torch.where(exists, index, len(self))
        before = torch.full_like(after, len(self))
        before[index[exists]] = exists.nonzero()[:, 0]  # the inverse of ``after``
        return after, before


def occupied_cells(coordinates: Tensor, reach: int) -> Cells:
    """Group points by cell.

    Args:
        coordinates: (n, d) int64, n > 0.
        reach: the largest coordinate of any step passed to ``neighbors``.

    Raises:
        ValueError: if the bounding box has more than 2^62 cells.
    """
    low = coordinates.amin(dim=0)
    # A step leads at most ``reach`` beyond the box; with that many spare digits it cannot reach the next row.
    extents = [side + 1 + reach for side in (coordinates.amax(dim=0) - low).tolist()]
    if math.prod(extents) > _LARGEST:
        raise ValueError(f"a grid of {' x '.join(map(str, extents))} cells is too fine; increase the sigmas")
    strides = tuple(math.prod(extents[:k]) for k in range(len(extents)))
    codes = torch.zeros_like(coordinates[:, 0])
    for k, stride in enumerate(strides):
        codes += (coordinates[:, k] - low[k]) * stride
    in_order, order = codes.sort(stable=True)
    cells, cell_of_sorted, counts = torch.unique_consecutive(in_order, return_inverse=True, return_counts=True)
    index = torch.empty_like(order).scatter_(0, order, cell_of_sorted)
    return Cells(cells, index, order, counts, strides)
