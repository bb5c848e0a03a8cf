"""The normalized affinity, deflated by the part of its spectrum that is known beforehand.

M = D^-1/2 W D^-1/2 has eigenvalues mu = 1 - lambda. Known are the trivial pair (mu = 1, q ~ D^1/2 1) and all differences of
indistinguishable tokens: of isolated tokens (an edge to themselves only) with mu = c / d, of masked ones (no edge) with
mu = 0. Projecting these out leaves one averaged direction per class, and an iteration that no longer stalls in a
cluster of hundreds of equal eigenvalues.

Vectors are rows here, (A, m, N), contiguous along the tokens, as products and sums are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.edges import Edges


@dataclass(frozen=True)
class DeflatedAffinity:
    """M for A images, and the known part of its spectrum.

    Args:
        edges: B of those images.
        offset, scale: a and c of W = a 1 1^T + c B.
        inverse_root: (A, 1, N) float64, D^-1/2, 0 for excluded tokens.
        trivial: (A, 1, N) float64, q, unit length.
        classes: (A, 2, N) float64, 1 where a token is isolated / masked.
        has_classes: whether any image has a class of two or more tokens.
    """

    edges: Edges
    offset: float
    scale: float
    inverse_root: Tensor
    trivial: Tensor
    classes: Tensor
    has_classes: bool

    def select(self, images: Sequence[int]) -> DeflatedAffinity:
        """The operator of some of the images."""
        chosen = list(images)
        return replace(
            self,
            edges=self.edges.select(chosen),
            inverse_root=self.inverse_root[chosen],
            trivial=self.trivial[chosen],
            classes=self.classes[chosen],
        )

    @property
    def class_sizes(self) -> Tensor:
        """Isolated and masked tokens of each image: (A, 2) float64."""
        return self.classes.sum(dim=2)

    @property
    def isolated_mu(self) -> Tensor:
        """c / d, the eigenvalue of differences of isolated tokens: (A,) float64; 0 for images without any."""
        inverse = self.inverse_root[:, 0] ** 2 * self.classes[:, 0]
        return self.scale * inverse.amax(dim=1)

    def average(self, vectors: Tensor) -> Tensor:
        """Replace every member of a class by the class's mean."""
        if not self.has_classes:
            return vectors
        means = (vectors @ self.classes.mT) / self.class_sizes.clamp(min=1)[:, None, :]  # (A, m, 2)
        outside = 1 - self.classes.sum(dim=1, keepdim=True)
        return outside * vectors + means @ self.classes

    def product(self, vectors: Tensor) -> Tensor:
        """M u for every row of (A, m, N) float64. M maps the unknown part to itself; only rounding leaves it."""
        scaled = self.inverse_root * vectors
        spread = self.offset * scaled.sum(dim=2, keepdim=True)
        return self.inverse_root * (self.scale * self.edges.product(scaled) + spread)

    def row_norms(self) -> Tensor:
        """Norms of M's rows, (A, N) float64; upper bounds where B holds weights.

        r_i^2 = (1 / d_i) (a^2 s + ((a + c)^2 - a^2) (B d^-1)_i) with s = sum_j 1 / d_j, one more product. The bound holds
        because b^2 <= b for entries in [0, 1].
        """
        a, edge = self.offset, self.offset + self.scale
        inverse = self.inverse_root**2
        reached = self.edges.product(inverse)
        squares = inverse * (a**2 * inverse.sum(dim=2, keepdim=True) + (edge**2 - a**2) * reached)
        return squares[:, 0].clamp(min=0).sqrt()


def deflate(affinity: Affinity) -> DeflatedAffinity:
    """Prepare the operator for all images of a batch."""
    degrees = affinity.degrees
    root = degrees.sqrt()
    # Without a rank-one term a token may have no weight at all; then it does not count in the spectrum.
    weighted = affinity.valid & (degrees > 0)
    isolated = weighted & (affinity.edges.loops() == 1) & (affinity.row_sums == 1)
    masked = weighted & (affinity.row_sums == 0)
    classes = torch.stack([isolated, masked], dim=1).double()
    tiny = torch.finfo(torch.float64).tiny
    return DeflatedAffinity(
        edges=affinity.edges,
        offset=affinity.offset,
        scale=affinity.scale,
        inverse_root=torch.where(weighted, 1 / root.clamp(min=tiny), 0.0)[:, None, :],
        trivial=(root / root.norm(dim=1, keepdim=True).clamp(min=tiny))[:, None, :],
        classes=classes,
        has_classes=bool((classes.sum(dim=2) > 1).any()),
    )
