"""Is the side of a cut an object? Statistics of neighboring tokens, and the lines that measurements drew.

A cut finds two sides in any features, in noise and in a gradient too. Three statistics over pairs of neighboring tokens
("joins", 4 neighbors on the grid) tell those from objects; none needs another eigenvector. Measured on 80 COCO photographs
and on 20 images each of noise, gradients and discs, with color_texture and with the tokens of a DINOv2 ViT-S/14, in which
constants, noise and gradients have no cut at all:

| | noise | gradient | the rest, without its disc | photographs, IoU >= 0.5 |
|---|---|---|---|---|
| color_texture: compactness of the side | 0.22-0.77 | 0.97-0.99 | 0.95-1.1 | 0.74-1.3 |
| color_texture: roughness of the image | 0.16-0.27 | 0.00 | 0.00 | at most 0.07 |
| color_texture: step at the boundary | 1.0-1.7 | 0.04-0.07 | 0.06-0.26 | 0.21-1.0 |
| color_texture: similarity across it | 0.47-0.69 | 0.73-0.99 | 0.95-1.0 | 9 of 10 at most 0.93 |
| DINOv2: compactness of the side | | | 0.66-0.95 | 0.44-0.96 |
| DINOv2: roughness of the image | 0.22-0.29 | 0.05 | 0.00-0.01 | at most 0.16 |
| DINOv2: step at the boundary | | | 0.23-1.0 | 0.56-1.9 |
| DINOv2: similarity across it | | | 0.94-1.0 | 52 of 54 at most 0.88 |

Neither the z-score of the join count nor lambda_2 separates them. Features of neighboring patches overlap, so that noise
reaches z = 16 where photographs begin at 12; lambda_2 is 0.26 in noise, and up to 0.97 for objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from eigenseg.data.geometry import Size

# Noise begins where photographs end; below it no side is called scattered.
_ROUGH = 0.16
# The more the features of neighbors overlap, the more compact are the sides of noise: compactness x roughness is at most
# 0.13 for noise and color_texture, about 0 for independent tokens, and at least 0.25 for an object among noisy tokens.
_SCATTERED = 0.18
_STEP = 0.12  # between gradients and photographs; a disc has at least 0.15
_SIMILAR = 0.94  # between the rest without its disc and photographs


class Flaw(Enum):
    """Why a mask is no object; the value says it to the user."""

    SCATTERED = "the side of the cut is scattered over the image, as in noise; method.reject_flawed=false keeps it"
    GRADIENT = "features change gradually and have no step at the mask's boundary; method.reject_flawed=false keeps it"
    NO_BOUNDARY = "tokens on both sides of the mask's boundary are alike; method.reject_flawed=false keeps it"

    @property
    def ends(self) -> bool:
        """Whether it holds for all tokens, so that there is no use in cutting again."""
        return self is not Flaw.NO_BOUNDARY


class Boundary(NamedTuple):
    """How features change across the boundary of a mask; NaN for a mask without one."""

    step: Tensor  # (B,) float64, mean |f_i - f_j| over its joins, relative to the distance of the means of both sides
    similarity: Tensor  # (B,) float64, mean cos(f_i, f_j) over its joins


def compactness(sides: Tensor, inside: Tensor | None = None) -> Tensor:
    """How compact two sides are: (E[BW] - BW) / (E[BW] - BW_min) of the number BW of joins between them.

    The join-count statistic of Cliff and Ord (Spatial Processes, 1981, section 1.4): of L joins among n tokens, a of which
    are on one side, E[BW] = 2 L a (n - a) / (n (n - 1)) lie between the sides if these are assigned at random. No a tokens
    have fewer around them than 2 ceil(2 sqrt(a)) (Harary and Harborth, Extremal animals, 1976), unless the borders of the
    grid help: a straight line across it has min(gh, gw).

    Args:
        sides: (B, gh, gw) bool.
        inside: (B, gh, gw) bool, tokens that belong to a side at all; None: all of them.

    Returns:
        (B,) float64: about 0 for sides as in a random permutation, about 1 for sides as compact as can be; 1 where the grid
        is too small, or a side has too few tokens, to tell the two apart.

    Example:
        >>> halves, chess = torch.tensor([[[1, 1, 0, 0]] * 4, [[1, 0, 1, 0], [0, 1, 0, 1]] * 2]).bool()
        >>> [round(value, 2) for value in compactness(torch.stack([halves, chess])).tolist()]
        [1.0, -1.27]
    """
    inside = torch.ones_like(sides) if inside is None else inside
    joins = between = torch.zeros(len(sides), dtype=torch.float64, device=sides.device)
    for one, other in _neighbors():
        join = inside[one] & inside[other]
        joins = joins + join.sum(dim=(1, 2))
        between = between + (join & (sides[one] ^ sides[other])).sum(dim=(1, 2))
    count, first = inside.sum(dim=(1, 2)).double(), (sides & inside).sum(dim=(1, 2)).double()
    expected = 2 * joins * first * (count - first) / (count * (count - 1)).clamp(min=1)
    fewest = (2 * (2 * torch.minimum(first, count - first).sqrt()).ceil()).clamp(max=min(sides.shape[1:]))
    return torch.where(expected > fewest, (expected - between) / (expected - fewest).clamp(min=1e-12), 1.0)


def roughness(tokens: Tensor, grid: Size, inside: Tensor | None = None) -> Tensor:
    """How different neighbors are, relative to any two tokens: median |f_i - f_j|^2 over joins / 2 mean |f_i - mean f|^2.

    Geary's contiguity ratio (Cliff and Ord, Spatial Processes, 1981, section 1.5) of vectors, with the median in place of
    the mean: outlines of objects, where neighbors do differ, are less than half of all joins.

    Args:
        tokens: (B, N, D) floating, N = gh * gw.
        grid: (gh, gw).
        inside: (B, gh, gw) bool, tokens that count; None: all of them.

    Returns:
        (B,) float64: about 1 for independent tokens, 0 where most neighbors are equal; 0 where all tokens are.

    Example:
        >>> objects, noise = torch.eye(2)[[0, 0, 0, 1, 1, 1]][None], torch.eye(6)[None]
        >>> roughness(objects, (2, 3)).item(), round(roughness(noise, (2, 3)).item(), 2)
        (0.0, 1.2)
    """
    maps, inside = _as_maps(tokens, grid, inside)
    squares = []
    for one, other in _neighbors():
        distances = (maps[one] - maps[other]).square().sum(dim=3)
        squares.append(torch.where(inside[one] & inside[other], distances, torch.nan).flatten(1))
    median = torch.cat([*squares, torch.full_like(squares[0][:, :1], torch.nan)], dim=1).nanmedian(dim=1).values
    deviations = (maps - _mean(maps, inside)[:, None, None]).square().sum(dim=3)
    variance = _mean(deviations[..., None], inside)[:, 0]
    return torch.where(variance > 0, median.nan_to_num() / (2 * variance).clamp(min=1e-12), 0.0).double()


def boundary(tokens: Tensor, masks: Tensor, inside: Tensor | None = None) -> Boundary:
    """How features change from a mask to the tokens around it.

    Args:
        tokens: (B, N, D) floating, N = gh * gw.
        masks: (B, gh, gw) bool.
        inside: (B, gh, gw) bool, tokens that count: the mask and what it is compared with; None: all of them.

    Example:
        >>> edge, gradient = torch.tensor([0.0, 0, 0, 1, 1, 1]), torch.arange(6) / 5.0
        >>> result = boundary(torch.stack([edge, gradient])[..., None], (torch.arange(6) > 2).expand(2, 1, 6))
        >>> [round(step, 2) for step in result.step.tolist()]
        [1.0, 0.33]
    """
    maps, inside = _as_maps(tokens, (masks.shape[1], masks.shape[2]), inside)
    unit = maps / maps.norm(dim=3, keepdim=True).clamp(min=1e-12)
    joins = distances = cosines = torch.zeros(len(masks), dtype=torch.float64, device=masks.device)
    for one, other in _neighbors():
        join = inside[one] & inside[other] & (masks[one] ^ masks[other])
        joins = joins + join.sum(dim=(1, 2))
        distances = distances + ((maps[one] - maps[other]).norm(dim=3) * join).sum(dim=(1, 2))
        cosines = cosines + ((unit[one] * unit[other]).sum(dim=3) * join).sum(dim=(1, 2))
    between = (_mean(maps, inside & masks) - _mean(maps, inside & ~masks)).norm(dim=1).double()
    return Boundary(distances / joins / between, cosines / joins)


def find_flaws(
    tokens: Tensor,
    sides: Tensor,
    masks: Tensor,
    inside: Tensor | None = None,
    around: Tensor | None = None,
    rough: Tensor | None = None,
) -> list[Flaw | None]:
    """Why masks that a method found are no objects, None for those that may be.

    Args:
        tokens: (B, N, D) floating, N = gh * gw. Tokens that are not finite are left out.
        sides: (B, gh, gw) bool, the side of the cut that the mask was taken from.
        masks: (B, gh, gw) bool.
        inside: (B, gh, gw) bool, tokens of the graph that was cut; None: all of them.
        around: (B, gh, gw) bool, tokens that the mask is compared with; None: those of the graph.
        rough: (B,) ``roughness`` of the images, if it is known; None: that of the tokens inside.

    Example:
        >>> tokens = (torch.arange(80) // 4 * 0.1 + 1)[:, None].expand(80, 2)[None]  # a gradient from top to bottom
        >>> side = (torch.arange(80) < 40).reshape(1, 20, 4)
        >>> find_flaws(tokens, side, side)[0].name
        'GRADIENT'
    """
    grid = (masks.shape[1], masks.shape[2])
    finite = torch.isfinite(tokens.float().norm(dim=2)).view(masks.shape)
    inside = finite if inside is None else finite & inside
    around = inside if around is None else finite & around
    rough = roughness(tokens, grid, inside) if rough is None else rough
    edge = boundary(tokens, masks, around)
    scattered = ((rough > _ROUGH) & (compactness(sides, inside) * rough < _SCATTERED)).tolist()
    gradual, alike = (edge.step < _STEP).tolist(), (edge.similarity > _SIMILAR).tolist()  # NaN is neither
    return [
        Flaw.SCATTERED if scattered[i] else Flaw.GRADIENT if gradual[i] else Flaw.NO_BOUNDARY if alike[i] else None
        for i in range(len(masks))
    ]


def _neighbors() -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Indices of both ends of all joins, (B, gh, gw, ...): horizontal, then vertical ones."""
    every, first, last = slice(None), slice(None, -1), slice(1, None)
    yield (every, every, first), (every, every, last)
    yield (every, first), (every, last)


def _as_maps(tokens: Tensor, grid: Size, inside: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tokens as (B, gh, gw, D) float32, 0 where they do not count, and which do."""
    maps = tokens.float().reshape(len(tokens), *grid, tokens.shape[2])
    inside = torch.ones(maps.shape[:3], dtype=torch.bool, device=maps.device) if inside is None else inside
    return torch.where(inside[..., None], maps, 0.0), inside


def _mean(maps: Tensor, inside: Tensor) -> Tensor:
    """Mean of (B, gh, gw, D) over the tokens inside: (B, D); 0 if there is none."""
    weight = inside.to(maps.dtype)
    return torch.einsum("bhwd,bhw->bd", maps, weight) / weight.sum(dim=(1, 2)).clamp(min=1)[:, None]
