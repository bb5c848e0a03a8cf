"""TokenCut equals the published algorithm, implemented again with SciPy, and the outputs of the published code."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import linalg, ndimage
from toy_features import apply, batch_of, rectangle as scene

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.discovery.spectral import (
    Affinity,
    NcutResult,
    NcutSolver,
    Status,
    build_affinity,
    solve_ncut,
    solve_ncut_dense,
    solve_ncut_lobpcg,
)
from eigenseg.discovery.tokencut import TokenCut, bipartition, tokencut

eigenvectors = arrays(
    np.float64, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)), elements=st.floats(-1, 1, width=16)
)


def reference(features: NDArray[np.float32], grid: tuple[int, int], tau: float) -> tuple[NDArray[np.bool_], list[int]]:
    """Mask and box of one image in patches, step by step as in the paper's section 3."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    weights = np.where(unit @ unit.T > tau, 1.0, 1e-5)
    degrees = np.diag(weights.sum(axis=1))
    vector = linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 2])[1][:, 0]
    side, seed = vector > vector.mean(), np.argmax(np.abs(vector))
    if not side[seed]:
        side = vector < vector.mean()
    labels, _ = ndimage.label(side.reshape(grid))
    mask = labels == labels[np.unravel_index(seed, grid)]
    rows, columns = np.nonzero(mask)
    return mask, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("tau", [0.1, 0.3])
def test_mask_and_box_equal_the_published_steps(seed: int, tau: float) -> None:
    points = scene(seed)
    mask, box = reference(points.numpy(), (9, 12), tau)
    cut = tokencut(points[None], (9, 12), tau, reject_flawed=False)
    np.testing.assert_array_equal(cut.mask[0].numpy(), mask)
    assert cut.box[0].tolist() == box


@pytest.mark.parametrize("solver", [solve_ncut, solve_ncut_dense])
@pytest.mark.parametrize("kind", ["vit", "colour"])
@pytest.mark.parametrize("photo", range(5))
def test_outputs_of_the_published_code_are_reproduced(test_data: Path, kind: str, photo: int, solver: NcutSolver) -> None:
    golden = np.load(sorted((test_data / "golden").glob("*.npz"))[photo])
    cut = tokencut(torch.from_numpy(golden[f"{kind}_features"]).float()[None], (30, 30), solver=solver, reject_flawed=False)
    ours, theirs = cut.ncut.eigenvectors[0, :, 0].numpy(), golden[f"{kind}_tokencut_eigenvector"]
    assert abs(ours @ theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs) > 1 - 1e-8
    values = golden[f"{kind}_eigenvalues"]
    assert cut.ncut.eigenvalues[0, 0].item() == pytest.approx(values[1], abs=1e-9)
    exact = values[2] - values[1]
    lowest = exact - 1e-9 if solver is solve_ncut_dense else 0.99 * exact  # the iteration's gap is a lower bound
    assert lowest <= cut.ncut.gap.item() <= exact + 1e-9
    seed = int(golden[f"{kind}_tokencut_seed"])
    assert abs(theirs[cut.seed.item()]) >= (1 - 1e-9) * abs(theirs[seed])  # the seed, or one tied with it
    assert (cut.box[0] * 16).tolist() == golden[f"{kind}_tokencut_box"].tolist()
    np.testing.assert_array_equal(cut.mask[0].numpy(), golden[f"{kind}_tokencut_mask"])
    assert cut.ncut.proven.all()


def test_a_batch_is_cut_like_each_image_alone() -> None:
    points = torch.stack([scene(seed) for seed in range(4)] + [torch.ones(108, 8)])
    together = tokencut(points, (9, 12))
    for i in range(5):
        alone = tokencut(points[i : i + 1], (9, 12))
        assert torch.equal(together.mask[i], alone.mask[0])
        assert together.ncut.status[i] is alone.ncut.status[0]


def test_graphs_too_large_to_be_built_together_are_cut_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    features = batch_of(torch.stack([scene(seed) for seed in range(5)]), (9, 12))
    together, sizes = apply(TokenCut(), features), []

    def solver(affinity: Affinity, k: int = 1) -> NcutResult:
        sizes.append(len(affinity))
        return solve_ncut(affinity, k)

    monkeypatch.setattr("eigenseg.discovery.spectral.affinity._GRAPH_ENTRIES", 2 * 108**2 + 1)
    for one, other in zip(apply(TokenCut(solver=solver), features), together, strict=True):
        np.testing.assert_array_equal(one.masks, other.masks)
    assert sizes == [1, 2, 2, 1]  # the first is the toy graph of the constructor's check


