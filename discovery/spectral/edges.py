"""Edges of a token graph as an operator: solvers need its products, not its entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.discovery.spectral.exact import MAX_TOKENS, bfloat16_is_exact, exact_product, int8_is_exact

Storage = Literal["auto", "int8", "float32", "bfloat16"]


class Edges(Protocol):
    """B of a batch of graphs: symmetric, entries in [0, 1], N tokens.

    Any implementation works with the solvers: the matrices below, packed bits, tiles recomputed in every product.
    """

    def __len__(self) -> int:
        """Number of graphs."""
        ...

    def product(self, vectors: Tensor) -> Tensor:
        """Rows B u for rows u: (B, m, N) float64 in and out, deterministic."""
        ...

    def loops(self) -> Tensor:
        """B's diagonals: (B, N) float64."""
        ...

    def mask(self, tokens: Tensor) -> Edges:
        """The same without the edges of some tokens, (B, N) bool."""
        ...

    def select(self, images: Sequence[int]) -> Edges:
        """The graphs of some images; must be cheap, because the iteration drops images as they converge."""
        ...

    def dense(self) -> Tensor:
        """B as a dense tensor: (B, N, N) float64. Only dense solvers and proofs need it."""
        ...


@dataclass(frozen=True)
class MatrixEdges:
    """B as a dense matrix in memory: 0/1 in a narrow type with exact products, or weights in float64.

    Args:
        matrix: (B, N, N) int8, float32 or bfloat16 of 0 and 1, or float64 in [0, 1]; symmetric.
        images: which of the matrices belong to the batch; None: all.
    """

    matrix: Tensor
    images: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.matrix) if self.images is None else len(self.images)

    def product(self, vectors: Tensor) -> Tensor:
        """Rows B u: exact for a 0/1 matrix, in float64 for weights."""
        if self.matrix.dtype == torch.float64:
            return vectors @ self._chosen()
        return exact_product(self.matrix, vectors, self.images)

    def loops(self) -> Tensor:
        """The diagonals, (B, N) float64."""
        loops = self.matrix.diagonal(dim1=1, dim2=2).double()
        return loops if self.images is None else loops[list(self.images)]

    def mask(self, tokens: Tensor) -> MatrixEdges:
        """A copy with some tokens' rows and columns set to 0."""
        return MatrixEdges(self._chosen().masked_fill(tokens[:, :, None] | tokens[:, None, :], 0))

    def select(self, images: Sequence[int]) -> MatrixEdges:
        """Some of the graphs; 0/1 matrices on a CPU without a copy."""
        if self.matrix.is_cuda or self.matrix.dtype == torch.float64:
            # A batched product needs them contiguous: better copied once here than in every product.
            return MatrixEdges(self._chosen()[list(images)])
        order = range(len(self.matrix)) if self.images is None else self.images
        return replace(self, images=tuple(order[i] for i in images))

    def dense(self) -> Tensor:
        """The matrices in float64."""
        return self._chosen().double()

    def _chosen(self) -> Tensor:
        return self.matrix if self.images is None else self.matrix[list(self.images)]


def storage_dtype(storage: Any, device: torch.device, tokens: int) -> torch.dtype:
    """The dtype in which a 0/1 matrix is stored.

    ``"auto"``: int8 on a CPU with exact int8 products, bfloat16 on a CUDA device, float32 elsewhere. All give bitwise the
    same products; they differ in memory and speed.

    Raises:
        ValueError: if the name is unknown, the device cannot multiply that type exactly, or there are too many tokens.
    """
    fits = {"int8": device.type == "cpu" and int8_is_exact(), "bfloat16": device.type == "cuda" and bfloat16_is_exact()}
    if storage == "auto":
        storage = next((name for name, exact in fits.items() if exact), "float32")
    check_choice("storage", storage, ("auto", "int8", "float32", "bfloat16"))
    if not fits.get(storage, True):
        raise ValueError(f"storage={storage!r} has no exact products on this {device.type} device; use storage='auto'")
    if tokens > MAX_TOKENS:
        raise ValueError(f"graphs hold at most {MAX_TOKENS} tokens, got {tokens}")
    dtype: torch.dtype = getattr(torch, storage)
    return dtype


# Rows of cosines per tile: 256 x N float32 stay in the cache between the product and the comparison.
_TILE = 256


def threshold_cosines(unit: Tensor, tau: float, dtype: torch.dtype) -> Tensor:
    """B_ij = [u_i . u_j > tau] without holding all cosines in memory.

    Only tiles on and above the diagonal are computed and then mirrored, which halves the work and makes B symmetric, which
    the rounding of a product need not be.

    Args:
        unit: (B, N, D) float32 of unit length, or zero vectors.
        tau: strict threshold.
        dtype: of the result.

    Returns:
        (B, N, N) of 0 and 1.
    """
    batch, tokens, _ = unit.shape
    matrix = torch.empty(batch, tokens, tokens, dtype=dtype, device=unit.device)
    # One image at a time on a CPU, all at once on a GPU.
    groups = [slice(0, batch)] if unit.is_cuda else [slice(i, i + 1) for i in range(batch)]
    for group in groups:
        rows, result = unit[group], matrix[group]
        for start in range(0, tokens, _TILE):
            stop = min(start + _TILE, tokens)
            torch.gt(rows[:, start:stop] @ rows[:, start:].mT, tau, out=result[:, start:stop, start:])
            corner = result[:, start:stop, start:stop].triu()
            result[:, start:stop, start:stop] = torch.maximum(corner, corner.mT)
            result[:, stop:, start:stop] = result[:, start:stop, stop:].mT
    return matrix
