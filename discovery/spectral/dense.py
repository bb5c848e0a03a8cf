"""The oracle: normalized cut by dense float64 eigendecomposition, one image after the other."""

from __future__ import annotations

import torch
from scipy import linalg
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.result import NcutResult, Status, orient

_REPEATED = 1e-9  # below this gap rounding decides which vector of an eigenspace comes out
_NO_CUT = 1e-9  # lambda_2 this close to 1: the graph is the rank-one background alone
_ROUNDING = 1e-13  # residual that float64 leaves on an exactly solved pair
_LOOSE_ANGLE = 1e-3  # a vector known no better than this angle decides nothing


def solve_ncut_dense(affinity: Affinity, k: int = 1) -> NcutResult:
    """Smallest k nontrivial pairs of (D - W) x = lambda D x.

    Solved as M y = mu y with M = D^-1/2 W D^-1/2, mu = 1 - lambda, y = D^1/2 x. The trivial pair mu = 1, y ~ D^1/2 1 is
    known and shifted to -1, below every other eigenvalue, so that disconnected graphs do not mix with it.

    Args:
        affinity: graphs of B images.
        k: pairs per image, 1 <= k < N.

    Raises:
        TypeError: if the affinity is something else.
        ValueError: if k is out of range.
    """
    if not isinstance(affinity, Affinity):
        raise TypeError(f"affinity must come from build_affinity, got {type(affinity).__name__}")
    batch, tokens = affinity.valid.shape
    if not 1 <= k < tokens:
        raise ValueError(f"k must be in 1..{tokens - 1} for graphs of {tokens} tokens, got {k}")
    # One image's float64 matrix at a time: a batch of them would be the largest thing in memory.
    solved = [_solve_one(affinity[i : i + 1], k) for i in range(batch)]
    values, vectors, residuals, gaps, proven, status = zip(*solved, strict=True)
    return NcutResult(
        eigenvalues=torch.stack(values),
        eigenvectors=torch.stack(vectors),
        residuals=torch.stack(residuals),
        gap=torch.stack(gaps),
        proven=torch.stack(proven),
        status=status,
        passes=torch.zeros(batch, dtype=torch.int64, device=affinity.valid.device),
    )


def _solve_one(affinity: Affinity, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Status]:
    """Eigenvalues, vectors, residuals, gap, proven tokens and status of a single graph."""
    degrees, valid = affinity.degrees[0], affinity.valid[0]
    tokens = len(valid)
    values, residuals = degrees.new_ones(k), degrees.new_zeros(k)
    vectors, proven = degrees.new_zeros(tokens, k), torch.zeros_like(valid)
    inside = valid.nonzero()[:, 0]
    if len(inside) <= k:
        return values, vectors, residuals, degrees.new_full((), torch.inf), proven, Status.TRIVIAL

    root = degrees[inside].sqrt()
    matrix = affinity.dense()[0][inside][:, inside] / (root[:, None] * root[None, :])
    trivial = root / root.norm()
    pairs = min(k + 1, len(inside) - 1)
    mu, y = _largest_pairs(matrix - 2 * trivial[:, None] * trivial[None, :], pairs)
    residual = matrix @ y - y * mu
    gap = mu[k - 1] - mu[k] if pairs > k else degrees.new_full((), torch.inf)
    x = orient((y[:, :k] / root[:, None]).T).T

    values, residuals = 1 - mu[:k], residual[:, :k].norm(dim=0)
    vectors[inside] = x
    # Davis-Kahan: the angle to the true vector is at most residual over gap.
    first_gap = mu[0] - mu[1] if pairs > 1 else gap
    angle = 2**0.5 * (residuals[0] + _ROUNDING) / first_gap.clamp(min=_ROUNDING)
    if 1 - mu[0] > 1 - _NO_CUT:
        return values, vectors, residuals, gap, proven, Status.TRIVIAL
    if first_gap <= _REPEATED or angle > _LOOSE_ANGLE:
        return values, vectors, residuals, gap, proven, Status.DEGENERATE
    proven[inside] = _proven(x[:, 0], matrix, residual[:, 0], mu[0], angle, root)
    return values, vectors, residuals, gap, proven, Status.DENSE


def _largest_pairs(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues, descending, and their vectors in columns."""
    if matrix.is_cuda:
        mu, y = torch.linalg.eigh(matrix)
        return mu[-count:].flip(0), y[:, -count:].flip(1)
    # On a CPU the subset driver needs a little over half the time of all vectors.
    last = len(matrix) - 1
    mu, y = linalg.eigh(matrix.numpy(), subset_by_index=[last - count + 1, last], driver="evr")
    return torch.from_numpy(mu[::-1].copy()), torch.from_numpy(y[:, ::-1].copy())


def _proven(x: Tensor, matrix: Tensor, residual: Tensor, mu: Tensor, angle: Tensor, root: Tensor) -> Tensor:
    """Tokens whose side of the mean no error within the bound can change.

    One multiplication by M turns the angle's error into |e_i| <= |M_i| angle / mu per entry, plus what separates the vector
    from its own product, |residual_i| / mu.
    """
    error = (matrix.norm(dim=1) * angle + residual.abs()) / (mu * root)
    return torch.gt((x - x.mean()).abs(), error + error.mean())
