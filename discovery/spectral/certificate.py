"""Reliability of eigenpairs: the status of an image, and the tokens whose side of the cut no error can change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.deflated import DeflatedAffinity


class Status(Enum):
    """How an image's eigenpairs were obtained, and whether they are meaningful."""

    CONVERGED = "converged"  # by an iteration, to its tolerance
    DENSE = "dense"  # by a dense float64 factorization
    DEGENERATE = "degenerate"  # the first eigenvalue is repeated: valid vectors, but the partition is arbitrary
    TRIVIAL = "trivial"  # lambda_2 of 1 or more: constant, fully masked or single-token input has no cut
    FAILED = "failed"  # the iteration did not converge and no fallback was allowed


REPEATED = 1e-9  # below this gap rounding decides which vector of an eigenspace comes out
_NO_CUT = 1e-9  # lambda_2 this close to 1: the graph is the rank-one background alone
_ROUNDING = 1e-13  # residual that float64 leaves on an exactly solved pair
_LOOSE_ANGLE = 1e-3  # a vector with a larger error angle does not determine a partition


def has_cut(status: Sequence[Status], device: torch.device | None = None) -> Tensor:
    """Which images have a cut at all: (B,) bool, False if TRIVIAL or FAILED."""
    return torch.tensor([one not in (Status.TRIVIAL, Status.FAILED) for one in status], device=device)


def vector_angle(residual: Tensor, gap: Tensor) -> Tensor:
    """Bound on the angle between a vector and the eigenvector it approximates (Davis and Kahan): sqrt(2) residual / gap.

    Args:
        residual: (B,) residual norm of the pair.
        gap: (B,) distance from its eigenvalue to the nearest other one, or a lower bound of it.

    Returns:
        (B,) in radians; infinite where the gap is 0 or less.
    """
    angle = 2**0.5 * (residual + _ROUNDING) / gap.clamp(min=_ROUNDING)
    return torch.where(gap > 0, angle, torch.inf)


def judge(
    theta: Tensor, gap: Tensor, residual: Tensor, disconnected: Tensor, solved: tuple[Status, ...]
) -> tuple[Status, ...]:
    """Status of every image.

    Args:
        theta: (B,) largest nontrivial eigenvalue 1 - lambda_2.
        gap: (B,) its distance to the next one.
        residual: (B,) of its pair.
        disconnected: (B,) bool, whether the graph has several components: then 0 is a repeated eigenvalue.
        solved: status of images that are neither trivial nor degenerate; FAILED stays.
    """
    trivial = theta < _NO_CUT
    degenerate = (gap <= REPEATED) | (vector_angle(residual, gap) > _LOOSE_ANGLE) | disconnected
    return tuple(
        status if status is Status.FAILED else Status.TRIVIAL if no_cut else Status.DEGENERATE if repeated else status
        for status, no_cut, repeated in zip(solved, trivial.tolist(), degenerate.tolist(), strict=True)
    )


def proven_tokens(
    vector: Tensor, theta: Tensor, angle: Tensor, row_norms: Tensor, inverse_root: Tensor, valid: Tensor
) -> Tensor:
    """Tokens that no error within the bound can move across the mean.

    For y' = M y / theta the angle's error reaches entry i only through row i of M, hence |x'_i - x_i| is at most
    |M_i| angle / (theta sqrt(d_i)), about sqrt(N) tighter than the angle alone.

    Args:
        vector: (B, N) x', from M y / theta.
        theta, angle: (B,).
        row_norms: (B, N) norms of M's rows.
        inverse_root: (B, N) D^-1/2, 0 for excluded tokens.
        valid: (B, N) bool.

    Returns:
        (B, N) bool, False for excluded tokens.
    """
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (vector * valid).sum(dim=1, keepdim=True) / count
    # theta near or below 0 proves nothing, so the bound is infinite
    reach = torch.where(theta > _NO_CUT, angle / theta, torch.inf)[:, None]
    error = torch.where(valid, row_norms * inverse_root * reach, 0.0)
    mean_error = error.sum(dim=1, keepdim=True) / count
    return ((vector - mean).abs() > error + mean_error) & valid


def energy_gap(operator: DeflatedAffinity, row_norms: Tensor, values: Tensor, residuals: Tensor) -> Tensor:
    """Lower bound on theta_1 minus every other eigenvalue, from the Frobenius norm of M; rigorous and nearly free.

    The part of |M|_F^2 that the first m Ritz pairs leave over bounds every other eigenvalue:
    rest_m^2 = |M|_F^2 - 1 - (n_I - 1) mu_I^2 - sum_j (theta_j^2 + 2 r_j^2), and all eigenvalues lie within
    sqrt(sum_j r_j^2) of those of the two blocks. The best m is taken. Strong where |M|_F^2 is below about 5, as on
    photographs; on sparse graphs it proves nothing.

    Args:
        operator: of A images.
        row_norms: (A, N) of M, or upper bounds.
        values, residuals: (A, m) all Ritz values, descending, and their residual norms.

    Returns:
        (A,) float64; 0 or less proves nothing.
    """
    isolated = (operator.class_sizes[:, 0] - 1).clamp(min=0)
    class_mu = torch.where(isolated > 0, operator.isolated_mu, 0.0)
    energy = row_norms.square().sum(dim=1) - 1 - isolated * class_mu**2
    left = energy[:, None] - (values**2 + 2 * residuals**2).cumsum(dim=1)
    rest = torch.maximum(left.clamp(min=0).sqrt(), class_mu[:, None])
    others = torch.maximum(values[:, 1:2], rest)[:, 1:]
    return (values[:, :1] - others - residuals.square().cumsum(dim=1).sqrt()[:, 1:]).amax(dim=1)


def cholesky_gap(operator: DeflatedAffinity, affinity: Affinity, vector: Tensor, theta: Tensor, gap: Tensor) -> Tensor:
    """Lower bound on theta_1 minus every other eigenvalue for one image, by a factorization; N^3 / 3 operations.

    t I - M is positive definite on the complement of q and y exactly if all other eigenvalues lie below t. With t midway
    between theta_1 and theta_2 the factor exists unless the iteration missed a pair. By Courant and Fischer this holds
    however inexact y is.

    Args:
        operator, affinity: of the same single image.
        vector: (N,) y of unit length.
        theta, gap: scalars, its Ritz value and the estimated distance to the next eigenvalue, those of differences within
            classes included.

    Returns:
        Scalar float64; minus infinity if an unexpected eigenvalue lies above t.
    """
    t = (theta - gap / 2).clamp(min=theta / 2)
    inverse_root = operator.inverse_root[0, 0]
    matrix = affinity.dense()[0].mul_(inverse_root[:, None]).mul_(inverse_root[None, :]).neg_()
    known = torch.stack([operator.trivial[0, 0], vector])
    matrix.addmm_(known.T @ torch.diag(torch.stack([torch.ones_like(theta), theta])), known)
    matrix.diagonal().add_(t)
    _, failed = torch.linalg.cholesky_ex(matrix)
    return theta - t if failed == 0 else torch.full_like(theta, -torch.inf)
