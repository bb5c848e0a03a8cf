"""Normalized cut by dense float64 eigendecomposition, one image after the other: the oracle for the other solvers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from scipy import linalg
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.assess import assess
from eigenseg.discovery.spectral.certificate import Status
from eigenseg.discovery.spectral.deflated import deflate
from eigenseg.discovery.spectral.pairs import Pairs
from eigenseg.discovery.spectral.precision import full_precision
from eigenseg.discovery.spectral.result import NcutResult


@full_precision()
def solve_ncut_dense(affinity: Affinity, k: int = 1) -> NcutResult:
    """Smallest k nontrivial pairs of (D - W) x = lambda D x.

    Solved as M y = mu y with M = D^-1/2 W D^-1/2, mu = 1 - lambda, y = D^1/2 x. The trivial pair mu = 1, y ~ D^1/2 1 is
    known and shifted to -1, below every other eigenvalue, so that the pairs of disconnected graphs do not mix with it.

    Args:
        affinity: graphs of B images.
        k: pairs per image, 1 <= k < N.

    Raises:
        TypeError: if this is not an ``Affinity``.
        ValueError: if k is out of range.
    """
    return solve_each(affinity, k, _largest_eigenpairs)


LargestPairs = Callable[[Tensor, int], tuple[Tensor, Tensor, Status]]
"""Matrix (n, n) float64 and a number m -> m largest eigenvalues, descending, their vectors (n, m), and the status."""


def solve_each(affinity: Affinity, k: int, largest: LargestPairs) -> NcutResult:
    """Solve image by image with a function for the largest pairs of a dense symmetric matrix.

    Args:
        affinity: graphs of B images.
        k: pairs per image.
        largest: called with M without its trivial pair, restricted to the tokens of the graph.

    Raises:
        TypeError: if this is not an ``Affinity``.
        ValueError: if k is out of range.
    """
    require_pairs(affinity, k)
    operator = deflate(affinity)
    pairs, status = Pairs.absent(len(affinity), k + 1, operator.inverse_root), []
    for i in range(len(affinity)):
        # One image's float64 matrix at a time: a batch of them would be the largest thing in memory.
        solved, how = dense_pairs(affinity[i : i + 1], k + 1, largest)
        pairs.put(i, solved)
        status.append(how)
    return assess(affinity, operator, pairs, status, row_norms=operator.row_norms())


def dense_pairs(affinity: Affinity, count: int, largest: LargestPairs | None = None) -> tuple[Pairs, Status]:
    """Largest nontrivial pairs of a single image, at most ``count``, and the status."""
    valid, degrees = affinity.valid[0], affinity.degrees[0]
    inside = (valid & (degrees > 0)).nonzero()[:, 0]
    count = min(count, len(inside) - 1)
    pairs = Pairs(*(part[0] for part in Pairs.absent(1, max(count, 0), degrees)))
    if count < 1:
        return pairs, Status.DENSE
    root = degrees[inside].sqrt()
    matrix = affinity.dense()[0]
    if len(inside) < len(valid):
        matrix = matrix[inside][:, inside]
    matrix = matrix.div_(root[:, None]).div_(root[None, :])
    trivial = root / root.norm()
    mu, y, how = (largest or _largest_eigenpairs)(matrix.addr_(trivial, trivial, alpha=-2), count)
    number = len(mu)  # an iteration may return fewer than requested
    pairs.values[:number] = mu
    pairs.vectors[:number, inside] = y.T
    pairs.products[:number, inside] = (matrix @ y).T
    return pairs, how


def _largest_eigenpairs(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Status]:
    if matrix.is_cuda:
        mu, y = torch.linalg.eigh(matrix)
        return mu[-count:].flip(0), y[:, -count:].flip(1), Status.DENSE
    # On a CPU the subset driver takes a little over half the time of computing all vectors.
    last = len(matrix) - 1
    mu, y = linalg.eigh(matrix.numpy(), subset_by_index=[last - count + 1, last], driver="evr")
    if len(mu) < count:  # LAPACK's subset driver loses pairs of tight clusters without an error
        values, vectors = torch.linalg.eigh(matrix)
        return values[-count:].flip(0), vectors[:, -count:].flip(1), Status.DENSE
    return torch.from_numpy(mu[::-1].copy()), torch.from_numpy(y[:, ::-1].copy()), Status.DENSE


def require_pairs(affinity: Any, k: Any) -> None:
    """Raise if no solver can compute k pairs of these graphs.

    Raises:
        TypeError: if this is not an ``Affinity``.
        ValueError: if k is not an integer in 1..N-1, there is no graph, or a graph has fewer than 2 tokens.
    """
    if not isinstance(affinity, Affinity):
        raise TypeError(f"affinity must come from build_affinity or affinity_from_weights, got {type(affinity).__name__}")
    tokens = affinity.valid.shape[1]
    if tokens < 2 or not len(affinity):
        raise ValueError(f"a cut needs at least one graph of at least 2 tokens, got {len(affinity)} of {tokens}")
    if not isinstance(k, int) or not 1 <= k < tokens:
        raise ValueError(f"k must be in 1..{tokens - 1} for graphs of {tokens} tokens, got {k!r}")
