"""Eigenpairs equal those of SciPy's generalized solver and of graphs whose spectrum is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor
from toy_graphs import EPS, band, cliques, graph

from eigenseg.discovery.spectral import Affinity, Status, build_affinity, solve_ncut_dense


def published(affinity: Affinity, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The published call: generalized, float64, a subset by index; the trivial pair is left out."""
    weights = affinity.dense()[0].numpy()
    degrees = np.diag(weights.sum(axis=1))
    values, vectors = linalg.eigh(degrees - weights, degrees, subset_by_index=[1, last])
    return values, vectors


@pytest.mark.parametrize("tokens", [4, 20, 49, 130, 400])
@pytest.mark.parametrize("tau", [0.1, 0.4])
def test_pairs_equal_the_published_solver(tokens: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(tokens)
    affinity = build_affinity(torch.randn(1, tokens, 6, generator=generator), tau=tau)
    result = solve_ncut_dense(affinity, k=3)
    values, vectors = published(affinity, 3)
    np.testing.assert_allclose(result.eigenvalues[0].numpy(), values, atol=1e-11)
    for j in range(3):
        ours, theirs = result.eigenvectors[0, :, j].numpy(), vectors[:, j]
        theirs = theirs * np.sign(ours @ theirs)
        separation = min(abs(values[j] - other) for i, other in enumerate(values) if i != j)
        np.testing.assert_allclose(ours, theirs, atol=1e-12 / separation)
    assert result.residuals.max() < 1e-12


def test_eigenvectors_have_unit_volume_and_a_positive_peak() -> None:
    affinity = build_affinity(torch.randn(3, 60, 5, generator=torch.Generator().manual_seed(1)))
    x = solve_ncut_dense(affinity, k=4).eigenvectors
    volume = torch.einsum("bnk,bn,bnl->bkl", x, affinity.degrees, x)
    torch.testing.assert_close(volume, torch.eye(4, dtype=torch.float64).expand(3, 4, 4), rtol=0, atol=1e-12)
    assert (x.amax(dim=1) >= -x.amin(dim=1)).all()


@pytest.mark.parametrize(("first", "second"), [(30, 30), (10, 70), (1, 20)])
def test_two_cliques_have_their_closed_form_eigenvalue(first: int, second: int) -> None:
    tokens = first + second
    volumes = [size * (size * (1 - EPS) + tokens * EPS) for size in (first, second)]
    expected = EPS * first * second * (1 / volumes[0] + 1 / volumes[1])
    result = solve_ncut_dense(graph(cliques(first, second)))
    assert result.eigenvalues.item() == pytest.approx(expected, abs=1e-13)
    side = result.eigenvectors[0, :, 0] > 0
    assert side[:first].unique().numel() == side[first:].unique().numel() == 1
    assert side[0] != side[-1]
    assert result.status == (Status.DENSE,)


def test_isolated_tokens_share_their_closed_form_eigenvalue() -> None:
    tokens = 50
    expected = tokens * EPS / (1 + (tokens - 1) * EPS)
    values = solve_ncut_dense(graph(cliques(1, 1, 1, 47)), k=3).eigenvalues[0]
    assert values[1].item() == pytest.approx(expected, abs=1e-13)  # two antisymmetric ones among the three
    assert values[2].item() == pytest.approx(expected, abs=1e-13)


def test_masked_tokens_have_the_closed_form_entry() -> None:
    points = torch.randn(1, 80, 5, generator=torch.Generator().manual_seed(4))
    masked = torch.arange(80)[None] < 17
    result = solve_ncut_dense(build_affinity(points).mask(masked))
    x, value = result.eigenvectors[0, :, 0], result.eigenvalues[0, 0]
    torch.testing.assert_close(x[:17], (x.mean() / (1 - value)).expand(17), rtol=1e-9, atol=0)


@pytest.mark.parametrize("binary", [torch.ones(30, 30), torch.zeros(30, 30), torch.ones(2, 2)])
def test_a_graph_without_structure_is_trivial(binary: Tensor) -> None:
    result = solve_ncut_dense(graph(binary))
    assert result.status == (Status.TRIVIAL,)
    assert result.eigenvalues.item() == pytest.approx(1, abs=1e-12)
    assert not result.proven.any()


@pytest.mark.parametrize(
    "binary",
    [torch.eye(40), cliques(20, 20, 20), cliques(*[5] * 12), band(90, 10, ring=True)],
    ids=["all isolated", "3 equal cliques", "12 equal cliques", "ring"],
)
def test_a_repeated_eigenvalue_is_flagged_and_nothing_is_proven(binary: Tensor) -> None:
    result = solve_ncut_dense(graph(binary))
    assert result.status == (Status.DEGENERATE,)
    assert result.gap.item() < 1e-9
    assert not result.proven.any()


def test_the_one_token_that_lies_exactly_at_the_mean_is_the_one_not_proven() -> None:
    result = solve_ncut_dense(graph(band(301, 30, ring=False)))
    assert result.status == (Status.DENSE,)
    assert (~result.proven[0]).nonzero().flatten().tolist() == [150]


def test_every_proven_token_is_on_the_side_of_the_published_solver() -> None:
    proven = 0
    for seed in range(20):
        affinity = build_affinity(torch.randn(1, 90, 4, generator=torch.Generator().manual_seed(seed)), tau=0.3)
        result = solve_ncut_dense(affinity)
        vector = published(affinity, 2)[1][:, 0]
        vector = vector * np.sign(vector @ result.eigenvectors[0, :, 0].numpy())
        ours = (result.eigenvectors[0, :, 0] > result.eigenvectors[0, :, 0].mean()).numpy()
        certain = result.proven[0].numpy()
        np.testing.assert_array_equal(ours[certain], (vector > vector.mean())[certain])
        proven += certain.sum()
    assert proven == 20 * 90  # none of these graphs is close to a tie


def test_gap_is_the_distance_to_the_next_eigenvalue() -> None:
    affinity = build_affinity(torch.randn(1, 40, 5, generator=torch.Generator().manual_seed(5)))
    values = published(affinity, 4)[0]
    for k in (1, 2, 3):
        assert solve_ncut_dense(affinity, k).gap.item() == pytest.approx(values[k] - values[k - 1], abs=1e-11)


@pytest.mark.parametrize("seed", range(4))
def test_tight_clusters_of_eigenvalues_lose_no_pair(seed: int) -> None:
    """A third of the tokens at random, the others isolated: LAPACK's subset driver returns fewer pairs than requested."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.zeros(1, 130, 130)
    points[0, :44, :8], points[0, 44:] = torch.randn(44, 8, generator=generator), torch.eye(130)[44:]
    affinity = build_affinity(points)
    result = solve_ncut_dense(affinity, k=3)
    np.testing.assert_allclose(result.eigenvalues[0].numpy(), np.linalg.eigvalsh(normalized(affinity))[1:4], atol=1e-12)


def normalized(affinity: Affinity) -> np.ndarray:
    """I - D^-1/2 W D^-1/2, written out."""
    root = affinity.degrees[0].sqrt().numpy()
    return np.eye(len(root)) - affinity.dense()[0].numpy() / root[:, None] / root[None]


def test_isolated_tokens_alone_are_degenerate_with_the_closed_form_at_any_size() -> None:
    result = solve_ncut_dense(graph(torch.eye(50)))
    assert result.status == (Status.DEGENERATE,)
    assert result.eigenvalues.item() == pytest.approx(50 * EPS / (1 + 49 * EPS), abs=1e-13)


def test_excluded_tokens_are_solved_as_the_smaller_graph() -> None:
    points = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(6))
    valid = torch.rand(2, 40, generator=torch.Generator().manual_seed(7)) > 0.3
    together = solve_ncut_dense(build_affinity(points, valid=valid), k=2)
    for i in range(2):
        alone = solve_ncut_dense(build_affinity(points[i : i + 1, valid[i]]), k=2)
        torch.testing.assert_close(together.eigenvalues[i], alone.eigenvalues[0], rtol=0, atol=1e-13)
        torch.testing.assert_close(together.eigenvectors[i, valid[i]], alone.eigenvectors[0], rtol=0, atol=1e-11)
        assert together.eigenvectors[i, ~valid[i]].abs().max() == 0


def test_an_image_with_too_few_tokens_left_is_trivial_and_leaves_the_others_alone() -> None:
    points = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(8))
    valid = torch.ones(2, 30, dtype=torch.bool)
    valid[0, 1:] = False
    result = solve_ncut_dense(build_affinity(points, valid=valid))
    assert result.status == (Status.TRIVIAL, Status.DENSE)
    torch.testing.assert_close(result.eigenvectors[1], solve_ncut_dense(build_affinity(points[1:])).eigenvectors[0])


def test_arguments_that_are_not_an_affinity_are_rejected() -> None:
    with pytest.raises(TypeError, match="affinity must come from build_affinity or affinity_from_weights, got Tensor"):
        solve_ncut_dense(torch.ones(1, 5, 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, 5, 6])
def test_a_number_of_pairs_out_of_range_is_rejected(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be in 1..4 for graphs of 5 tokens, got {k}"):
        solve_ncut_dense(build_affinity(torch.ones(1, 5, 2)), k)
