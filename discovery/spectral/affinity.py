"""The token graph of TokenCut as a linear operator: which tokens look alike.

W = a 1 1^T + c B. For the published graph B_ij = [cos(f_i, f_j) > tau] is a 0/1 matrix. Only B is stored: the rank-one term
is added to products and degrees, which are therefore exact (a row sum of 0/1 is an integer).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.discovery.spectral.checks import (
    check_features,
    check_graph_parameters,
    check_token_mask,
    check_weights,
    valid_or_all,
)
from eigenseg.discovery.spectral.edges import Edges, MatrixEdges, Storage, storage_dtype, threshold_cosines
from eigenseg.discovery.spectral.precision import full_precision

# Zero tokens stay zero instead of becoming NaN; the constant of the published code.
_NORMALIZE_EPS = 1e-12
# Entries of all graphs in memory at a time: 0.25 GB of int8, 1 GB of float32.
_GRAPH_ENTRIES = 2**28


@dataclass(frozen=True)
class Affinity:
    """Token graphs of a batch of images.

    Args:
        edges: B; rows and columns of excluded tokens are ignored.
        offset: a, the weight between any two tokens of the graph.
        scale: c, the weight that an edge adds.
        valid: (B, N) bool, tokens that belong to the graph. The others do not count in N, products or degrees.
        non_finite: (B,) int64, tokens with NaN or infinite features; they are kept without edges, like masked ones.
        features: (B, N, D) float32 of unit length, for a solver's initial block; None if the graph was not built from any.
    """

    edges: Edges
    offset: float
    scale: float
    valid: Tensor
    non_finite: Tensor
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.valid)

    def __getitem__(self, images: Any) -> Affinity:
        """Graphs of some of the images."""
        if not isinstance(images, slice):
            raise TypeError(f"an affinity is indexed by a slice of images, affinity[0:1], got {images!r}")
        return self.select(range(len(self))[images])

    def select(self, images: Sequence[int]) -> Affinity:
        """Graphs of the images with these indices."""
        chosen = list(images)
        if chosen == list(range(len(self))):
            return self  # indexing would copy the features
        return replace(
            self,
            edges=self.edges.select(chosen),
            valid=self.valid[chosen],
            non_finite=self.non_finite[chosen],
            features=None if self.features is None else self.features[chosen],
        )

    @cached_property
    def row_sums(self) -> Tensor:
        """Row sums of B over the graph: (B, N) float64; exact integers for a 0/1 matrix, whose products are exact."""
        inside = self.valid.double()
        return self.edges.product(inside[:, None, :])[:, 0] * inside

    @cached_property
    def degrees(self) -> Tensor:
        """Diagonal of D: (B, N) float64, a N + c sum_j B_ij, and 0 for excluded tokens."""
        count = self.valid.sum(dim=1, keepdim=True).double()  # an integer times a float would be float32
        return torch.where(self.valid, self.offset * count + self.scale * self.row_sums, 0.0)

    def product(self, vectors: Tensor) -> Tensor:
        """W @ vectors for (B, N, m) float64; excluded tokens contribute nothing and get 0."""
        rows = (vectors * self.valid[:, :, None]).mT
        spread = self.offset * rows.sum(dim=2, keepdim=True) + self.scale * self.edges.product(rows)
        return spread.mT * self.valid[:, :, None]

    def dense(self) -> Tensor:
        """W itself: (B, N, N) float64, with 0 for excluded tokens."""
        pairs = self.valid[:, :, None] & self.valid[:, None, :]
        return torch.where(pairs, self.offset + self.scale * self.edges.dense(), 0.0)

    def mask(self, tokens: Tensor) -> Affinity:
        """Cut all edges of some tokens, self-loops too; they stay in the graph with weight a to every token.

        Equal to a rebuild with those features set to 0 (their cosine 0 does not exceed tau >= 0), as MaskCut does.

        Args:
            tokens: (B, N) bool.

        Raises:
            ValueError: if shape or dtype are wrong.
        """
        check_token_mask("tokens", tokens, self.valid.shape)
        return replace(self, edges=self.edges.mask(tokens))

    def exclude(self, tokens: Tensor) -> Affinity:
        """Remove some tokens from the graph: from N, products and degrees. Nothing is copied.

        Equal to a rebuild with ``valid`` False there. MaskCut removes the tokens of each object this way; its published
        loop uses ``mask``.

        Args:
            tokens: (B, N) bool.

        Raises:
            ValueError: if shape or dtype are wrong.
        """
        check_token_mask("tokens", tokens, self.valid.shape)
        return replace(self, valid=self.valid & ~tokens)


@full_precision()
def build_affinity(
    features: Tensor,
    tau: float = 0.2,
    eps: float = 1e-5,
    valid: Tensor | None = None,
    weights: Literal["image", "video", "cosine"] = "image",
    storage: Storage = "auto",
) -> Affinity:
    """Build the cosine graph (TokenCut, CVPR 2022, equation 5).

    W_ij = 1 where cos(f_i, f_j) > tau (strict), else eps; self-loops are kept. ``weights="video"`` adds eps on edges
    too (TokenCut-video). ``"cosine"`` keeps the cosine itself where it exceeds tau, the published ablation without
    binarization; such a graph takes 8 bytes per entry. A token of zero length, or one that is not finite, has no edge, not
    even to itself.

    Args:
        features: (B, N, D) floating; cosines are computed in float32 like the published code. A token shorter than 1e-12
            counts as one of zero length, one whose length float32 cannot hold (1e19) as not finite.
        tau: threshold, in [0, 1).
        eps: weight of a missing edge, in (0, 1); it keeps the graph connected and D invertible.
        valid: (B, N) bool, False removes a token from the graph; None keeps all.
        weights: one of the published weightings.
        storage: type of the 0/1 matrix, see ``storage_dtype``.

    Raises:
        TypeError: if the features are not a tensor.
        ValueError: if a shape or a parameter is out of range, or the device does not support the storage.

    Example:
        >>> tokens = torch.tensor([[[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]])
        >>> (build_affinity(tokens).dense() > 0.5).int().tolist()
        [[[1, 1, 0], [1, 1, 0], [0, 0, 1]]]
    """
    check_features(features)
    check_graph_parameters(tau, eps)
    check_choice("weights", weights, ("image", "video", "cosine"))
    if weights == "cosine" and tau < eps:
        raise ValueError(f"weights='cosine' needs tau >= eps, else an edge weighs less than no edge; got {tau} and {eps}")
    valid = valid_or_all(valid, features)
    dtype = storage_dtype(storage, features.device, features.shape[1])

    single = features.float()
    finite = torch.isfinite(single.norm(dim=2))
    usable = torch.where((finite & valid)[:, :, None], single, 0.0)
    unit = F.normalize(usable, dim=2, eps=_NORMALIZE_EPS)
    matrix = threshold_cosines(unit, tau, dtype)
    if weights == "cosine":
        cosines = (unit.double() @ unit.double().mT).clamp(max=1)
        cosines.diagonal(dim1=1, dim2=2).fill_(1)  # by definition; rounding would make isolated tokens differ
        matrix = torch.where(matrix > 0, (cosines - eps) / (1 - eps), 0.0)
    return Affinity(
        edges=MatrixEdges(matrix),
        offset=eps,
        scale=1.0 if weights == "video" else 1 - eps,
        valid=valid,
        non_finite=(valid & ~finite).sum(dim=1),
        features=unit,
    )


@full_precision()
def affinity_from_weights(weights: Tensor, eps: float = 0.0, valid: Tensor | None = None) -> Affinity:
    """Build a graph from given weights: W = eps 1 1^T + weights.

    A batch whose weights are all 0 or 1 (also bool) takes the exact binary path, any other is kept in float64. Without eps
    a connection so weak that lambda_2 is below 1e-9 counts as none.

    Args:
        weights: (B, N, N) bool, integer or floating, in [0, 1e100], symmetric.
        eps: added between all tokens, at least 0. Without it a graph of several components is DEGENERATE.
        valid: (B, N) bool, False removes a token from the graph; None keeps all.

    Raises:
        TypeError: if the weights are not a tensor.
        ValueError: if shape, range or symmetry are wrong.
    """
    check_weights(weights, eps)
    valid = valid_or_all(valid, weights)
    pairs = valid[:, :, None] & valid[:, None, :]
    binary = weights.dtype == torch.bool or bool(((weights == 0) | (weights == 1)).all())
    # Entries of B have to lie in [0, 1]; dividing by a power of two is exact.
    scale = 1.0 if binary else 2.0 ** math.ceil(math.log2(float(weights.max())))
    dtype = storage_dtype("auto", weights.device, weights.shape[1]) if binary else torch.float64
    matrix = weights.to(dtype).masked_fill(~pairs, 0)
    matrix = matrix if binary else matrix.div_(scale)
    return Affinity(MatrixEdges(matrix), float(eps), scale, valid, valid.new_zeros(len(valid), dtype=torch.int64))


def normalized_cut(affinity: Affinity, foreground: Tensor) -> Tensor:
    """Value of a cut, cut(A, B)/vol(A) + cut(A, B)/vol(B) (Shi and Malik, 2000, equation 2).

    Args:
        affinity: graphs of B images.
        foreground: (B, N) bool, side A; side B is the rest of the graph.

    Returns:
        (B,) float64 in [0, 2]; at least lambda_2; infinite where a side is empty.
    """
    side = (foreground & affinity.valid).double()
    degrees = affinity.degrees
    volume = (degrees * side).sum(dim=1)
    inside = (side * affinity.product(side[:, :, None])[:, :, 0]).sum(dim=1)
    cut, rest = volume - inside, degrees.sum(dim=1) - volume
    return torch.where((volume > 0) & (rest > 0), cut / volume + cut / rest, torch.inf)


def graphs_per_batch(tokens: int) -> int:
    """How many graphs of N tokens to build at a time; at least one."""
    return max(1, _GRAPH_ENTRIES // tokens**2)
