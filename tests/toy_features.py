"""Small batches of features for tests of methods, and methods called on them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from eigenseg.data import FeatureGrid, Geometry, Instances
from eigenseg.data.geometry import Size
from eigenseg.data.images import ImageArray
from eigenseg.discovery import Method


def rectangle(seed: int, grid: Size = (9, 12), noise: float = 0.35) -> Tensor:
    """Features (N, 8) of a rectangle on a background, with noise."""
    generator = np.random.default_rng(seed)
    inside = np.zeros(grid, dtype=bool)
    inside[2:6, 3:8] = True
    points = np.where(inside[..., None], [1, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0])
    return torch.from_numpy(points + noise * generator.standard_normal((*grid, 8))).float().flatten(0, 1)


def batch_of(
    tokens: Tensor,
    grid: Size,
    patch: int = 4,
    padding: Size = (0, 0),
    crop: Size = (0, 0),
    attention: Tensor | None = None,
) -> FeatureGrid:
    """Keys (B, N, D) of images that were padded to the grid, or cropped to it, by some pixels."""
    full = (grid[0] * patch, grid[1] * patch)
    image = (full[0] - padding[0] + crop[0], full[1] - padding[1] + crop[1])
    return FeatureGrid(tokens, grid, "key", (Geometry(image, image, full, patch),) * len(tokens), attention=attention)


def blank_images(features: FeatureGrid) -> list[ImageArray]:
    """A black image of the right size for each geometry."""
    return [np.zeros((*geometry.image_size, 3), dtype=np.uint8) for geometry in features.geometries]


def apply(method: Method, features: FeatureGrid) -> list[Instances]:
    """The method's results, with blank images."""
    return method(features, blank_images(features))
