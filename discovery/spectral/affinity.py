"""The token graph of TokenCut: who looks like whom, as an operator.

W = a 1 1^T + c B, where B_ij = [cos(f_i, f_j) > tau] is a 0/1 matrix. Only B is stored: the rank-one term is added to
products and degrees, which are therefore exact (a row sum of 0/1 is an integer).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.discovery.spectral.exact import exact_product

# Zero tokens stay zero instead of becoming NaN; the constant of the published code.
_NORMALISE_EPS = 1e-12


@dataclass(frozen=True)
class Affinity:
    """Binary cosine graphs of a batch of images.

    Args:
        binary: (B, N, N) float32, B's 0 and 1, symmetric; rows and columns of excluded tokens are 0.
        row_sums: (B, N) float64, exact integers, row sums of ``binary``.
        offset: a, the weight between any two tokens of the graph.
        scale: c, what an edge adds.
        valid: (B, N) bool, tokens that belong to the graph. The others take no part in N, products or degrees.
        non_finite: (B,) int64, tokens with NaN or infinite features; they are kept without edges, like masked ones.
        features: (B, N, D) float32 of unit length, for a solver's first guess; None if the graph came from elsewhere.
    """

    binary: Tensor
    row_sums: Tensor
    offset: float
    scale: float
    valid: Tensor
    non_finite: Tensor
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(self.valid)

    def __getitem__(self, images: slice) -> Affinity:
        """Graphs of some of the images."""
        return replace(
            self,
            binary=self.binary[images],
            row_sums=self.row_sums[images],
            valid=self.valid[images],
            non_finite=self.non_finite[images],
            features=None if self.features is None else self.features[images],
        )

    @property
    def degrees(self) -> Tensor:
        """Diagonal of D: (B, N) float64, a N + c sum_j B_ij, and 0 for excluded tokens."""
        count = self.valid.sum(dim=1, keepdim=True).double()  # an integer times a float would be float32
        return torch.where(self.valid, self.offset * count + self.scale * self.row_sums, 0.0)

    def product(self, vectors: Tensor) -> Tensor:
        """W @ vectors for (B, N, m) float64; excluded tokens give and receive nothing."""
        inside = vectors * self.valid[:, :, None]
        spread = self.offset * inside.sum(dim=1, keepdim=True) + self.scale * exact_product(self.binary, inside)
        return spread * self.valid[:, :, None]

    def dense(self) -> Tensor:
        """W itself: (B, N, N) float64, with 0 for excluded tokens."""
        pairs = self.valid[:, :, None] & self.valid[:, None, :]
        return torch.where(pairs, self.offset + self.scale * self.binary.double(), 0.0)

    def mask(self, tokens: Tensor) -> Affinity:
        """Cut all edges of some tokens, self-loops too; they stay in the graph with weight a to everything.

        Equal to a rebuild with those features set to 0 (their cosine 0 does not exceed tau >= 0), as MaskCut does.

        Args:
            tokens: (B, N) bool.
        """
        binary = self.binary.masked_fill(tokens[:, :, None] | tokens[:, None, :], 0.0)
        return replace(self, binary=binary, row_sums=_row_sums(binary))


def build_affinity(
    features: Tensor,
    tau: float = 0.2,
    eps: float = 1e-5,
    valid: Tensor | None = None,
    weights: Literal["image", "video"] = "image",
) -> Affinity:
    """Build the binary cosine graph (TokenCut, CVPR 2022, equation 5).

    W_ij = 1 where cos(f_i, f_j) > tau (strict), else eps; self-loops are kept. ``weights="video"`` adds eps on edges
    too (TokenCut-video). A token of zero length, or one that is not finite, has no edge, not even to itself.

    Args:
        features: (B, N, D) floating, any scale; cosines are computed in float32 like the published code.
        tau: threshold, in [0, 1).
        eps: weight of a missing edge, in (0, 1); it keeps the graph connected and D invertible.
        valid: (B, N) bool, False takes a token out of the graph altogether; None keeps all.
        weights: which published weighting.

    Raises:
        TypeError: if the features are no tensor.
        ValueError: if a shape or a parameter is out of range.
    """
    check_features(features)
    check_graph_parameters(tau, eps)
    if weights not in ("image", "video"):
        raise ValueError(f"weights must be 'image' or 'video', got {weights!r}")
    if valid is None:
        valid = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
    elif valid.shape != features.shape[:2] or valid.dtype != torch.bool:
        raise ValueError(f"valid must be {tuple(features.shape[:2])} bool, got {tuple(valid.shape)} {valid.dtype}")

    finite = torch.isfinite(features).all(dim=2)
    usable = torch.where((finite & valid)[:, :, None], features.float(), 0.0)
    unit = F.normalize(usable, dim=2, eps=_NORMALISE_EPS)
    # A matmul's rounding need not be symmetric: the upper triangle decides for both.
    upper = (unit @ unit.mT > tau).triu()
    binary = (upper | upper.mT).float()
    return Affinity(
        binary=binary,
        row_sums=_row_sums(binary),
        offset=eps,
        scale=1 - eps if weights == "image" else 1.0,
        valid=valid,
        non_finite=(valid & ~finite).sum(dim=1),
        features=unit,
    )


def check_features(features: Any) -> None:
    """Refuse what is no batch of token features.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if its shape or dtype is wrong, or the batch is empty.
    """
    if not isinstance(features, Tensor):
        raise TypeError(f"features must be a torch tensor (B, N, D), got {type(features).__name__}")
    if features.ndim != 3 or not features.is_floating_point() or not len(features):
        raise ValueError(
            f"features must be (B, N, D) floating with B at least 1, got {tuple(features.shape)} {features.dtype}"
        )


def check_graph_parameters(tau: Any, eps: Any) -> None:
    """Refuse a threshold or a background weight for which the graph has no meaning; a yaml may hold anything.

    Raises:
        ValueError: naming the parameter.
    """
    if not (isinstance(tau, (int, float)) and 0 <= tau < 1):
        raise ValueError(f"tau must be a number in [0, 1), got {tau!r}")
    if not (isinstance(eps, (int, float)) and 0 < eps < 1):
        raise ValueError(f"eps must be a number in (0, 1), got {eps!r}")


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


def _row_sums(binary: Tensor) -> Tensor:
    # float32 sums of 0/1 are exact below 2^24 edges a row, and several times faster than sums of bool
    return binary.sum(dim=2).double()
