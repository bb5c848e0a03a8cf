"""Outlines of shapes in their own coordinates: u to the right, v down, everything within the unit circle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.scenes.draws import Draws, snap

# The kinds of outline; they are the classes of the objects.
OUTLINES = ("disc", "ellipse", "polygon", "star")
# A polygon's corners lie at least so far from its center, so that none is a sliver.
_SHORTEST = 0.7


@dataclass(frozen=True)
class Outline:
    """Where a shape is.

    Args:
        kind: one of ``OUTLINES``.
        ratio: of a disc or ellipse, its height to its width; 1 for the others.
        corners: (n, 2) float64 (u, v) in order, of a polygon or star; None for the others.

    Example:
        >>> disc = Outline("disc")
        >>> disc.contains(np.array([0.0, 0.8]), np.array([0.0, 0.8])).tolist()
        [True, False]
    """

    kind: str
    ratio: float = 1.0
    corners: NDArray[np.float64] | None = None

    def contains(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points lie inside, as a bool array.

        A polygon contains a point if a ray to the right crosses its edges an odd number of times.

        Args:
            u, v: coordinates, float64 of one shape.
        """
        if self.corners is None:
            inside: NDArray[np.bool_] = u * u + (v / self.ratio) * (v / self.ratio) <= 1
            return inside
        inside = np.zeros(u.shape, dtype=bool)
        for (u0, v0), (u1, v1) in zip(self.corners, np.roll(self.corners, -1, axis=0), strict=True):
            if v0 != v1:
                inside ^= ((v0 > v) != (v1 > v)) & (u < u0 + (v - v0) * ((u1 - u0) / (v1 - v0)))
        return inside


def draw_outline(draws: Draws) -> Outline:
    """A random outline: a disc, an ellipse, a polygon of three to six corners or a star of four to seven points."""
    kind = OUTLINES[draws.integer(0, len(OUTLINES) - 1)]
    if kind == "disc":
        return Outline(kind)
    if kind == "ellipse":
        return Outline(kind, ratio=draws.uniform(0.45, 0.8))
    points = draws.integer(3, 6) if kind == "polygon" else draws.integer(4, 7)
    # Corners shift by less than half of their distance, so their order stays and edges do not cross.
    shifts = draws.uniforms(points, -0.3, 0.3)
    if kind == "polygon":
        radii, angles = draws.uniforms(points, _SHORTEST, 1.0), np.arange(points) + shifts
    else:
        inner = draws.uniform(0.4, 0.6)
        radii = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)
        angles = np.arange(2 * points) / 2.0
    turns = [2 * math.pi * float(angle) / points for angle in angles]
    corners = [(r * math.cos(turn), r * math.sin(turn)) for r, turn in zip(radii, turns, strict=True)]
    return Outline(kind, corners=snap(np.array(corners)))
