"""Images of different sizes are returned in order, each solved as if alone."""

from __future__ import annotations

import pytest
import torch
from toy_graphs import scene

from eigenseg.discovery.spectral import Affinity, NcutResult, build_affinity, solve_ncut, solve_ncut_ragged


@pytest.mark.parametrize("entries", [2**28, 400**2])
def test_every_image_is_solved_as_if_alone_and_in_order(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    monkeypatch.setattr("eigenseg.discovery.spectral.affinity._GRAPH_ENTRIES", entries)
    features = [scene(i, 0.8, tokens=tokens)[0] for i, tokens in enumerate((300, 200, 300, 50, 200, 300))]
    for one, result in zip(features, solve_ncut_ragged(features, k=2, tau=0.1), strict=True):
        alone = solve_ncut(build_affinity(one[None], tau=0.1), k=2)
        assert result.status == alone.status
        torch.testing.assert_close(result.eigenvalues, alone.eigenvalues, rtol=0, atol=1e-12)
        torch.testing.assert_close(result.eigenvectors, alone.eigenvectors, rtol=0, atol=1e-9)
        assert torch.equal(result.proven, alone.proven)


def test_equal_sizes_share_a_batch() -> None:
    batches = []

    def counting(affinity: Affinity, k: int = 1) -> NcutResult:
        batches.append(tuple(affinity.valid.shape))
        return solve_ncut(affinity, k)

    solve_ncut_ragged([scene(i, 0.8, tokens=tokens)[0] for i, tokens in enumerate((300, 200, 300))], solver=counting)
    assert sorted(batches) == [(1, 200), (2, 300)]


def test_no_images_give_no_results() -> None:
    assert solve_ncut_ragged([]) == []


def test_features_of_a_wrong_kind_are_rejected_with_their_index() -> None:
    with pytest.raises(TypeError, match=r"features must be torch tensors \(N, D\), got list at 1"):
        solve_ncut_ragged([torch.ones(4, 2), [1.0]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"features must be \(N, D\) with N at least 1, got \(1, 4, 2\) at 0"):
        solve_ncut_ragged([torch.ones(1, 4, 2)])
