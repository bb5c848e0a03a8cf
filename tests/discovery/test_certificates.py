"""Lower bounds never exceed the true values, and a proof fails where there is nothing to prove."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from toy_graphs import band, cliques, graph, isolate, lattice, scene, wrong_bits

from eigenseg.discovery.spectral import (
    Affinity,
    NcutSolver,
    Status,
    affinity_from_weights,
    build_affinity,
    solve as solve_module,
    solve_ncut,
    solve_ncut_dense,
)
from eigenseg.discovery.spectral.assess import separation
from eigenseg.discovery.spectral.certificate import cholesky_gap, energy_gap, proven_tokens, vector_angle
from eigenseg.discovery.spectral.deflated import deflate
from eigenseg.discovery.spectral.krylov import Ritz, iterate
from eigenseg.discovery.spectral.pairs import Pairs


def spectrum(affinity: Affinity) -> tuple[Tensor, Tensor]:
    """All eigenvalues of M but the trivial one, descending, and their vectors in rows."""
    root = affinity.degrees[0].sqrt()
    trivial = root / root.norm()
    matrix = affinity.dense()[0] / root[:, None] / root[None]
    values, vectors = torch.linalg.eigh(matrix - 3 * torch.outer(trivial, trivial))
    return values.flip(0)[:-1], vectors.T.flip(0)[:-1]


GRAPHS = {
    "regions": build_affinity(scene(1, 0.5)),
    "noisy regions": build_affinity(scene(1, 1.4)),
    "isolated tokens": isolate(build_affinity(scene(2, 0.8)), 30),
    "masked tokens": build_affinity(scene(3, 0.8)).mask(torch.arange(900)[None] < 200),
    "path": graph(band(900, 100, ring=False)),
}
REPEATED = {
    "3 equal cliques": graph(cliques(300, 300, 300)),
    "30 equal cliques": graph(cliques(*[30] * 30)),
    "ring": graph(band(900, 100, ring=True)),
    "square lattice": graph(lattice(30, 30, 3)),
}


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.floats(0.05, 0.95), st.integers(0, 10))
def test_the_energy_bound_never_exceeds_the_true_gap(seed: int, tokens: int, density: float, isolated: int) -> None:
    upper = (torch.rand(tokens, tokens, generator=torch.Generator().manual_seed(seed)) < density).triu()
    affinity = isolate(graph(upper | upper.T), min(isolated, tokens))
    values, vectors = spectrum(affinity)
    if len(values) < 2:
        return
    operator = deflate(affinity)
    row_norms = operator.row_norms()
    # The bound gets the pairs of an iteration, without the differences within classes.
    seen = (operator.average(vectors[None])[0] - vectors).norm(dim=1) < 1e-6
    residuals = torch.zeros(1, int(seen.sum()), dtype=torch.float64)
    if residuals.shape[1] < 2 or not seen[0]:
        return
    bound = energy_gap(operator, row_norms, values[seen][None], residuals)
    assert bound.item() <= (values[0] - values[1]).item() + 1e-9


@pytest.mark.parametrize("count", [2, 16])
@pytest.mark.parametrize("name", ["regions", "isolated tokens", "masked tokens"])
def test_the_energy_bound_equals_its_formula(name: str, count: int) -> None:
    """The energy of the remaining spectrum, minus residuals."""
    affinity = GRAPHS[name]
    operator, (values, vectors) = deflate(affinity), spectrum(affinity)
    seen = (operator.average(vectors[None])[0] - vectors).norm(dim=1) < 1e-6
    known, class_mu = values[seen][:count], operator.isolated_mu.item() if name == "isolated tokens" else 0.0
    for error in (0.0, 1e-3):
        residuals = error * torch.arange(1, count + 1, dtype=torch.float64)
        expected = []
        for m in range(2, count + 1):
            rest = values[seen][m:].square().sum() - 2 * residuals[:m].square().sum()
            others = max(known[1].item(), rest.clamp(min=0).sqrt().item(), class_mu)
            expected.append(known[0].item() - others - residuals[:m].norm().item())
        bound = energy_gap(operator, operator.row_norms(), known[None], residuals[None]).item()
        assert bound == pytest.approx(max(expected), abs=1e-9)


def test_the_energy_of_a_graph_is_that_of_its_matrix() -> None:
    for affinity in GRAPHS.values():
        values, _ = spectrum(affinity)
        energy = deflate(affinity).row_norms().square().sum()
        torch.testing.assert_close(energy, 1 + values.square().sum(), rtol=1e-10, atol=0)


def test_the_energy_bound_proves_every_token_of_a_dense_graph_and_none_of_a_sparse_one() -> None:
    assert solve_ncut(GRAPHS["regions"], certificate="energy").proven.all()
    assert not solve_ncut(graph(band(900, 40, ring=False)), certificate="energy").proven.any()


@pytest.mark.parametrize("name", GRAPHS)
def test_the_factorization_proves_what_dense_solvers_find(name: str) -> None:
    affinity = GRAPHS[name]
    result = solve_ncut(affinity, certificate="cholesky")
    values, _ = spectrum(affinity)
    assert result.status == (Status.CONVERGED,)
    assert wrong_bits(result, solve_ncut_dense(affinity)) == 0
    assert result.proven.float().mean() > 0.99
    operator, gap = deflate(affinity), result.gap[0]
    vector = affinity.degrees[0].sqrt() * result.eigenvectors[0, :, 0]
    bound = cholesky_gap(operator, affinity, vector, 1 - result.eigenvalues[0, 0], gap)
    assert 0 < bound <= values[0] - values[1] + 1e-9


@pytest.mark.parametrize("name", GRAPHS)
def test_the_factorization_fails_if_the_first_pair_was_missed(name: str) -> None:
    affinity = GRAPHS[name]
    values, vectors = spectrum(affinity)
    bound = cholesky_gap(deflate(affinity), affinity, vectors[1], values[1], (values[1] - values[2]).abs())
    assert bound == -torch.inf


@pytest.mark.parametrize("name", REPEATED)
def test_the_factorization_fails_if_the_eigenvalue_is_repeated(name: str) -> None:
    affinity = REPEATED[name]
    values, vectors = spectrum(affinity)
    assert cholesky_gap(deflate(affinity), affinity, vectors[0], values[0], torch.tensor(1e-3)) == -torch.inf


def test_a_factorization_without_a_next_eigenvalue_takes_half_of_the_first() -> None:
    affinity = graph(torch.eye(2))
    values, vectors = spectrum(affinity)
    bound = cholesky_gap(deflate(affinity), affinity, vectors[0], values[0], torch.tensor(torch.inf))
    assert bound.item() == pytest.approx(values[0].item() / 2)


def test_a_gap_of_zero_or_less_bounds_no_angle() -> None:
    residual, gap = torch.full((3,), 1e-10), torch.tensor([0.1, 0.0, -0.1])
    angles = vector_angle(residual, gap)
    assert angles[0].item() == pytest.approx(2**0.5 * 1.001e-9, rel=1e-5)
    assert angles[1:].tolist() == [torch.inf, torch.inf]


def test_a_token_is_proven_only_beyond_its_own_error_and_the_means() -> None:
    # Errors of 1 everywhere: the mean may be off by 1 as well, so a token is proven beyond a distance of 2.
    x = torch.tensor([[-2.1, -1.9, 0.0, 1.9, 2.1]])
    ones = torch.ones(1, 5)
    proven = proven_tokens(x, torch.ones(1), torch.ones(1), ones, ones, ones > 0)
    assert proven.tolist() == [[True, False, False, False, True]]


def test_an_image_that_misses_a_pair_goes_to_the_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*arguments: object) -> Ritz:
        ritz = iterate(*arguments)  # type: ignore[arg-type]
        pairs = {name: getattr(ritz, name).roll(-1, dims=1) for name in ("values", "vectors", "products", "residuals")}
        return ritz._replace(**pairs)

    monkeypatch.setattr(solve_module, "iterate", forgetful)
    affinity = GRAPHS["regions"]
    oracle = solve_ncut_dense(affinity)
    assert wrong_bits(solve_ncut(affinity), oracle) > 0  # the estimate does not detect it
    result = solve_ncut(affinity, certificate="cholesky")
    assert result.status == (Status.DENSE,)
    assert wrong_bits(result, oracle) == 0
    assert solve_ncut(affinity, certificate="cholesky", fallback="flag").status == (Status.FAILED,)


def test_a_gap_is_shortened_by_the_residual_of_the_next_eigenvalue() -> None:
    vectors = torch.eye(3, dtype=torch.float64)[None]
    products = torch.tensor([0.9, 0.8, 0.3], dtype=torch.float64)[:, None] * vectors
    products[0, 1, 2] = 0.05  # a residual of the second
    pairs = Pairs(torch.tensor([[0.9, 0.8, 0.3]], dtype=torch.float64), vectors, products)
    assert separation(pairs, 0).item() == pytest.approx(0.05)
    assert separation(pairs, 1).item() == pytest.approx(0.5)


@pytest.mark.parametrize("solver", [solve_ncut, solve_ncut_dense])
def test_a_gap_within_rounding_proves_nothing_although_the_bound_is_small(solver: NcutSolver) -> None:
    affinity = affinity_from_weights(cliques(100, 150, 200)[None] > 0, eps=1e-10)
    result = solver(affinity)
    assert 0 < result.gap.item() < 1e-9
    assert result.status == (Status.DEGENERATE,)
    assert not result.proven.any()


def test_without_a_certificate_nothing_is_proven_and_the_vector_is_the_same() -> None:
    affinity = GRAPHS["regions"]
    result = solve_ncut(affinity, certificate="none")
    assert not result.proven.any()
    assert torch.equal(result.eigenvectors, solve_ncut(affinity).eigenvectors)


def test_the_token_at_the_mean_is_the_only_one_that_no_certificate_proves() -> None:
    affinity = graph(band(901, 100, ring=False))
    for certificate in ("estimate", "cholesky"):
        result = solve_ncut(affinity, certificate=certificate)  # type: ignore[arg-type]
        assert result.status == (Status.CONVERGED,)
        assert (~result.proven[0]).nonzero().flatten().tolist() == [450]
