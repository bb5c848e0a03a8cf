"""On a CUDA device everything comes out as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eigenseg.data import FeatureGrid, Geometry
from eigenseg.discovery import TokenCut, ViTBackbone
from eigenseg.discovery.spectral import NcutSolver, build_affinity, solve_ncut, solve_ncut_dense

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("solver", [solve_ncut, solve_ncut_dense])
def test_eigenpairs_equal_those_of_the_cpu(solver: NcutSolver) -> None:
    points = torch.randn(3, 200, 8, generator=torch.Generator().manual_seed(0))
    here, there = (solver(build_affinity(points.to(device)), k=3) for device in ("cpu", "cuda"))
    torch.testing.assert_close(there.eigenvalues.cpu(), here.eigenvalues, rtol=0, atol=1e-11)
    torch.testing.assert_close(there.eigenvectors.cpu(), here.eigenvectors, rtol=0, atol=1e-8)
    assert torch.equal(there.proven.cpu(), here.proven)
    assert there.status == here.status


def test_instances_equal_those_of_the_cpu() -> None:
    points = torch.randn(2, 12 * 15, 6, generator=torch.Generator().manual_seed(1)).cumsum(dim=1)
    geometry = Geometry((90, 118), (90, 118), (96, 120), 8)
    for padding in ("keep", "drop"):
        method = TokenCut(padding=padding)
        here, there = (
            method(FeatureGrid(points.to(device), (12, 15), "test", (geometry, geometry))) for device in ("cpu", "cuda")
        )
        for one, other in zip(here, there, strict=True):
            np.testing.assert_array_equal(other.masks, one.masks)
            np.testing.assert_array_equal(other.boxes, one.boxes)


@pytest.mark.parametrize("architecture", ["vit_small_patch16_224.dino", "vit_small_patch16_dinov3.lvd1689m"])
def test_features_are_close_to_those_of_the_cpu(architecture: str) -> None:
    backbone = ViTBackbone(architecture, "random", position="dino")
    geometry = Geometry((64, 96), (64, 96), (64, 96), 16)
    pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    here = backbone(pixels, [geometry], attention=True)
    there = backbone.to(torch.device("cuda"))(pixels, [geometry], attention=True)
    assert there.tokens.is_cuda
    torch.testing.assert_close(there.tokens.cpu(), here.tokens, rtol=0, atol=1e-3)  # another order of float32 sums
    torch.testing.assert_close(there.attention, here.attention, rtol=0, atol=1e-4, check_device=False)
