"""Occupied cells of an integer grid in many dimensions: sorted once, found by binary search.

Both refiners put pixels on a grid of five dimensions of which only a sliver is ever touched. A cell is one 64-bit number,
its coordinates in a mixed radix that is wide enough for every neighbor asked for, so two cells never share a number.
Sorting them groups the pixels of a cell; nothing depends on the order in which threads arrive.
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
        codes: (M,) int64, ascending; one number a cell.
        index: (n,) int64, the cell of every point.
        order: (n,) int64, the points sorted by cell, those of one cell in their own order.
        counts: (M,) int64, points in every cell.
        strides: what one step in each coordinate adds to a code.
    """

    codes: Tensor
    index: Tensor
    order: Tensor
    counts: Tensor
    strides: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def neighbors(self, step: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The cells one ``step`` after and before each: two (M,) int64, M where no point lies."""
        wanted = self.codes + sum(a * b for a, b in zip(step, self.strides, strict=True))
        found = torch.searchsorted(self.codes, wanted).clamp(max=len(self) - 1)
        exists = self.codes[found] == wanted
        after = torch.where(exists, found, len(self))
        before = torch.full_like(after, len(self))
        before[found[exists]] = exists.nonzero()[:, 0]  # whoever is after me, I am before
        return after, before


def occupied_cells(coordinates: Tensor, reach: int) -> Cells:
    """Group points by cell.

    Args:
        coordinates: (n, d) int64, n > 0.
        reach: the largest coordinate of a step that ``neighbors`` will be asked for.

    Raises:
        ValueError: if the bounding box has more cells than there are 62-bit numbers.
    """
    low = coordinates.amin(dim=0)
    # A step leads at most ``reach`` beyond the box; with that many spare digits it cannot arrive in the next row.
    extents = [side + 1 + reach for side in (coordinates.amax(dim=0) - low).tolist()]
    if math.prod(extents) > _LARGEST:
        raise ValueError(f"a grid of {' x '.join(map(str, extents))} cells is too fine to be numbered; raise the sigmas")
    strides = tuple(math.prod(extents[:k]) for k in range(len(extents)))
    codes = torch.zeros_like(coordinates[:, 0])
    for k, stride in enumerate(strides):
        codes += (coordinates[:, k] - low[k]) * stride
    in_order, order = codes.sort(stable=True)
    cells, cell_of_sorted, counts = torch.unique_consecutive(in_order, return_inverse=True, return_counts=True)
    index = torch.empty_like(order).scatter_(0, order, cell_of_sorted)
    return Cells(cells, index, order, counts, strides)
