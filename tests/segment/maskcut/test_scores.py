"""MaskCut's scores equal an independent computation, rank objects before background, and no cut is thrown away."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import linalg, ndimage
from toy_features import apply, batch_of, rectangle

from eigenseg.data import FeatureGrid, Geometry, Instances
from eigenseg.data.datasets import CocoInstances
from eigenseg.discovery.metrics.corloc import pairwise_iou
from eigenseg.discovery.spectral import Status, build_affinity, solve_ncut_dense
from eigenseg.segment.maskcut import MaskCut
from eigenseg.segment.maskcut.maskcut import maskcut
from eigenseg.segment.maskcut.rounds import Round, StopRule
from eigenseg.segment.maskcut.scores import SCORES, Score, border_fraction, cut_score, gap_score, score_round
from eigenseg.segment.parts import PartHierarchy

GRID = (12, 14)
REAL = ("5001", "125952", "175364", "269314", "329219", "402433", "435208", "560256")  # one of them has no cut at all


def scene(seed: int, noise: float = 0.3) -> torch.Tensor:
    """Features (N, 8) of a rectangle that touches the border, of two that do not, and of a background."""
    labels = np.zeros(GRID, dtype=int)
    labels[0:5, 1:6], labels[6:10, 7:13], labels[7:11, 1:5] = 1, 2, 3
    return noisy(labels, seed, noise)


def framed(seed: int, noise: float = 0.3) -> torch.Tensor:
    """Features (N, 8) of an object larger than the background around it, whose side has the peak and all corners."""
    labels = np.zeros(GRID, dtype=int)
    labels[1:-1, 1:-1] = 1
    return noisy(labels, seed, noise)


def noisy(labels: NDArray[np.int64], seed: int, noise: float) -> torch.Tensor:
    points = np.eye(8)[labels] + noise * np.random.default_rng(seed).standard_normal((*GRID, 8))
    return torch.from_numpy(points).float().flatten(0, 1)


def by_hand(features: NDArray[np.float64], rounds: int, published: bool) -> list[dict[str, Any]]:
    """Rounds with all that is known of them, by SciPy's generalized solver, full matrices and one loop over the rounds."""
    count = len(features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    taken, union, previous, results = np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, bool), []
    for index in range(rounds):
        inside = np.arange(count) if published else np.flatnonzero(~taken)
        kept = np.where(taken[:, None], 0.0, unit)[inside]  # painted tokens have features of 0
        weights = np.where(kept @ kept.T > 0.15, 1.0, 1e-5)
        degrees = weights.sum(axis=1)
        values, vectors = linalg.eigh(np.diag(degrees) - weights, np.diag(degrees))
        vector = vectors[:, 1] * np.sign(vectors[np.argmax(np.abs(vectors[:, 1])), 1])
        side = np.zeros(count, bool)
        side[inside] = vector > vector.mean()
        if side.reshape(GRID)[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= 3:
            vector = -vector
            side[:] = False
            side[inside] = vector >= vector.mean() if published else vector > vector.mean()  # published: the complement
        seed = int(inside[np.argmax(vector)])
        labels, _ = ndimage.label(side.reshape(GRID))
        mask = labels.ravel() == labels.ravel()[seed]
        cut = weights[np.ix_(side[inside], ~side[inside])].sum()
        volume, whole = degrees[side[inside]].sum(), degrees.sum()
        if index and published:
            repeated = (mask & previous).sum() / (mask | previous).sum() > 0.5
            mask = mask & ~(repeated or mask.mean() <= 0.01)
        elif not published and mask.mean() <= 0.01:
            break
        shown = np.zeros(count)
        shown[inside] = vector
        outermost = [t for t in range(count) if t // GRID[1] in (0, GRID[0] - 1) or t % GRID[1] in (0, GRID[1] - 1)]
        result = mask & ~union
        results.append(
            {
                "mask": result.reshape(GRID),
                "eigenvector": shown.reshape(GRID),
                "eigenvalue": values[1],
                "gap": values[2] - values[1],
                "cut_value": cut / volume + cut / (whole - volume),
                "seed": seed,
                "seed_point": [4 * (seed % GRID[1]) + 2, 4 * (seed // GRID[1]) + 2],
                "round": index,
                "border": sum(result[t] for t in outermost) / len(outermost),
            }
        )
        union, previous = union | mask, mask
        taken = taken | mask
    return [one for one in results if one["mask"].any()]


def expected_score(one: dict[str, Any], score: Score) -> float:
    gap = min(1, one["eigenvalue"] + one["gap"]) - one["eigenvalue"]
    return {
        "gap": gap,
        "cut": max(0, 1 - one["cut_value"]),
        "round": 1 / (1 + one["round"]),
        "combined": gap * (1 - one["border"]) / (1 + one["round"]),
    }[score]


@pytest.mark.parametrize("points", [*map(scene, range(4)), *map(framed, range(2))], ids=range(6))
@pytest.mark.parametrize("compat", [None, "reference"])
def test_extras_and_scores_equal_an_implementation_with_full_matrices(points: torch.Tensor, compat: str | None) -> None:
    published = compat == "reference"
    expected = by_hand(points.double().numpy(), 3, published)
    assert expected
    for score in SCORES:
        method = MaskCut(max_masks=3, score=score, compat=compat, solver=solve_ncut_dense, reject_flawed=False)
        (instances,) = apply(method, batch_of(points[None], GRID))
        assert len(instances) == len(expected)
        for i, one in enumerate(expected):
            extras = {name: values[i] for name, values in instances.extras.items()}
            np.testing.assert_array_equal(instances.masks[i], np.kron(one["mask"], np.ones((4, 4), dtype=bool)))
            assert instances.scores[i] == pytest.approx(expected_score(one, score), abs=1e-6)
            for name in ("eigenvalue", "gap", "cut_value"):
                assert extras[name] == pytest.approx(one[name], abs=1e-9)
            assert (extras["seed"], extras["round"], extras["status"]) == (one["seed"], one["round"], "dense")
            assert list(extras["seed_point"]) == one["seed_point"]
            scale = np.abs(one["eigenvector"]).max()
            np.testing.assert_allclose(
                extras["eigenvector"] / np.abs(extras["eigenvector"]).max(), one["eigenvector"] / scale, atol=1e-5
            )
            assert extras["eigenvector"].dtype == np.float32


def test_a_background_region_with_a_cleaner_cut_ranks_behind_an_object() -> None:
    bands = np.repeat(np.arange(9) // 3, 12)  # sky, hills and ground: three clean cuts, none better than the others
    noise = 0.12 * np.random.default_rng(0).standard_normal((108, 8))
    landscape = torch.from_numpy(np.eye(8)[bands] + noise).float()
    photo = rectangle(0, noise=0.25)  # one object, cut less cleanly
    batch = batch_of(torch.stack([landscape, photo]), (9, 12))
    first = {score: [one.scores[0] for one in apply(MaskCut(score=score), batch)] for score in SCORES}
    assert first["cut"][0] > first["cut"][1]
    assert first["gap"][0] < 0.5 * first["gap"][1]
    background, object_ = (one.scores.max() for one in apply(MaskCut(), batch))
    assert background < 0.5 * object_
    assert apply(MaskCut(), batch)[0].extras["cut_value"][0] < apply(MaskCut(), batch)[1].extras["cut_value"][0]


def test_of_two_equal_cuts_the_one_at_the_border_ranks_behind() -> None:
    inside, sky = np.zeros((8, 8), dtype=bool), np.zeros((8, 8), dtype=bool)
    inside[2:4, 1:7], sky[0, :], sky[1, :4] = True, True, True  # 12 tokens each: equal graphs, whatever the layout
    tokens = torch.stack([torch.from_numpy(np.where(mask[..., None], [1.0, 0], [0, 1.0])) for mask in (inside, sky)])
    batch = batch_of(tokens.flatten(1, 2).float(), (8, 8))
    gaps = [float(one.scores[0]) for one in apply(MaskCut(score="gap"), batch)]
    assert gaps[0] == pytest.approx(gaps[1])
    object_, background = (float(one.scores[0]) for one in apply(MaskCut(), batch))
    assert background == pytest.approx(object_ * (1 - 9 / 28), rel=1e-6)


@pytest.mark.parametrize(
    ("eigenvalue", "gap", "score"),
    [
        (0.2, 0.3, 0.3),
        (0.4, math.inf, 0.6),  # two tokens: there is no lambda_3
        (0.4, 0.9, 0.6),  # lambda_3 above 1 is no cut either
        (0.3, -1e-12, 0.0),  # shortened by an error bound
        (1 + 1e-15, 0.2, 0.0),
    ],
)
def test_the_gap_is_limited_to_what_a_graph_without_structure_leaves(eigenvalue: float, gap: float, score: float) -> None:
    assert gap_score(eigenvalue, gap) == pytest.approx(score)


def test_a_cut_worse_than_chance_scores_zero_and_the_border_is_a_fraction_of_the_outermost_tokens() -> None:
    assert (cut_score(1.4), cut_score(0.25)) == (0.0, 0.75)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, 1:4] = True
    assert border_fraction(mask) == 0
    mask[0, :2] = True
    assert border_fraction(mask) == pytest.approx(2 / 14)
    assert border_fraction(torch.ones(1, 6, dtype=torch.bool)) == 1
    assert border_fraction(torch.eye(2, dtype=torch.bool)) == 0.5


@pytest.mark.parametrize("score", SCORES)
def test_scores_lie_between_0_and_1_on_graphs_of_any_kind(score: Score) -> None:
    generator = torch.Generator().manual_seed(0)
    for grid in ((1, 2), (1, 3), (2, 2), (3, 5)):
        tokens = torch.randn(20, grid[0] * grid[1], 4, generator=generator)
        for one in apply(MaskCut(min_area=0, score=score), batch_of(tokens, grid)):
            assert np.isfinite(one.scores).all()
            assert ((one.scores >= 0) & (one.scores <= 1)).all()


def test_an_unknown_score_is_rejected() -> None:
    mask = torch.ones(2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="score must be 'combined', 'gap', 'cut' or 'round', got 'area'"):
        score_round(Round(mask, 0, 0.1, 0.1, 0.1, mask.double(), Status.DENSE, 0, mask), "area")  # type: ignore[arg-type]


def test_lambda_2_is_never_above_1_so_the_default_limit_ends_no_search() -> None:
    generator = torch.Generator().manual_seed(1)
    for count in (2, 3, 5, 30):
        tokens = torch.randn(60, count, 3, generator=generator)
        tokens[:20, 0] = 0  # a token without features
        for tau in (0.0, 0.15, 0.9):
            assert solve_ncut_dense(build_affinity(tokens, tau=tau)).eigenvalues[:, 0].max() <= 1 + 1e-12
    results = apply(
        MaskCut(min_area=0, reject_flawed=False), batch_of(torch.stack([scene(i, 0.6) for i in range(8)]), GRID)
    )
    assert all("lambda_2" not in one.metadata["stopped"] for one in results)
    assert max(value for one in results for value in one.extras["eigenvalue"]) > 0.75


def test_a_limit_on_lambda_2_ends_the_search_earlier_and_changes_nothing_before() -> None:
    tokens = torch.stack([scene(i, 0.5) for i in range(4)])
    lengths = []
    all_rounds = maskcut(tokens, GRID, reject_flawed=False)
    limited_rounds = maskcut(tokens, GRID, stop=StopRule(max_eigenvalue=0.8), reject_flawed=False)
    for whole, limited in zip(all_rounds, limited_rounds, strict=True):
        values = [one.eigenvalue for one in whole.rounds]
        count = next((i for i, value in enumerate(values) if value > 0.8), len(values))
        assert [one.seed for one in limited.rounds] == [one.seed for one in whole.rounds[:count]]
        lengths.append((count, len(values)))
    assert any(count < total for count, total in lengths)


def real_features(test_data: Path, name: str) -> FeatureGrid:
    data = np.load(test_data / "real_tokens" / f"{name:0>12}.npz")
    grid, image, size = (tuple(data[key].tolist()) for key in ("grid", "image_size", "input_size"))
    return FeatureGrid(torch.from_numpy(data["tokens"]).float()[None], grid, "token", (Geometry(image, size, size, 14),))


@pytest.fixture(scope="module")
def real(test_data: Path) -> dict[str, Instances]:
    """The default's results on eight images with real features."""
    return {name: apply(MaskCut(), real_features(test_data, name))[0] for name in REAL}


def test_with_real_features_the_default_finds_something_wherever_there_is_a_cut(real: dict[str, Instances]) -> None:
    assert sum(len(one) for one in real.values()) >= 14  # a limit of 0.7 leaves 7
    assert sum(len(one) > 0 for one in real.values()) == 7  # and objects in 4


def test_with_real_features_objects_rank_before_masks_that_hit_none(test_data: Path, real: dict[str, Instances]) -> None:
    dataset = CocoInstances(test_data / "coco_tiny")
    right, scores = [], {score: [] for score in ("combined", "cut")}
    for name, one in real.items():
        annotation = dataset.annotation(dataset.items.index(f"{name:0>12}.jpg"))
        right += (pairwise_iou(one.boxes, annotation.boxes[~annotation.crowd]) >= 0.5).any(axis=1).tolist()
        scores["combined"] += one.scores.tolist()
        scores["cut"] += [max(0, 1 - value) for value in one.extras.get("cut_value", [])]
    assert average_precision(right, scores["combined"]) > average_precision(right, scores["cut"])


def average_precision(right: list[bool], scores: list[float]) -> float:
    """Mean precision at the right ones, in the order of descending scores."""
    ranked = [right[i] for i in np.argsort(-np.array(scores), kind="stable")]
    return float(np.mean([np.mean(ranked[: i + 1]) for i, is_right in enumerate(ranked) if is_right]))


def test_parts_have_at_most_their_objects_score(test_data: Path) -> None:
    features = real_features(test_data, "402433")
    (whole,) = apply(MaskCut(reject_flawed=False), features)
    (parts,) = apply(PartHierarchy(MaskCut(reject_flawed=False)), features)
    top = [i for i, parent in enumerate(parts.extras["parent"]) if parent < 0]
    np.testing.assert_array_equal(parts.scores[top], whole.scores)
    assert len(parts) > len(top)
    for i, parent in enumerate(parts.extras["parent"]):
        assert parent < 0 or parts.scores[i] <= parts.scores[max(j for j in top if j < i)]
