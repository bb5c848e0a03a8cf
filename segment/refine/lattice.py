"""Gaussian filtering in many dimensions on the permutohedral lattice (Adams, Baek and Davis, Eurographics 2010).

Computes sum_j exp(-|f_i - f_j|^2 / 2) v_j for every pixel i, in time that does not grow with the square of their number.
The lattice tiles the space with simplices: a pixel splats its values onto the d + 1 corners around it by barycentric
weights, the corners are blurred with [1 2 1] / 2 along the d + 1 lattice directions, and pixels are interpolated from their
corners (slicing). The three steps together have the variance of the Gaussian; only corners of some pixel are stored.

This is an approximation: on photographs, with the widths of MaskCut, a pixel's weights differ from the exact ones by a
fifth of their sum. Published CRF results were computed on this lattice, so the refiner uses it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.segment.refine.cells import occupied_cells


class PermutohedralLattice:
    """The lattice around a set of points; corners and weights are computed once, for any number of filterings.

    Args:
        features: (P, d) floating, in standard deviations of the kernel.
        groups: (P,) int64; points of different groups, such as images of a batch, do not interact.

    Raises:
        ValueError: if the lattice has more than 2^62 cells.
    """

    def __init__(self, features: Tensor, groups: Tensor) -> None:
        corners, weights = enclosing_corners(features.double())
        points, count, dims = corners.shape
        keys = torch.cat([corners, groups[:, None, None].expand(points, count, 1)], dim=2)
        self._cells = occupied_cells(keys.flatten(0, 1), reach=dims)
        self._corners, self._weights = self._cells.index.view(points, count), weights
        self._points = self._cells.order // count  # points that splat, sorted by corner
        self._splat_weights = weights.flatten()[self._cells.order]
        # One extra corner stands for all missing ones: it has no points, is its own neighbor, and stays 0.
        self._starts = F.pad(self._cells.counts.cumsum(0), (1, 0))
        self._blurs = [self._find_neighbors(k, dims) for k in range(count)]

    def __len__(self) -> int:
        return len(self._cells)

    def filter(self, values: Tensor) -> Tensor:
        """Gaussian-weighted sums of (P, C) float32 or float64, up to a constant factor."""
        # A bag is a weighted sum of table rows in sorted order, so every run gives bitwise the same sums.
        corners = F.embedding_bag(
            self._points, values, self._starts, mode="sum", per_sample_weights=self._splat_weights.to(values.dtype)
        )
        kernel = values.new_tensor([1.0, 0.5, 0.5]).expand(len(self) + 1, 3).contiguous()
        for neighbors in self._blurs:
            corners = F.embedding_bag(neighbors, corners, mode="sum", per_sample_weights=kernel)
        return F.embedding_bag(self._corners, corners, mode="sum", per_sample_weights=self._weights.to(values.dtype))

    def _find_neighbors(self, direction: int, dims: int) -> Tensor:
        """(M + 1, 3) int64: every corner, and those after and before it along a lattice direction; M if missing."""
        # A direction is -1 in all d + 1 coordinates but d in one; the last coordinate follows from the others.
        step = [dims if k == direction else -1 for k in range(dims)]
        after, before = self._cells.neighbors((*step, 0))
        corners = torch.arange(len(self), device=after.device)
        return F.pad(torch.stack([corners, after, before], dim=1), (0, 0, 0, 1), value=len(self))


def enclosing_corners(features: Tensor) -> tuple[Tensor, Tensor]:
    """The simplex of the lattice around each point (sections 3.1 and 3.2 of the paper).

    The lattice lies in the plane of R^(d+1) whose coordinates sum to 0. Its points have integer coordinates that are equal
    modulo d + 1; corner k of a simplex is the one with remainder k.

    Args:
        features: (P, d) float64.

    Returns:
        (P, d + 1, d) int64, the corners' first d coordinates by remainder, and (P, d + 1) float64, their barycentric
        weights, which sum to 1.
    """
    dims = features.shape[1]
    period = dims + 1
    lifted = _lift(features)
    # The nearest multiple of the period in every coordinate; the coordinates may miss the plane by some periods.
    base = (lifted / period).round() * period
    excess = (base.sum(dim=1, keepdim=True) / period).round().long()
    rank = _descending_rank(lifted - base) + excess
    # As many coordinates as the excess move by a period: those with the largest residuals on that side.
    wraps = -rank.div(period, rounding_mode="floor")
    rank, base = rank + wraps * period, base + wraps * period
    residual = torch.zeros_like(base).scatter_(1, rank, (lifted - base) / period)  # now in descending order
    steps = residual[:, :-1] - residual[:, 1:]
    weights = torch.cat([1 + residual[:, -1:] - residual[:, :1], steps.flip(1)], dim=1)
    # Corner k is shifted by k in the coordinates of the largest residuals, by k - (d + 1) in the k smallest.
    k = torch.arange(period, device=features.device)[:, None]
    shifts = torch.where(rank[:, None, :dims] > dims - k, k - period, k)
    return base.long()[:, None, :dims] + shifts, weights


def _lift(features: Tensor) -> Tensor:
    """Map points to the plane, scaled so that one filtering has unit variance: (P, d + 1)."""
    # Axis i of the plane is (1, ..., 1, -i, 0, ...) / sqrt(i (i + 1)) with i ones. Running sums instead of a matrix
    # product: integer pixel positions cause ties, which are then broken equally in every batch and on every device.
    dims = features.shape[1]
    i = torch.arange(1, dims + 1, device=features.device, dtype=features.dtype)
    scaled = features * ((dims + 1) * math.sqrt(2 / 3) / (i * (i + 1)).sqrt())
    total = torch.zeros_like(scaled[:, 0])
    columns = []
    for axis in range(dims - 1, -1, -1):
        columns.append(total - (axis + 1) * scaled[:, axis])
        total = total + scaled[:, axis]
    return torch.stack([total, *reversed(columns)], dim=1)


def _descending_rank(values: Tensor) -> Tensor:
    """Rank of each entry in its row, 0 for the largest, of equal ones the first: (P, d) int64."""
    order = values.argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks)
