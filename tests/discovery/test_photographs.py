"""On graphs of real photographs the partition is the published solver's, token by token, through three masked rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from toy_graphs import scene

from eigenseg.data import Preprocess, find_images, plan_geometry, prepare_image, read_image
from eigenseg.discovery import Backbone, ColorTexture, ViTBackbone
from eigenseg.discovery.grid import component_of
from eigenseg.discovery.spectral import Affinity, Status, build_affinity, solve_ncut
from eigenseg.discovery.tokencut import bipartition

GRID = (30, 30)


def tokens_of(path: Path, backbone: Backbone, side: int) -> Tensor:
    image = read_image(path)
    geometry = plan_geometry((image.shape[0], image.shape[1]), backbone.patch_size, Preprocess("square", side))
    return backbone(prepare_image(image, geometry, backbone.mean, backbone.std)[None], [geometry]).tokens


def published_bits(affinity: Affinity, like: np.ndarray) -> np.ndarray:
    weights = affinity.dense()[0].numpy()
    degrees = np.diag(weights.sum(axis=1))
    vector = linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 2])[1][:, 0]
    vector = vector * np.sign(vector @ degrees @ like)
    return vector > vector.mean()


def compare(tokens: Tensor, name: str) -> int:
    """Cut and mask three times at two thresholds; returns the number of graphs, on none of which a bit may differ."""
    graphs = 0
    for tau in (0.15, 0.2):
        affinity = build_affinity(tokens, tau)
        for _ in range(3):
            result, graphs = solve_ncut(affinity), graphs + 1
            vector = result.eigenvectors[0, :, 0].numpy()
            different = (vector > vector.mean()) != published_bits(affinity, vector)
            assert not different.any() or result.status[0] is Status.DEGENERATE, name
            assert not (different & result.proven[0].numpy()).any(), name
            cut = bipartition(result.eigenvectors[:, :, 0], GRID)
            affinity = affinity.mask(component_of(cut.foreground, cut.seed).flatten(1))
    return graphs


@pytest.mark.slow
def test_no_bit_differs_on_576_graphs_of_photographs(test_data: Path) -> None:
    vit = ViTBackbone("vit_small_patch16_224.dino", "random", center=True, position="dino")
    graphs = 0
    for source in find_images(test_data / "photos"):
        color = tokens_of(source.path, ColorTexture(), 240)
        noise = torch.randn(color.shape, generator=torch.Generator().manual_seed(0))
        for tokens in (tokens_of(source.path, vit, 480), color, color + 0.7 * noise, color + 1.4 * noise):
            graphs += compare(tokens, source.name)
    assert graphs == 576


@pytest.mark.slow
def test_no_bit_differs_on_144_graphs_of_synthetic_scenes() -> None:
    graphs = 0
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        regions, noise = scene(seed, 0.0, width=384), torch.randn(1, 900, 384, generator=generator)
        tails = torch.rand(1, 900, 1, generator=generator).clamp(min=1e-3) ** -1.4  # drown many tokens
        for tokens in (scene(seed, 0.8), regions + 1.8 * noise, regions + tails * noise):
            graphs += compare(tokens, f"scene {seed}")
    assert graphs == 144
