"""Eigensegments: the smallest eigenvectors of the Laplacian of Deep Spectral's graph (``graph.py``).

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022, section 3.2. ``deep_spectral.py`` derives an object from them,
``regions.py`` several regions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.data.geometry import Size
from eigenseg.discovery.spectral import Affinity, NcutSolver, Status, affinity_from_weights, orient, solve_ncut
from eigenseg.discovery.spectral.certificate import REPEATED
from eigenseg.segment.deep_spectral.graph import Laplacian, check_graph, check_nodes, deep_spectral_affinity, finite_tokens

_WEIGHTLESS = 1e-12  # the published bound below which a degree counts as 0
_ZERO = 1e-9  # relative to the peak: below it rounding decides an entry's sign, so the entry counts as 0


class Eigensegments(NamedTuple):
    """K smallest eigenpairs per image, on a grid ``upsample`` times finer than the tokens'."""

    eigenvalues: Tensor  # (B, K) float64, ascending; the first is the trivial 0
    eigenvectors: Tensor  # (B, N, K) float64, x^T D x = 1 (ordinary: x^T x = 1); 0 at tokens without any weight
    gap: Tensor  # (B,) float64, distance of the last eigenvalue to the next one; infinite if there is none
    status: tuple[Status, ...]  # of the first nontrivial pair
    grid: Size  # (gh, gw), gh * gw = N
    affinity: Affinity  # W; its ``non_finite`` counts tokens whose features were not finite


def eigensegments(
    tokens: Tensor,
    grid: Size,
    count: int = 5,
    colors: Tensor | None = None,
    color_weight: float = 0.0,
    upsample: int = 1,
    laplacian: Laplacian = "generalized",
    solver: NcutSolver = solve_ncut,
) -> Eigensegments:
    """K smallest eigenpairs of (D - W) x = lambda D x, the trivial first one included.

    Vector 0 is constant and positive. The others have ``majority_sign``; entries below 1e-9 of a vector's largest are set
    to 0. Nodes without weight (row sum below 1e-12) are not in the graph and 0 in every vector, as published; the published
    graph keeps them, and each adds a pair lambda = 1 to the spectrum. Missing pairs of small graphs have zero vectors.

    Args:
        tokens, grid, colors, color_weight, upsample: as in ``deep_spectral_affinity``.
        count: K, from 2 to the number of nodes. Published: 5 for regions, 2 for a single object.
        laplacian: ``"ordinary"`` solves (D - W) x = lambda x instead, by a dense decomposition.
        solver: computes the generalized pairs.

    Raises:
        TypeError: if the tokens are not a tensor.
        ValueError: if a shape or a parameter is out of range.
    """
    check_graph(color_weight, upsample, laplacian)
    check_nodes(tokens, grid, "tokens")
    nodes = tokens.shape[1] * upsample**2
    _check_count(count, nodes)
    weights = deep_spectral_affinity(tokens, grid, colors, color_weight, upsample)
    affinity = affinity_from_weights(weights, valid=weights.sum(dim=2) >= _WEIGHTLESS)
    affinity = replace(affinity, non_finite=(~finite_tokens(tokens)).sum(dim=1))
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
    """The published sign: a vector is negated if more than half but not all of its entries are positive.

    Args:
        vectors: (..., N) real. A vector with at most half of its entries positive keeps its sign.
    """
    positive = (vectors > 0).double().mean(dim=-1, keepdim=True)
    return torch.where((positive > 0.5) & (positive < 1), -vectors, vectors)


def _ordinary_pairs(affinity: Affinity, count: int) -> tuple[Tensor, Tensor, Tensor, tuple[Status, ...]]:
    """Smallest nontrivial pairs of D - W: values (B, count), vectors (B, count, N), gap (B,), status."""
    weights, valid, degrees = affinity.dense(), affinity.valid, affinity.degrees
    inside, nodes = valid.double(), valid.sum(dim=1)
    # The spectrum ends at twice the largest degree: the constant vector and excluded nodes are moved beyond it.
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
        Status.TRIVIAL if no_cut else Status.DEGENERATE if repeated else Status.DENSE
        for no_cut, repeated in zip(trivial, degenerate, strict=True)
    ]
    return values[:, :count], vectors, gap, tuple(status)


def _check_count(count: Any, nodes: int) -> None:
    if nodes < 2:
        raise ValueError("eigensegments need at least 2 tokens, got one; enlarge the image with preprocess.resize")
    if not isinstance(count, int) or not 2 <= count <= nodes:
        raise ValueError(f"count must be an integer from 2 to {nodes}, the number of nodes, got {count!r}")
