"""The normalised affinity without what is known of its spectrum beforehand.

M = D^-1/2 W D^-1/2 has eigenvalues mu = 1 - lambda. Known are the trivial pair (mu = 1, q ~ D^1/2 1) and, of tokens that
cannot be told apart, all differences: among isolated tokens (an edge to themselves only) mu = c / d, among masked ones (no
edge) mu = 0. Projecting these out leaves one averaged direction per class, and an iteration that no longer stalls in a
cluster of hundreds of equal eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.exact import exact_product


@dataclass(frozen=True)
class DeflatedAffinity:
    """M restricted to what is unknown, for A of the affinity's B images.

    Args:
        affinity: the graphs, all B.
        images: (A,) int64 into them, or None for all.
        inverse_root: (A, N, 1) float64, D^-1/2, 0 for excluded tokens.
        trivial: (A, N, 1) float64, q, unit length.
        classes: (A, N, 2) float64, 1 where a token is isolated / masked.
    """

    affinity: Affinity
    images: Tensor | None
    inverse_root: Tensor
    trivial: Tensor
    classes: Tensor

    def __getitem__(self, chosen: Tensor) -> DeflatedAffinity:
        """The operator of some of the A images, chosen by (A',) int64; the graphs are not copied."""
        return replace(
            self,
            images=chosen if self.images is None else self.images[chosen],
            inverse_root=self.inverse_root[chosen],
            trivial=self.trivial[chosen],
            classes=self.classes[chosen],
        )

    @property
    def class_sizes(self) -> Tensor:
        """Isolated and masked tokens of each image: (A, 2) float64."""
        return self.classes.sum(dim=1)

    @property
    def isolated_mu(self) -> Tensor:
        """c / d, the eigenvalue of differences of isolated tokens: (A,) float64; 0 where there is none."""
        inverse = self.inverse_root[:, :, 0] ** 2 * self.classes[:, :, 0]
        return self.affinity.scale * inverse.amax(dim=1)

    def clean(self, vectors: Tensor) -> Tensor:
        """Project (A, N, m) onto the unknown part: class averages instead of members, no trivial component.

        Unconditional, because asking whether a class is empty would make a GPU wait.
        """
        means = (self.classes.mT @ vectors) / self.class_sizes.clamp(min=1)[:, :, None]  # (A, 2, m)
        outside = 1 - self.classes.sum(dim=2, keepdim=True)
        vectors = outside * vectors + self.classes @ means
        return vectors - self.trivial @ (self.trivial.mT @ vectors)

    def product(self, vectors: Tensor) -> Tensor:
        """M @ vectors for (A, N, m) float64, cleaned."""
        scaled = self.inverse_root * vectors
        spread = self.affinity.offset * scaled.sum(dim=1, keepdim=True)
        edges = self.affinity.scale * exact_product(self.affinity.binary, scaled, self.images)
        return self.clean(self.inverse_root * (spread + edges))

    def row_norms(self) -> Tensor:
        """Norms of M's rows, (A, N) float64.

        r_i^2 = (1 / d_i) (a^2 s + ((a + c)^2 - a^2) (B d^-1)_i) with s = sum_j 1 / d_j, one more product.
        """
        a, edge = self.affinity.offset, self.affinity.offset + self.affinity.scale
        inverse = self.inverse_root**2
        reached = exact_product(self.affinity.binary, inverse, self.images)
        squares = inverse * (a**2 * inverse.sum(dim=1, keepdim=True) + (edge**2 - a**2) * reached)
        return squares[:, :, 0].clamp(min=0).sqrt()


def deflate(affinity: Affinity) -> DeflatedAffinity:
    """Prepare the operator for all images of a batch."""
    degrees = affinity.degrees
    root = degrees.sqrt()
    loops = affinity.binary.diagonal(dim1=1, dim2=2) > 0
    isolated = affinity.valid & loops & (affinity.row_sums == 1)
    masked = affinity.valid & (affinity.row_sums == 0)
    return DeflatedAffinity(
        affinity=affinity,
        images=None,
        inverse_root=torch.where(affinity.valid, 1 / root.clamp(min=torch.finfo(torch.float64).tiny), 0.0)[:, :, None],
        trivial=(root / root.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny))[:, :, None],
        classes=torch.stack([isolated, masked], dim=2).double(),
    )
