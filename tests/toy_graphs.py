"""Graphs given by their 0/1 matrix, for tests of every solver."""

from __future__ import annotations

import torch
from torch import Tensor

from eigenseg.discovery.spectral import Affinity

EPS = 1e-5


def graph(binary: Tensor) -> Affinity:
    """An affinity from a 0/1 matrix (N, N), without features."""
    return Affinity(
        binary=binary[None].float(),
        row_sums=binary[None].sum(dim=2).double(),
        offset=EPS,
        scale=1 - EPS,
        valid=torch.ones(1, len(binary), dtype=torch.bool),
        non_finite=torch.zeros(1, dtype=torch.int64),
    )


def cliques(*sizes: int) -> Tensor:
    """Groups whose tokens know each other and nobody else: (sum, sum)."""
    return torch.block_diag(*(torch.ones(size, size) for size in sizes))


def band(tokens: int, width: int, ring: bool) -> Tensor:
    """A path, or a ring, in which each token knows those at most ``width`` steps away."""
    distance = (torch.arange(tokens)[:, None] - torch.arange(tokens)[None]).abs()
    return (torch.minimum(distance, tokens - distance) if ring else distance) <= width
