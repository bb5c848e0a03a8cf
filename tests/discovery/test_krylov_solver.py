"""The iteration returns what the dense oracle returns, on easy graphs and on every kind that breaks subspace methods."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy_graphs import band, cliques, graph, isolate, lattice, random_graph, scene, wrong_bits

from eigenseg.discovery.spectral import Affinity, Status, build_affinity, krylov, solve_ncut, solve_ncut_dense
from eigenseg.discovery.spectral.deflated import deflate

N = 900


def masked(affinity: Affinity, fraction: float) -> Affinity:
    hidden = torch.rand(1, N, generator=torch.Generator().manual_seed(2)) < fraction
    return affinity.mask(hidden)


def all_but(kept: int) -> Affinity:
    return build_affinity(scene(0, 0.5)).mask(torch.arange(N)[None] >= kept)


@pytest.mark.parametrize("noise", [0.3, 0.8, 1.2, 1.6])
@pytest.mark.parametrize("seed", range(4))
def test_regions_are_cut_as_by_the_oracle(seed: int, noise: float) -> None:
    affinity = build_affinity(scene(seed, noise))
    for rounds in range(3):
        result, oracle = solve_ncut(affinity), solve_ncut_dense(affinity)
        assert result.status == (Status.CONVERGED,)
        assert wrong_bits(result, oracle) == 0
        assert result.proven.all()
        torch.testing.assert_close(result.eigenvalues, oracle.eigenvalues, rtol=0, atol=1e-11)
        assert result.residuals.max() <= 1e-10
        assert 0 < result.gap.item() <= oracle.gap.item() + 1e-9
        x = oracle.eigenvectors[:, :, 0]
        affinity = affinity.mask(x > x.mean())  # the next object, as in MaskCut
        assert rounds < 3


def with_pairs(pairs: int) -> Affinity:
    """A noisy graph and pairs of tokens with edges only to each other."""
    binary = build_affinity(scene(0, 1.6)).edges.dense()[0]
    binary[: 2 * pairs], binary[:, : 2 * pairs] = 0, 0
    binary[: 2 * pairs, : 2 * pairs] = cliques(*[2] * pairs)
    return graph(binary)


def broken() -> Tensor:
    points = scene(1, 0.8)
    points[0, 77] = torch.nan
    return points


CONVERGED, DENSE, DEGENERATE, TRIVIAL = Status.CONVERGED, Status.DENSE, Status.DEGENERATE, Status.TRIVIAL
PHOTO = build_affinity(scene(7, 0.8))
NASTY: dict[str, tuple[Affinity, Status]] = {
    "all ones": (graph(torch.ones(N, N)), TRIVIAL),
    "all masked": (graph(torch.zeros(N, N)), TRIVIAL),
    "identity": (graph(torch.eye(N)), DEGENERATE),
    "1 isolated": (isolate(PHOTO, 1), CONVERGED),
    "2 isolated": (isolate(PHOTO, 2), CONVERGED),
    "100 isolated": (isolate(PHOTO, 100), CONVERGED),
    "10 % masked": (masked(PHOTO, 0.1), CONVERGED),
    "50 % masked": (masked(PHOTO, 0.5), CONVERGED),
    "95 % masked": (masked(PHOTO, 0.95), DENSE),
    "1 left": (all_but(1), DENSE),
    "2 left": (all_but(2), DENSE),
    "10 left": (all_but(10), DENSE),
    "20 left": (all_but(20), DENSE),
    "10 isolated, rest masked": (isolate(graph(torch.zeros(N, N)), 10), DEGENERATE),
    "2 equal cliques": (graph(cliques(450, 450)), CONVERGED),
    "2 unequal cliques": (graph(cliques(100, 800)), CONVERGED),
    "3 unequal cliques": (graph(cliques(200, 300, 400)), CONVERGED),
    "12 cliques": (graph(cliques(*range(69, 81), 6)), CONVERGED),
    "3 equal cliques": (graph(cliques(300, 300, 300)), DEGENERATE),
    "30 equal cliques": (graph(cliques(*[30] * 30)), DEGENERATE),
    "40 unequal cliques": (graph(cliques(*range(3, 43))), DENSE),
    "path, bandwidth 100": (graph(band(N, 100, ring=False)), CONVERGED),
    "path, bandwidth 10": (graph(band(N, 10, ring=False)), DENSE),
    "ring, bandwidth 100": (graph(band(N, 100, ring=True)), DEGENERATE),
    "30x30 lattice, radius 3": (graph(lattice(30, 30, 3)), DEGENERATE),
    "2 isolated pairs": (with_pairs(2), CONVERGED),
    "20 isolated pairs": (with_pairs(20), CONVERGED),
    "25x36 lattice, radius 3": (graph(lattice(25, 36, 3)), CONVERGED),
    "25x36 lattice, radius 8": (graph(lattice(25, 36, 8)), CONVERGED),
    "random graph, 1 %": (graph(random_graph(N, 0.01)), DENSE),
    "random graph, 5 %": (graph(random_graph(N, 0.05)), DENSE),
    "random graph, 30 %": (graph(random_graph(N, 0.3)), DENSE),
    "4 tokens": (build_affinity(scene(3, 0.2, regions=2, tokens=4)), DENSE),
    "4 tokens, all alike": (graph(torch.ones(4, 4)), TRIVIAL),
    "20 tokens": (build_affinity(scene(3, 0.8, tokens=20)), DENSE),
    "49 tokens": (build_affinity(scene(3, 0.8, tokens=49)), DENSE),
    "one token that is not a number": (build_affinity(broken()), CONVERGED),
    "two constant clusters": (build_affinity(torch.eye(2).repeat_interleave(450, dim=0)[None]), CONVERGED),
}


@pytest.mark.parametrize("name", NASTY)
def test_hard_graphs_have_their_status_and_the_oracles_partition(name: str) -> None:
    affinity, status = NASTY[name]
    result = solve_ncut(affinity)
    assert result.status == (status,)
    if status in (DEGENERATE, TRIVIAL):
        assert not result.proven.any()
        return
    oracle = solve_ncut_dense(affinity)
    assert wrong_bits(result, oracle) == 0
    torch.testing.assert_close(result.eigenvalues, oracle.eigenvalues, rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", [2, 4, 7, 16])
def test_several_pairs_equal_the_oracles_isolated_and_masked_tokens_included(k: int) -> None:
    for affinity in (build_affinity(scene(5, 1.2)), isolate(PHOTO, 5), masked(PHOTO, 0.3), all_but(20)):
        result, oracle = solve_ncut(affinity, k), solve_ncut_dense(affinity, k)
        torch.testing.assert_close(result.eigenvalues, oracle.eigenvalues, rtol=0, atol=1e-10)
        volume = torch.einsum("bnk,bn,bnl->bkl", result.eigenvectors, affinity.degrees, result.eigenvectors)
        torch.testing.assert_close(volume, torch.eye(k, dtype=torch.float64)[None], rtol=0, atol=1e-8)
        weights = affinity.dense()[0]
        laplacian = torch.diag(affinity.degrees[0]) - weights
        left, right = laplacian @ result.eigenvectors[0], affinity.degrees[0][:, None] * result.eigenvectors[0]
        torch.testing.assert_close(left, right * result.eigenvalues[0], rtol=0, atol=1e-7)


def test_sixteen_pairs_of_a_graph_of_many_regions_converge_although_the_last_must_wait() -> None:
    affinity = build_affinity(scene(0, 1.0, regions=30, width=64))
    result = solve_ncut(affinity, k=16)
    assert result.status == (Status.CONVERGED,)
    torch.testing.assert_close(result.eigenvalues, solve_ncut_dense(affinity, 16).eigenvalues, rtol=0, atol=1e-11)


def test_a_larger_graph_is_given_more_products_before_a_dense_solve() -> None:
    affinity = graph(band(1800, 30, ring=False))
    patient, hasty = solve_ncut(affinity), solve_ncut(affinity, max_passes=40)
    assert patient.status == (Status.CONVERGED,)
    assert hasty.status == (Status.DENSE,)
    torch.testing.assert_close(patient.eigenvalues, hasty.eigenvalues, rtol=0, atol=1e-11)


def test_an_iteration_that_stalls_is_given_up_before_its_limit() -> None:
    result = solve_ncut(graph(random_graph(N, 0.01)), max_passes=200)
    assert result.status == (Status.DENSE,)
    assert result.passes.item() < 20


def test_a_basis_that_is_no_longer_orthonormal_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = krylov.orthonormalize
    monkeypatch.setattr(krylov, "orthonormalize", lambda *arguments: exact(*arguments) * (1 + 1e-9))
    assert solve_ncut(PHOTO, fallback="flag", tol=1e-7).status == (Status.FAILED,)
    monkeypatch.setattr(krylov, "orthonormalize", lambda *arguments: exact(*arguments) * (1 + 1e-12))
    assert solve_ncut(PHOTO, fallback="flag", tol=1e-7).status == (Status.CONVERGED,)


def test_a_start_from_features_of_low_rank_spans_its_whole_width() -> None:
    operator, rank_one = deflate(PHOTO), torch.ones(1, N, 1)
    block = krylov.starting_block(operator, rank_one, 16, seed=0)[0]
    assert torch.linalg.svdvals(block).min() > 0.05


def test_vectors_that_vanish_or_repeat_are_replaced() -> None:
    operator, generator = deflate(PHOTO), torch.Generator().manual_seed(0)
    block, noise = (torch.randn(1, 8, N, generator=generator, dtype=torch.float64) for _ in range(2))
    block[:, 2], block[:, 3], block[:, 4] = 0, block[:, 1], operator.trivial[:, 0]
    basis = krylov.orthonormalize(operator, block, operator.trivial, noise)
    together = torch.cat([operator.trivial, basis], dim=1)
    torch.testing.assert_close(together @ together.mT, torch.eye(9, dtype=torch.float64)[None], rtol=0, atol=1e-14)


def test_the_block_expands_unconverged_required_pairs_first() -> None:
    residuals = torch.arange(6.0, dtype=torch.float64)[None, :, None].expand(1, 6, 3)
    norms = torch.tensor([[1e-12, 1.0, 1e-12, 1.0, 1e-12, 1.0]], dtype=torch.float64)
    chosen = krylov._expand(residuals, norms, required=4, tol=1e-10, block=3)
    assert chosen[0, :, 0].tolist() == [1, 3, 4]


def test_a_batch_of_mixed_difficulty_is_solved_like_each_image_alone() -> None:
    points = torch.cat([scene(0, 0.3), torch.ones(1, N, 24), broken(), scene(2, 1.6), scene(3, 0.0), scene(4, 1.2)])
    together = solve_ncut(build_affinity(points))
    for i in range(len(points)):
        alone = solve_ncut(build_affinity(points[i : i + 1]))
        assert together.status[i] is alone.status[0]
        assert torch.equal(together.proven[i], alone.proven[0])
        assert together.passes[i] == alone.passes[0]
        if together.status[i] is CONVERGED:
            torch.testing.assert_close(together.eigenvectors[i], alone.eigenvectors[0], rtol=0, atol=1e-10)


def test_one_thread_and_two_give_the_same_partition() -> None:
    affinity, threads = build_affinity(scene(6, 1.2)), torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(solve_ncut(affinity))
    finally:
        torch.set_num_threads(threads)
    assert wrong_bits(*results) == 0
    assert torch.equal(results[0].proven, results[1].proven)


def test_excluded_tokens_are_solved_as_the_smaller_graph() -> None:
    points, valid = scene(8, 0.8), torch.rand(1, N, generator=torch.Generator().manual_seed(3)) > 0.3
    result = solve_ncut(build_affinity(points, valid=valid))
    smaller = solve_ncut_dense(build_affinity(points[:, valid[0]]))
    torch.testing.assert_close(result.eigenvalues, smaller.eigenvalues, rtol=0, atol=1e-11)
    torch.testing.assert_close(result.eigenvectors[:, valid[0]], smaller.eigenvectors, rtol=0, atol=1e-8)
    assert result.eigenvectors[:, ~valid[0]].abs().max() == 0
    assert not result.proven[:, ~valid[0]].any()


def test_vectors_have_unit_volume_even_where_few_directions_exist() -> None:
    """Three kinds of tokens and many excluded ones: noise on the excluded ones would add directions."""
    valid = torch.rand(1, 300, generator=torch.Generator().manual_seed(4)) > 0.4
    affinity = build_affinity(torch.eye(8)[torch.arange(300) % 3][None], valid=valid)
    x = solve_ncut(affinity, k=4).eigenvectors[0]
    volume = x.T @ (affinity.degrees[0][:, None] * x)
    torch.testing.assert_close(volume, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("tol", [1e-3, 1e-4, 1e-7])
@pytest.mark.parametrize("seed", range(3))
def test_a_start_without_the_required_vector_still_converges_to_it(seed: int, tol: float) -> None:
    affinity = build_affinity(scene(seed, 0.8, tokens=400))
    root = affinity.degrees[0].sqrt()
    vectors = torch.linalg.eigh(affinity.dense()[0] / root[:, None] / root[None])[1].flip(1)
    result, oracle = solve_ncut(affinity, start=vectors[None, :, 2:18], tol=tol), solve_ncut_dense(affinity)
    different = (result.eigenvectors[0, :, 0] > result.eigenvectors[0, :, 0].mean()) != (
        oracle.eigenvectors[0, :, 0] > oracle.eigenvectors[0, :, 0].mean()
    )
    assert result.proven.any()
    assert not (different & result.proven[0]).any()


def test_pairs_that_a_small_graph_does_not_have_are_reported_as_no_cut() -> None:
    valid = torch.ones(2, N, dtype=torch.bool)
    valid[0, 2:] = False
    result = solve_ncut(build_affinity(scene(8, 0.3).expand(2, -1, -1), valid=valid), k=3)
    assert result.eigenvalues[0, 1:].tolist() == [1, 1]
    assert result.gap[0] == torch.inf
    assert result.eigenvectors[0, :, 1:].abs().max() == 0
    assert result.eigenvalues[1].isfinite().all()


def test_a_warm_start_needs_fewer_passes_and_finds_the_same() -> None:
    affinity = build_affinity(scene(9, 1.2))
    first = solve_ncut(affinity)
    again = solve_ncut(affinity.mask(torch.arange(N)[None] < 40), start=first.ritz_block)
    cold = solve_ncut(affinity.mask(torch.arange(N)[None] < 40))
    assert wrong_bits(again, cold) == 0
    assert again.passes.item() < cold.passes.item()


def test_random_numbers_leave_the_global_generator_alone_and_repeat() -> None:
    before = torch.get_rng_state()
    affinity = build_affinity(scene(10, 0.8))
    first, second = solve_ncut(affinity, start="random"), solve_ncut(affinity, start="random")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.eigenvectors, second.eigenvectors)


@pytest.mark.parametrize(("fraction", "digits"), [(0.0, 1e-13), (0.2, 1e-10)])  # 1/d of a masked token is 1e4 times larger
def test_row_norms_equal_those_of_the_dense_matrix(fraction: float, digits: float) -> None:
    affinity = masked(PHOTO, fraction)
    root = affinity.degrees[0].sqrt()
    expected = (affinity.dense()[0] / root[:, None] / root[None]).norm(dim=1)
    torch.testing.assert_close(deflate(affinity).row_norms()[0], expected, rtol=digits, atol=0)


def test_an_image_that_does_not_converge_is_handled_by_fallback() -> None:
    affinity = graph(band(N, 10, ring=False))
    flagged = solve_ncut(affinity, fallback="flag")
    assert flagged.status == (Status.FAILED,)
    assert flagged.residuals.item() > 1e-10
    assert not flagged.proven.any()
    with pytest.raises(RuntimeError, match=r"image 0 did not converge: residual .* passes; use fallback='dense'"):
        solve_ncut(affinity, fallback="raise")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be in 1..899"),
        ({"k": 30}, "k=30 pairs need keep above 30, got keep=24"),
        ({"block": 8, "keep": 4, "basis": 32}, "block=8, keep=4, basis=32 do not fit"),
        ({"block": 8, "keep": 16, "basis": 30}, "do not fit: keep must be at least block"),
        ({"tol": 0}, r"tol must be a number in \(0, 1\), got 0"),
        ({"tol": "x"}, r"tol must be a number in \(0, 1\), got 'x'"),
        ({"max_passes": 0}, "max_passes must be None or an integer of at least 1, got 0"),
        ({"keep": 0}, "block=8, keep=0, basis=32 do not fit"),
        ({"block": 8.0}, "block must be an integer, got 8.0"),
        ({"seed": 1.5}, "seed must be an integer, got 1.5"),
        ({"k": "1"}, "k must be in 1..899 for graphs of 900 tokens, got '1'"),
        ({"certificate": "oath"}, "certificate must be 'estimate', 'energy', 'cholesky' or 'none', got 'oath'"),
        ({"start": torch.ones(1, 5, 2)}, r"start must be \(1, 900, m\) floating, got \(1, 5, 2\)"),
        ({"fallback": "pray"}, "fallback must be 'dense', 'raise' or 'flag', got 'pray'"),
        ({"start": "warm"}, "start must be 'features', 'random' or a"),
    ],
)
def test_options_out_of_range_are_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve_ncut(PHOTO, **options)  # type: ignore[arg-type]
