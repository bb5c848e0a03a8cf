"""From eigenpairs to a result: refined, oriented and assessed in the same way for every solver."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eigenseg.discovery.spectral.affinity import Affinity
from eigenseg.discovery.spectral.certificate import Status, judge, proven_tokens, vector_angle
from eigenseg.discovery.spectral.deflated import DeflatedAffinity
from eigenseg.discovery.spectral.pairs import Pairs
from eigenseg.discovery.spectral.result import NcutResult, orient

# Dividing M y by a smaller eigenvalue would blow up rounding instead of refining y.
_REFINABLE = 1e-3


def separation(pairs: Pairs, pair: int) -> Tensor:
    """Distance from an eigenvalue to the next one, shortened by the next one's residual; infinite without a next.

    Args:
        pairs: at least ``pair`` + 2 of them.
        pair: index of the first of the two eigenvalues.

    Returns:
        (B,) float64.
    """
    upper, lower = pairs.values[:, pair], pairs.values[:, pair + 1]
    return torch.where(lower.isinf(), torch.inf, upper - lower - pairs.residuals[:, pair + 1])


def assess(
    affinity: Affinity,
    operator: DeflatedAffinity,
    pairs: Pairs,
    status: Sequence[Status],
    passes: Tensor | None = None,
    ritz_block: Tensor | None = None,
    proven_gap: Tensor | None = None,
    row_norms: Tensor | None = None,
) -> NcutResult:
    """Turn the eigenpairs of a batch into a result with status and proofs.

    Each vector is replaced by M y / theta, which is more accurate and already computed.

    Args:
        affinity, operator: the graphs.
        pairs: k + 1 of them, the last for the gap alone.
        status: of each image, unless it turns out to be trivial or degenerate.
        passes, ritz_block: passed on, see ``NcutResult``.
        proven_gap: (B,) lower bound of the first gap, on which proofs rest; None: the distance to the second Ritz value.
        row_norms: (B, N) of M; None: no token is proven.
    """
    count = pairs.values.shape[1] - 1
    values = torch.nan_to_num(pairs.values, neginf=0.0)[:, :count]  # an image with no pair at all is trivial: lambda_2 = 1
    residuals = pairs.residuals[:, :count]
    refinable = (values.abs() > _REFINABLE)[:, :, None]
    refined = torch.where(refinable, pairs.products[:, :count], pairs.vectors[:, :count])
    refined = refined / refined.norm(dim=2, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    x = orient(operator.inverse_root * refined)

    gap = separation(pairs, 0)
    weightless = (affinity.valid & (operator.inverse_root[:, 0] == 0)).any(dim=1)
    # A rank-one term, however small, connects everything.
    disconnected = weightless | (values[:, 0] > 1 - 1e-9) if affinity.offset == 0 else weightless
    judged = judge(values[:, 0], gap, residuals[:, 0], disconnected, tuple(status))
    proven = torch.zeros_like(affinity.valid)
    if row_norms is not None:
        angle = vector_angle(residuals[:, 0], gap if proven_gap is None else torch.minimum(gap, proven_gap))
        trusted = [one in (Status.CONVERGED, Status.DENSE) for one in judged]
        certain = proven_tokens(x[:, 0], values[:, 0], angle, row_norms, operator.inverse_root[:, 0], affinity.valid)
        proven = certain & torch.tensor(trusted, device=certain.device)[:, None] & refinable[:, :1, 0]
    if passes is None:
        passes = torch.zeros(len(affinity), dtype=torch.int64, device=affinity.valid.device)
    return NcutResult(
        eigenvalues=1 - values,
        eigenvectors=x.mT.contiguous(),
        residuals=residuals,
        gap=separation(pairs, count - 1),
        proven=proven,
        status=judged,
        passes=passes,
        ritz_block=ritz_block,
    )
