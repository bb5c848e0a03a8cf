"""Eigenpairs of M, as solvers compute them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """m eigenpairs of M for a batch of graphs, or for a single one without the leading dimension; vectors are rows.

    A pair that a small graph does not have has the value -inf and a zero vector.
    """

    values: Tensor  # (B, m) float64, descending
    vectors: Tensor  # (B, m, N) float64, y of unit length, 0 at excluded tokens
    products: Tensor  # (B, m, N) float64, M y

    @classmethod
    def absent(cls, batch: int, count: int, like: Tensor) -> Pairs:
        """No pairs yet, for N tokens as in the last dimension of ``like``."""
        vectors = like.new_zeros(batch, count, like.shape[-1])
        return cls(like.new_full((batch, count), -torch.inf), vectors, vectors.clone())

    def put(self, image: int, pairs: Pairs) -> None:
        """Set the leading pairs of one image."""
        count = min(len(pairs.values), self.values.shape[1])
        for target, source in zip(self, pairs, strict=True):
            target[image, :count] = source[:count]

    @property
    def residuals(self) -> Tensor:
        """|M y - mu y|: (B, m), 0 for absent pairs."""
        mu = torch.nan_to_num(self.values, neginf=0.0)
        norms: Tensor = (self.products - mu[..., None] * self.vectors).norm(dim=-1)
        return norms
