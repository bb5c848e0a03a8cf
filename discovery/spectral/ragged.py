"""Images of different sizes: grouped by their number of tokens, solved in batches, returned in the input's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import build_affinity, graphs_per_batch
from eigenseg.discovery.spectral.result import NcutResult
from eigenseg.discovery.spectral.solve import NcutSolver, solve_ncut


def solve_ncut_ragged(
    features: Sequence[Tensor],
    k: int = 1,
    tau: float = 0.2,
    eps: float = 1e-5,
    weights: Literal["image", "video", "cosine"] = "image",
    solver: NcutSolver = solve_ncut,
) -> list[NcutResult]:
    """Build and solve the graphs of images that may have different numbers of tokens.

    Args:
        features: (N_i, D_i) floating for every image.
        k: nontrivial pairs per image, smaller than the smallest N_i.
        tau, eps, weights: as in ``build_affinity``.
        solver: called once per group of equal shape, or several times if the group's graphs exceed the memory limit.

    Returns:
        One result per image, each a batch of one, in the order of ``features``.

    Raises:
        TypeError: if an image's features are not a tensor.
        ValueError: if one of them has a wrong shape, or a parameter is out of range.
    """
    groups = defaultdict[tuple[int, ...], list[int]](list)
    for i, tokens in enumerate(features):
        if not isinstance(tokens, Tensor):
            raise TypeError(f"features must be torch tensors (N, D), got {type(tokens).__name__} at {i}")
        if tokens.ndim != 2 or not len(tokens):
            raise ValueError(f"features must be (N, D) with N at least 1, got {tuple(tokens.shape)} at {i}")
        groups[tuple(tokens.shape)].append(i)
    results: dict[int, NcutResult] = {}
    for shape, members in groups.items():
        step = graphs_per_batch(shape[0])
        for chunk in (members[first : first + step] for first in range(0, len(members), step)):
            solved = solver(build_affinity(torch.stack([features[i] for i in chunk]), tau, eps, weights=weights), k)
            results |= {i: solved[j : j + 1] for j, i in enumerate(chunk)}
    return [results[i] for i in range(len(features))]
