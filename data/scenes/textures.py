"""Textures: a color that varies smoothly at random along one direction in RGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.scenes.draws import Draws

# Cells of the random lattice per side; it repeats after that many.
_CELLS = 16
# Colors keep this far from black and white, so that the texture is rarely clipped.
_DARKEST, _LIGHTEST = 50.0, 205.0
# Colors of a shape and the background differ by so much in one channel, if a few tries allow it.
_DISTINCT = 50.0
_TRIES = 8


@dataclass(frozen=True)
class Texture:
    """Value noise in two octaves.

    Args:
        color: (3,) float64 RGB in 0..255, the mean.
        change: (3,) float64 RGB, the difference between the lightest and the darkest point.
        lattice: (16, 16) float64 in [0, 1], the noise between whose cells is interpolated.
        wavelength: (2,) float64, sides of a cell in the coordinates of ``colors``.
    """

    color: NDArray[np.float64]
    change: NDArray[np.float64]
    lattice: NDArray[np.float64]
    wavelength: NDArray[np.float64]

    def colors(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Colors of n points.

        Args:
            u, v: (n,) float64 coordinates in which the texture lies still.

        Returns:
            (n, 3) uint8 RGB.
        """
        across, down = u / self.wavelength[0], v / self.wavelength[1]
        # The second octave has half the wavelength and half the weight, the usual choice.
        noise = (2 * self._noise(across, down) + self._noise(2 * across + 0.5, 2 * down + 0.5)) / 3
        colors = self.color + (noise - 0.5)[:, None] * self.change
        return np.floor(np.clip(colors, 0, 255) + 0.5).astype(np.uint8)

    def _noise(self, across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.float64]:
        column, row = np.floor(across), np.floor(down)
        s, t = _smooth(across - column), _smooth(down - row)
        left, top = column.astype(np.int64) % _CELLS, row.astype(np.int64) % _CELLS
        right, bottom = (left + 1) % _CELLS, (top + 1) % _CELLS
        upper = self.lattice[top, left] * (1 - s) + self.lattice[top, right] * s
        lower = self.lattice[bottom, left] * (1 - s) + self.lattice[bottom, right] * s
        mixed: NDArray[np.float64] = upper * (1 - t) + lower * t
        return mixed


def draw_texture(draws: Draws, contrast: float, scale: float = 1.0, unlike: NDArray[np.float64] | None = None) -> Texture:
    """A random texture.

    Args:
        draws: the random numbers.
        contrast: difference between its lightest and darkest point as a fraction of 255, at most.
        scale: the length in its coordinates that counts as one.
        unlike: (3,) float64 RGB, a color from which this one differs, if eight tries allow it.
    """
    for _ in range(_TRIES):
        color = draws.uniforms(3, _DARKEST, _LIGHTEST)
        if unlike is None or np.abs(color - unlike).max() >= _DISTINCT:
            break
    change = 255 * contrast * draws.uniforms(3, -1, 1)
    lattice = draws.uniforms(_CELLS * _CELLS).reshape(_CELLS, _CELLS)
    return Texture(color, change, lattice, scale * draws.uniforms(2, 0.15, 0.6))


def _smooth(fraction: NDArray[np.float64]) -> NDArray[np.float64]:
    """3 s^2 - 2 s^3: no kinks at the cells' borders."""
    return fraction * fraction * (3 - 2 * fraction)
