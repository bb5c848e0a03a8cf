"""Features of the timed graphs: photographs, noisy fields, and fields with many isolated tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_sample_images
from torch import Tensor

from eigenseg.data import Preprocess, find_images, plan_geometry, prepare_image, read_image
from eigenseg.discovery import ColorTexture

FAMILIES = ("photo", "noisy", "heavy")
TAU = 0.2


def make_features(family: str, batch: int, tokens: int, folder: str | None = None) -> Tensor:
    """Features (batch, tokens, D) of a family, deterministic.

    Args:
        family: ``"photo"``: color and texture of crops of photographs, randomly projected to 384 dimensions. ``"noisy"``:
            a smooth random field under Gaussian noise. ``"heavy"``: under heavy-tailed noise, which isolates many tokens.
        batch: number of images.
        tokens: a square number.
        folder: of photographs; None for scikit-learn's two.
    """
    if family == "photo":
        return torch.cat([_lift(_photo_tokens(image, tokens)) for image in photo_crops(batch, folder)])
    generator, side = torch.Generator().manual_seed(tokens), int(tokens**0.5)
    coarse = torch.randn(batch, 24, 6, 6, generator=generator)
    field = F.interpolate(coarse, size=(side, side), mode="bicubic").flatten(2).mT
    field = (field - field.mean(dim=1, keepdim=True)) @ torch.randn(24, 384, generator=generator)
    noise = torch.randn(batch, tokens, 384, generator=generator)
    if family == "noisy":
        return field + 2 * noise
    # Pareto distribution with exponent 1/1.4: most tokens have little noise, some only noise.
    return field + 2 * noise / torch.rand(batch, tokens, 1, generator=generator).clamp(min=1e-3).pow(1.4)


def photo_crops(count: int, folder: str | None = None) -> list[np.ndarray]:
    """Square crops (s, s, 3) uint8 of photographs at random positions."""
    photos = [read_image(source.path) for source in find_images(Path(folder))] if folder else load_sample_images().images
    random, crops = np.random.default_rng(0), []
    for i in range(count):
        photo = photos[i % len(photos)]
        size = int(min(photo.shape[:2]) * (1 if i < len(photos) else random.uniform(0.5, 1)))
        top, left = (random.integers(0, extent - size + 1) for extent in photo.shape[:2])
        crops.append(np.ascontiguousarray(photo[top : top + size, left : left + size]))
    return crops


def _photo_tokens(image: np.ndarray, tokens: int) -> Tensor:
    backbone, side = ColorTexture(), 8 * int(tokens**0.5)
    geometry = plan_geometry((image.shape[0], image.shape[1]), 8, Preprocess("square", side))
    return backbone(prepare_image(image, geometry, backbone.mean, backbone.std)[None], [geometry]).tokens


def _lift(tokens: Tensor) -> Tensor:
    """Project to the width of a ViT-S, which determines the cost of a graph; cosines are nearly preserved."""
    generator = torch.Generator().manual_seed(0)
    return tokens @ torch.randn(tokens.shape[2], 384, generator=generator) / tokens.shape[2] ** 0.5
