"""ARPACK, the implicitly restarted Lanczos method in SciPy, for comparison with the block iteration."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.certificate import Status
from eigenseg.discovery.spectral.dense import solve_each
from eigenseg.discovery.spectral.precision import full_precision
from eigenseg.discovery.spectral.result import NcutResult


@full_precision()
def solve_ncut_arpack(
    affinity: Affinity, k: int = 1, tol: float = 0.0, max_iterations: int | None = None, seed: int = 0
) -> NcutResult:
    """Smallest k nontrivial pairs by ``scipy.sparse.linalg.eigsh`` on a dense float64 matrix, image by image on the CPU.

    An image that does not converge is FAILED; there is no fallback. A single start vector cannot find all copies of a
    repeated eigenvalue: such an image may not be recognized as DEGENERATE, above all for large k.

    Args:
        affinity: graphs of B images; those on a GPU are copied to the CPU.
        k: pairs per image, 1 <= k < N.
        tol: relative accuracy of the eigenvalues; 0: machine precision.
        max_iterations: restarts; None: SciPy's 10 N.
        seed: of the start vector.

    Raises:
        TypeError: if this is not an ``Affinity``.
        ValueError: if k is out of range.
    """

    def largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Status]:
        start = np.random.default_rng(seed).standard_normal(len(matrix))
        status = Status.CONVERGED
        try:
            mu, y = eigsh(matrix.cpu().numpy(), k=count, which="LA", tol=tol, v0=start, maxiter=max_iterations)
        except ArpackNoConvergence as failure:
            mu, y, status = failure.eigenvalues, failure.eigenvectors, Status.FAILED
        except ArpackError:  # raised without any pair on some repeated eigenvalues
            mu, y, status = np.zeros(0), np.zeros((len(matrix), 0)), Status.FAILED
        order = np.argsort(-mu)
        return torch.from_numpy(mu[order]).to(matrix), torch.from_numpy(y[:, order]).to(matrix), status

    return solve_each(affinity, k, largest)
