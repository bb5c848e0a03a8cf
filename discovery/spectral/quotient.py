"""Classes of tokens that cannot be told apart: their known eigenpairs, and the small problem left of a sparse graph.

All isolated tokens of an image are alike, and so are all masked ones. Of each class only the average takes part in the
unknown spectrum; the differences between n members are n - 1 eigenvectors with a known, equal eigenvalue.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from eigenseg.discovery.spectral.deflated import DeflatedAffinity


class Pairs(NamedTuple):
    """Eigenpairs of M for a single image."""

    values: Tensor  # (m,) float64, descending
    vectors: Tensor  # (N, m) float64, y of unit length
    residuals: Tensor  # (m,) float64, |M y - value y|


def quotient_pairs(operator: DeflatedAffinity) -> Pairs:
    """All nontrivial pairs of a single image's quotient graph, where each class is one weighted node.

    With an orthonormal E (single tokens, and 1 / sqrt(n) on each class) this is E^T M E, solved densely in float64.

    Args:
        operator: of one image; only sensible where few tokens are neither isolated nor masked.
    """
    classes, inverse_root = operator.classes[0], operator.inverse_root[0, :, 0]
    single = ((classes.sum(dim=1) == 0) & (inverse_root > 0)).nonzero()[:, 0]
    columns = [torch.zeros(len(classes), len(single), dtype=torch.float64, device=classes.device)]
    columns[0][single, torch.arange(len(single), device=classes.device)] = 1
    columns += [member[:, None] / member.sum().sqrt() for member in classes.unbind(dim=1) if member.any()]
    basis = torch.cat(columns, dim=1)
    # Moving the trivial pair to -1 keeps it below everything else.
    trivial = basis.T @ operator.trivial[0]
    matrix = basis.T @ operator.product(basis[None])[0] - trivial @ trivial.T
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values, vectors = values.flip(0)[: len(matrix) - 1], vectors.flip(1)[:, : len(matrix) - 1]
    vectors = basis @ vectors
    residuals = (operator.product(vectors[None])[0] - vectors * values).norm(dim=0)
    return Pairs(values, vectors, residuals)


def with_class_pairs(operator: DeflatedAffinity, pairs: Pairs, count: int) -> Pairs:
    """Insert the known differences within classes among the pairs of a single image; the largest ``count`` remain."""
    parts = [pairs]
    known = (float(operator.isolated_mu[0]), 0.0)
    for members, mu in zip(operator.classes[0].unbind(dim=1), known, strict=True):
        inside = members.nonzero()[:, 0]
        number = min(len(inside) - 1, count)
        if number > 0:
            exact = torch.zeros(number, dtype=torch.float64, device=members.device)
            parts.append(Pairs(exact + mu, _differences(inside, len(members), number), exact))
    together = Pairs(*(torch.cat(part, dim=-1) for part in zip(*parts, strict=True)))
    order = together.values.argsort(descending=True, stable=True)[:count]
    return Pairs(*(part[..., order] for part in together))


def _differences(inside: Tensor, tokens: int, number: int) -> Tensor:
    """Helmert's vectors: e_1 + ... + e_j - j e_(j+1), unit length, on the members of a class: (N, number)."""
    vectors = torch.zeros(tokens, number, dtype=torch.float64, device=inside.device)
    for j in range(1, number + 1):
        length = (j * (j + 1)) ** 0.5
        vectors[inside[:j], j - 1] = 1 / length
        vectors[inside[j], j - 1] = -j / length
    return vectors
