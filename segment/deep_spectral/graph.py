"""The graph of Deep Spectral Methods: positive cosines of features, and optionally nearest neighbors in color and position.

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.data.checks import check_choice, check_integer
from eigenseg.data.geometry import Size
from eigenseg.discovery.spectral.precision import full_precision

Laplacian = Literal["generalized", "ordinary"]
# The published pairs (k, w): one for neighbors close by, one that depends mostly on color.
NEIGHBORS = ((20, 2.0), (10, 0.1))


@full_precision()
def color_affinity(colors: Tensor, grid: Size, neighbors: Sequence[tuple[int, float]] = NEIGHBORS) -> Tensor:
    """Adjacency counts of nearest neighbors in color and position, W_knn.

    For each (k, w) a token has k nearest neighbors, itself included, by Euclidean distance in (r, g, b, w x, w y) with x
    and y from 0 to 1 across the grid; each adds 1 to (token, neighbor) and 1 to (neighbor, token). Of equally near tokens
    the lowest index is taken (published: the first in a search tree). With fewer than k tokens all are neighbors.

    Args:
        colors: (B, N, 3) floating RGB in [0, 1], row-major.
        grid: (gh, gw) with gh * gw = N.
        neighbors: pairs (k, w).

    Returns:
        (B, N, N) uint8, symmetric; 4 on the diagonal for the two published pairs.

    Raises:
        TypeError: if the colors are not a tensor.
        ValueError: if shape or range are wrong.
    """
    check_nodes(colors, grid, "colors")
    if colors.shape[2] != 3 or not ((colors >= 0) & (colors <= 1)).all():
        raise ValueError(
            f"colors must be (B, N, 3) RGB in [0, 1], got {tuple(colors.shape)} "
            f"from {float(colors.min()):g} to {float(colors.max()):g}"
        )
    tokens = torch.arange(colors.shape[1], device=colors.device)
    color_distance = torch.zeros(len(colors), len(tokens), len(tokens), dtype=torch.float64, device=colors.device)
    for channel in colors.double().unbind(dim=2):
        color_distance += (channel[:, :, None] - channel[:, None, :]).square()
    distance = torch.zeros_like(color_distance[0])
    for line, side in ((tokens // grid[1], grid[0]), (tokens % grid[1], grid[1])):
        # Integers are subtracted before they are scaled, so equal distances are equal to the last bit.
        distance += ((line[:, None] - line[None, :]).double() / max(side - 1, 1)).square()
    counts = torch.zeros_like(color_distance, dtype=torch.uint8)
    for k, weight in neighbors:
        near = _nearest(color_distance + weight**2 * distance, k)
        counts += near.byte() + near.mT.byte()
    return counts


def _nearest(distance: Tensor, count: int) -> Tensor:
    """The ``count`` smallest entries of each row (B, N, N), of equal ones those of lowest index, as bool."""
    count = min(count, distance.shape[2])
    bound = distance.kthvalue(count, dim=2, keepdim=True).values
    closer, tied = distance < bound, distance == bound
    return closer | (tied & (tied.cumsum(dim=2) <= count - closer.sum(dim=2, keepdim=True)))


@full_precision()
def deep_spectral_affinity(
    tokens: Tensor, grid: Size, colors: Tensor | None = None, color_weight: float = 0.0, upsample: int = 1
) -> Tensor:
    """The graph W = W_feat + lambda_knn W_knn, with W_feat = max(0, cos(f_i, f_j)) divided by its maximum.

    Tokens that are not finite count as zeros, which have no edge, not even to themselves.

    Args:
        tokens: (B, N, D) floating, row-major.
        grid: (gh, gw) with gh * gw = N.
        colors: (B, M, 3) as in ``color_affinity``, on the fine grid; read only if ``color_weight`` is not 0.
        color_weight: lambda_knn. Published: 0 in all documented commands, 10 in the function.
        upsample: u; unit tokens are interpolated to (u gh, u gw) bilinearly and, as published, not normalized again.

    Returns:
        (B, M, M) float64, at least 0, symmetric to the last bit, M = u^2 N.

    Raises:
        TypeError: if the tokens are not a tensor.
        ValueError: if a shape or a parameter is out of range, or colors are required and missing.
    """
    check_nodes(tokens, grid, "tokens")
    check_graph(color_weight, upsample)
    unit = F.normalize(torch.where(finite_tokens(tokens)[:, :, None], tokens.double(), 0.0), dim=2)
    fine = (grid[0] * upsample, grid[1] * upsample)
    if upsample > 1:
        maps = unit.mT.reshape(len(unit), -1, *grid)
        unit = F.interpolate(maps, fine, mode="bilinear", align_corners=False).flatten(2).mT
    weights = (unit @ unit.mT).clamp_(min=0)
    weights = (weights + weights.mT) / 2  # a matrix product is symmetric only up to rounding
    peak = weights.amax(dim=(1, 2), keepdim=True)
    weights /= torch.where(peak > 0, peak, 1.0)
    if not color_weight:
        return weights
    if colors is None or len(colors) != len(tokens):
        given = "none" if colors is None else f"those of {len(colors)}"
        raise ValueError(f"color_weight={color_weight:g} needs the colors of {len(tokens)} images, got {given}")
    return weights.add_(color_affinity(colors, fine).to(weights), alpha=float(color_weight))


def finite_tokens(tokens: Tensor) -> Tensor:
    """Tokens whose features are all finite: (B, N, D) -> (B, N) bool."""
    return torch.isfinite(tokens).all(dim=2)


def check_nodes(nodes: Any, grid: Size, name: str) -> None:
    """Raise if this is not one vector per node.

    Raises:
        TypeError: if it is not a tensor.
        ValueError: if shape or dtype do not fit the grid.
    """
    if not isinstance(nodes, Tensor):
        raise TypeError(f"{name} must be a torch tensor (B, N, D), got {type(nodes).__name__}")
    count = grid[0] * grid[1]
    if nodes.ndim != 3 or not nodes.is_floating_point() or nodes.shape[1] != count or not nodes.numel():
        raise ValueError(
            f"{name} must be (B, {count}, D) floating for a grid of {grid[0]}x{grid[1]}, "
            f"got {tuple(nodes.shape)} {nodes.dtype}"
        )


def check_graph(color_weight: Any, upsample: Any, laplacian: Any = "generalized") -> None:
    """Raise if a parameter is out of range; values from a yaml may have any type.

    Raises:
        ValueError: naming the parameter.
    """
    if not (isinstance(color_weight, (int, float)) and 0 <= color_weight < math.inf):
        raise ValueError(f"color_weight must be a number of at least 0, got {color_weight!r}")
    check_integer("upsample", upsample, at_least=1)
    check_choice("laplacian", laplacian, get_args(Laplacian))
