"""Mean, recall and decay of a score over the frames of a video (Perazzi et al., CVPR 2016, section 4)."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray


def nan_mean(values: NDArray[np.float64]) -> float:
    """Mean of ``values`` (T,) without NaN; NaN if there are no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns about the mean of an empty slice
        return float(np.nanmean(values)) if values.size else float("nan")


def recall(values: NDArray[np.float64], threshold: float = 0.5) -> float:
    """Fraction of frames with a value above the threshold; NaN counts as a miss."""
    return float((values > threshold).mean()) if values.size else float("nan")


def decay(values: NDArray[np.float64]) -> float:
    """Performance lost over time: mean of the first quarter minus mean of the last.

    Neighboring quarters share a frame: their borders in n frames are round(linspace(1, n, 5)) - 1, both included. The
    published code stores these as uint8, which overflows above 256 frames; here they are int64.
    """
    if not values.size:
        return float("nan")
    # 1e-10 rounds halves up, as published.
    ends = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(np.int64)
    first, last = values[ends[0] : ends[1] + 1], values[ends[3] : ends[4] + 1]
    return nan_mean(first) - nan_mean(last)
