"""Thick-restart block Krylov iteration for the largest eigenvalues of the deflated affinity, batched over images.

A cycle expands the basis [X, Z_1, Z_2] by two blocks of Krylov vectors, of the residuals and of their products, solves the
small projected problem and keeps the best Ritz vectors. Typical graphs need 7 to 13 products with the matrix, noisy ones 15
to 25; all other operations are on short, wide matrices. Images that are done leave the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from eigenseg.discovery.spectral.deflated import DeflatedAffinity

# With two rounds, rank-deficient starts (two cliques, two constant clusters) diverge; with three all of them converge.
# The relative shift keeps the Cholesky factor of a rank-deficient Gram matrix real; the last one is of full rank, where a
# shift would only shorten the vectors and with them the Ritz values.
_SHIFTS = (1e-13, 1e-13, 0.0)
_NEARLY = 1e-4  # from orthonormal: one more factorization leaves its square, which is rounding
_NOISE = 1e-6  # gives a direction to vectors that have vanished; far below what three rounds remove
_GAUSSIAN_FRACTION = 0.1  # of the start: features alone may have too low a rank
WARM_FRACTION = 0.01  # of a start that solves a similar problem: enough to find directions which that one lacks
_STALL_CYCLES = 3  # a residual that has not halved in so many cycles, at N = 900, is not worth further products
_DEFECT = 1e-10  # loss of orthogonality above which Ritz values are meaningless
_SLACK = 1e-9  # by which rounding may lift a Ritz value above 1
_TINY = 1e-290  # a vector this short is the zero vector


@dataclass(frozen=True)
class Widths:
    """Vectors per block, kept at a restart, and in the basis: keep + blocks * block = basis."""

    block: Any
    keep: Any
    basis: Any

    def __post_init__(self) -> None:
        for name, width in (("block", self.block), ("keep", self.keep), ("basis", self.basis)):
            if not isinstance(width, int):
                raise ValueError(f"{name} must be an integer, got {width!r}")
        if self.block < 1 or self.keep < self.block or (self.basis - self.keep) % self.block or self.basis <= self.keep:
            raise ValueError(
                f"block={self.block}, keep={self.keep}, basis={self.basis} do not fit: keep must be at least block, "
                "and basis must be keep plus a multiple of block"
            )


class Schedule(NamedTuple):
    """When the host checks residuals: after ``first`` cycles, then every ``then`` cycles."""

    first: int
    then: int


# On a CPU a check is free, so no image gets more products than it needs.
EVERY_CYCLE = Schedule(0, 1)
# A check makes a GPU wait. Nine products suffice for most graphs; the others get four more at a time.
IN_CHUNKS = Schedule(4, 2)


class Ritz(NamedTuple):
    """Ritz pairs of A images, descending, with their residuals."""

    values: Tensor  # (A, keep) float64
    vectors: Tensor  # (A, keep, N) float64, orthonormal
    products: Tensor  # (A, keep, N) float64, M u of every vector
    residuals: Tensor  # (A, keep) float64
    passes: Tensor  # (A,) int64, products with the graph
    converged: Tensor  # (A,) bool


def iterate(
    operator: DeflatedAffinity,
    start: Tensor,
    required: int,
    tol: float,
    max_passes: int,
    widths: Widths,
    seed: int,
    schedule: Schedule = EVERY_CYCLE,
) -> Ritz:
    """Largest eigenvalues and vectors of every image.

    Args:
        operator: of A images.
        start: (A, keep, N) float64, any scale; vectors may be dependent.
        required: number of pairs whose residual must reach ``tol``.
        tol: residual norm.
        max_passes: products after which the iteration of an image ends.
        widths: see ``Widths``.
        seed: of the noise that replaces vanished vectors.
        schedule: see ``Schedule``.
    """
    (batch, keep, tokens), basis = start.shape, widths.basis
    noise = _gaussian(keep, tokens, seed).to(start.device) * (operator.inverse_root > 0)  # excluded tokens stay out
    space, images = start.new_empty(batch, 1 + basis, tokens), start.new_empty(batch, basis, tokens)
    space[:, :1] = operator.trivial  # row 0, so that new vectors are orthogonal to it too
    space[:, 1 : 1 + keep] = orthonormalize(operator, start, space[:, :1], noise)
    images[:, :keep] = operator.product(space[:, 1 : 1 + keep])
    values, passes = _rayleigh_ritz(space[:, 1 : 1 + keep], images[:, :keep], keep), 1
    result, alive, history = _empty_result(start), list(range(batch)), list[Tensor]()
    # Pairs beyond the block's width wait until earlier ones have converged.
    stall_cycles = math.ceil(_STALL_CYCLES * patience(tokens) * math.ceil(required / widths.block))
    for cycle in count():
        vectors, products = space[:, 1 : 1 + keep], images[:, :keep]
        residuals = products - values[:, :, None] * vectors
        norms = residuals.norm(dim=2)
        history.append(norms[:, :required].amax(dim=1))
        if cycle >= schedule.first and (cycle - schedule.first) % schedule.then == 0:
            done, hopeless = _judge(history, stall_cycles, values, tol)
            stop = (done | hopeless | (passes >= max_passes)).tolist()  # the only synchronization with the device
            if any(stop):
                finished = [j for j, over in enumerate(stop) if over]
                counted = torch.full_like(done, passes, dtype=torch.int64)
                done &= _defect(vectors) <= _DEFECT
                _store(
                    result, [alive[j] for j in finished], Ritz(values, vectors, products, norms, counted, done), finished
                )
                kept = [j for j, over in enumerate(stop) if not over]
                if not kept:
                    return result
                operator, alive = operator.select(kept), [alive[j] for j in kept]
                space, images, values, residuals, norms, noise = (
                    part[kept] for part in (space, images, values, residuals, norms, noise)
                )
                history = [past[kept] for past in history]
        block = _expand(residuals, norms, required, tol, widths.block)
        for first in range(keep, basis, widths.block):
            fresh = slice(first, first + widths.block)
            vectors = orthonormalize(operator, block, space[:, : 1 + first], noise, schedule == EVERY_CYCLE)
            block = operator.product(vectors)
            space[:, 1:][:, fresh], images[:, fresh] = vectors, block
            passes += 1
        values = _rayleigh_ritz(space[:, 1:], images, keep)
    raise AssertionError  # the iteration ends by its pass limit


def patience(tokens: int) -> float:
    """Factor by which more products than at N = 900 pay off: a dense solve grows with N^3, a product with N^2."""
    return max(1.0, tokens / 900)


def starting_block(operator: DeflatedAffinity, features: Tensor | None, keep: int, seed: int) -> Tensor:
    """D^1/2 F R with a Gaussian R, vectors of unit length, plus a fraction of Gaussian noise: (A, keep, N) float64.

    Args:
        operator: of A images.
        features: (A, N, D) of unit length, or None for noise alone.
        keep: number of vectors.
        seed: of all random numbers.
    """
    batch, _, tokens = operator.inverse_root.shape
    noise = F.normalize(_gaussian(keep, tokens, seed), dim=1).to(operator.trivial.device).expand(batch, -1, -1)
    noise = noise * (operator.inverse_root > 0)
    if features is None:
        return noise
    mixing = _gaussian(keep, features.shape[2], seed + 1).to(features)
    return with_noise(operator.trivial * (mixing @ features.mT).double(), noise)


def with_noise(block: Tensor, noise: Tensor, fraction: float = _GAUSSIAN_FRACTION) -> Tensor:
    """Normalize vectors and add a fraction of noise, without which vectors orthogonal to them would never be found."""
    return F.normalize(block, dim=2, eps=_TINY) + fraction * noise


def orthonormalize(
    operator: DeflatedAffinity, block: Tensor, against: Tensor, noise: Tensor, may_sync: bool = False
) -> Tensor:
    """Orthonormal vectors in the unknown part, orthogonal to a basis as well.

    Each of up to three rounds averages classes, projects, and divides by the Cholesky factor of the Gram matrix.

    Args:
        operator: whose classes of tokens are averaged.
        block: (A, m, N) float64.
        against: (A, p, N) orthonormal basis, the trivial vector included.
        noise: (A, at least m, N) Gaussian, 0 at excluded tokens.
        may_sync: skip a round that is not needed; the check would make a GPU wait.
    """
    block = F.normalize(block, dim=2, eps=_TINY) + _NOISE * noise[:, : block.shape[1]]
    identity = torch.eye(block.shape[1], dtype=block.dtype, device=block.device)
    for done, shift in enumerate(_SHIFTS):
        block = operator.average(block)
        block = torch.baddbmm(block, block @ against.mT, against, alpha=-1)
        gram = block @ block.mT
        # A block that is nearly orthonormal before its second round needs no third.
        last = done == 1 and may_sync and bool((gram - identity).abs().amax() < _NEARLY)
        gram.diagonal(dim1=1, dim2=2).mul_(1 if last else 1 + shift)
        factor, _ = torch.linalg.cholesky_ex(gram)
        # A small inverse and a product are faster than a solve with N right-hand sides, and keep vectors in rows.
        block = torch.linalg.solve_triangular(factor, identity, upper=False) @ block
        if last:
            break
    return block


def _gaussian(rows: int, columns: int, seed: int) -> Tensor:
    # Drawn on the CPU, so that every device gets the same numbers.
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rayleigh_ritz(space: Tensor, images: Tensor, keep: int) -> Tensor:
    """Replace the first ``keep`` vectors of a basis, and their products, by its best Ritz vectors; return the values."""
    projected = space @ images.mT
    # A basis that has broken down must not stop the whole batch here; its image is recognized by its residual instead.
    projected = torch.nan_to_num((projected + projected.mT) / 2, nan=0.0, posinf=0.0, neginf=0.0)
    values, rotation = torch.linalg.eigh(projected)
    rotation = rotation.mT.flip(1)[:, :keep]
    space[:, :keep], images[:, :keep] = rotation @ space, rotation @ images
    best: Tensor = values.flip(1)[:, :keep]
    return best


def _judge(history: list[Tensor], stall_cycles: int, values: Tensor, tol: float) -> tuple[Tensor, Tensor]:
    """Which images have converged, and which will not: (A,) bool each."""
    worst = history[-1]
    sound = torch.isfinite(worst) & (values.abs().amax(dim=1) <= 1 + _SLACK)
    done = sound & (worst <= tol)
    stalled = worst > 0.5 * history[-1 - stall_cycles] if len(history) > stall_cycles else ~sound
    return done, ~sound | stalled


def _defect(vectors: Tensor) -> Tensor:
    """Largest deviation from orthonormality of each image: (A,)."""
    gram = vectors @ vectors.mT
    return (gram - torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)).abs().amax(dim=(1, 2))


def _expand(residuals: Tensor, norms: Tensor, required: int, tol: float, block: int) -> Tensor:
    """Residuals to expand by: of the required pairs that have not converged, then of the pairs that follow."""
    if required == 1:
        return residuals[:, :block]  # an image whose only required pair has converged is done
    columns = norms.shape[1]
    order = torch.arange(columns, device=norms.device).expand_as(norms)
    finished = (norms <= tol) & (order < required)
    chosen = (order + columns * finished).argsort(dim=1)[:, :block]
    return residuals.gather(1, chosen[:, :, None].expand(-1, -1, residuals.shape[2]))


def _empty_result(start: Tensor) -> Ritz:
    batch, keep, _ = start.shape
    passes = torch.zeros(batch, dtype=torch.int64, device=start.device)
    zeros = start.new_zeros(batch, keep)
    return Ritz(zeros, torch.zeros_like(start), torch.zeros_like(start), zeros.clone(), passes, passes < 0)


def _store(result: Ritz, rows: list[int], state: Ritz, finished: list[int]) -> None:
    for target, source in zip(result, state, strict=True):
        target[rows] = source[finished]
