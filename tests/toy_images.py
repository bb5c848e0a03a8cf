"""Small images that are known to have no object, one or five: what a method must and must not find."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
HEIGHT, WIDTH = 240, 320
ROWS, COLUMNS = np.indices((HEIGHT, WIDTH))


def colors(rng: np.random.Generator, count: int, apart: int) -> NDArray[np.int64]:
    """Random RGB colors whose pairwise L1 distances are at least ``apart``."""
    chosen: list[NDArray[np.int64]] = []
    while len(chosen) < count:
        color = rng.integers(0, 256, 3)
        if all(np.abs(color - other).sum() >= apart for other in chosen):
            chosen.append(color)
    return np.array(chosen)


def constant(rng: np.random.Generator) -> Image:
    return np.broadcast_to(rng.integers(1, 255, 3), (HEIGHT, WIDTH, 3)).astype(np.uint8)


def one_pixel(rng: np.random.Generator) -> Image:
    image = constant(rng)
    image[rng.integers(HEIGHT), rng.integers(WIDTH)] = rng.integers(0, 256, 3)
    return image


def one_gray_level(rng: np.random.Generator) -> Image:
    return (constant(rng) + rng.integers(-1, 2, (HEIGHT, WIDTH, 3))).astype(np.uint8)


def color_noise(rng: np.random.Generator) -> Image:
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def gray_noise(rng: np.random.Generator) -> Image:
    return np.repeat(rng.normal(128, 40, (HEIGHT, WIDTH, 1)).clip(0, 255), 3, axis=2).astype(np.uint8)


def gradient(rng: np.random.Generator) -> Image:
    first, last = colors(rng, 2, apart=120)
    angle = rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * COLUMNS + np.sin(angle) * ROWS
    along = (along - along.min()) / np.ptp(along)
    return (first + (last - first) * along[..., None]).round().astype(np.uint8)


def disc(rng: np.random.Generator) -> Image:
    """Its background is connected: three patches or more lie between the disc and the borders."""
    background, color = colors(rng, 2, apart=150)
    radius = rng.uniform(30, 70)
    y, x = (rng.uniform(radius + 24, side - radius - 24) for side in (HEIGHT, WIDTH))
    return np.where(((ROWS - y) ** 2 + (COLUMNS - x) ** 2 < radius**2)[..., None], color, background).astype(np.uint8)


def five_discs(rng: np.random.Generator) -> Image:
    background, *others = colors(rng, 6, apart=150)
    image = np.broadcast_to(background, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    for (y, x), color in zip([(60, 55), (60, 265), (180, 55), (180, 265), (120, 160)], others, strict=True):
        (dy, dx), radius = rng.uniform(-8, 8, 2), rng.uniform(24, 36)
        image[(ROWS - y - dy) ** 2 + (COLUMNS - x - dx) ** 2 < radius**2] = color
    return image


EMPTY: dict[str, Callable[[np.random.Generator], Image]] = {
    image.__name__: image for image in (constant, one_pixel, one_gray_level, color_noise, gray_noise, gradient)
}
