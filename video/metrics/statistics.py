"""Mean, recall and decay of a score over the frames of a video (Perazzi et al., CVPR 2016, section 4)."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray


def nan_mean(values: NDArray[np.float64]) -> float:
    """Mean of what is a number, NaN where nothing is: ``values`` is (T,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of a mean of nothing
        return float(np.nanmean(values)) if values.size else float("nan")


def recall(values: NDArray[np.float64], threshold: float = 0.5) -> float:
    """Share of the frames with a value above the threshold; a frame without a number is a miss."""
    return float((values > threshold).mean()) if values.size else float("nan")


def decay(values: NDArray[np.float64]) -> float:
    """Mean of the first quarter less mean of the last one: what is lost over time.

    The quarters share their border frames: of n frames they end at round(linspace(1, n, 5)) - 1, both ends inside. The
    published code keeps these numbers in eight bits, which breaks above 256 frames; here they have any size.
    """
    if not values.size:
        return float("nan")
    # 1e-10, so that halves are rounded up, as published.
    ends = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64)
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return nan_mean(first) - nan_mean(last)
