"""ARPACK and LOBPCG follow the solver interface: the oracle's pairs, or status FAILED."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from toy_graphs import band, cliques, graph, isolate, scene, wrong_bits

from eigenseg.discovery.spectral import (
    NcutResult,
    Status,
    build_affinity,
    solve_ncut_arpack,
    solve_ncut_dense,
    solve_ncut_lobpcg,
)

Solver = Callable[..., NcutResult]
both = pytest.mark.parametrize("solver", [solve_ncut_arpack, solve_ncut_lobpcg])


@both
@pytest.mark.parametrize("k", [1, 3])
def test_pairs_equal_the_oracles(solver: Solver, k: int) -> None:
    valid = torch.rand(2, 300, generator=torch.Generator().manual_seed(0)) > 0.2
    for affinity in (
        build_affinity(scene(0, 0.8, tokens=300).repeat(2, 1, 1), valid=valid),
        isolate(build_affinity(scene(1, 1.0, tokens=300)), 3),
        build_affinity(scene(2, 0.8, tokens=300)).mask(torch.arange(300)[None] < 40),
    ):
        result, oracle = solver(affinity, k), solve_ncut_dense(affinity, k)
        assert result.status == (Status.CONVERGED,) * len(affinity)
        torch.testing.assert_close(result.eigenvalues, oracle.eigenvalues, rtol=0, atol=1e-11)
        torch.testing.assert_close(result.gap, oracle.gap, rtol=0, atol=1e-6)
        assert wrong_bits(result, oracle) == 0
        assert torch.equal(result.proven, oracle.proven)


@both
def test_a_repeated_eigenvalue_is_flagged(solver: Solver) -> None:
    assert solver(graph(cliques(60, 60, 60))).status == (Status.DEGENERATE,)


@pytest.mark.parametrize(
    "solver", [partial(solve_ncut_arpack, max_iterations=1), partial(solve_ncut_lobpcg, max_iterations=2)]
)
def test_an_image_that_does_not_converge_has_failed(solver: Solver) -> None:
    result = solver(graph(band(400, 4, ring=False)))
    assert result.status == (Status.FAILED,)
    assert not result.proven.any()


def test_a_graph_too_small_for_lobpcg_is_rejected() -> None:
    with pytest.raises(ValueError, match="torch.lobpcg needs at least 6 tokens for k=1, got 5; use solver=krylov or dense"):
        solve_ncut_lobpcg(graph(torch.eye(5)))


@both
def test_start_vectors_repeat_and_leave_global_generators_alone(solver: Solver) -> None:
    affinity, before = build_affinity(scene(3, 0.8, tokens=200)), torch.get_rng_state()
    assert torch.equal(solver(affinity).eigenvectors, solver(affinity).eigenvectors)
    assert torch.equal(torch.get_rng_state(), before)
