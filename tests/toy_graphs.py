"""Toy graphs, given by their 0/1 matrix, for tests of all solvers."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from eigenseg.discovery.spectral import Affinity, NcutResult, affinity_from_weights

EPS = 1e-5


def graph(binary: Tensor) -> Affinity:
    """An affinity W = EPS + (1 - EPS) B from a 0/1 matrix (N, N), without features."""
    return replace(affinity_from_weights(binary[None] > 0, eps=EPS), scale=1 - EPS)


def cliques(*sizes: int) -> Tensor:
    """Disjoint cliques of the given sizes: (sum, sum)."""
    return torch.block_diag(*(torch.ones(size, size) for size in sizes))


def band(tokens: int, width: int, ring: bool) -> Tensor:
    """A path, or a ring, in which each token has edges to those at most ``width`` steps away."""
    distance = (torch.arange(tokens)[:, None] - torch.arange(tokens)[None]).abs()
    return (torch.minimum(distance, tokens - distance) if ring else distance) <= width


def scene(seed: int, noise: float, regions: int = 4, tokens: int = 900, width: int = 24) -> Tensor:
    """Features (1, N, D) of regions with noise; more noise makes sparser graphs with smaller gaps."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(regions, width, generator=generator)
    labels = (torch.arange(tokens) * regions) // tokens
    return (centers[labels] + noise * torch.randn(tokens, width, generator=generator))[None]


def lattice(rows: int, columns: int, radius: float) -> Tensor:
    """A grid in which each token has edges to those within a radius."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    points = torch.stack([y.flatten(), x.flatten()], dim=1).float()
    return torch.cdist(points, points) <= radius + 1e-6


def random_graph(tokens: int, density: float) -> Tensor:
    """Random edges, with self-loops: an expander, whose spectrum is flat."""
    upper = (torch.rand(tokens, tokens, generator=torch.Generator().manual_seed(1)) < density).triu()
    return (upper | upper.T | torch.eye(tokens, dtype=torch.bool)).float()


def isolate(affinity: Affinity, tokens: int) -> Affinity:
    """Cut all edges of the first tokens except their self-loops."""
    binary = affinity.edges.dense()
    binary[:, :tokens], binary[:, :, :tokens] = 0, 0
    binary[:, torch.arange(tokens), torch.arange(tokens)] = 1
    return graph(binary[0])


def wrong_bits(result: NcutResult, oracle: NcutResult) -> int:
    """Tokens that lie on different sides of the mean in two results."""
    first, second = (one.eigenvectors[:, :, 0] for one in (result, oracle))
    return int(((first > first.mean(dim=1, keepdim=True)) != (second > second.mean(dim=1, keepdim=True))).sum())
