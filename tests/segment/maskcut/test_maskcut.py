"""MaskCut finds planted objects one after the other, equal to an independent implementation, and stops without a cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import linalg, ndimage
from torch import Tensor
from toy_features import apply, batch_of

from eigenseg.discovery.spectral import Status, build_affinity, solve_ncut, solve_ncut_dense
from eigenseg.segment.maskcut import MaskCut
from eigenseg.segment.maskcut.maskcut import maskcut
from eigenseg.segment.maskcut.reference import maskcut_reference, raw_component
from eigenseg.segment.maskcut.rounds import StopRule, object_side

GRID = (12, 14)


def scene(seed: int, noise: float = 0.3) -> Tensor:
    """Features (N, 8) of three different rectangles on a background."""
    labels = np.zeros(GRID, dtype=int)
    labels[1:5, 1:6], labels[6:10, 7:13], labels[7:11, 1:5] = 1, 2, 3
    points = np.eye(8)[labels] + noise * np.random.default_rng(seed).standard_normal((*GRID, 8))
    return torch.from_numpy(points).float().flatten(0, 1)


def by_hand(features: NDArray[np.float32], rounds: int, tau: float, min_area: float) -> list[NDArray[np.bool_]]:
    """The rounds of one image with SciPy's generalized solver and full matrices of the remaining tokens."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    left, masks = np.ones(len(unit), dtype=bool), []
    for _ in range(rounds):
        inside = np.flatnonzero(left)
        weights = np.where(unit[inside] @ unit[inside].T > tau, 1.0, 1e-5)
        degrees = np.diag(weights.sum(axis=1))
        vector = linalg.eigh(degrees - weights, degrees, subset_by_index=[1, 1])[1][:, 0]
        vector *= np.sign(vector[np.argmax(np.abs(vector))])
        side = np.zeros(len(unit), dtype=bool)
        side[inside] = vector > vector.mean()
        corners = side.reshape(GRID)[[0, 0, -1, -1], [0, -1, 0, -1]].sum()
        if corners >= 3:
            vector = -vector
            side[:] = False
            side[inside] = vector > vector.mean()
        labels, _ = ndimage.label(side.reshape(GRID))
        mask = labels.ravel() == labels.ravel()[inside[np.argmax(vector)]]
        if mask.mean() <= min_area:
            break
        masks.append(mask.reshape(GRID))
        left &= ~mask
    return masks


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("solver", [solve_ncut, solve_ncut_dense])
def test_every_round_equals_an_implementation_with_full_matrices(seed: int, solver: object) -> None:
    points = scene(seed)
    masks = by_hand(points.numpy(), rounds=4, tau=0.15, min_area=0.01)
    (result,) = maskcut(
        points[None], GRID, stop=StopRule(max_masks=4, max_eigenvalue=1), solver=solver, reject_flawed=False
    )
    assert len(result.rounds) == len(masks)
    for one, mask in zip(result.rounds, masks, strict=True):
        np.testing.assert_array_equal(one.mask.numpy(), mask)


def test_planted_objects_are_found_one_per_round_and_the_rest_has_no_clean_cut() -> None:
    (result,) = maskcut(scene(0, noise=0.05)[None], GRID, stop=StopRule(max_masks=9, max_eigenvalue=0.5))
    areas = [int(one.mask.sum()) for one in result.rounds]
    assert sorted(areas) == [16, 20, 24]
    assert "the remaining tokens look alike" in result.reason


@pytest.mark.parametrize("seed", range(6))
def test_noise_that_remains_beside_planted_objects_is_not_cut(seed: int) -> None:
    points, stop = scene(seed, noise=0.3)[None], StopRule(max_eigenvalue=1)
    (result,), (every,) = (maskcut(points, GRID, stop=stop, reject_flawed=flag) for flag in (True, False))
    assert [one.index for one in result.rounds] == [0, 1, 2]
    for one, other in zip(result.rounds, every.rounds, strict=False):
        assert torch.equal(one.mask, other.mask)


def test_masks_of_an_image_never_overlap() -> None:
    tokens, stop = torch.stack([scene(i, 0.6) for i in range(6)]), StopRule(max_masks=6, min_area=0, max_eigenvalue=1)
    for result in maskcut(tokens, GRID, stop=stop, reject_flawed=False):
        assert torch.stack([one.mask for one in result.rounds]).sum(dim=0).max() <= 1


def test_a_batch_gives_what_its_images_give_alone() -> None:
    tokens = torch.stack([scene(i, 0.1 + 0.2 * i) for i in range(5)])
    stop = StopRule(max_masks=5, max_eigenvalue=0.6)
    for together, points in zip(maskcut(tokens, GRID, stop=stop), tokens, strict=True):
        (alone,) = maskcut(points[None], GRID, stop=stop)
        assert together.reason == alone.reason
        assert [one.seed for one in together.rounds] == [one.seed for one in alone.rounds]
        for a, b in zip(together.rounds, alone.rounds, strict=True):
            assert torch.equal(a.mask, b.mask)


