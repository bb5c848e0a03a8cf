"""Graphs given by their 0/1 matrix, for tests of every solver."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from eigenseg.discovery.spectral import Affinity, affinity_from_weights

EPS = 1e-5


def graph(binary: Tensor) -> Affinity:
    """An affinity W = EPS + (1 - EPS) B from a 0/1 matrix (N, N), without features."""
    return replace(affinity_from_weights(binary[None] > 0, eps=EPS), scale=1 - EPS)


def cliques(*sizes: int) -> Tensor:
    """Groups whose tokens know each other and nobody else: (sum, sum)."""
    return torch.block_diag(*(torch.ones(size, size) for size in sizes))


def band(tokens: int, width: int, ring: bool) -> Tensor:
    """A path, or a ring, in which each token knows those at most ``width`` steps away."""
    distance = (torch.arange(tokens)[:, None] - torch.arange(tokens)[None]).abs()
    return (torch.minimum(distance, tokens - distance) if ring else distance) <= width
