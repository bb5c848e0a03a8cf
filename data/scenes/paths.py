"""How a shape moves: a smooth affine path of translation, rotation and scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.scenes.draws import Draws, snap


@dataclass(frozen=True)
class Wave:
    """``middle + height sin(2 pi (t / period + phase))`` at the frame t; it is smooth and goes on for ever."""

    middle: float
    height: float
    period: float
    phase: float

    def __call__(self, t: float) -> float:
        """The value at the frame t."""
        return self.middle + self.height * math.sin(2 * math.pi * (t / self.period + self.phase))

    def through(self, t: float, value: float) -> Wave:
        """The same wave, shifted so that it has a value at the frame t."""
        return Wave(self.middle + value - self(t), self.height, self.period, self.phase)


@dataclass(frozen=True)
class AffinePath:
    """Position, angle and radius of a shape at every frame.

    Args:
        x, y: of the center, in pixels; the upper left corner of the image is (0, 0).
        radius: in pixels.
        angle: at frame 0, in radians.
        spin: radians per frame, clockwise as the image is seen.
    """

    x: Wave
    y: Wave
    radius: Wave
    angle: float
    spin: float

    def affine(self, t: float) -> NDArray[np.float64]:
        """The map from the shape's coordinates (u, v) to pixels (x, y) at a frame.

        Returns:
            (2, 3) float64 [[a, -b, x], [b, a, y]] with a = r cos(angle), b = r sin(angle).

        Example:
            >>> still = Wave(5.0, 0.0, 1.0, 0.0)
            >>> AffinePath(still, still, still, angle=0.0, spin=0.0).affine(3).tolist()
            [[5.0, 0.0, 5.0], [0.0, 5.0, 5.0]]
        """
        radius, turn = self.radius(t), self.angle + self.spin * t
        a, b = radius * math.cos(turn), radius * math.sin(turn)
        return snap(np.array([[a, -b, self.x(t)], [b, a, self.y(t)]]))


def draw_path(draws: Draws, size: tuple[int, int], radius: float, seen: int, at: tuple[float, float]) -> AffinePath:
    """A random path through a point.

    The center runs along a Lissajous curve as wide as the image, so that in a long clip shapes leave and come back.

    Args:
        draws: the random numbers.
        size: (H, W) of the image in pixels.
        radius: in pixels, about which the radius swings.
        seen: the frame at which the center is at a point.
        at: that point, (x, y) in pixels.
    """
    height, width = size
    # In 50 to 150 frames once around, which is a few hundredths of the image per frame at most.
    x = Wave(0.0, draws.uniform(0.2, 0.7) * width, draws.uniform(50, 150), draws.uniform())
    y = Wave(0.0, draws.uniform(0.2, 0.7) * height, draws.uniform(50, 150), draws.uniform())
    swing = Wave(radius, draws.uniform(0.0, 0.2) * radius, draws.uniform(40, 120), draws.uniform())
    angle, spin = draws.uniform(0, 2 * math.pi), draws.uniform(-math.pi / 60, math.pi / 60)
    return AffinePath(x.through(seen, at[0]), y.through(seen, at[1]), swing, angle, spin)
