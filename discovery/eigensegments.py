"""Eigensegments: a graph of positive cosines, and colours if wanted, and the smallest eigenvectors of its Laplacian.

Deep Spectral Methods, Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022. ``deep_spectral.py`` finds an object with
them, ``segment/deep_spectral.py`` makes segments of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.data.geometry import Size
from eigenseg.discovery.spectral import Affinity, NcutSolver, Status, affinity_from_weights, orient, solve_ncut
from eigenseg.discovery.spectral.certificate import REPEATED
from eigenseg.discovery.spectral.precision import full_precision

Laplacian = Literal["generalized", "ordinary"]
# The published lists (k, w): one that stays close by, one that looks at little but colour.
NEIGHBOURS = ((20, 2.0), (10, 0.1))

_WEIGHTLESS = 1e-12  # the published bound under which a row sum is no degree
_ZERO = 1e-9  # relative to the peak: below it rounding decides an entry's sign, so it counts as 0


class Eigensegments(NamedTuple):
    """K smallest eigenpairs per image, on a grid ``upsample`` times finer than the tokens'."""

    eigenvalues: Tensor  # (B, K) float64, ascending; the first is the trivial 0
    eigenvectors: Tensor  # (B, N, K) float64, x^T D x = 1 (ordinary: x^T x = 1); 0 at tokens without any weight
    gap: Tensor  # (B,) float64, distance of the last eigenvalue to the next one; infinite where there is none
    status: tuple[Status, ...]  # how the first nontrivial pair was obtained, and whether it means something
    grid: Size  # (gh, gw), gh * gw = N
    affinity: Affinity  # W; its ``non_finite`` counts tokens whose features were not finite


