"""Deep Spectral segmentation equals the published masks, and finds planted regions, their number and the background."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor
from toy_features import apply, batch_of as features_of

from eigenseg.data import Geometry
from eigenseg.segment.deep_spectral.deep_spectral import DeepSpectral, positive_side, saliency_map
from eigenseg.segment.deep_spectral.eigensegments import eigensegments
from eigenseg.segment.deep_spectral.regions import adaptive_clusters, background_first, multi_region

GRID = (12, 16)


def planted(seed: int = 0, noise: float = 0.03) -> tuple[Tensor, NDArray[np.int64]]:
    """Tokens (1, 192, 12) of a background with three rectangles, and its regions (12, 16), numbered in row-major order."""
    annotation = np.zeros(GRID, dtype=np.int64)
    annotation[1:5, 2:7], annotation[3:10, 10:14], annotation[7:11, 2:6] = 1, 2, 3
    generator = np.random.default_rng(seed)
    points = np.eye(12)[annotation] + noise * generator.standard_normal((*GRID, 12))
    return torch.from_numpy(points).float().reshape(1, -1, 12), annotation


batch_of = functools.partial(features_of, patch=16, crop=(8, 4))


@pytest.mark.parametrize("case", [0, 1])
def test_published_single_object_masks_are_reproduced(test_data: Path, case: int) -> None:
    golden = np.load(test_data / "golden_reference" / "deep_spectral.npz")
    features = batch_of(torch.from_numpy(golden[f"features_{case}"])[None], GRID)
    expected = golden[f"single_region_{case}"] == 255
    vector = torch.from_numpy(golden[f"eigenvectors_feat_{case}"][1])[None]
    np.testing.assert_array_equal(positive_side(vector, GRID)[0].numpy(), expected)
    (result,) = apply(DeepSpectral("segmentation"), features)
    pixels = np.zeros((1, 200, 260), dtype=bool)
    pixels[0, :192, :256] = expected.repeat(16, axis=0).repeat(16, axis=1)
    np.testing.assert_array_equal(result.masks, pixels)
    rows, columns = np.nonzero(expected)
    assert (result.boxes[0] / 16).tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_soft_mask_is_half_on_the_cut_one_at_the_maximum_and_zero_at_the_minimum() -> None:
    vector = torch.tensor([[-2.0, -1.0, 0.0, 0.25], [-0.5, -2.0, 0.5, 0.1]])
    soft = saliency_map(vector, Geometry((2, 4), (2, 4), (2, 4), 1))
    np.testing.assert_allclose(soft, [[0, 0.25, 0.5, 0.75], [0.375, 0, 1, 0.6]], atol=1e-7)
    assert soft.dtype == np.float32


@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-8, 8, width=16)))
@settings(deadline=None)
def test_soft_map_is_above_half_exactly_where_the_eigenvector_is_positive(vector: NDArray[np.float32]) -> None:
    soft = saliency_map(torch.from_numpy(vector), Geometry((3, 4), (3, 4), (3, 4), 1))
    assert ((soft >= 0) & (soft <= 1)).all()
    clear = abs(vector) > 1e-3 * abs(vector).max()
    np.testing.assert_array_equal((soft > 0.5)[clear], (vector > 0)[clear])


def test_every_result_has_a_soft_mask_of_the_size_of_its_image() -> None:
    tokens, _ = planted()
    result, none = apply(DeepSpectral("segmentation"), batch_of(torch.cat([tokens, torch.ones_like(tokens)]), GRID))
    soft = result.metadata["saliency"]
    assert (soft.shape, soft.dtype) == ((200, 260), np.float32)
    assert not soft[192:].any()
    assert not soft[:, 256:].any()
    inner = (slice(8, 192, 16), slice(8, 256, 16))  # one pixel beside every patch's center
    accuracy = ((soft > 0.5)[inner] == result.masks[0][inner]).mean()
    assert accuracy > 0.95
    assert (len(none), none.metadata["saliency"].shape, none.metadata["saliency"].max()) == (0, (200, 260), 0)
    assert none.reason == "no object: all tokens look alike, the graph has no cut"


def test_single_token_has_no_object_and_an_empty_soft_map() -> None:
    (none,) = apply(DeepSpectral("segmentation"), batch_of(torch.ones(1, 1, 3), (1, 1)))
    assert none.metadata["saliency"].shape == none.image_size
    assert not none.metadata["saliency"].any()


def test_all_components_of_the_positive_side_belong_to_the_object() -> None:
    points = torch.tensor([1.0, 0.1]).repeat(49, 1)
    points[[0, 24, 48]] = torch.tensor([0.1, 1.0])
    (result,) = apply(DeepSpectral("segmentation"), batch_of(points[None], (7, 7), patch=1, crop=(0, 0)))
    assert np.flatnonzero(result.masks[0]).tolist() == [0, 24, 48]
    assert result.boxes.tolist() == [[0, 0, 7, 7]]


def test_finer_grid_gives_masks_of_half_patches_and_keeps_its_soft_map_in_step() -> None:
    tokens, _ = planted()
    (result,) = apply(DeepSpectral("segmentation", upsample=2), batch_of(tokens, GRID))
    vector = eigensegments(tokens, GRID, 2, upsample=2).eigenvectors[:, :, 1]
    expected = positive_side(vector, (24, 32))[0].numpy()
    np.testing.assert_array_equal(result.masks[0][4:192:8, 4:256:8], expected)
    assert result.metadata["saliency"].shape == (200, 260)


@pytest.mark.parametrize("arguments", [{"color_weight": -1}, {"upsample": 0}, {"laplacian": "x"}])
def test_parameters_are_rejected_at_construction(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DeepSpectral("segmentation", **arguments)


# ---- several regions


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
def test_planted_regions_and_the_background_are_recovered(seed: int, laplacian: Any) -> None:
    tokens, annotation = planted(seed)
    result = eigensegments(tokens, GRID, 4, laplacian=laplacian)
    segments = multi_region(result.eigenvectors, result.eigenvalues, GRID, n_clusters=4)
    np.testing.assert_array_equal(segments[0], annotation)
    more = eigensegments(tokens, GRID, 8, laplacian=laplacian)  # vectors of noise among them
    adaptive = multi_region(more.eigenvectors, more.eigenvalues, GRID, "adaptive")
    assert sorted(set(adaptive.ravel().tolist())) == [0, 1, 2, 3]


def test_regions_of_a_batch_are_those_of_each_image_and_the_seed_fixes_them() -> None:
    tokens = torch.cat([planted(seed, noise=0.3)[0] for seed in range(3)])
    result = eigensegments(tokens, GRID, 5)
    together = multi_region(result.eigenvectors, result.eigenvalues, GRID, 15, seed=4)
    assert together.shape == (3, *GRID)
    assert together.dtype == np.int64
    for i in range(3):
        alone = multi_region(result.eigenvectors[i : i + 1], result.eigenvalues[i : i + 1], GRID, 15, seed=4)
        np.testing.assert_array_equal(together[i], alone[0])
        assert sorted(set(together[i].ravel().tolist())) == list(range(15))
    assert not np.array_equal(together, multi_region(result.eigenvectors, result.eigenvalues, GRID, 15, seed=5))


def test_the_constant_eigenvector_does_not_matter() -> None:
    tokens, annotation = planted()
    result = eigensegments(tokens, GRID, 4)
    vectors = result.eigenvectors.clone()
    vectors[:, :, 0] = 100 * torch.rand(192, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(multi_region(vectors, result.eigenvalues, GRID, 4)[0], annotation)


def test_the_sign_of_an_eigenvector_does_not_matter() -> None:
    tokens, annotation = planted()
    result = eigensegments(tokens, GRID, 4)
    signs = torch.tensor([1.0, -1, 1, -1])
    np.testing.assert_array_equal(multi_region(result.eigenvectors * signs, result.eigenvalues, GRID, 4)[0], annotation)


@pytest.mark.filterwarnings("error")  # scikit-learn would warn for every image
def test_fewer_distinct_tokens_than_clusters_have_a_region_each() -> None:
    vectors = torch.tensor([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 1.0], [0.0, 2.0], [0.0, 1.0]])[None]
    segments = multi_region(vectors, torch.tensor([[0.0, 0.5]]), (2, 3), n_clusters=6)
    assert segments.tolist() == [[[0, 1, 2], [0, 1, 0]]]
    constant = multi_region(torch.zeros(1, 6, 3), torch.zeros(1, 3), (2, 3), n_clusters=6)
    assert not constant.any()


@pytest.mark.parametrize(
    ("eigenvalues", "clusters"),
    [
        ([0, 0.9, 0.91, 0.92, 0.93], 2),  # the gap after the trivial one does not count; equal ones: the first
        ([0, 0.1, 0.2, 0.9, 1.0], 3),
        ([0, 0.1, 0.2, 0.3, 0.9], 4),
        ([0, 0.1, 0.8, 0.9, 1.0], 2),
        ([0, 0.5, 0.6], 2),
    ],
)
def test_adaptive_number_counts_the_eigenvalues_below_the_largest_gap(eigenvalues: list[float], clusters: int) -> None:
    rounded = torch.tensor([eigenvalues], dtype=torch.float64).mul(1024).round()  # integers: equal gaps are equal
    if clusters == 2 and eigenvalues[1] == 0.9:
        rounded = torch.tensor([[0.0, 90, 91, 92, 93]])
    assert adaptive_clusters(rounded).tolist() == [clusters]


def renamed_by_loops(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    height, width = labels.shape
    counts: dict[int, int] = {}
    for y in range(height):
        for x in range(width):
            name = int(labels[y, x])
            counts.setdefault(name, 0)
            counts[name] += y in (0, height - 1) or x in (0, width - 1)
    names = {max(counts, key=lambda name: counts[name]): 0}  # dictionaries keep the order of appearance
    for name in counts:
        names.setdefault(name, len(names))
    return np.array([[names[int(name)] for name in row] for row in labels])


@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(-2, 3)))
def test_background_is_the_segment_with_most_border_tokens_by_counting(labels: NDArray[np.int64]) -> None:
    np.testing.assert_array_equal(background_first(labels), renamed_by_loops(labels))


def test_a_large_segment_that_hardly_touches_the_border_is_not_the_background() -> None:
    labels = np.array([[2, 2, 2, 3, 3], [2, 1, 1, 1, 3], [2, 1, 1, 1, 3], [2, 1, 1, 1, 3], [2, 2, 3, 3, 3]])
    # eight border tokens each, of which 2 appears first, and nine tokens inside
    assert (background_first(labels) == 0).tolist() == (labels == 2).tolist()


def test_corners_count_once() -> None:
    labels = np.array([[1, 2, 2, 1], [3, 0, 0, 2], [1, 2, 3, 1]])
    assert (background_first(labels) == 0).tolist() == (labels == 1).tolist()  # four each, and 1 appears first
    labels[2, 2] = 2  # with corners counted twice 1 would still have more
    assert (background_first(labels) == 0).tolist() == (labels == 2).tolist()


@pytest.mark.parametrize(
    ("vectors", "values", "clusters", "message"),
    [
        (
            torch.rand(1, 6, 3),
            torch.rand(1, 3),
            7,
            "n_clusters must be from 1 to 6, the number of tokens, or 'adaptive', got 7",
        ),
        (torch.rand(1, 6, 3), torch.rand(1, 3), 0, "n_clusters must be from 1 to 6"),
        (torch.rand(1, 6, 3), torch.rand(1, 3), "auto", "got 'auto'"),
        (torch.rand(1, 6, 2), torch.rand(1, 2), "adaptive", r"needs \(B, K\) eigenvalues with K at least 3, got \(1, 2\)"),
        (torch.rand(1, 5, 3), torch.rand(1, 3), 2, r"eigenvectors must be \(1, 6, K\) with K at least 2 for a grid of 2x3"),
        (torch.rand(1, 6, 1), torch.rand(1, 1), 2, r"eigenvectors must be \(1, 6, K\) with K at least 2"),
        (torch.rand(2, 6, 3), torch.rand(1, 3), 2, r"eigenvectors must be \(1, 6, K\)"),
        (torch.full((1, 6, 3), torch.nan), torch.rand(1, 3), 2, "eigenvectors have entries that are not finite"),
    ],
)
def test_wrong_input_is_rejected(vectors: Tensor, values: Tensor, clusters: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multi_region(vectors, values, (2, 3), clusters)
