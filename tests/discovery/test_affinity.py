"""The graph operator equals a graph written out entry by entry."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from eigenseg.discovery.spectral import build_affinity, normalized_cut


def features(batch: int, tokens: int, width: int, seed: int) -> Tensor:
    """Small integers: their products are exact, so no cosine lies on the threshold by rounding alone."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-3, 4, (batch, tokens, width))).float()


def graph_by_hand(rows: np.ndarray, tau: float, missing: float, edge: float) -> np.ndarray:
    """W entry by entry, in float64."""
    weights = np.full((len(rows), len(rows)), missing)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            if np.isfinite(lengths) and lengths > 0 and a @ b / lengths > tau:
                weights[i, j] = edge
    return weights


@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([0.05, 0.23, 0.61]), st.sampled_from(["image", "video"]))
def test_weights_equal_a_double_loop(seed: int, tokens: int, tau: float, weights: Literal["image", "video"]) -> None:
    points = features(2, tokens, 4, seed)
    affinity = build_affinity(points, tau=tau, eps=1e-3, weights=weights)
    edge = 1.0 if weights == "image" else 1 + 1e-3
    for image in range(2):
        expected = graph_by_hand(points[image].numpy().astype(np.float64), tau, 1e-3, edge)
        np.testing.assert_allclose(affinity.dense()[image].numpy(), expected, rtol=1e-15)


@given(st.integers(0, 10_000))
def test_products_and_degrees_equal_those_of_the_dense_matrix(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(2, 12, generator=generator) > 0.3
    affinity = build_affinity(features(2, 12, 5, seed), tau=0.1, eps=1e-3, valid=valid)
    vectors = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    bound = 12 * 2.0**-46 * vectors.abs().max().item()  # 12 entries, each exact in the leading 46 bits of the largest
    torch.testing.assert_close(affinity.product(vectors), affinity.dense() @ vectors, rtol=1e-13, atol=bound)
    torch.testing.assert_close(affinity.degrees, affinity.dense().sum(dim=2), rtol=1e-14, atol=0)


def test_the_threshold_is_strict() -> None:
    corner = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]]])  # cosines 0, 0.6, 0.8
    binary = build_affinity(corner, tau=0.0).edges.dense()[0]
    assert binary.tolist() == [[1, 0, 1], [0, 1, 1], [1, 1, 1]]


def test_a_token_of_zero_length_has_no_edge_even_to_itself() -> None:
    points = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    weights = build_affinity(points, tau=0.2, eps=1e-5).dense()[0]
    torch.testing.assert_close(weights[1], torch.full((3,), 1e-5, dtype=torch.float64))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_token_that_is_not_finite_acts_like_a_zero_token_and_is_counted(value: float) -> None:
    broken = features(1, 8, 4, seed=3)
    zeroed = broken.clone()
    broken[0, 5, 2], zeroed[0, 5] = value, 0
    affinity = build_affinity(broken)
    assert torch.equal(affinity.dense(), build_affinity(zeroed).dense())
    assert affinity.non_finite.tolist() == [1]


def test_a_token_whose_norm_overflows_float32_is_counted_as_not_finite() -> None:
    points = features(1, 8, 4, seed=3).double()
    points[0, 2], points[0, 3] = 1e30 * points[0, 2], 1e60 * points[0, 3]
    assert build_affinity(points).non_finite.tolist() == [2]


def test_a_mask_of_another_shape_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"tokens must be \(1, 8\) bool, got \(8,\)"):
        build_affinity(features(1, 8, 4, seed=3)).mask(torch.ones(8, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"an affinity is indexed by a slice of images, affinity\[0:1\], got 0"):
        build_affinity(features(1, 8, 4, seed=3))[0]


@given(st.integers(0, 10_000))
def test_masking_equals_a_rebuild_with_those_features_at_zero(seed: int) -> None:
    points = features(2, 10, 5, seed)
    masked = torch.rand(2, 10, generator=torch.Generator().manual_seed(seed)) > 0.5
    affinity = build_affinity(points).mask(masked)
    rebuilt = build_affinity(points.masked_fill(masked[:, :, None], 0.0))
    assert torch.equal(affinity.dense(), rebuilt.dense())
    assert torch.equal(affinity.degrees, rebuilt.degrees)


def test_excluding_tokens_equals_a_graph_without_them() -> None:
    points = features(1, 9, 5, seed=7)
    kept = torch.tensor([[True, True, False, True, False, True, True, True, True]])
    affinity, smaller = build_affinity(points, valid=kept), build_affinity(points[:, kept[0]])
    assert torch.equal(affinity.dense()[:, kept[0]][:, :, kept[0]], smaller.dense())
    assert torch.equal(affinity.degrees[:, kept[0]], smaller.degrees)
    assert affinity.degrees[:, ~kept[0]].abs().max() == 0


@given(st.integers(0, 10_000))
def test_the_cut_value_equals_sums_over_pairs(seed: int) -> None:
    affinity = build_affinity(features(1, 9, 4, seed), eps=1e-3)
    side = np.random.default_rng(seed).random(9) > 0.5
    weights = affinity.dense()[0].numpy()
    cut = sum(weights[i, j] for i in range(9) for j in range(9) if side[i] and not side[j])
    volumes = [weights[side].sum(), weights[~side].sum()]
    expected = cut / volumes[0] + cut / volumes[1] if all(volumes) else np.inf
    assert normalized_cut(affinity, torch.from_numpy(side)[None]).item() == pytest.approx(expected, rel=1e-12)


def test_features_that_are_not_a_tensor_raise() -> None:
    with pytest.raises(TypeError, match="features must be a torch tensor .*, got ndarray"):
        build_affinity(np.ones((1, 4, 2)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 1.0}, r"tau must be a number in \[0, 1\), got 1.0"),
        ({"tau": -0.1}, r"tau must be a number in \[0, 1\)"),
        ({"eps": 0.0}, r"eps must be a number in \(0, 1\), got 0.0"),
        ({"weights": "other"}, "weights must be 'image', 'video' or 'cosine', got 'other'"),
        ({"valid": torch.ones(1, 3, dtype=torch.bool)}, r"valid must be \(1, 4\) bool, got \(1, 3\)"),
        ({"features": torch.zeros(0, 4, 2)}, r"floating with B at least 1, got \(0, 4, 2\)"),
        ({"features": torch.zeros(4, 2)}, r"features must be \(B, N, D\) floating with B at least 1, got \(4, 2\)"),
        ({"features": torch.zeros(1, 4, 2, dtype=torch.int64)}, "floating with B at least 1, got .* torch.int64"),
    ],
)
def test_arguments_out_of_range_are_rejected_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_affinity(**{"features": torch.ones(1, 4, 2), **arguments})  # type: ignore[arg-type]
