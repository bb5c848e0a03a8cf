"""Result of a spectral solver, with error bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eigenseg.discovery.spectral.certificate import Status

# Equivalent tokens of a binary graph have equal entries up to rounding; the peak is the lowest index on every machine.
_TIE = 1e-9


@dataclass(frozen=True)
class NcutResult:
    """Smallest nontrivial pairs of (D - W) x = lambda D x, for a batch of graphs with N tokens.

    Args:
        eigenvalues: (B, k) float64, ascending; the trivial 0 is left out.
        eigenvectors: (B, N, k) float64, x^T D x = 1, entry of largest magnitude positive (``orient``); 0 at tokens
            that were excluded from the graph.
        residuals: (B, k) float64, |M y - (1 - lambda) y| with M = D^-1/2 W D^-1/2 and |y| = 1, of the solver's y; x is
            computed from M y / (1 - lambda), which is more accurate where 1 - lambda is the largest.
        gap: (B,) float64, distance from eigenvalue k to the next one; infinite if there is none. After an iteration
            the next one is known up to its residual, and the gap is shortened by that.
        proven: (B, N) bool, whether an error bound proves on which side of the mean the first eigenvector's entry lies.
        status: one per image.
        passes: (B,) int64, products with the graph during the iteration, whether a dense solve followed or not; 0 without
            iteration.
        ritz_block: (B, N, m) float64 orthonormal block y to start a similar problem from, or None.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    residuals: Tensor
    gap: Tensor
    proven: Tensor
    status: tuple[Status, ...]
    passes: Tensor
    ritz_block: Tensor | None = None

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, images: slice) -> NcutResult:
        """Results of some of the images."""
        return NcutResult(
            eigenvalues=self.eigenvalues[images],
            eigenvectors=self.eigenvectors[images],
            residuals=self.residuals[images],
            gap=self.gap[images],
            proven=self.proven[images],
            status=self.status[images],
            passes=self.passes[images],
            ritz_block=None if self.ritz_block is None else self.ritz_block[images],
        )


def peak_index(vectors: Tensor) -> Tensor:
    """Index of the largest magnitude along the last dimension; among entries within 1e-9 (relative) the lowest.

    Args:
        vectors: (..., N) real.

    Returns:
        (...,) int64.
    """
    magnitude = vectors.abs()
    at_peak = magnitude >= (1 - _TIE) * magnitude.amax(dim=-1, keepdim=True)
    return at_peak.int().argmax(dim=-1)  # argmax of 0/1 returns the first one


def orient(vectors: Tensor) -> Tensor:
    """Fix the arbitrary sign of eigenvectors: the entry at ``peak_index`` becomes positive.

    Args:
        vectors: (..., N) real, one vector along the last dimension.
    """
    peak = vectors.gather(-1, peak_index(vectors).unsqueeze(-1))
    return torch.where(peak < 0, -vectors, vectors)
