"""Reasons why an image has no object, in sentences that say what to do; methods share these and add their own."""

from __future__ import annotations

from collections.abc import Sequence

from eigenseg.data.geometry import Geometry
from eigenseg.data.instances import Instances
from eigenseg.discovery.spectral import Status

NOT_FINITE = "no token has finite features; check the backbone's weights and precision"
NOT_CONVERGED = "the eigensolver did not converge; allow it more iterations or use another solver"
# Where this begins the reason, other features may help; a run counts such images and says so.
LOOK_ALIKE = "all tokens look alike"
ALL_ALIKE = f"{LOOK_ALIKE}, the graph has no cut"


def single_token_reason(cannot: str) -> str:
    """Reason for an image with one token; ``cannot`` names what a single token cannot do."""
    return f"the image has a single token, which cannot {cannot}; enlarge it with preprocess.resize"


def single_tokens(geometries: Sequence[Geometry]) -> list[Instances]:
    """Empty results for a batch whose images have one token each."""
    reason = f"no object: {single_token_reason('be cut')}"
    return [Instances.empty(geometry.image_size, reason) for geometry in geometries]


def no_cut_reason(status: Status, tokens: int, non_finite: int, otherwise: str) -> str:
    """Why a normalized cut gave no object.

    Args:
        status: of the solver.
        tokens: of the image.
        non_finite: how many of them have no finite features.
        otherwise: the reason if there was a cut but no object.
    """
    if non_finite == tokens:
        return NOT_FINITE
    if status is Status.FAILED:
        return NOT_CONVERGED
    return ALL_ALIKE if status is Status.TRIVIAL else otherwise


def too_few_reason(tokens: int, usable: int, non_finite: int, cannot: str) -> str | None:
    """Why tokens cannot be compared; None if at least two of them can.

    Args:
        tokens: of the image.
        usable: how many are compared.
        non_finite: how many have no finite features.
        cannot: what a single token cannot do, such as "stand out".
    """
    if tokens == 1:
        return single_token_reason(cannot)
    if not usable and non_finite:
        return NOT_FINITE
    if usable < 2:
        return "fewer than two tokens are left to compare; method.padding=keep keeps tokens with padding"
    return None
