"""What an eigenpair is worth: status of an image, and the tokens whose side of the cut no error can change."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor


class Status(Enum):
    """How an image's eigenpairs were obtained, and whether they mean something."""

    CONVERGED = "converged"  # by the iteration, to its tolerance
    DENSE = "dense"  # by a dense float64 factorisation
    DEGENERATE = "degenerate"  # the wanted eigenvalue is repeated: valid vectors, but the partition is arbitrary
    TRIVIAL = "trivial"  # lambda_2 = 1: constant, fully masked or single-token input has no cut
    FAILED = "failed"  # the iteration did not converge and no fallback was allowed


_REPEATED = 1e-9  # below this gap rounding decides which vector of an eigenspace comes out
_NO_CUT = 1e-9  # lambda_2 this close to 1: the graph is the rank-one background alone
_ROUNDING = 1e-13  # residual that float64 leaves on an exactly solved pair
_LOOSE_ANGLE = 1e-3  # a vector known no better than this angle decides nothing


def vector_angle(residual: Tensor, gap: Tensor) -> Tensor:
    """Bound on the angle between a vector and the eigenvector it stands for (Davis and Kahan): sqrt(2) residual / gap.

    Args:
        residual: (B,) residual norm of the pair.
        gap: (B,) distance from its eigenvalue to the nearest other one, or a lower bound of it.
    """
    return 2**0.5 * (residual + _ROUNDING) / gap.clamp(min=_ROUNDING)


def judge(theta: Tensor, gap: Tensor, angle: Tensor, solved: Status) -> tuple[Status, ...]:
    """Status of every image.

    Args:
        theta: (B,) largest nontrivial eigenvalue 1 - lambda_2.
        gap: (B,) its distance to the next one.
        angle: (B,) from ``vector_angle``.
        solved: what an image is called that is neither trivial nor degenerate.
    """
    trivial = theta < _NO_CUT
    degenerate = (gap <= _REPEATED) | (angle > _LOOSE_ANGLE)
    flags = zip(trivial.tolist(), degenerate.tolist(), strict=True)
    return tuple(Status.TRIVIAL if none else Status.DEGENERATE if many else solved for none, many in flags)


def proven_tokens(
    vector: Tensor, residual: Tensor, theta: Tensor, angle: Tensor, row_norms: Tensor, inverse_root: Tensor, valid: Tensor
) -> Tensor:
    """Tokens whose side of the mean no error within the bound can change.

    For y' = M y / theta the angle's error reaches entry i only through row i of M, hence |x'_i - x_i| is at most
    (|M_i| angle + |residual_i|) / (theta sqrt(d_i)), about sqrt(N) tighter than the angle alone. The second term is needed
    where y itself is judged.

    Args:
        vector: (B, N) x.
        residual: (B, N) M y - theta y, or 0 where x stems from M y.
        theta, angle: (B,).
        row_norms: (B, N) norms of M's rows.
        inverse_root: (B, N) D^-1/2, 0 for excluded tokens.
        valid: (B, N) bool.

    Returns:
        (B, N) bool, False for excluded tokens.
    """
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (vector * valid).sum(dim=1, keepdim=True) / count
    # theta near or below 0 proves nothing; the bound is then made infinite
    reach = torch.where(theta > 0, 1 / theta.clamp(min=_ROUNDING), torch.inf)[:, None]
    error = (row_norms * angle[:, None] + residual.abs()) * inverse_root * reach
    mean_error = (error * valid).sum(dim=1, keepdim=True) / count
    return ((vector - mean).abs() > error + mean_error) & valid
