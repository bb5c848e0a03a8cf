"""Entry point of the spectral solver: large graphs by iteration, small or unconverged ones by a dense solve."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.discovery.spectral.affinity import Affinity, build_affinity
from eigenseg.discovery.spectral.assess import assess, separation
from eigenseg.discovery.spectral.certificate import REPEATED, Status, cholesky_gap, energy_gap
from eigenseg.discovery.spectral.deflated import DeflatedAffinity, deflate
from eigenseg.discovery.spectral.dense import dense_pairs, require_pairs
from eigenseg.discovery.spectral.krylov import (
    EVERY_CYCLE,
    IN_CHUNKS,
    WARM_FRACTION,
    Ritz,
    Widths,
    iterate,
    patience,
    starting_block,
    with_noise,
)
from eigenseg.discovery.spectral.pairs import Pairs
from eigenseg.discovery.spectral.precision import full_precision
from eigenseg.discovery.spectral.quotient import quotient_pairs, with_class_pairs
from eigenseg.discovery.spectral.result import NcutResult

# With so few distinguishable tokens a dense solve of the quotient is faster than the iteration, and a block that is wider
# than the space diverges.
_SMALL = 128
# Above this a dense float64 solve takes gigabytes and many minutes; such an image is reported as FAILED instead.
_DENSE_LIMIT = 8000

Fallback = Literal["dense", "raise", "flag"]
Certificate = Literal["estimate", "energy", "cholesky", "none"]


class NcutSolver(Protocol):
    """Interface of solvers: ``solve_ncut``, ``solve_ncut_dense``, a partial of them, your own.

    A solver that returns a ``ritz_block`` must take it as the keyword ``start`` when a similar problem is solved next.
    """

    def __call__(self, affinity: Affinity, k: int = 1) -> NcutResult:
        """Return the k smallest nontrivial pairs of every graph."""
        ...


def check_solver(solver: NcutSolver) -> None:
    """Solve a toy graph, so that wrong options of a solver raise at construction, not image by image.

    Raises:
        TypeError, ValueError: from the solver.
    """
    solver(build_affinity(torch.eye(12)[None]), k=1)


@full_precision()
def solve_ncut(
    affinity: Affinity,
    k: int = 1,
    tol: float = 1e-10,
    max_passes: int | None = None,
    block: int = 8,
    keep: int | None = None,
    basis: int | None = None,
    start: Literal["features", "random"] | Tensor = "features",
    seed: int = 0,
    certificate: Certificate = "estimate",
    fallback: Fallback = "dense",
) -> NcutResult:
    """Smallest k nontrivial eigenpairs of (D - W) x = lambda D x for a batch of token graphs.

    Thick-restart block Krylov iteration on M = D^-1/2 W D^-1/2 without its trivial pair; lambda = 1 - theta. An image with
    at most 126 tokens that are neither isolated nor masked is solved densely, and so is one on which the iteration stalls.
    The partition of the proven tokens does not depend on batch, threads or device.

    Args:
        affinity: graphs of B images with N tokens.
        k: nontrivial pairs, 1 <= k < N, and below ``keep``.
        tol: residual norm at which a pair counts as converged.
        max_passes: products with the graph before ``fallback``; None: 40, or 80 for k above 4, and proportionally more
            above 900 tokens, where a dense solve costs more.
        block, keep, basis: widths of the iteration; None: 16 and 32, or 24 and 48 for k above 4.
        start: ``"features"`` (random combinations of the tokens' features), ``"random"``, or the ``ritz_block`` of a
            similar problem, (B, N, m).
        seed: of all random numbers; global generators are left alone.
        certificate: basis of ``proven``. ``"estimate"``: the distance to the second Ritz value, which misses a pair that is
            orthogonal to all iterates (probability 0 with a random fraction in the start).
            ``"energy"``: a rigorous bound from the graph's Frobenius norm, nearly free, that proves tokens on dense graphs
            only. ``"cholesky"``: a rigorous factorization of N^3 / 3 operations and 8 N^2 bytes per image, up to 8000
            tokens; an image that fails it has missed a pair and goes to ``fallback``. ``"none"``: nothing is proven.
        fallback: what to do with an image that does not converge: ``"dense"`` (up to 8000 tokens, beyond that like
            ``"flag"``), ``"raise"``, or ``"flag"``: status FAILED, with the final residual.

    Raises:
        TypeError: if this is not an ``Affinity``.
        ValueError: if k, a width or a name is out of range.
        RuntimeError: if an image does not converge and ``fallback="raise"``.

    Example:
        >>> tokens = torch.eye(2).repeat_interleave(3, dim=0)[None]  # two groups of three equal tokens
        >>> (solve_ncut(build_affinity(tokens)).eigenvectors[0, :, 0] > 0).tolist()
        [True, True, True, False, False, False]
    """
    require_pairs(affinity, k)
    few = k <= 4
    widths = Widths(block, (16 if few else 24) if keep is None else keep, (32 if few else 48) if basis is None else basis)
    _check_options(affinity, k, widths, tol, max_passes, seed, start, certificate, fallback)
    operator = deflate(affinity)
    active = affinity.valid.sum(dim=1) - operator.class_sizes.sum(dim=1)
    large = (active + 2 > _SMALL).nonzero()[:, 0].tolist()
    pairs = Pairs.absent(len(affinity), k + 1, operator.inverse_root)
    status = [Status.DENSE] * len(affinity)
    for i in set(range(len(affinity))) - set(large):
        one = operator.select([i])
        pairs.put(i, with_class_pairs(one, quotient_pairs(one), k + 1))
    row_norms = None if certificate == "none" else operator.row_norms()
    if not large:
        return assess(affinity, operator, pairs, status, row_norms=row_norms)

    part = operator if len(large) == len(affinity) else operator.select(large)
    first = _first_block(part, affinity, large, start, widths.keep, seed)
    schedule = IN_CHUNKS if first.is_cuda else EVERY_CYCLE
    limit = max_passes or round((40 if few else 80) * patience(affinity.valid.shape[1]))
    ritz = iterate(part, first, k, tol, limit, widths, seed, schedule)
    for target, source in zip(pairs, (ritz.values, ritz.vectors, ritz.products), strict=True):
        target[large] = source[:, : k + 1]
    _insert_class_pairs(operator, pairs, large)
    proven_gap = _certify(certificate, affinity, operator, pairs, part, ritz, large, row_norms)
    missed = proven_gap.isneginf().tolist()
    for j, (i, converged) in enumerate(zip(large, ritz.converged.tolist(), strict=True)):
        if converged and not missed[i]:
            status[i] = Status.CONVERGED
        else:
            status[i] = _fall_back(affinity, pairs, ritz, i, j, fallback)
            proven_gap[i] = torch.inf
    passes = torch.zeros_like(affinity.non_finite)
    ritz_block = torch.zeros_like(operator.trivial).repeat(1, widths.keep, 1)
    passes[large], ritz_block[large] = ritz.passes, ritz.vectors
    return assess(affinity, operator, pairs, status, passes, ritz_block.mT, proven_gap, row_norms)


def _check_options(
    affinity: Affinity,
    k: int,
    widths: Widths,
    tol: Any,
    max_passes: Any,
    seed: Any,
    start: Any,
    certificate: Any,
    fallback: Any,
) -> None:
    tokens = affinity.valid.shape[1]
    if k >= widths.keep:
        raise ValueError(f"k={k} pairs need keep above {k}, got keep={widths.keep}; widen keep and basis, or solve densely")
    if not (isinstance(tol, (int, float)) and 0 < tol < 1):
        raise ValueError(f"tol must be a number in (0, 1), got {tol!r}")
    if max_passes is not None and not (isinstance(max_passes, int) and max_passes >= 1):
        raise ValueError(f"max_passes must be None or an integer of at least 1, got {max_passes!r}")
    if not isinstance(seed, int):
        raise ValueError(f"seed must be an integer, got {seed!r}")
    if isinstance(start, Tensor):
        if start.ndim != 3 or start.shape[:2] != affinity.valid.shape or not start.is_floating_point():
            raise ValueError(
                f"start must be ({len(affinity)}, {tokens}, m) floating, got {tuple(start.shape)} {start.dtype}"
            )
    elif not isinstance(start, str) or start not in ("features", "random"):
        raise ValueError(f"start must be 'features', 'random' or a (B, N, m) tensor, got {start!r}")
    check_choice("certificate", certificate, ("estimate", "energy", "cholesky", "none"))
    if certificate == "cholesky" and tokens > _DENSE_LIMIT:
        raise ValueError(f"certificate='cholesky' takes at most {_DENSE_LIMIT} tokens, got {tokens}; use 'energy'")
    check_choice("fallback", fallback, ("dense", "raise", "flag"))


def _first_block(
    operator: DeflatedAffinity, affinity: Affinity, images: list[int], start: str | Tensor, keep: int, seed: int
) -> Tensor:
    if isinstance(start, Tensor):
        given, noise = start[images].to(operator.trivial).mT[:, :keep], starting_block(operator, None, keep, seed)
        known = given.shape[1]
        return torch.cat([with_noise(given, noise[:, :known], WARM_FRACTION), noise[:, known:]], dim=1)
    features = affinity.features if start == "features" else None
    if features is not None and len(images) < len(affinity):
        features = features[images]
    return starting_block(operator, features, keep, seed)


def _insert_class_pairs(operator: DeflatedAffinity, pairs: Pairs, large: list[int]) -> None:
    """Insert differences within classes, which are projected out of the iteration, where they are among the largest."""
    known = torch.stack([operator.isolated_mu, torch.zeros_like(operator.isolated_mu)], dim=1)
    known = torch.where(operator.class_sizes > 1, known, -torch.inf).amax(dim=1)
    affected = (known > pairs.values[:, -1]).tolist()
    for i in (i for i in large if affected[i]):
        current = Pairs(*(part[i] for part in pairs))
        pairs.put(i, with_class_pairs(operator.select([i]), current, len(current.values)))


def _certify(
    certificate: str,
    affinity: Affinity,
    operator: DeflatedAffinity,
    pairs: Pairs,
    part: DeflatedAffinity,
    ritz: Ritz,
    large: list[int],
    row_norms: Tensor | None,
) -> Tensor:
    """Proven lower bounds of the first gap, (B,): infinite where the estimate is used, -inf where a pair was missed."""
    bound = torch.full_like(pairs.values[:, 0], torch.inf)
    if certificate == "energy" and row_norms is not None:
        bound[large] = energy_gap(part, row_norms[large], ritz.values, ritz.residuals).clamp(min=0)
    if certificate == "cholesky":
        estimate = separation(pairs, 0)
        for j, i in enumerate(large):
            # A repeated eigenvalue makes the image DEGENERATE; there is nothing to prove.
            if ritz.converged[j] and estimate[i] > REPEATED:
                one = affinity[i : i + 1]
                bound[i] = cholesky_gap(operator.select([i]), one, pairs.vectors[i, 0], pairs.values[i, 0], estimate[i])
    return bound


def _fall_back(affinity: Affinity, pairs: Pairs, ritz: Ritz, i: int, j: int, fallback: str) -> Status:
    """Handle image i, the iteration's j-th, which did not converge; a dense solve replaces its pairs."""
    if fallback == "raise":
        raise RuntimeError(
            f"image {i} did not converge: residual {float(pairs.residuals[i, :-1].max()):.1e} after {int(ritz.passes[j])} "
            "passes; use fallback='dense'"
        )
    if fallback == "flag" or affinity.valid.shape[1] > _DENSE_LIMIT:
        return Status.FAILED
    solved, status = dense_pairs(affinity[i : i + 1], pairs.values.shape[1])
    pairs.put(i, solved)
    return status