@full_precision()
def colour_affinity(colours: Tensor, grid: Size, neighbours: Sequence[tuple[int, float]] = NEIGHBOURS) -> Tensor:
    """How often two tokens are among each other's nearest in colour and position, W_knn.

    For each (k, w) a token has k nearest ones, itself included, by Euclidean distance in (r, g, b, w x, w y) with x and y
    from 0 to 1 across the grid; each adds 1 to (token, neighbour) and 1 to (neighbour, token). Of equally near ones the
    lowest index is taken (published: whichever a search tree meets). Where there are fewer than k tokens, all are.

    Args:
        colours: (B, N, 3) floating RGB in [0, 1], row-major.
        grid: (gh, gw) with gh * gw = N.
        neighbours: pairs (k, w).

    Returns:
        (B, N, N) uint8, symmetric; 4 on the diagonal for the two published lists.

    Raises:
        TypeError: if the colours are no tensor.
        ValueError: if shape or range are wrong.
    """
    _check_nodes(colours, grid, "colours")
    if colours.shape[2] != 3 or not ((colours >= 0) & (colours <= 1)).all():
        raise ValueError(
            f"colours must be (B, N, 3) RGB in [0, 1], got {tuple(colours.shape)} "
            f"from {float(colours.min()):g} to {float(colours.max()):g}"
        )
    tokens = torch.arange(colours.shape[1], device=colours.device)
    apart = torch.zeros(len(colours), len(tokens), len(tokens), dtype=torch.float64, device=colours.device)
    for channel in colours.double().unbind(dim=2):
        apart += (channel[:, :, None] - channel[:, None, :]).square()
    place = torch.zeros_like(apart[0])
    for line, side in ((tokens // grid[1], grid[0]), (tokens % grid[1], grid[1])):
        # Whole steps are subtracted before they are scaled: what is equally far is so to the last bit.
        place += ((line[:, None] - line[None, :]).double() / max(side - 1, 1)).square()
    counts = torch.zeros_like(apart, dtype=torch.uint8)
    for k, weight in neighbours:
        near = _nearest(apart + weight**2 * place, k)
        counts += near.byte() + near.mT.byte()
    return counts


def _nearest(distance: Tensor, count: int) -> Tensor:
    """Which ``count`` entries of each row (B, N, N) are smallest, the lowest index first among equals; bool."""
    count = min(count, distance.shape[2])
    bound = distance.kthvalue(count, dim=2, keepdim=True).values
    closer, tied = distance < bound, distance == bound
    return closer | (tied & (tied.cumsum(dim=2) <= count - closer.sum(dim=2, keepdim=True)))


@full_precision()
def deep_spectral_affinity(
    tokens: Tensor, grid: Size, colours: Tensor | None = None, colour_weight: float = 0.0, upsample: int = 1
) -> Tensor:
    """The graph W = W_feat + lambda_knn W_knn, with W_feat = max(0, cos(f_i, f_j)) divided by its maximum.

    Tokens that are not finite count as zeros, which have no edge, not even to themselves.

    Args:
        tokens: (B, N, D) floating, row-major.
        grid: (gh, gw) with gh * gw = N.
        colours: (B, M, 3) as in ``colour_affinity``, on the fine grid; read only if ``colour_weight`` is not 0.
        colour_weight: lambda_knn. Published: 0 in all documented commands, 10 in the function.
        upsample: u; unit tokens are interpolated to (u gh, u gw) bilinearly and, as published, not normalised again.

    Returns:
        (B, M, M) float64, at least 0, symmetric to the last bit, M = u^2 N.

    Raises:
        TypeError: if the tokens are no tensor.
        ValueError: if a shape or a parameter is out of range, or colours are wanted and missing.
    """
    _check_nodes(tokens, grid, "tokens")
    check_graph(colour_weight, upsample)
    unit = F.normalize(torch.where(_finite(tokens)[:, :, None], tokens.double(), 0.0), dim=2)
    fine = (grid[0] * upsample, grid[1] * upsample)
    if upsample > 1:
        maps = unit.mT.reshape(len(unit), -1, *grid)
        unit = F.interpolate(maps, fine, mode="bilinear", align_corners=False).flatten(2).mT
    weights = (unit @ unit.mT).clamp_(min=0)
    weights = (weights + weights.mT) / 2  # a matrix product is symmetric up to rounding alone
    peak = weights.amax(dim=(1, 2), keepdim=True)
    weights /= torch.where(peak > 0, peak, 1.0)
    if not colour_weight:
        return weights
    if colours is None or len(colours) != len(tokens):
        came = "none" if colours is None else f"those of {len(colours)}"
        raise ValueError(f"colour_weight={colour_weight:g} needs the colours of {len(tokens)} images, got {came}")
    return weights.add_(colour_affinity(colours, fine).to(weights), alpha=float(colour_weight))


def eigensegments(
    tokens: Tensor,
    grid: Size,
    count: int = 5,
    colours: Tensor | None = None,
    colour_weight: float = 0.0,
    upsample: int = 1,
    laplacian: Laplacian = "generalized",
    solver: NcutSolver = solve_ncut,
) -> Eigensegments:
    """K smallest eigenpairs of (D - W) x = lambda D x, the trivial first one included.

    Vector 0 is constant, and positive. The others have ``majority_sign``; entries below 1e-9 of a vector's largest are set
    to 0. Nodes without weight (row sum below 1e-12) are not in the graph: 0 in every vector, as published, but there each
    adds a pair lambda = 1 to the spectrum. A pair that a graph is too small for has a vector of zeros and no meaning.

    Args:
        tokens, grid, colours, colour_weight, upsample: as in ``deep_spectral_affinity``.
        count: K, from 2 to the number of nodes. Published: 5 for segments, 2 for a single object.
        laplacian: ``"ordinary"`` solves (D - W) x = lambda x instead, by a dense decomposition.
        solver: who computes the generalized pairs.

    Raises:
        TypeError: if the tokens are no tensor.
        ValueError: if a shape or a parameter is out of range.
    """
    check_graph(colour_weight, upsample, laplacian)
    _check_nodes(tokens, grid, "tokens")
    nodes = tokens.shape[1] * upsample**2
    _check_count(count, nodes)
    weights = deep_spectral_affinity(tokens, grid, colours, colour_weight, upsample)
    affinity = affinity_from_weights(weights, valid=weights.sum(dim=2) >= _WEIGHTLESS)
    affinity = replace(affinity, non_finite=(~_finite(tokens)).sum(dim=1))
    if laplacian == "ordinary":
        values, vectors, gap, status = _ordinary_pairs(affinity, count - 1)
        mass = affinity.valid.double()
    else:
        ncut = solver(affinity, k=count - 1)
        values, vectors, gap, status = ncut.eigenvalues, ncut.eigenvectors.mT, ncut.gap, ncut.status
        mass = affinity.degrees
    trivial = affinity.valid / mass.sum(dim=1, keepdim=True).clamp(min=_WEIGHTLESS).sqrt()
    vectors = torch.where(vectors.abs() > _ZERO * vectors.abs().amax(dim=2, keepdim=True), vectors, 0.0)
    return Eigensegments(
        eigenvalues=F.pad(values, (1, 0)),
        eigenvectors=torch.cat([trivial[:, None], majority_sign(vectors)], dim=1).mT.contiguous(),
        gap=gap,
        status=status,
        grid=(grid[0] * upsample, grid[1] * upsample),
        affinity=affinity,
    )


def majority_sign(vectors: Tensor) -> Tensor:
    """The published sign: a vector is negated where more than half and less than all of its entries are positive.

    Args:
        vectors: (..., N) real. With half of its entries positive or fewer a vector keeps the sign that it came with.
    """
    share = (vectors > 0).double().mean(dim=-1, keepdim=True)
    return torch.where((share > 0.5) & (share < 1), -vectors, vectors)


def _ordinary_pairs(affinity: Affinity, count: int) -> tuple[Tensor, Tensor, Tensor, tuple[Status, ...]]:
    """Smallest nontrivial pairs of D - W: values (B, count), vectors (B, count, N), gap (B,), status."""
    weights, valid, degrees = affinity.dense(), affinity.valid, affinity.degrees
    inside, nodes = valid.double(), valid.sum(dim=1)
    # The spectrum ends at twice the largest degree: the constant vector and excluded nodes are moved behind it.
    end = 3 * degrees.amax(dim=1).clamp(min=1)
    constant = inside / inside.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
    matrix = torch.diag_embed(torch.where(valid, degrees, end[:, None])) - weights
    matrix += end[:, None, None] * constant[:, :, None] * constant[:, None, :]
    values, vectors = torch.linalg.eigh(matrix)
    exists = torch.arange(valid.shape[1], device=valid.device) < nodes[:, None] - 1
    vectors = orient(vectors.mT[:, :count] * exists[:, :count, None])
    following = torch.where(exists, values, torch.inf)
    gap = torch.where(exists[:, count], following[:, count] - values[:, count - 1], torch.inf)
    first_gap = (following[:, 1] - values[:, 0]) / end
    pairs = valid[:, :, None] & valid[:, None, :]
    flat = torch.where(pairs, weights, torch.inf).amin(dim=(1, 2)) >= (1 - REPEATED) * weights.amax(dim=(1, 2))
    trivial = (flat | (nodes < 2)).tolist()
    degenerate = ((first_gap <= REPEATED) | (values[:, 0] <= REPEATED * end)).tolist()
    status = [
        Status.TRIVIAL if none else Status.DEGENERATE if many else Status.DENSE
        for none, many in zip(trivial, degenerate, strict=True)
    ]
    return values[:, :count], vectors, gap, tuple(status)


def _finite(tokens: Tensor) -> Tensor:
    return torch.isfinite(tokens).all(dim=2)


def _check_nodes(nodes: Any, grid: Size, name: str) -> None:
    if not isinstance(nodes, Tensor):
        raise TypeError(f"{name} must be a torch tensor (B, N, D), got {type(nodes).__name__}")
    count = grid[0] * grid[1]
    if nodes.ndim != 3 or not nodes.is_floating_point() or nodes.shape[1] != count or not nodes.numel():
        raise ValueError(
            f"{name} must be (B, {count}, D) floating for a grid of {grid[0]}x{grid[1]}, "
            f"got {tuple(nodes.shape)} {nodes.dtype}"
        )


def _check_count(count: Any, nodes: int) -> None:
    if nodes < 2:
        raise ValueError("eigensegments need at least 2 tokens, got one; enlarge the image with preprocess.resize")
    if not isinstance(count, int) or not 2 <= count <= nodes:
        raise ValueError(f"count must be a number of eigenpairs from 2 to {nodes}, the nodes of the graph, got {count!r}")


def check_graph(colour_weight: Any, upsample: Any, laplacian: Any = "generalized") -> None:
    """Refuse parameters for which the graph has no meaning; a yaml may hold anything.

    Raises:
        ValueError: naming the parameter.
    """
    if not (isinstance(colour_weight, (int, float)) and 0 <= colour_weight < math.inf):
        raise ValueError(f"colour_weight must be a number of at least 0, got {colour_weight!r}")
    if not (isinstance(upsample, int) and upsample >= 1):
        raise ValueError(f"upsample must be an integer of at least 1, got {upsample!r}")
    if laplacian not in get_args(Laplacian):
        raise ValueError(f"laplacian must be 'generalized' or 'ordinary', got {laplacian!r}")