def test_excluding_tokens_equals_a_graph_without_them() -> None:
    points, drop = scene(3)[None], torch.rand(1, GRID[0] * GRID[1], generator=torch.Generator().manual_seed(1)) < 0.4
    one = solve_ncut(build_affinity(points).exclude(drop))
    other = solve_ncut(build_affinity(points, valid=~drop))
    assert torch.equal(one.eigenvectors, other.eigenvectors)
    assert torch.equal(one.eigenvalues, other.eigenvalues)


@pytest.mark.parametrize("sign", [1, -1])
def test_three_corners_reverse_the_side_and_the_seed_is_the_largest_entry_of_the_other_one(sign: int) -> None:
    vector = torch.full((1, 20), 0.2, dtype=torch.float64)
    vector[0, 0] = 0.9  # a corner has the peak
    vector[0, 7], vector[0, 8] = -0.5, -0.8
    side = object_side(sign * vector, (4, 5))
    assert side.foreground.flatten().nonzero().flatten().tolist() == [7, 8]
    assert side.seed.item() == 8
    assert side.negated.item()


def test_two_corners_leave_the_side_of_the_peak() -> None:
    vector = torch.full((1, 20), -0.1, dtype=torch.float64)
    vector[0, [0, 4, 6]] = torch.tensor([0.3, 0.3, 0.5], dtype=torch.float64)
    side = object_side(vector, (4, 5))
    assert side.foreground.flatten().nonzero().flatten().tolist() == [0, 4, 6]
    assert side.seed.item() == 6
    assert not side.negated.item()


def test_corners_that_left_the_graph_do_not_count() -> None:
    vector = torch.full((1, 20), 0.2, dtype=torch.float64)
    vector[0, [7, 12]] = -0.3
    valid = torch.ones(1, 20, dtype=torch.bool)
    valid[0, [0, 4]] = False
    side = object_side(vector, (4, 5), valid)
    assert side.foreground.flatten().nonzero().flatten().tolist() == [7, 12]  # the peak's side; not reversed by two corners
    assert not side.foreground.flatten()[[0, 4]].any()


@pytest.mark.parametrize(
    ("stop", "count", "reason"),
    [
        (StopRule(max_masks=2, max_eigenvalue=1), 2, "max_masks=2 objects were found"),
        (StopRule(max_masks=9, min_area=0.13), 1, "the next component covers 11.90% of the grid, not more than min_area"),
        (StopRule(max_masks=9, max_eigenvalue=0), 0, "the best cut of the remaining tokens has lambda_2 = "),
    ],
)
def test_an_image_stops_by_its_rule_and_has_a_reason(stop: StopRule, count: int, reason: str) -> None:
    (result,) = maskcut(scene(0, noise=0.02)[None], GRID, stop=stop)
    assert len(result.rounds) == count
    assert result.reason.startswith(reason)


def test_images_without_an_object_have_a_reason() -> None:
    method = MaskCut()
    alike, single = torch.ones(1, 20, 3), torch.ones(1, 1, 3)
    (nothing,) = apply(method, batch_of(alike, (4, 5)))
    assert (len(nothing), nothing.reason) == (0, "no object: all tokens look alike, the graph has no cut")
    (one,) = apply(method, batch_of(single, (1, 1)))
    assert one.reason is not None
    assert "a single token" in one.reason
    (lost,) = apply(method, batch_of(torch.full((1, 20, 3), torch.nan), (4, 5)))
    assert len(lost) == 0
    assert lost.reason is not None
    (masked,) = maskcut(scene(0)[None], GRID, valid=torch.zeros(1, 168, dtype=torch.bool))
    assert (masked.rounds, masked.reason) == ((), "fewer than two tokens are left")