def test_result_is_in_original_pixels() -> None:
    points = scene(3)
    mask, (x0, y0, x1, y1) = reference(points.numpy(), (9, 12), 0.2)
    (result,) = apply(TokenCut(), batch_of(points[None], (9, 12), patch=4))
    np.testing.assert_array_equal(result.masks[0], mask.repeat(4, axis=0).repeat(4, axis=1))
    np.testing.assert_array_equal(result.boxes, [[4 * x0, 4 * y0, 4 * x1, 4 * y1]])
    row, column = divmod(result.extras["seed"][0], 12)
    assert result.extras["seed_point"][0] == [4 * column + 2, 4 * row + 2]


def test_score_is_one_minus_the_value_of_the_cut() -> None:
    points = scene(5)
    cut, (result,) = tokencut(points[None], (9, 12)), apply(TokenCut(), batch_of(points[None], (9, 12)))
    weights = build_affinity(points[None]).dense()[0].numpy()
    side = cut.foreground[0].numpy().ravel()
    cut_weight = weights[side][:, ~side].sum()
    value = cut_weight / weights[side].sum() + cut_weight / weights[~side].sum()
    assert result.scores[0] == pytest.approx(1 - value, abs=1e-6)
    assert result.extras["cut_value"][0] == pytest.approx(value, abs=1e-12)
    assert value >= result.extras["eigenvalue"][0] - 1e-12  # lambda_2 bounds every cut from below


def test_tokens_that_all_look_alike_give_no_object_with_a_reason() -> None:
    (result,) = apply(TokenCut(), batch_of(torch.ones(1, 20, 3), (4, 5)))
    assert len(result) == 0
    assert result.reason == "no object: all tokens look alike, the graph has no cut"


def test_features_without_a_finite_token_give_no_object_and_are_counted() -> None:
    (result,) = apply(TokenCut(), batch_of(torch.full((1, 20, 3), torch.nan), (4, 5)))
    assert len(result) == 0
    assert result.metadata["non_finite_tokens"] == 20
    assert result.reason == "no object: no token has finite features; check the backbone's weights and precision"


def test_a_single_token_gives_no_object_and_names_the_remedy() -> None:
    (result,) = apply(TokenCut(), batch_of(torch.ones(1, 1, 3), (1, 1)))
    assert len(result) == 0
    assert "enlarge it with preprocess.resize" in (result.reason or "")


def test_an_image_of_two_tokens_is_cut_and_fits_into_json() -> None:
    (result,) = apply(TokenCut(), batch_of(torch.eye(2)[None], (1, 2)))
    assert result.extras["gap"] == [float("inf")]
    (annotation,) = result.to_coco()
    assert annotation["gap"] is None
    assert json.dumps(annotation, allow_nan=False)


def test_one_of_several_equal_cuts_is_marked_degenerate() -> None:
    three = torch.eye(3).repeat_interleave(4, dim=0)  # three groups of four, no edges between them
    (result,) = apply(TokenCut(), batch_of(three[None], (3, 4)))
    assert result.metadata["status"] == Status.DEGENERATE.value
    assert result.extras["status"] == [Status.DEGENERATE.value]


def test_dropping_padded_tokens_equals_a_cut_without_them() -> None:
    points = torch.nn.functional.pad(scene(1), (0, 1))
    points[torch.arange(108) % 12 == 11] = torch.eye(9)[8]  # a padded column unlike everything else
    kept = points.view(9, 12, 9)[:, :11].reshape(1, 99, 9)
    expected = tokencut(kept, (9, 11)).mask[0]
    padded = batch_of(points[None], (9, 12), padding=(0, 2))
    (result,), (published,) = apply(TokenCut(padding="drop"), padded), apply(TokenCut(padding="keep"), padded)
    assert published.extras["seed"][0] % 12 == 11  # with padding in the graph, padding is what stands out most
    np.testing.assert_array_equal(result.masks[0][::4, :44:4], expected.numpy())
    assert not result.masks[0][:, 44:].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": 1.5}, r"tau must be a number in \[0, 1\), got 1.5"),
        ({"eps": 0}, r"eps must be a number in \(0, 1\), got 0"),
        ({"padding": "crop"}, "padding must be 'keep' or 'drop', got 'crop'"),
    ],
)
def test_parameters_are_rejected_at_construction(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenCut(**arguments)  # type: ignore[arg-type]


def test_a_grid_of_another_size_is_rejected() -> None:
    with pytest.raises(ValueError, match="grid 3x5 holds 15 tokens, got 12"):
        tokencut(torch.ones(1, 12, 3), (3, 5))


def test_one_token_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="at least 2 tokens are needed, got a grid of 1x1"):
        tokencut(torch.ones(1, 1, 3), (1, 1))


