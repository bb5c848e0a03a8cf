"""LOBPCG (Knyazev, 2001) in PyTorch, for comparison with the block iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.certificate import Status
from eigenseg.discovery.spectral.dense import solve_each
from eigenseg.discovery.spectral.precision import full_precision
from eigenseg.discovery.spectral.result import NcutResult


@full_precision()
def solve_ncut_lobpcg(
    affinity: Affinity, k: int = 1, tol: float = 1e-10, max_iterations: int = 200, seed: int = 0
) -> NcutResult:
    """Smallest k nontrivial pairs by ``torch.lobpcg`` on a dense float64 matrix, image by image on the graphs' device.

    An image whose residual stays above ``tol`` is FAILED; there is no fallback.

    Args:
        affinity: graphs of B images, with at least 3 (k + 1) tokens each.
        k: pairs per image.
        tol: residual norm at which a pair counts as converged.
        max_iterations: steps of one block product each.
        seed: of the start block.

    Raises:
        TypeError: if this is not an ``Affinity``.
        ValueError: if k is out of range or a graph too small.
    """

    if max_iterations < 1:
        raise ValueError(f"max_iterations must be an integer of at least 1, got {max_iterations!r}")

    def largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Status]:
        if len(matrix) < 3 * count:
            raise ValueError(
                f"torch.lobpcg needs at least {3 * count} tokens for k={k}, got {len(matrix)}; use solver=krylov or dense"
            )
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(len(matrix), count, generator=generator, dtype=torch.float64).to(matrix)
        # torch compares residuals relative to an estimate of the matrix's norm, so its tolerance is stricter.
        mu, y = torch.lobpcg(matrix, k=count, X=start, niter=max_iterations, tol=tol / 100, largest=True)
        residuals = (matrix @ y[:, :k] - y[:, :k] * mu[:k]).norm(dim=0)
        return mu, y, Status.CONVERGED if residuals.max() <= tol else Status.FAILED

    return solve_each(affinity, k, largest)
