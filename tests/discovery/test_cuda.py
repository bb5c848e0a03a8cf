"""Results on a CUDA device equal those on the CPU."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from toy_features import apply
from toy_graphs import scene

from eigenseg.data import FeatureGrid, Geometry
from eigenseg.discovery import TokenCut, ViTBackbone
from eigenseg.discovery.spectral import NcutSolver, build_affinity, solve_ncut, solve_ncut_dense, solve_ncut_lobpcg
from eigenseg.discovery.spectral.exact import exact_product, to_digits
from eigenseg.discovery.spectral.solve import Certificate

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("solver", [solve_ncut, solve_ncut_dense, solve_ncut_lobpcg])
def test_eigenpairs_equal_those_of_the_cpu(solver: NcutSolver) -> None:
    points = torch.randn(3, 200, 8, generator=torch.Generator().manual_seed(0))
    here, there = (solver(build_affinity(points.to(device)), k=3) for device in ("cpu", "cuda"))
    torch.testing.assert_close(there.eigenvalues.cpu(), here.eigenvalues, rtol=0, atol=1e-11)
    torch.testing.assert_close(there.eigenvectors.cpu(), here.eigenvectors, rtol=0, atol=1e-8)
    assert torch.equal(there.proven.cpu(), here.proven)
    assert there.status == here.status


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tokens", [20, 900, 3600])
def test_products_on_tensor_cores_equal_integer_arithmetic_to_the_bit(tokens: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(tokens)
    matrix = (torch.rand(2, tokens, tokens, generator=generator) < 0.4).to(dtype)
    vectors = torch.randn(2, 8, tokens, generator=generator, dtype=torch.float64)
    largest = torch.full((2, 8, tokens), -float(2**46), dtype=torch.float64)
    for rows in (vectors, largest):
        digits, exponent = to_digits(rows)
        exact = matrix.double() @ digits.flatten(2).double()  # integers below 2^53
        weights = 256.0 ** torch.arange(6, dtype=torch.float64)
        expected = torch.einsum("bnms,s->bmn", exact.view(2, tokens, 8, 6), weights) / exponent
        for tf32 in ("ieee", "tf32"):
            torch.backends.cuda.matmul.fp32_precision = tf32
            product = exact_product(matrix.cuda(), rows.cuda()).cpu()
            torch.testing.assert_close(product, expected, rtol=1e-15, atol=1e-15 * rows.abs().max().item() * tokens)
    torch.backends.cuda.matmul.fp32_precision = "none"
    alone = torch.cat([exact_product(matrix.cuda(), vectors[[i]].cuda(), [i]) for i in (1, 0)])
    assert torch.equal(alone.flip(0), exact_product(matrix.cuda(), vectors.cuda()))
    assert torch.equal(alone.flip(0).cpu(), exact_product(matrix.float(), vectors))


def test_a_large_batch_has_the_partition_of_the_cpu() -> None:
    points = torch.cat([scene(seed, noise) for seed in range(4) for noise in (0.3, 0.8, 1.2, 1.6)])
    hidden = torch.rand(16, 900, generator=torch.Generator().manual_seed(0)) < 0.1
    here, there = (solve_ncut(build_affinity(points.to(at)).mask(hidden.to(at))) for at in ("cpu", "cuda"))
    assert there.status == here.status
    assert torch.equal(there.proven.cpu(), here.proven)
    sides = [result.eigenvectors[:, :, 0].cpu() for result in (here, there)]
    assert torch.equal(*(side > side.mean(dim=1, keepdim=True) for side in sides))


def test_a_global_tensorfloat_setting_does_not_affect_the_graph() -> None:
    points = torch.randn(2, 900, 384, generator=torch.Generator().manual_seed(3)).cuda()
    expected = build_affinity(points, tau=0.0).edges.dense()
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert torch.equal(build_affinity(points, tau=0.0).edges.dense(), expected)
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"


@pytest.mark.parametrize("certificate", ["energy", "cholesky", "none"])
def test_certificates_equal_those_of_the_cpu(certificate: Certificate) -> None:
    points = scene(5, 0.8)
    here, there = (solve_ncut(build_affinity(points.to(at)), certificate=certificate) for at in ("cpu", "cuda"))
    assert torch.equal(there.proven.cpu(), here.proven)


@pytest.mark.parametrize("weights", ["cosine", "video"])
def test_other_weights_equal_those_of_the_cpu(weights: Literal["cosine", "video"]) -> None:
    points = scene(6, 0.8)
    here, there = (solve_ncut(build_affinity(points.to(at), weights=weights), k=3) for at in ("cpu", "cuda"))
    torch.testing.assert_close(there.eigenvalues.cpu(), here.eigenvalues, rtol=0, atol=1e-6)  # float32 cosines differ


def test_instances_equal_those_of_the_cpu() -> None:
    points = torch.randn(2, 12 * 15, 6, generator=torch.Generator().manual_seed(1)).cumsum(dim=1)
    geometry = Geometry((90, 118), (90, 118), (96, 120), 8)
    for padding in ("keep", "drop"):
        method = TokenCut(padding=padding)
        here, there = (
            apply(method, FeatureGrid(points.to(device), (12, 15), "test", (geometry, geometry)))
            for device in ("cpu", "cuda")
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
