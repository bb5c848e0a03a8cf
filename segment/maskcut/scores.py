"""Scores of MaskCut's objects: which masks of a whole dataset come first when they are ranked.

The paper's masks have none. A score only ranks masks; it is no probability. ``benchmarks/maskcut_scores.py`` has results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.segment.maskcut.rounds import Round

Score = Literal["combined", "gap", "cut", "round"]
SCORES: tuple[Score, ...] = get_args(Score)


def score_round(cut: Round, score: Score = "combined") -> float:
    """Score one object.

    ============  ==========================================  =====================================================
    score         value                                       high for
    ============  ==========================================  =====================================================
    ``combined``  ``gap`` x (1 - border fraction) x           a distinct object within the image, found early
                  ``round``
    ``gap``       lambda_3 - lambda_2 of the round's graph    a graph with one good cut, rather than several
    ``cut``       1 - NCut(A, B) of the object's whole side   a side with few edges to the rest, plain skies included
    ``round``     1, 1/2, 1/3 ...                             an object found early
    ============  ==========================================  =====================================================

    Args:
        cut: the round that found the object.
        score: which one.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: if there is no such score.

    Example:
        >>> from eigenseg.discovery.spectral import Status
        >>> mask = torch.tensor([[False, False, False], [False, True, True], [False, False, False]])
        >>> one = Round(mask, 4, 0.2, 0.4, 0.3, mask.double(), Status.CONVERGED, 1, mask)
        >>> [round(score_round(one, score), 3) for score in SCORES]  # 1 of the 8 border tokens, second round
        [0.175, 0.4, 0.7, 0.5]
    """
    check_choice("score", score, SCORES)
    return _SCORES[score](cut)


def gap_score(eigenvalue: float, gap: float) -> float:
    """min(lambda_3, 1) - lambda_2, at least 0: how much better the best cut is than the next one.

    Args:
        eigenvalue: lambda_2, in [0, 1].
        gap: lambda_3 - lambda_2; infinite in a graph of two tokens, which has no lambda_3.

    Returns:
        A value in [0, 1].
    """
    # A cut that is no better than in a graph without structure has NCut 1, so a lambda_3 above 1 is worth no more than 1. A
    # solver shortens the gap by its error bound, which leaves a little less than 0 where two cuts are equally good.
    return max(0.0, min(gap, 1 - eigenvalue))


def cut_score(cut_value: float) -> float:
    """1 - NCut, at least 0: 1 for a side without edges to the rest, 0 where they are as many as by chance.

    Args:
        cut_value: NCut, in [0, 2].
    """
    return max(0.0, 1 - cut_value)


def border_fraction(mask: Tensor) -> float:
    """The fraction of the grid's outermost tokens that a mask covers.

    Args:
        mask: (gh, gw) bool.

    Returns:
        A value in [0, 1]: 0 within the image, 1 for a frame around it. Sky and ground cover much of the border.

    Example:
        >>> border_fraction(torch.tensor([[True, True, True], [False, True, False], [False, False, False]]))
        0.375
    """
    border = torch.ones_like(mask, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    return float(mask[border].double().mean())


def _combined(cut: Round) -> float:
    return gap_score(cut.eigenvalue, cut.gap) * (1 - border_fraction(cut.mask)) / (cut.index + 1)


_SCORES: Mapping[Score, Callable[[Round], float]] = {
    "combined": _combined,
    "gap": lambda cut: gap_score(cut.eigenvalue, cut.gap),
    "cut": lambda cut: cut_score(cut.cut_value),
    "round": lambda cut: 1 / (cut.index + 1),
}
