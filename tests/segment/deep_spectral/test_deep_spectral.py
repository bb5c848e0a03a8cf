"""Deep Spectral equals its equations, implemented again with SciPy and loops, and the outputs of the published code."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from scipy import linalg
from torch import Tensor
from toy_features import apply, batch_of, rectangle

from eigenseg.discovery.spectral import Affinity, NcutResult, NcutSolver, solve_ncut, solve_ncut_dense, solve_ncut_lobpcg
from eigenseg.discovery.spectral.certificate import Status
from eigenseg.segment.deep_spectral.deep_spectral import DeepSpectral, localize
from eigenseg.segment.deep_spectral.eigensegments import Laplacian, eigensegments, majority_sign
from eigenseg.segment.deep_spectral.graph import color_affinity, deep_spectral_affinity

Golden = dict[str, NDArray[Any]]
GRID = (12, 16)
TAGS: dict[str, dict[str, Any]] = {
    "feat": {},
    "color": {"color_weight": 10.0},
    "x2": {"color_weight": 10.0, "upsample": 2},
    "nolapnorm": {"laplacian": "ordinary"},
}


@pytest.fixture(scope="module")
def golden(test_data: Path) -> Golden:
    return dict(np.load(test_data / "golden_reference" / "deep_spectral.npz"))


def colors_of(golden: Golden, case: int, upsample: int = 1) -> Tensor:
    image = golden[f"image_lowres_{'x2_' if upsample == 2 else ''}{case}"]
    return torch.from_numpy(image).float().div(255).flatten(0, 1)[None]


def features_of(golden: Golden, case: int) -> Tensor:
    return torch.from_numpy(golden[f"features_{case}"])[None]


scene = functools.partial(rectangle, noise=0.25)


# ---- outputs of the published code


@pytest.mark.parametrize("case", [0, 1])
def test_published_color_graph_is_reproduced_exactly(golden: Golden, case: int) -> None:
    counts = color_affinity(colors_of(golden, case), GRID)
    np.testing.assert_array_equal(counts[0].numpy(), golden[f"color_affinity_{case}"])


@pytest.mark.parametrize("solver", [solve_ncut, solve_ncut_dense])
@pytest.mark.parametrize("tag", list(TAGS))
@pytest.mark.parametrize("case", [0, 1])
def test_published_eigenpairs_are_reproduced(golden: Golden, case: int, tag: str, solver: NcutSolver) -> None:
    colors = colors_of(golden, case, TAGS[tag].get("upsample", 1))
    result = eigensegments(features_of(golden, case), GRID, 5, colors, solver=solver, **TAGS[tag])
    np.testing.assert_allclose(result.affinity.degrees[0].numpy(), golden[f"degree_{tag}_{case}"], rtol=2e-6)
    values, theirs = result.eigenvalues[0].numpy(), golden[f"eigenvalues_{tag}_{case}"]
    np.testing.assert_allclose(values, theirs, atol=5e-5 if tag == "nolapnorm" else 1e-6)
    gaps = np.append(np.diff(values), result.gap[0])
    gaps = np.minimum(gaps, np.insert(gaps[:-1], 0, np.inf))
    if tag == "nolapnorm":
        gaps[1:] /= values[1:]
    for k, published in enumerate(golden[f"eigenvectors_{tag}_{case}"]):
        ours = result.eigenvectors[0, :, k].numpy()
        if k == 0:  # its sign is arbitrary there
            published = np.abs(published)
        tolerance = 5e-6 if k < 2 else 5e-6 / min(gaps[k], 1)
        np.testing.assert_allclose(ours, published, atol=tolerance * np.abs(published).max())
        if k:
            assert (ours > 0).mean() == pytest.approx(golden[f"positive_fraction_{tag}_{case}"][k], abs=1e-9)


def test_published_combined_graph_is_reproduced(golden: Golden) -> None:
    weights = deep_spectral_affinity(features_of(golden, 0), GRID, colors_of(golden, 0), 10.0)
    np.testing.assert_allclose(weights[0].numpy(), golden["combined_affinity_color_0"], atol=1e-6)


@pytest.mark.parametrize("tag", ["feat", "color", "x2"])
@pytest.mark.parametrize("case", [0, 1])
def test_published_boxes_are_reproduced(golden: Golden, case: int, tag: str) -> None:
    upsample = TAGS[tag].get("upsample", 1)
    grid = (GRID[0] * upsample, GRID[1] * upsample)
    ours = eigensegments(features_of(golden, case), GRID, 2, colors_of(golden, case, upsample), **TAGS[tag]).eigenvectors[
        :, :, 1
    ]
    for vector in (ours, torch.from_numpy(golden[f"eigenvectors_{tag}_{case}"][1])[None]):
        located = localize(vector, grid)
        np.testing.assert_array_equal(located.foreground[0].numpy(), golden[f"box_mask_{tag}_{case}"])
        assert (located.box[0] * (16 // upsample)).tolist() == golden[f"box_{tag}_{case}"].tolist()


@pytest.mark.parametrize("case", [0, 1])
def test_published_box_of_the_localization_script_is_reproduced(golden: Golden, case: int) -> None:
    vector = torch.from_numpy(golden[f"localization_laplacian_{case}"][1])[None]
    assert (localize(vector, GRID).box[0] * 16).tolist() == golden[f"localization_box_{case}"].tolist()
    ours = eigensegments(features_of(golden, case), GRID, 2).eigenvectors[0, :, 1]
    cosine = abs(float(ours @ vector[0].double())) / float(ours.norm() * vector.norm())
    assert cosine > 1 - 1e-6  # the same vector up to scale and sign


@pytest.mark.parametrize("case", [0, 1])
def test_a_vector_of_one_sign_is_the_whole_grid_as_published_only_on_request(golden: Golden, case: int) -> None:
    vector = torch.from_numpy(golden[f"eigenvectors_affinity_{case}"][0])[None]
    reference = localize(vector, GRID, compat="reference")
    assert (reference.box[0] * 16).tolist() == golden[f"box_affinity_{case}"].tolist()
    np.testing.assert_array_equal(reference.foreground[0].numpy(), golden[f"box_mask_affinity_{case}"])
    for sign in (1, -1):
        assert not localize(sign * vector, GRID).mask.any()
        assert localize(sign * vector, GRID, compat="reference").mask.all()


@pytest.mark.parametrize(
    ("tag", "arguments"), [("feat", {}), ("color", {"color_weight": 10.0}), ("feat_fine", {"upsample": 2})]
)
@pytest.mark.parametrize("case", [0, 1])
def test_method_returns_the_published_box_in_pixels(
    golden: Golden, case: int, tag: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = batch_of(features_of(golden, case), GRID, 16, crop=(8, 4))
    colors = colors_of(golden, case)[0]
    monkeypatch.setattr("eigenseg.segment.deep_spectral.deep_spectral.grid_colors", lambda image, geometry: colors)
    method = DeepSpectral(**arguments)
    (result,) = apply(method, features)
    if tag == "feat_fine":
        vector = eigensegments(features.tokens, GRID, 2, upsample=2).eigenvectors[:, :, 1]
        expected = (localize(vector, (24, 32)).box[0] * 8).tolist()
        assert result.extras["eigenvector"][0].shape == (24, 32) == result.metadata["geometry"].grid
    else:
        expected = golden[f"box_{tag}_{case}"].tolist()
    assert result.boxes.tolist() == [expected]
    assert result.masks.shape == (1, 200, 260)
    assert not result.masks[0][192:].any()
    assert not result.masks[0][:, 256:].any()  # cropped pixels are background


# ---- independent, slow versions


def counted_neighbors(colors: Tensor, grid: tuple[int, int], lists: tuple[tuple[int, float], ...]) -> NDArray[np.int64]:
    """The color graph of one image by sorting (distance, index) for every token."""
    points = [[*map(float, rgb), i // grid[1], i % grid[1]] for i, rgb in enumerate(colors)]
    counts = np.zeros((len(points), len(points)), dtype=np.int64)
    for k, weight in lists:
        for i, one in enumerate(points):
            ranked = []
            for j, other in enumerate(points):
                shade = sum((one[c] - other[c]) ** 2 for c in range(3))
                down, across = ((one[c] - other[c]) / max(grid[c - 3] - 1, 1) for c in (3, 4))
                ranked.append((shade + weight**2 * (down**2 + across**2), j))
            for _, j in sorted(ranked)[:k]:
                counts[i, j] += 1
                counts[j, i] += 1
    return counts


@pytest.mark.parametrize("grid", [(5, 5), (5, 9), (1, 25), (25, 1), (3, 2)])
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_color_graph_equals_sorted_lists_also_where_most_distances_are_tied(grid: tuple[int, int], levels: int) -> None:
    generator = np.random.default_rng(levels)
    # quarters and sides of 5, 9 or 25 tokens: distances are exact, so equal ones are equal in both versions
    colors = torch.from_numpy(generator.integers(0, levels, (2, grid[0] * grid[1], 3)) / 4).float()
    counts = color_affinity(colors, grid)
    for ours, one in zip(counts, colors, strict=True):
        np.testing.assert_array_equal(ours.numpy(), counted_neighbors(one, grid, ((20, 2.0), (10, 0.1))))


def test_color_graph_takes_other_neighbor_settings() -> None:
    colors = torch.rand(1, 35, 3, generator=torch.Generator().manual_seed(0))
    lists = ((4, 0.0), (3, 5.0), (1, 1.0))
    np.testing.assert_array_equal(
        color_affinity(colors, (5, 7), lists)[0].numpy(), counted_neighbors(colors[0], (5, 7), lists)
    )


def reference_pairs(weights: NDArray[np.float64], laplacian: Laplacian, count: int) -> tuple[Any, Any]:
    degrees = np.diag(weights.sum(axis=1))
    metric = degrees if laplacian == "generalized" else np.eye(len(weights))
    values, vectors = linalg.eigh(degrees - weights, metric)
    vectors = vectors[:, :count].T
    for vector in vectors[1:]:
        positive = sum(1 for entry in vector if entry > 0)
        if len(vector) / 2 < positive < len(vector):
            vector *= -1
    return values[: count + 1], vectors


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
@pytest.mark.parametrize("color_weight", [0.0, 0.5])
@pytest.mark.parametrize("grid", [(9, 12), (15, 20)])  # dense and iterative in the toolkit's solver
def test_eigenpairs_equal_a_dense_decomposition(grid: tuple[int, int], color_weight: float, laplacian: Laplacian) -> None:
    tokens = scene(3, grid).double()
    unit = tokens / tokens.norm(dim=1, keepdim=True)
    weights = np.maximum(0, (unit @ unit.T).numpy())
    weights /= weights.max()
    colors = torch.rand(1, len(tokens), 3, generator=torch.Generator().manual_seed(1))
    if color_weight:
        weights = weights + color_weight * color_affinity(colors, grid)[0].numpy()
    values, vectors = reference_pairs((weights + weights.T) / 2, laplacian, 6)
    result = eigensegments(tokens[None], grid, 6, colors, color_weight, laplacian=laplacian)
    np.testing.assert_allclose(result.eigenvalues[0].numpy(), values[:6], atol=1e-9 * max(1, values[5]))
    assert result.gap[0].item() == pytest.approx(values[6] - values[5], rel=0.02)
    np.testing.assert_allclose(result.eigenvectors[0, :, 0].numpy(), abs(vectors[0]), atol=1e-9)
    assert all(status in (Status.CONVERGED, Status.DENSE) for status in result.status)
    for k in range(1, 6):
        ours, theirs = result.eigenvectors[0, :, k].numpy(), vectors[k]
        if abs((theirs > 0).mean() - 0.5) < 1e-9:  # neither sign is preferred
            theirs = theirs * np.sign(theirs @ ours)
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * abs(theirs).max())


def test_features_are_scale_free_and_negative_cosines_are_no_edges() -> None:
    tokens = torch.tensor([[[3.0, 0.0], [0.5, 0.5], [-2.0, 0.0], [0.0, 9.0]]])
    root = 0.5**0.5
    expected = [[1, root, 0, 0], [root, 1, 0, root], [0, 0, 1, 0], [0, root, 0, 1]]
    np.testing.assert_allclose(deep_spectral_affinity(tokens, (2, 2))[0].numpy(), expected, atol=1e-12)


def test_finer_graph_has_the_features_of_half_cells_without_a_second_normalization() -> None:
    tokens = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
    fractions = np.array([0, 0.25, 0.75, 1])  # bilinear, at the centers of half cells, clamped at the border
    row = np.stack([1 - fractions, fractions], axis=1)
    points = np.concatenate([row, row])
    expected = (points @ points.T) / (points @ points.T).max()
    np.testing.assert_allclose(deep_spectral_affinity(tokens, (1, 2), upsample=2)[0].numpy(), expected, atol=1e-12)


def test_largest_weight_of_features_is_one_where_interpolation_shortens_them_all() -> None:
    tokens = torch.tensor([[[torch.nan, 1.0], [3.0, 4.0], [torch.nan, 1.0]]])  # nothing to the left and right
    fractions = np.array([0, 0.25, 0.75, 0.75, 0.25, 0] * 2)
    weights = deep_spectral_affinity(tokens, (1, 3), upsample=2)[0].numpy()
    np.testing.assert_allclose(weights, np.outer(fractions, fractions) / 0.75**2, atol=1e-12)


# ---- properties


def test_a_batch_is_solved_like_each_image_alone() -> None:
    points = torch.stack([scene(seed) for seed in range(4)] + [torch.ones(108, 8)])
    points[2, 5] = torch.nan
    colors = torch.rand(5, 108, 3, generator=torch.Generator().manual_seed(0))
    for laplacian in ("generalized", "ordinary"):
        together = eigensegments(points, (9, 12), 3, colors, 0.1, laplacian=laplacian)
        located = localize(together.eigenvectors[:, :, 1], (9, 12))
        for i in range(5):
            alone = eigensegments(points[i : i + 1], (9, 12), 3, colors[i : i + 1], 0.1, laplacian=laplacian)
            assert torch.equal(together.affinity.dense()[i], alone.affinity.dense()[0])
            torch.testing.assert_close(together.eigenvectors[i], alone.eigenvectors[0], atol=1e-8, rtol=0)
            assert torch.equal(located.mask[i], localize(alone.eigenvectors[:, :, 1], (9, 12)).mask[0])
            assert together.status[i] is alone.status[0]


@given(arrays.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=st.integers(-3, 3)))
def test_sign_rule_leaves_at_most_half_of_the_entries_positive_or_all(vectors: NDArray[np.float64]) -> None:
    signed = majority_sign(torch.from_numpy(vectors)).numpy()
    for ours, given_vector in zip(signed, vectors, strict=True):
        positive = sum(1 for entry in given_vector if entry > 0)
        flip = 2 * positive > len(given_vector) and positive < len(given_vector)
        np.testing.assert_array_equal(ours, -given_vector if flip else given_vector)


@given(arrays.arrays(np.float64, st.integers(2, 12), elements=st.integers(-3, 3)))
@settings(deadline=None)
def test_object_does_not_depend_on_scale_and_covers_at_most_half(vector: NDArray[np.float64]) -> None:
    given_vector = torch.from_numpy(vector)[None]
    located = localize(given_vector, (1, vector.size))
    assert torch.equal(localize(2.5 * given_vector, (1, vector.size)).mask, located.mask)
    positive = int((vector > 0).sum())
    assert int(located.foreground.sum()) == (0 if positive == vector.size else min(positive, vector.size - positive))
    assert not (located.mask & ~located.foreground).any()
    assert located.mask.any() == located.foreground.any()


def test_threshold_is_zero_and_not_the_mean() -> None:
    located = localize(torch.tensor([[-0.1, 0.1, -0.1, -0.1, 9.0, -0.1]]), (2, 3))
    assert located.foreground.flatten().tolist() == [False, True, False, False, True, False]
    assert located.mask.sum() == 2  # they touch at a corner
    assert located.box.tolist() == [[1, 0, 2, 2]]


def test_exactly_half_of_the_grid_is_not_reversed() -> None:
    assert localize(torch.tensor([[1.0, 2.0, -3.0, -1.0]]), (2, 2)).foreground.flatten().tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
def test_if_half_of_the_entries_are_positive_so_is_the_largest(laplacian: Laplacian) -> None:
    tokens = torch.rand(40, 4, 3, generator=torch.Generator().manual_seed(0))
    vectors = eigensegments(tokens, (2, 2), 2, laplacian=laplacian).eigenvectors[:, :, 1]
    halves = vectors[(vectors > 0).sum(dim=1) == 2]
    assert len(halves) > 5
    assert (halves.gather(1, halves.abs().argmax(dim=1, keepdim=True)) > 0).all()


def test_a_token_between_two_equal_sides_has_the_entry_zero() -> None:
    between = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).repeat_interleave(50, dim=0)[None]
    vector = eigensegments(between, (10, 15), 2).eigenvectors[0, :, 1]
    assert (vector[50:100] == 0).all()
    assert (vector[:50].sign() == -vector[100:].sign()).all()
    assert (vector[:50] != 0).all()


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
def test_tokens_that_are_not_finite_or_zero_are_ignored(laplacian: Laplacian) -> None:
    points = scene(2)
    bad = torch.zeros(108, dtype=torch.bool)
    bad[[0, 17, 50, 107]] = True
    spoiled = points.clone()
    spoiled[0], spoiled[17, 3], spoiled[50, 0], spoiled[107] = torch.nan, torch.inf, -torch.inf, 0
    result = eigensegments(spoiled[None], (9, 12), 3, laplacian=laplacian)
    rest = eigensegments(points[None, ~bad], (8, 13), 3, laplacian=laplacian)
    torch.testing.assert_close(result.eigenvalues, rest.eigenvalues, atol=1e-9, rtol=1e-9)
    assert (result.eigenvectors[0, bad] == 0).all()
    ours, theirs = result.eigenvectors[0, ~bad], rest.eigenvectors[0]
    torch.testing.assert_close(ours.abs(), theirs.abs(), atol=1e-7, rtol=0)
    assert result.affinity.non_finite.tolist() == [3]


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
def test_as_many_pairs_as_nodes_are_the_whole_spectrum(laplacian: Laplacian) -> None:
    tokens = torch.rand(1, 8, 3, generator=torch.Generator().manual_seed(3))
    result = eigensegments(tokens, (2, 4), 8, laplacian=laplacian)
    values, _ = reference_pairs(deep_spectral_affinity(tokens, (2, 4))[0].numpy(), laplacian, 8)
    np.testing.assert_allclose(result.eigenvalues[0].numpy(), values, atol=1e-9)
    assert result.gap.item() == np.inf
    metric = result.affinity.degrees[0].diag() if laplacian == "generalized" else torch.eye(8, dtype=torch.float64)
    gram = result.eigenvectors[0].mT @ metric @ result.eigenvectors[0]
    torch.testing.assert_close(gram, torch.eye(8, dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
def test_pairs_that_a_graph_is_too_small_for_are_zero(laplacian: Laplacian) -> None:
    tokens = torch.rand(1, 6, 3, generator=torch.Generator().manual_seed(3))
    tokens[0, 2:] = torch.nan
    result = eigensegments(tokens, (2, 3), 4, laplacian=laplacian)
    assert (result.eigenvectors[0, :, 2:] == 0).all()
    assert (result.eigenvectors[0, :2, 1] != 0).all()


def test_result_of_the_method_is_complete() -> None:
    points = scene(5)
    (result,) = apply(DeepSpectral(), batch_of(points[None], (9, 12)))
    segments = eigensegments(points[None], (9, 12), 2)
    weights, side = segments.affinity.dense()[0].numpy(), segments.eigenvectors[0, :, 1].numpy() > 0
    ties = weights[side][:, ~side].sum()
    value = ties / weights[side].sum() + ties / weights[~side].sum()
    assert result.scores[0] == pytest.approx(1 - value, abs=1e-6)
    assert result.extras["cut_value"][0] == pytest.approx(value, abs=1e-12)
    values, _ = reference_pairs(weights, "generalized", 2)
    assert result.extras["eigenvalue"][0] == pytest.approx(values[1], abs=1e-9)
    assert result.extras["gap"][0] == pytest.approx(values[2] - values[1], abs=1e-9)
    np.testing.assert_allclose(result.extras["eigenvector"][0].ravel(), segments.eigenvectors[0, :, 1], rtol=1e-6)
    assert result.metadata["status"] == result.extras["status"][0] == "dense"
    mask = localize(segments.eigenvectors[:, :, 1], (9, 12)).mask[0].numpy()
    np.testing.assert_array_equal(result.masks[0], mask.repeat(4, axis=0).repeat(4, axis=1))
    inside = np.zeros((9, 12), dtype=bool)
    inside[2:6, 3:8] = True
    assert mask[inside].all()  # it is the rectangle, with a few noisy tokens around it
    assert mask[~inside].sum() < 6


def test_graphs_too_large_to_be_built_together_are_cut_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    features = batch_of(torch.stack([scene(seed) for seed in range(5)]), (9, 12))
    together, sizes = apply(DeepSpectral(), features), []

    def solver(affinity: Affinity, k: int = 1) -> NcutResult:
        sizes.append(len(affinity))
        return solve_ncut(affinity, k)

    monkeypatch.setattr("eigenseg.discovery.spectral.affinity._GRAPH_ENTRIES", 8 * 2 * 108**2 + 1)
    for one, other in zip(apply(DeepSpectral(solver=solver), features), together, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)
    assert sizes == [1, 2, 2, 1]  # the first is the toy graph of the constructor's check


def test_method_can_be_pickled() -> None:
    features = batch_of(scene(0)[None], (9, 12))
    method = DeepSpectral(laplacian="ordinary")
    (one,), (other,) = apply(method, features), apply(pickle.loads(pickle.dumps(method)), features)
    np.testing.assert_array_equal(one.masks, other.masks)


def test_no_gradient_graph_is_built() -> None:
    tokens = scene(0)[None].requires_grad_()
    assert not eigensegments(tokens, (9, 12), 2).eigenvectors.requires_grad


# ---- no object, and bad input


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
@pytest.mark.parametrize(
    ("tokens", "reason", "non_finite"),
    [
        (torch.ones(1, 20, 3), "no object: all tokens look alike, the graph has no cut", 0),
        (torch.tensor([0.3, -1.7, 0.1]).expand(1, 20, 3), "no object: all tokens look alike, the graph has no cut", 0),
        (torch.zeros(1, 20, 3), "no object: all tokens look alike, the graph has no cut", 0),
        (
            torch.full((1, 20, 3), torch.nan),
            "no object: no token has finite features; check the backbone's weights and precision",
            20,
        ),
    ],
)
def test_images_without_a_cut_have_no_object_and_say_why(
    tokens: Tensor, reason: str, non_finite: int, laplacian: Laplacian
) -> None:
    (result,) = apply(DeepSpectral(laplacian=laplacian), batch_of(tokens, (4, 5)))
    assert len(result) == 0
    assert result.reason == reason
    assert result.metadata["non_finite_tokens"] == non_finite
    assert result.metadata["status"] == "trivial"


@pytest.mark.parametrize("laplacian", ["generalized", "ordinary"])
def test_one_of_several_equal_cuts_is_marked_degenerate(laplacian: Laplacian) -> None:
    three = torch.eye(3).repeat_interleave(4, dim=0)  # three groups of four, no edges between them
    (result,) = apply(DeepSpectral(laplacian=laplacian), batch_of(three[None], (3, 4)))
    assert result.metadata["status"] == result.extras["status"][0] == "degenerate"


def test_a_single_token_gives_no_object_and_two_are_cut() -> None:
    (result,) = apply(DeepSpectral(), batch_of(torch.ones(1, 1, 3), (1, 1)))
    assert "enlarge it with preprocess.resize" in (result.reason or "")
    pair = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    (result,) = apply(DeepSpectral(), batch_of(pair, (1, 2)))
    assert result.masks[0].sum() == 16
    assert result.extras["gap"] == [float("inf")]


def test_an_eigenvector_that_did_not_converge_gives_no_object() -> None:
    method = DeepSpectral(solver=functools.partial(solve_ncut_lobpcg, max_iterations=1))
    (result,) = apply(method, batch_of(scene(0, (15, 20))[None], (15, 20)))
    assert result.reason == "no object: the eigensolver did not converge; allow it more iterations or use another solver"


@pytest.mark.parametrize("upsample", [1, 2])
def test_colors_of_the_cells_are_those_of_the_image(upsample: int) -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (36, 48, 3), dtype=np.uint8) for _ in range(2)]
    features = batch_of(torch.stack([scene(0), scene(1)]), (9, 12))
    results = DeepSpectral(color_weight=10, upsample=upsample)(features, images)
    for i, (image, result) in enumerate(zip(images, results, strict=True)):
        fine = Image.fromarray(image).resize((12 * upsample, 9 * upsample), Image.Resampling.BILINEAR)
        colors = torch.from_numpy(np.array(fine)).float().div(255).flatten(0, 1)[None]
        segments = eigensegments(features.tokens[i : i + 1], (9, 12), 2, colors, 10, upsample)
        expected = segments.eigenvectors[0, :, 1].reshape(segments.grid).float().numpy()
        np.testing.assert_array_equal(result.extras["eigenvector"][0], expected)


def test_a_graph_with_colors_needs_those_of_every_image() -> None:
    with pytest.raises(ValueError, match="color_weight=10 needs the colors of 1 images, got none"):
        eigensegments(scene(0)[None], (9, 12), 2, color_weight=10)
    with pytest.raises(ValueError, match="color_weight=2 needs the colors of 1 images, got those of 2"):
        deep_spectral_affinity(scene(0)[None], (9, 12), torch.zeros(2, 108, 3), 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"color_weight": -1}, "color_weight must be a number of at least 0, got -1"),
        ({"color_weight": float("nan")}, "color_weight must be a number of at least 0, got nan"),
        ({"color_weight": "10"}, "color_weight must be a number of at least 0, got '10'"),
        ({"upsample": 0}, "upsample must be an integer of at least 1, got 0"),
        ({"upsample": 1.5}, "upsample must be an integer of at least 1, got 1.5"),
        ({"laplacian": "random"}, "laplacian must be 'generalized' or 'ordinary', got 'random'"),
        ({"task": "regions"}, "task must be 'localization' or 'segmentation', got 'regions'"),
        ({"solver": functools.partial(solve_ncut, fallback="no")}, "fallback must be 'dense', 'raise' or 'flag', got 'no'"),
    ],
)
def test_parameters_are_rejected_at_construction(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepSpectral(**arguments)


def test_upsample_must_divide_the_patch_size() -> None:
    with pytest.raises(ValueError, match="upsample=3 must divide the patch size 4"):
        apply(DeepSpectral(upsample=3), batch_of(scene(0)[None], (9, 12)))


@pytest.mark.parametrize(
    ("tokens", "grid", "count", "message"),
    [
        (
            torch.rand(1, 12, 3),
            (3, 4),
            13,
            "count must be an integer from 2 to 12, the number of nodes, got 13",
        ),
        (
            torch.rand(1, 12, 3),
            (3, 4),
            1,
            "count must be an integer from 2 to 12, the number of nodes, got 1",
        ),
        (torch.rand(1, 12, 3), (3, 5), 2, r"tokens must be \(B, 15, D\) floating for a grid of 3x5, got \(1, 12, 3\)"),
        (torch.rand(12, 3), (3, 4), 2, r"tokens must be \(B, 12, D\) floating for a grid of 3x4, got \(12, 3\)"),
        (torch.ones(1, 12, 3).long(), (3, 4), 2, r"got \(1, 12, 3\) torch.int64"),
        (torch.ones(0, 12, 3), (3, 4), 2, r"got \(0, 12, 3\)"),
        (torch.ones(1, 1, 3), (1, 1), 2, "eigensegments need at least 2 tokens, got one"),
    ],
)
def test_wrong_tokens_are_rejected(tokens: Tensor, grid: tuple[int, int], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eigensegments(tokens, grid, count)


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        (torch.full((1, 6, 3), 255.0), r"colors must be \(B, N, 3\) RGB in \[0, 1\], got \(1, 6, 3\) from 255 to 255"),
        (torch.full((1, 6, 3), torch.nan), r"colors must be \(B, N, 3\) RGB in \[0, 1\]"),
        (torch.zeros(1, 6, 4), r"colors must be \(B, N, 3\) RGB in \[0, 1\], got \(1, 6, 4\)"),
        (torch.zeros(1, 5, 3), r"colors must be \(B, 6, D\) floating for a grid of 2x3, got \(1, 5, 3\)"),
        (torch.zeros(1, 6, 3, dtype=torch.uint8), r"colors must be \(B, 6, D\) floating for a grid of 2x3"),
    ],
)
def test_wrong_colors_are_rejected(colors: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        color_affinity(colors, (2, 3))


def test_arguments_that_are_not_tensors_are_rejected_by_name() -> None:
    with pytest.raises(TypeError, match=r"tokens must be a torch tensor \(B, N, D\), got list"):
        eigensegments([[1.0]], (1, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"eigenvector must be \(B, 6\) for a grid of 2x3, got \(1, 5\)"):
        localize(torch.ones(1, 5), (2, 3))
    with pytest.raises(ValueError, match="eigenvector has entries that are not finite"):
        localize(torch.full((1, 6), torch.nan), (2, 3))
