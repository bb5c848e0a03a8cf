"""Multi-region segmentation: clusters of tokens in the space of the nontrivial eigenvectors (Deep Spectral Methods).

Melas-Kyriazi, Rupprecht, Laina and Vedaldi, CVPR 2022, section 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

from eigenseg.data.geometry import Size

_STARTS = 10  # ``n_init`` of k-means, the default of scikit-learn at the time of the paper


def multi_region(
    eigenvectors: Tensor,
    eigenvalues: Tensor,
    grid: Size,
    n_clusters: int | Literal["adaptive"] = 15,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Regions of a batch of images: k-means of the tokens in the space of eigenvectors 1 and up, as they are.

    An image with fewer distinct tokens than clusters gets one region per distinct token.

    Args:
        eigenvectors: (B, N, K), the constant one first, K at least 2; from ``eigensegments``.
        eigenvalues: (B, K) ascending.
        grid: (gh, gw) with gh * gw = N.
        n_clusters: background included, 1 to N; ``"adaptive"``: see ``adaptive_clusters``. Published: 15.
        seed: of k-means; the published code sets none.

    Returns:
        ``segments`` (B, gh, gw) int64: 0 for the background, which is the cluster with the most border tokens, 1 and up for
        the others in row-major order of their first tokens.

    Raises:
        ValueError: if a shape or a number is out of range, or an eigenvector is not finite.
    """
    if (
        eigenvectors.ndim != 3
        or eigenvectors.shape[2] < 2
        or eigenvectors.shape[:2] != (len(eigenvalues), grid[0] * grid[1])
    ):
        raise ValueError(
            f"eigenvectors must be ({len(eigenvalues)}, {grid[0] * grid[1]}, K) with K at least 2 for a grid of "
            f"{grid[0]}x{grid[1]}, got {tuple(eigenvectors.shape)}"
        )
    if not torch.isfinite(eigenvectors).all():
        raise ValueError("eigenvectors have entries that are not finite")
    numbers = _numbers(n_clusters, eigenvalues, grid[0] * grid[1])
    segments = np.zeros((len(eigenvalues), *grid), dtype=np.int64)
    for i, (points, number) in enumerate(zip(eigenvectors[:, :, 1:].double().cpu().numpy(), numbers, strict=True)):
        distinct = len(np.unique(points, axis=0))
        means = KMeans(min(number, distinct), n_init=_STARTS, random_state=seed)
        segments[i] = background_first(means.fit_predict(points).reshape(grid))
    return segments


def _numbers(n_clusters: Any, eigenvalues: Tensor, tokens: int) -> Sequence[int]:
    if n_clusters == "adaptive":
        numbers: list[int] = adaptive_clusters(eigenvalues).tolist()
        return numbers
    if not isinstance(n_clusters, int) or not 1 <= n_clusters <= tokens:
        raise ValueError(f"n_clusters must be from 1 to {tokens}, the number of tokens, or 'adaptive', got {n_clusters!r}")
    return [n_clusters] * len(eigenvalues)


def adaptive_clusters(eigenvalues: Tensor) -> Tensor:
    """Number of eigenvalues below the largest gap, that after the trivial one left out; of equal gaps the first.

    Args:
        eigenvalues: (B, K) ascending, K at least 3.

    Returns:
        (B,) int64 from 2 to K - 1.

    Raises:
        ValueError: if there are fewer than 3.
    """
    if eigenvalues.ndim != 2 or eigenvalues.shape[1] < 3:
        raise ValueError(
            f"n_clusters='adaptive' needs (B, K) eigenvalues with K at least 3, got {tuple(eigenvalues.shape)}"
        )
    return eigenvalues.diff(dim=1)[:, 1:].argmax(dim=1) + 2


def background_first(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Renumber segments: 0 is the one with the most border tokens, the others follow in row-major order.

    Every border token counts once, corners too. Of several with equally many the one that appears first is the background.

    Args:
        labels: (gh, gw) of any integers.
    """
    names, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    border = np.ones(labels.shape, dtype=bool)
    border[1:-1, 1:-1] = False
    touching = np.bincount(inverse.reshape(labels.shape)[border], minlength=len(names))
    background = min(range(len(names)), key=lambda i: (-touching[i], first[i]))
    order = sorted(range(len(names)), key=lambda i: (i != background, first[i]))
    rank = np.empty(len(names), dtype=np.int64)
    rank[order] = np.arange(len(names))
    renamed: NDArray[np.int64] = rank[inverse.reshape(labels.shape)]
    return renamed
