"""Classes of indistinguishable tokens: their known eigenpairs, and the small quotient problem of a sparse graph.

All isolated tokens of an image are equivalent, and so are all masked ones. Only the average of each class matters for the
unknown spectrum; the differences between n members are n - 1 eigenvectors with a known, equal eigenvalue.
"""

from __future__ import annotations

import torch
from torch import Tensor

from eigenseg.discovery.spectral.deflated import DeflatedAffinity
from eigenseg.discovery.spectral.pairs import Pairs


def quotient_pairs(operator: DeflatedAffinity) -> Pairs:
    """All nontrivial pairs of a single image's quotient graph, where each class is one weighted node.

    With orthonormal rows E (single tokens, and 1 / sqrt(n) on each class) this is E M E^T, solved densely in float64.

    Args:
        operator: of one image; only sensible where few tokens are neither isolated nor masked.
    """
    classes, inverse_root = operator.classes[0], operator.inverse_root[0, 0]
    single = ((classes.sum(dim=0) == 0) & (inverse_root > 0)).nonzero()[:, 0]
    units = inverse_root.new_zeros(len(single), len(inverse_root))
    units[torch.arange(len(single), device=units.device), single] = 1
    basis = torch.cat([units, *(members[None] / members.sum().sqrt() for members in classes if members.any())])
    # Moving the trivial pair to -1 keeps it below everything else.
    trivial = basis @ operator.trivial[0].T
    matrix = basis @ operator.product(basis[None])[0].T - 2 * trivial @ trivial.T
    values, rotation = torch.linalg.eigh((matrix + matrix.T) / 2)
    values, rotation = values.flip(0)[: len(matrix) - 1], rotation.T.flip(0)[: len(matrix) - 1]
    vectors = rotation @ basis
    return Pairs(values, vectors, operator.product(vectors[None])[0])


def with_class_pairs(operator: DeflatedAffinity, pairs: Pairs, count: int) -> Pairs:
    """Insert the known differences within classes among the pairs of a single image; the largest ``count`` remain."""
    parts = [pairs]
    known = (float(operator.isolated_mu[0]), 0.0)
    for members, mu in zip(operator.classes[0], known, strict=True):
        inside = members.nonzero()[:, 0]
        number = min(len(inside) - 1, count)
        if number > 0:
            vectors = _differences(inside, len(members), number)
            parts.append(Pairs(vectors.new_full((number,), mu), vectors, mu * vectors))
    combined = Pairs(*(torch.cat(part) for part in zip(*parts, strict=True)))
    order = combined.values.argsort(descending=True, stable=True)[:count]
    return Pairs(*(part[order] for part in combined))


def _differences(inside: Tensor, tokens: int, number: int) -> Tensor:
    """Helmert vectors e_1 + ... + e_j - j e_(j+1), unit length, on the members of a class: (number, N)."""
    vectors = torch.zeros(number, tokens, dtype=torch.float64, device=inside.device)
    for j in range(1, number + 1):
        length = (j * (j + 1)) ** 0.5
        vectors[j - 1, inside[:j]] = 1 / length
        vectors[j - 1, inside[j]] = -j / length
    return vectors
