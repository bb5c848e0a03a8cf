"""Random numbers that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# sin and cos differ in the last bit between math libraries; rounded to this step they are the same everywhere.
_STEPS = 2.0**20


class Draws:
    """A stream of random numbers that depends on its keys alone.

    NumPy promises to keep the raw output of its bit generators, not what ``numpy.random.Generator`` makes of it; so this
    takes the raw output and nothing else.

    Args:
        keys: integers in [0, 2**32).

    Example:
        >>> Draws(0, 7).integer(1, 6) == Draws(0, 7).integer(1, 6)
        True
    """

    def __init__(self, *keys: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(keys))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        # The upper 53 bits, as many as a float64 holds.
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def uniforms(self, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """(count,) float64 in [low, high)."""
        return np.array([self.uniform(low, high) for _ in range(count)])

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        # The remainder's bias is below 2**-50 for the small ranges here.
        return low + int(self._bits.random_raw()) % (high - low + 1)


def snap(values: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to multiples of 2**-20, after which values of different math libraries are equal."""
    rounded: NDArray[np.float64] = np.floor(np.asarray(values, dtype=np.float64) * _STEPS + 0.5) / _STEPS
    return rounded
