"""Thick-restart block Krylov iteration for the largest eigenvalues of the deflated affinity, batched over images.

A cycle expands the basis [X, Z_1, Z_2] by two blocks of Krylov vectors, of the residuals and of their products, solves the
small projected problem and keeps the best Ritz vectors. Typical graphs need 7 to 13 products with the matrix, noisy ones 15
to 25; everything else is tall and thin. Images that are done leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from eigenseg.discovery.spectral.deflated import DeflatedAffinity

# Two rounds leave rank-deficient starts (two cliques, two constant clusters) to diverge; with three all of them converge.
_ROUNDS = 3
_RELATIVE_SHIFT = 1e-13  # keeps the Cholesky factor of a rank-deficient Gram matrix real
_NOISE = 1e-6  # gives a direction to columns that have vanished; far below what three rounds clean
_GAUSSIAN_SHARE = 0.1  # of the start: features alone may have too low a rank
_STALL_CYCLES = 3  # a residual that has not halved in so many cycles is not worth further products
_DEFECT = 1e-10  # loss of orthogonality above which Ritz values mean nothing
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Widths:
    """Columns of the block, of what survives a restart, and of the basis: keep + blocks * block = basis."""

    block: int
    keep: int
    basis: int

    def __post_init__(self) -> None:
        if self.block < 1 or self.keep < self.block or (self.basis - self.keep) % self.block or self.basis <= self.keep:
            raise ValueError(
                f"block={self.block}, keep={self.keep}, basis={self.basis} do not fit: keep must be at least block, "
                "and basis must be keep plus a multiple of block"
            )


class Ritz(NamedTuple):
    """Ritz pairs of A images, descending, and their evidence."""

    values: Tensor  # (A, keep) float64
    vectors: Tensor  # (A, N, keep) float64, orthonormal
    products: Tensor  # (A, N, keep) float64, M @ vectors
    residuals: Tensor  # (A, keep) float64
    passes: Tensor  # (A,) int64, products with the graph
    converged: Tensor  # (A,) bool


def iterate(
    operator: DeflatedAffinity, start: Tensor, wanted: int, tol: float, max_passes: int, widths: Widths, seed: int
) -> Ritz:
    """Largest eigenvalues and vectors of every image.

    Args:
        operator: of A images.
        start: (A, N, keep) float64, any scale; columns may be dependent.
        wanted: pairs whose residual must reach ``tol``.
        tol: residual norm.
        max_passes: products after which an image is given up.
        widths: see ``Widths``.
        seed: of the noise that replaces vanished columns.
    """
    tokens = start.shape[1]
    # Made on the CPU, so that every device sees the same numbers.
    noise = torch.randn(tokens, widths.basis, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    noise = noise.to(start.device)
    vectors = orthonormalise(operator, start, None, noise)
    ritz = _rayleigh_ritz(vectors, operator.product(vectors), widths.keep)
    passes = torch.ones(len(start), dtype=torch.int64, device=start.device)
    history: list[Tensor] = []
    alive, result = torch.arange(len(start), device=start.device), _empty_result(ritz, passes)
    while True:
        values, vectors, products = ritz
        residuals = products - vectors * values[:, None, :]
        norms = residuals.norm(dim=1)
        worst = norms[:, :wanted].amax(dim=1)
        history.append(worst)
        done = worst <= tol
        sound = torch.isfinite(worst) & (values.abs().amax(dim=1) <= 1 + 1e-9)
        stalled = worst > 0.5 * history[-1 - _STALL_CYCLES] if len(history) > _STALL_CYCLES else ~sound
        stop = done | ~sound | stalled | (passes >= max_passes)
        if stop.any():
            finished = stop.nonzero()[:, 0]
            done = done & (_defect(vectors) <= _DEFECT)
            _store(result, alive[finished], Ritz(values, vectors, products, norms, passes, done), finished)
            kept = (~stop).nonzero()[:, 0]
            if not len(kept):
                return result
            operator, alive, passes = operator[kept], alive[kept], passes[kept]
            values, vectors, products, residuals, norms = (
                part[kept] for part in (values, vectors, products, residuals, norms)
            )
            history = [past[kept] for past in history]
        basis, images = [vectors], [products]
        block = _expand(residuals, norms, wanted, tol, widths.block)
        for _ in range((widths.basis - widths.keep) // widths.block):
            basis.append(orthonormalise(operator, block, torch.cat(basis, dim=2), noise))
            images.append(operator.product(basis[-1]))
            block = images[-1]
            passes = passes + 1
        ritz = _rayleigh_ritz(torch.cat(basis, dim=2), torch.cat(images, dim=2), widths.keep)


def starting_block(operator: DeflatedAffinity, features: Tensor | None, keep: int, seed: int) -> Tensor:
    """D^1/2 F R with a Gaussian R, columns of unit length, plus a share of Gaussian noise: (A, N, keep) float64.

    Args:
        operator: of A images.
        features: (A, N, D) of unit length, or None for noise alone.
        keep: columns.
        seed: of all random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    batch, tokens = operator.inverse_root.shape[:2]
    device = operator.inverse_root.device
    noise = torch.randn(tokens, keep, generator=generator, dtype=torch.float64).to(device)
    noise = (noise / noise.norm(dim=0)).expand(batch, -1, -1)
    block: Tensor = noise
    if features is None:
        return block
    mixing = torch.randn(features.shape[2], keep, generator=generator, dtype=torch.float64)
    mixed = operator.trivial * (features @ mixing.to(features)).double()
    block = mixed / mixed.norm(dim=1, keepdim=True).clamp(min=_TINY) + _GAUSSIAN_SHARE * noise
    return block


