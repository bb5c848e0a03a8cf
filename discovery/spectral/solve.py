"""The front door of the spectral solver."""

from __future__ import annotations

from typing import Literal, Protocol

from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.dense import solve_ncut_dense
from eigenseg.discovery.spectral.result import NcutResult


class NcutSolver(Protocol):
    """Anything that solves a batch of graphs: ``solve_ncut``, ``solve_ncut_dense``, a partial of them, your own."""

    def __call__(self, affinity: Affinity, k: int = 1) -> NcutResult:
        """Return the k smallest nontrivial pairs of every graph."""
        ...


def solve_ncut(
    affinity: Affinity,
    k: int = 1,
    tol: float = 1e-10,
    max_passes: int = 40,
    block: int = 8,
    keep: int = 16,
    basis: int = 32,
    start: Literal["features", "random"] | Tensor = "features",
    seed: int = 0,
    certificate: Literal["estimate", "energy", "cholesky", "none"] = "estimate",
    fallback: Literal["dense", "raise", "flag"] = "dense",
) -> NcutResult:
    """Smallest k nontrivial eigenpairs of (D - W) x = lambda D x for a batch of token graphs.

    In this version every graph is solved densely in float64 (``solve_ncut_dense``): exact, but one image at a time. The
    arguments from ``tol`` on belong to the block iteration that will take its place; they have no effect yet.

    Args:
        affinity: graphs of B images with N tokens.
        k: nontrivial pairs, 1 <= k < N.
        tol: residual at which the iteration stops.
        max_passes: products with the graph after which an image goes to ``fallback``.
        block, keep, basis: widths of the iteration's block, of what survives a restart, and of the basis.
        start: first block.
        seed: of the random part of the first block.
        certificate: how the distance to the next eigenvalue is bounded.
        fallback: what happens to an image that does not converge.

    Raises:
        ValueError: if k is out of range.
    """
    return solve_ncut_dense(affinity, k)
