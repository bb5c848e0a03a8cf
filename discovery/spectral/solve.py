"""The front door of the spectral solver: large graphs by iteration, small or stubborn ones dense, all of them judged."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.certificate import Status, judge, proven_tokens, vector_angle
from eigenseg.discovery.spectral.deflated import DeflatedAffinity, deflate
from eigenseg.discovery.spectral.dense import require_pairs, solve_ncut_dense
from eigenseg.discovery.spectral.krylov import Ritz, Widths, iterate, starting_block
from eigenseg.discovery.spectral.quotient import Pairs, quotient_pairs, with_class_pairs
from eigenseg.discovery.spectral.result import NcutResult, orient

# With so few distinguishable tokens the quotient is solved faster than a block of eight finds its way, and a block that is
# wider than the space diverges.
_SMALL = 128
# Above this a dense float64 solve takes gigabytes and many minutes; such an image is reported instead.
_DENSE_LIMIT = 8000
# Dividing M y by a smaller eigenvalue would blow up rounding instead of refining y.
_REFINABLE = 1e-3


class NcutSolver(Protocol):
    """Anything that solves a batch of graphs: ``solve_ncut``, ``solve_ncut_dense``, a partial of them, your own."""

    def __call__(self, affinity: Affinity, k: int = 1) -> NcutResult:
        """Return the k smallest nontrivial pairs of every graph."""
        ...


class _Solved(NamedTuple):
    """One image: k + 1 pairs, or as many as there are."""

    pairs: Pairs
    status: Status


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
    fallback: Literal["dense", "raise", "flag"] = "dense",
) -> NcutResult:
    """Smallest k nontrivial eigenpairs of (D - W) x = lambda D x for a batch of token graphs.

    Thick-restart block Krylov iteration on M = D^-1/2 W D^-1/2 without its trivial pair; lambda = 1 - theta. An image with
    at most 126 tokens that are neither isolated nor masked is solved densely, and so is one on which the iteration stalls.
    The partition of proven tokens does not depend on batch, threads or device.

    Args:
        affinity: graphs of B images with N tokens.
        k: nontrivial pairs, 1 <= k < N.
        tol: residual norm at which a pair counts as converged.
        max_passes: products with the graph before ``fallback``; None: 40, or 80 for k above 4.
        block, keep, basis: widths of the iteration; None: 16 and 32, or 24 and 48 for k above 4.
        start: ``"features"`` (random combinations of the tokens' features), ``"random"``, or the ``ritz_block`` of a
            similar problem, (B, N, m).
        seed: of all random numbers; global generators are left alone.
        fallback: what happens to an image that does not converge: ``"dense"`` (up to 8000 tokens, beyond that as
            ``"flag"``), ``"raise"``, or ``"flag"``: status FAILED, the residual says how far it got.

    Raises:
        TypeError: if the affinity is something else.
        ValueError: if k or a width is out of range.
        RuntimeError: if an image does not converge and ``fallback="raise"``.
    """
    require_pairs(affinity, k)
    if fallback not in ("dense", "raise", "flag"):
        raise ValueError(f"fallback must be 'dense', 'raise' or 'flag', got {fallback!r}")
    widths = Widths(block, keep or (16 if k <= 4 else 24), basis or (32 if k <= 4 else 48))
    if k >= widths.keep:
        raise ValueError(f"k={k} pairs need keep above {k}, got keep={widths.keep}")
    operator = deflate(affinity)
    batch, tokens = affinity.valid.shape
    active = affinity.valid.sum(dim=1) - operator.class_sizes.sum(dim=1)
    small = active + 2 <= _SMALL
    solved: dict[int, _Solved] = {i: _solve_quotient(operator, i, k) for i in small.nonzero()[:, 0].tolist()}
    passes = torch.zeros(batch, dtype=torch.int64, device=affinity.valid.device)
    ritz_block = operator.inverse_root.new_zeros(batch, tokens, widths.keep)
    large = (~small).nonzero()[:, 0]
    if len(large):
        part = operator[large]
        first = _first_block(part, affinity, large, start, widths.keep, seed)
        ritz = iterate(part, first, k, tol, max_passes or (40 if k <= 4 else 80), widths, seed)
        passes[large], ritz_block[large] = ritz.passes, ritz.vectors
        for j, (i, converged) in enumerate(zip(large.tolist(), ritz.converged.tolist(), strict=True)):
            solved[i] = _refine(part, ritz, j, k) if converged else _fall_back(affinity, ritz, i, j, k, fallback)
    return _assemble(operator, [solved[i] for i in range(batch)], k, passes, ritz_block)


def _first_block(
    operator: DeflatedAffinity, affinity: Affinity, images: Tensor, start: str | Tensor, keep: int, seed: int
) -> Tensor:
    if isinstance(start, Tensor):
        given = start[images].to(operator.inverse_root)[:, :, :keep]
        missing = starting_block(operator, None, keep - given.shape[2], seed)
        return torch.cat([given, missing], dim=2)
    if start not in ("features", "random"):
        raise ValueError(f"start must be 'features', 'random' or a (B, N, m) block, got {start!r}")
    features = affinity.features if start == "features" else None
    return starting_block(operator, None if features is None else features[images], keep, seed)


def _solve_quotient(operator: DeflatedAffinity, i: int, k: int) -> _Solved:
    one = operator[torch.tensor([i], device=operator.inverse_root.device)]
    return _Solved(with_class_pairs(one, quotient_pairs(one), k + 1), Status.DENSE)


def _refine(operator: DeflatedAffinity, ritz: Ritz, j: int, k: int) -> _Solved:
    """M y / theta in place of y, which is closer by a factor and known already."""
    theta, count = ritz.values[j], k + 1
    refined = torch.where(theta.abs() > _REFINABLE, ritz.products[j] / theta, ritz.vectors[j])[:, :count]
    pairs = Pairs(theta[:count], refined / refined.norm(dim=0), ritz.residuals[j, :count])
    if float(operator.class_sizes[j].amax()) >= 2:
        pairs = with_class_pairs(operator[torch.tensor([j], device=theta.device)], pairs, count)
    return _Solved(pairs, Status.CONVERGED)


def _fall_back(affinity: Affinity, ritz: Ritz, i: int, j: int, k: int, fallback: str) -> _Solved:
    tokens = affinity.valid.shape[1]
    if fallback == "raise":
        raise RuntimeError(
            f"image {i} did not converge: residual {float(ritz.residuals[j, :k].max()):.1e} after {int(ritz.passes[j])} "
            "passes; use fallback='dense'"
        )
    if fallback == "flag" or tokens > _DENSE_LIMIT:
        reached = Pairs(ritz.values[j, : k + 1], ritz.vectors[j, :, : k + 1], ritz.residuals[j, : k + 1])
        return _Solved(reached, Status.FAILED)
    count = min(k + 1, int(affinity.valid[i].sum()) - 1)
    dense = solve_ncut_dense(affinity[i : i + 1], count)
    vectors = affinity.degrees[i].sqrt()[:, None] * dense.eigenvectors[0]
    return _Solved(Pairs(1 - dense.eigenvalues[0], vectors, dense.residuals[0]), Status.DENSE)


def _assemble(operator: DeflatedAffinity, solved: list[_Solved], k: int, passes: Tensor, ritz_block: Tensor) -> NcutResult:
    batch, tokens = operator.inverse_root.shape[:2]
    theta = operator.inverse_root.new_full((batch, k + 1), -torch.inf)
    residuals, vectors = torch.zeros_like(theta), operator.inverse_root.new_zeros(batch, tokens, k + 1)
    for i, image in enumerate(solved):
        count = len(image.pairs.values)
        theta[i, :count], residuals[i, :count], vectors[i, :, :count] = (
            image.pairs.values,
            image.pairs.residuals,
            image.pairs.vectors,
        )
    absent = theta.isinf()
    x = orient((operator.inverse_root * vectors[:, :, :k]).mT).mT
    # The next eigenvalue is known up to its residual; the distance is shortened by it.
    gaps = torch.where(absent[:, 1:], torch.inf, theta[:, :-1] - theta[:, 1:] - residuals[:, 1:])
    theta = torch.where(absent, 0.0, theta)  # an image with no pair at all is trivial: lambda_2 = 1
    angle = vector_angle(residuals[:, 0], gaps[:, 0])
    status = judge(theta[:, 0], gaps[:, 0], angle, Status.CONVERGED)
    status = tuple(
        image.status if judged is Status.CONVERGED or image.status is Status.FAILED else judged
        for judged, image in zip(status, solved, strict=True)
    )
    trusted = torch.tensor([one in (Status.CONVERGED, Status.DENSE) for one in status], device=theta.device)
    proven = proven_tokens(
        x[:, :, 0],
        torch.zeros_like(x[:, :, 0]),
        theta[:, 0],
        angle,
        operator.row_norms(),
        operator.inverse_root[:, :, 0],
        operator.affinity.valid,
    )
    return NcutResult(
        eigenvalues=1 - theta[:, :k],
        eigenvectors=x,
        residuals=residuals[:, :k],
        gap=gaps[:, -1],
        proven=proven & trusted[:, None],
        status=status,
        passes=passes,
        ritz_block=ritz_block,
    )