def test_an_eigenvector_that_did_not_converge_gives_no_object() -> None:
    method = TokenCut(solver=functools.partial(solve_ncut_lobpcg, max_iterations=1))
    (result,) = apply(method, batch_of(scene(0)[None], (9, 12)))
    assert result.metadata["status"] == "failed"
    assert len(result) == 0
    assert result.reason == "no object: the eigensolver did not converge; allow it more iterations or use another solver"


def test_wrong_options_of_a_solver_raise_at_construction() -> None:
    with pytest.raises(ValueError, match="fallback must be 'dense', 'raise' or 'flag', got 'no'"):
        TokenCut(solver=functools.partial(solve_ncut, fallback="no"))


@given(eigenvectors)
def test_sign_of_the_eigenvector_does_not_matter(values: np.ndarray) -> None:
    x, grid = torch.from_numpy(values).flatten(1), values.shape[1:]
    cut, mirrored = bipartition(x, grid), bipartition(-x, grid)
    assert torch.equal(cut.foreground, mirrored.foreground)
    assert torch.equal(cut.seed, mirrored.seed)


@given(eigenvectors)
def test_foreground_and_seed_equal_the_published_rule_up_to_ties(values: np.ndarray) -> None:
    cut = bipartition(torch.from_numpy(values).flatten(1), values.shape[1:])
    for image, vector in enumerate(values.reshape(len(values), -1)):
        seed = int(np.argmax(np.abs(vector)))
        side = vector > vector.mean()
        if not side[seed]:
            side = vector < vector.mean()  # orient first, then compare: a token at the mean is background either way
        if np.abs(np.abs(vector) - np.abs(vector[seed])).min(where=np.arange(len(vector)) != seed, initial=1) > 1e-8:
            assert int(cut.seed[image]) == seed
            distinct = np.abs(vector - vector.mean()) > 1e-12
            np.testing.assert_array_equal(cut.foreground[image].numpy().ravel()[distinct], side[distinct])


def test_the_lowest_index_among_tied_peaks_is_the_seed() -> None:
    x = torch.tensor([[0.1, 1.0 - 1e-12, -1.0, 1.0]], dtype=torch.float64)
    assert bipartition(x, (2, 2)).seed.item() == 1


def test_a_constant_eigenvector_has_no_object() -> None:
    assert not bipartition(torch.ones(1, 6), (2, 3)).foreground.any()


def test_excluded_tokens_count_neither_in_the_mean_nor_as_seed_nor_as_foreground() -> None:
    x = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    valid = torch.tensor([[False, True, True, True]])
    cut = bipartition(x, (2, 2), valid)
    assert cut.seed.item() == 3
    assert cut.foreground.flatten().tolist() == [False, False, False, True]  # the mean of 1, 2, 3 is 2


def test_an_eigenvector_of_another_size_is_rejected() -> None:
    with pytest.raises(ValueError, match="grid 2x3 holds 6 tokens, got 8"):
        bipartition(torch.zeros(1, 8), (2, 3))


def test_an_eigenvector_that_is_not_finite_is_rejected() -> None:
    with pytest.raises(ValueError, match="not finite"):
        bipartition(torch.tensor([[1.0, float("nan")]]), (1, 2))


def test_masks_take_the_token_at_the_center_of_a_pixel_or_at_its_corner_as_published_for_saliency() -> None:
    object_, background = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    tokens = torch.stack([object_, background, background]).repeat(3, 1)[None]  # the left one of three columns
    geometry = Geometry((10, 10), (12, 12), (12, 12), 4)  # tokens of 3 1/3 pixels
    features = FeatureGrid(tokens, (3, 3), "key", (geometry,))
    widths = {}
    for nearest in ("center", "corner"):
        (one,) = TokenCut(nearest=nearest)(features, [np.zeros((10, 10, 3), dtype=np.uint8)])
        widths[nearest] = one.masks[0][0].sum()
    assert widths == {"center": 3, "corner": 4}
    with pytest.raises(ValueError, match="^nearest must be 'center' or 'corner', got 'floor'"):
        TokenCut(nearest="floor")  # type: ignore[arg-type]