def orthonormalise(operator: DeflatedAffinity, block: Tensor, against: Tensor | None, noise: Tensor) -> Tensor:
    """Orthonormal columns in the unknown part, orthogonal to a basis as well.

    Each of three rounds cleans, projects and divides by the Cholesky factor of the Gram matrix.

    Args:
        operator: whose ``clean`` defines the unknown part.
        block: (A, N, m) float64.
        against: (A, N, p) orthonormal, or None.
        noise: (N, >= m) Gaussian.
    """
    block = block / block.norm(dim=1, keepdim=True).clamp(min=_TINY) + _NOISE * noise[:, : block.shape[2]]
    for done in range(_ROUNDS):
        block = operator.clean(block)
        if against is not None:
            block = block - against @ (against.mT @ block)
        if done == 0:
            block = block / block.norm(dim=1, keepdim=True).clamp(min=_TINY)
        gram = block.mT @ block
        gram = gram + torch.diag_embed(_RELATIVE_SHIFT * gram.diagonal(dim1=1, dim2=2))
        factor, _ = torch.linalg.cholesky_ex(gram)
        block = torch.linalg.solve_triangular(factor, block.mT, upper=False).mT
    return block


def _rayleigh_ritz(basis: Tensor, products: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    projected = basis.mT @ products
    # A basis that has broken down would stop the whole batch here; its image is recognised by its residual instead.
    projected = torch.nan_to_num((projected + projected.mT) / 2, nan=0.0, posinf=0.0, neginf=0.0)
    values, rotation = torch.linalg.eigh(projected)
    values, rotation = values.flip(1)[:, :keep], rotation.flip(2)[:, :, :keep]
    return values, basis @ rotation, products @ rotation


def _expand(residuals: Tensor, norms: Tensor, wanted: int, tol: float, block: int) -> Tensor:
    """Residuals of the lowest columns that still need it: unconverged wanted ones, then those that follow."""
    columns = norms.shape[1]
    order = torch.arange(columns, device=norms.device).expand_as(norms)
    finished = (norms <= tol) & (order < wanted)
    chosen = (order + columns * finished).argsort(dim=1)[:, :block]
    return residuals.gather(2, chosen[:, None, :].expand(-1, residuals.shape[1], -1))


def _defect(vectors: Tensor) -> Tensor:
    gram = vectors.mT @ vectors
    return (gram - torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)).abs().amax(dim=(1, 2))


def _empty_result(ritz: tuple[Tensor, Tensor, Tensor], passes: Tensor) -> Ritz:
    values, vectors, products = (torch.zeros_like(part) for part in ritz)
    return Ritz(values, vectors, products, torch.zeros_like(values), torch.zeros_like(passes), passes < 0)


def _store(result: Ritz, rows: Tensor, state: Ritz, finished: Tensor) -> None:
    for target, source in zip(result, state, strict=True):
        target[rows] = source[finished]
