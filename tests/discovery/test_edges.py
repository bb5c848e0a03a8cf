"""Any operator with products is a graph: packed bits, weights; and no global setting of torch changes its edges."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from toy_graphs import band, cliques, scene, wrong_bits

from eigenseg.discovery.spectral import (
    Affinity,
    Status,
    affinity_from_weights,
    build_affinity,
    solve_ncut,
    solve_ncut_dense,
)
from eigenseg.discovery.spectral.edges import MatrixEdges, threshold_cosines
from eigenseg.discovery.spectral.precision import full_precision


@dataclass(frozen=True)
class PackedEdges:
    """One bit per entry, unpacked in tiles of rows in every product: a custom operator."""

    bits: np.ndarray
    tokens: int

    def __len__(self) -> int:
        return len(self.bits)

    def rows(self, image: int, start: int) -> Tensor:
        return torch.from_numpy(np.unpackbits(self.bits[image, start : start + 100], axis=1, count=self.tokens))

    def product(self, vectors: Tensor) -> Tensor:
        tiles = range(0, self.tokens, 100)
        return torch.stack(
            [torch.cat([block @ self.rows(i, start).double().T for start in tiles], 1) for i, block in enumerate(vectors)]
        )

    def loops(self) -> Tensor:
        return self.dense().diagonal(dim1=1, dim2=2)

    def mask(self, tokens: Tensor) -> PackedEdges:
        kept = (self.dense() * (~tokens)[:, :, None] * (~tokens)[:, None, :]).to(torch.uint8)
        return replace(self, bits=np.packbits(kept.numpy(), axis=2))

    def select(self, images: Sequence[int]) -> PackedEdges:
        return replace(self, bits=self.bits[list(images)])

    def dense(self) -> Tensor:
        return torch.from_numpy(np.unpackbits(self.bits, axis=2, count=self.tokens)).double()


def packed(affinity: Affinity) -> Affinity:
    binary = affinity.edges.dense().to(torch.uint8).numpy()
    return replace(affinity, edges=PackedEdges(np.packbits(binary, axis=2), binary.shape[1]))


def test_an_operator_of_packed_bits_is_solved_like_the_matrix() -> None:
    affinity = build_affinity(torch.cat([scene(0, 0.8, tokens=530), scene(1, 1.2, tokens=530), torch.ones(1, 530, 24)]))
    hidden = torch.arange(530)[None].expand(3, -1) < 60
    for graph in (affinity, affinity.mask(hidden)):
        ours, theirs = solve_ncut(graph, certificate="cholesky"), solve_ncut(packed(graph), certificate="cholesky")
        assert ours.status == theirs.status
        assert ours.status[:2] == (Status.CONVERGED, Status.CONVERGED)
        assert wrong_bits(ours[:2], theirs[:2]) == 0
        assert torch.equal(ours.proven, theirs.proven)
    assert torch.equal(packed(affinity).mask(hidden).degrees, affinity.mask(hidden).degrees)


def test_tiles_give_the_matrix_of_a_plain_comparison() -> None:
    """Small integers have exact products, so tiles cannot differ by rounding."""
    integers = torch.randint(-3, 4, (2, 700, 5), generator=torch.Generator().manual_seed(0)).float()
    for dtype in (torch.float32, torch.int8, torch.bfloat16):
        expected = (integers @ integers.mT > 4).to(dtype)
        assert torch.equal(threshold_cosines(integers, 4, dtype), expected)


def test_a_graph_is_symmetric_even_where_rounding_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    product, generator = torch.Tensor.__matmul__, torch.Generator().manual_seed(1)

    def rounded(left: Tensor, right: Tensor) -> Tensor:
        """A product as on another machine: the rounding error depends on the order of the factors."""
        exact = product(left, right)
        return exact + 1e-3 * torch.randn(exact.shape, generator=generator)

    unit = torch.nn.functional.normalize(torch.randn(1, 600, 300, generator=generator), dim=2)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    matrix = threshold_cosines(unit, 0.01, torch.float32)
    assert torch.equal(matrix, matrix.mT)


@pytest.mark.parametrize("sloppy", ["medium", "high"])
def test_global_precision_settings_do_not_affect_the_graph(sloppy: str) -> None:
    points = torch.randn(1, 600, 384, generator=torch.Generator().manual_seed(3))  # many cosines lie close to 0.05
    expected = build_affinity(points, tau=0.05).edges.dense()
    exact, before = points[0] @ points[0].T, torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(sloppy)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            affinity = build_affinity(points.requires_grad_(), tau=0.05)
            assert not solve_ncut(affinity).eigenvectors.requires_grad
            assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == sloppy
        with full_precision():
            assert torch.equal(points[0] @ points[0].T, exact)
        assert torch.equal(affinity.edges.dense(), expected)
        with pytest.raises(ZeroDivisionError), full_precision():
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == sloppy
    finally:
        torch.set_float32_matmul_precision(before)


def test_precision_is_restored_when_the_last_of_several_threads_has_left() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        first, second = full_precision(), full_precision()
        first.__enter__()
        with ThreadPoolExecutor(1) as other:
            other.submit(second.__enter__).result()
            first.__exit__(None, None, None)
            if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
                assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            other.submit(second.__exit__, None, None, None).result()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_cosines_as_weights_equal_the_published_ablation() -> None:
    """Real weights above tau, eps elsewhere, solved by the published call."""
    points = scene(4, 0.8, tokens=400)
    unit = torch.nn.functional.normalize(points[0], dim=1)
    cosines = (unit.double() @ unit.double().T).numpy()
    np.fill_diagonal(cosines, 1)
    weights = np.where(cosines > 0.2, cosines, 1e-5)
    degrees = np.diag(weights.sum(axis=1))
    values, vectors = linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    affinity = build_affinity(points, weights="cosine")
    np.testing.assert_allclose(affinity.dense()[0].numpy(), weights, atol=1e-15)
    result = solve_ncut(affinity)
    assert result.status == (Status.CONVERGED,)
    np.testing.assert_allclose(result.eigenvalues[0].numpy(), values[:1], atol=1e-11)
    ours = result.eigenvectors[0, :, 0].numpy()
    theirs = vectors[:, 0] * np.sign(vectors[:, 0] @ degrees @ ours)
    np.testing.assert_array_equal(ours > ours.mean(), theirs > theirs.mean())
    assert result.proven.all()


def test_given_weights_of_any_scale_are_solved_like_their_dense_matrix() -> None:
    distance = torch.cdist(scene(5, 0.3, tokens=300).double(), scene(5, 0.3, tokens=300).double())
    weights = 40 * torch.exp(-(distance**2) / 20)
    weights = (weights + weights.mT) / 2
    affinity = affinity_from_weights(weights, eps=1e-3)
    torch.testing.assert_close(affinity.dense(), weights + 1e-3, rtol=1e-15, atol=0)
    result, oracle = solve_ncut(affinity, k=2), solve_ncut_dense(affinity, k=2)
    assert result.status == (Status.CONVERGED,)
    torch.testing.assert_close(result.eigenvalues, oracle.eigenvalues, rtol=0, atol=1e-11)
    assert wrong_bits(result, oracle) == 0


def test_without_a_rank_one_term_components_make_a_graph_degenerate() -> None:
    connected = band(300, 40, ring=False)
    assert solve_ncut(affinity_from_weights(connected[None])).status == (Status.CONVERGED,)
    for apart in (cliques(100, 200), torch.block_diag(connected.float(), torch.zeros(3, 3))):
        for solver in (solve_ncut, solve_ncut_dense):
            result = solver(affinity_from_weights(apart[None] > 0))
            assert result.status == (Status.DEGENERATE,)
            assert result.eigenvectors.isfinite().all()
    assert solve_ncut(affinity_from_weights(cliques(100, 200)[None] > 0, eps=1e-5)).status == (Status.CONVERGED,)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(3, 3), r"weights must be \(B, N, N\) with B and N at least 1, got \(3, 3\)"),
        (torch.ones(1, 3, 4), r"got \(1, 3, 4\)"),
        (-torch.ones(1, 3, 3), r"weights must lie in \[0, 1e\+100\], got -1 to -1"),
        (torch.full((1, 3, 3), torch.nan), r"weights must lie in \[0, 1e\+100\], got nan to nan"),
        (torch.full((1, 3, 3), 1e150, dtype=torch.float64), r"weights must lie in \[0, 1e\+100\], got 1e\+150 to 1e\+150"),
        (torch.arange(9.0).reshape(1, 3, 3), "weights must be symmetric to the last bit"),
    ],
)
def test_weights_out_of_range_are_rejected(weights: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        affinity_from_weights(weights)


def test_cosines_as_weights_need_a_threshold_above_the_background() -> None:
    with pytest.raises(ValueError, match="weights='cosine' needs tau >= eps"):
        build_affinity(torch.ones(1, 4, 2), tau=0.0, weights="cosine")


def test_edges_are_selected_without_a_copy_on_a_cpu() -> None:
    edges = MatrixEdges(torch.ones(3, 4, 4))
    chosen = edges.select([2, 0]).select([1])
    assert chosen.images == (0,)
    assert chosen.matrix is edges.matrix
