"""The oracle: normalized cut by dense float64 eigendecomposition, one image after the other."""

from __future__ import annotations

import torch
from scipy import linalg
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.certificate import Status, judge, proven_tokens, vector_angle
from eigenseg.discovery.spectral.result import NcutResult, orient


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
    require_pairs(affinity, k)
    batch = len(affinity)
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
    first_gap = mu[0] - mu[1] if pairs > 1 else gap
    angle = vector_angle(residuals[0], first_gap)
    (status,) = judge(mu[:1], first_gap[None], angle[None], Status.DENSE)
    if status is Status.DENSE:
        proven[inside] = proven_tokens(
            x[None, :, 0],
            residual[None, :, 0],
            mu[:1],
            angle[None],
            matrix.norm(dim=1)[None],
            1 / root[None],
            torch.ones_like(inside, dtype=torch.bool)[None],
        )[0]
    return values, vectors, residuals, gap, proven, status


def _largest_pairs(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues, descending, and their vectors in columns."""
    if matrix.is_cuda:
        mu, y = torch.linalg.eigh(matrix)
        return mu[-count:].flip(0), y[:, -count:].flip(1)
    # On a CPU the subset driver needs a little over half the time of all vectors.
    last = len(matrix) - 1
    mu, y = linalg.eigh(matrix.numpy(), subset_by_index=[last - count + 1, last], driver="evr")
    return torch.from_numpy(mu[::-1].copy()), torch.from_numpy(y[:, ::-1].copy())


def require_pairs(affinity: Affinity, k: int) -> None:
    """Refuse what no solver can answer.

    Raises:
        TypeError: if the affinity is something else.
        ValueError: if k is not in 1..N-1.
    """
    if not isinstance(affinity, Affinity):
        raise TypeError(f"affinity must come from build_affinity, got {type(affinity).__name__}")
    tokens = affinity.valid.shape[1]
    if not 1 <= k < tokens:
        raise ValueError(f"k must be in 1..{tokens - 1} for graphs of {tokens} tokens, got {k}")