def test_a_token_that_is_not_finite_is_never_in_a_mask() -> None:
    points = scene(0, 0.05)
    points[20] = torch.inf
    (result,) = maskcut(points[None], GRID)
    assert len(result.rounds) >= 3
    assert not torch.stack([one.mask for one in result.rounds]).flatten(1)[:, 20].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 1.5}, r"tau must be a number in \[0, 1\)"),
        ({"max_masks": 0}, "max_masks must be an integer of at least 1, got 0"),
        ({"max_masks": 2.5}, "max_masks must be an integer of at least 1, got 2.5"),
        ({"max_masks": "abc"}, "max_masks must be an integer of at least 1, got 'abc'"),
        ({"min_area": -0.1}, r"min_area must be a number in \[0, 1\], got -0.1"),
        ({"max_overlap": 2}, "max_overlap must be a number"),
        ({"max_eigenvalue": 1.5}, "max_eigenvalue must be a number"),
        ({"score": "area"}, "score must be 'combined', 'gap', 'cut' or 'round', got 'area'"),
        ({"padding": "crop"}, "padding must be 'keep' or 'drop', got 'crop'"),
        ({"compat": "old"}, "compat must be null or 'reference', got 'old'"),
    ],
)
def test_wrong_parameters_are_rejected_at_construction(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskCut(**options)


def test_instances_are_the_rounds_in_pixels() -> None:
    points = scene(2)
    (result,) = maskcut(points[None], GRID)
    (instances,) = apply(MaskCut(), batch_of(points[None], GRID))
    assert instances.extras["round"] == list(range(len(result.rounds)))
    for i, one in enumerate(result.rounds):
        np.testing.assert_array_equal(instances.masks[i], np.kron(one.mask.numpy(), np.ones((4, 4), dtype=bool)))
        assert instances.extras["cut_value"][i] == one.cut_value
        assert instances.extras["status"][i] in (Status.CONVERGED.value, Status.DENSE.value)
        assert apply(MaskCut(score="round"), batch_of(points[None], GRID))[0].scores[i] == pytest.approx(1 / (i + 1))
        x, y = instances.extras["seed_point"][i]
        assert instances.masks[i][int(y), int(x)]


@pytest.mark.parametrize("kind", ["vit", "colour"])
@pytest.mark.parametrize("photo", range(5))
def test_the_published_masks_are_reproduced_for_some_signs_of_the_eigenvectors(
    test_data: Path, kind: str, photo: int
) -> None:
    golden = np.load(sorted((test_data / "golden").glob("*.npz"))[photo])
    tokens = torch.from_numpy(golden[f"{kind}_features"]).float()[None]
    signs = torch.tensor(list(itertools.product([1, -1], repeat=3))).T
    result = maskcut_reference(tokens.repeat(8, 1, 1), (30, 30), signs=signs)
    equal = [np.array_equal(masks.numpy(), golden[f"{kind}_maskcut_masks"]) for masks in result.masks]
    assert any(equal)
    # Where no sign matters, all eight are equal; two of the ten photographs depend on the first round's sign.
    assert all(equal) or result.sign_matters[0].any()


def test_two_of_ten_published_graphs_depend_on_the_sign(test_data: Path) -> None:
    count = 0
    for path in sorted((test_data / "golden").glob("*.npz")):
        golden = np.load(path)
        for kind in ("vit", "colour"):
            tokens = torch.from_numpy(golden[f"{kind}_features"]).float()[None]
            count += int(maskcut_reference(tokens, (30, 30), rounds=1).sign_matters.sum())
    assert count == 2


def test_in_the_published_loop_a_rejected_mask_returns(test_data: Path) -> None:
    golden = np.load(test_data / "golden" / "n02091467_Norwegian_elkhound.npz")
    tokens = torch.from_numpy(golden["colour_features"]).float()[None]
    second, third = maskcut_reference(tokens, (30, 30)).masks[0, 1:]
    assert (int(second.sum()), int(third.sum())) == (0, 181)


def test_the_raw_rule_on_a_peak_beyond_the_mean_depends_on_the_sign_only_with_three_corners() -> None:
    vector = torch.full((1, 20), 0.2, dtype=torch.float64)
    vector[0, 0], vector[0, 7] = 0.9, -0.5
    assert not torch.equal(raw_component(vector, (4, 5)), raw_component(-vector, (4, 5)))
    few = torch.full((1, 20), -0.1, dtype=torch.float64)
    few[0, 6] = 0.5
    assert torch.equal(raw_component(few, (4, 5)), raw_component(-few, (4, 5)))


def test_painted_tokens_follow_the_identity_that_puts_them_on_the_objects_side() -> None:
    points = scene(4)[None]
    painted = torch.zeros(1, 168, dtype=torch.bool)
    painted[0, 30:60] = True
    ncut = solve_ncut_dense(build_affinity(points, tau=0.15).mask(painted))
    vector, value = ncut.eigenvectors[0, :, 0], ncut.eigenvalues[0, 0]
    torch.testing.assert_close(vector[30:60], (vector.mean() / (1 - value)).expand(30), rtol=1e-9, atol=1e-12)


def test_reference_mode_returns_the_masks_that_are_not_empty(test_data: Path) -> None:
    golden = np.load(test_data / "golden" / "n01820546_lorikeet.npz")
    tokens = torch.from_numpy(golden["colour_features"]).float()[None]
    (instances,) = apply(MaskCut(compat="reference"), batch_of(tokens, (30, 30), patch=16))
    assert instances.extras["round"] == [0, 1]
    assert instances.areas().tolist() == [438 * 256, 20 * 256]


def test_signs_of_another_shape_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"signs must be \(3, 1\) of 1 and -1, got \(1, 3\)"):
        maskcut_reference(scene(0)[None], GRID, signs=torch.ones(1, 3))
