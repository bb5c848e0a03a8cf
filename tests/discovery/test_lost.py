"""LOST equals the published algorithm, implemented again with loops, and the outputs of the published code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from toy_features import apply, batch_of

from eigenseg.data import FeatureGrid, Geometry
from eigenseg.discovery.lost import LOST, SeedExpansion, lost

Grid = tuple[int, int]


def flood(cells: set[tuple[int, int]], start: tuple[int, int]) -> set[tuple[int, int]]:
    """The cells that are reached from one of them by steps up, down, left and right."""
    reached, todo = {start}, [start]
    while todo:
        y, x = todo.pop()
        steps = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & cells - reached
        reached |= steps
        todo += steps
    return reached


def reference(features: list[list[int]], grid: Grid, k: int) -> tuple[int, list[int], set[tuple[int, int]] | None]:
    """Seed, degrees and object of one image in integers, one pair at a time; None where the seed is background."""
    count = len(features)

    def alike(p: int, q: int) -> int:
        return sum(a * b for a, b in zip(features[p], features[q], strict=True))

    degrees = [sum(1 for q in range(count) if q != p and alike(p, q) > 0) for p in range(count)]
    order = sorted(range(count), key=lambda p: (degrees[p], p))
    seed = order[0]
    expanded = [q for q in order[:k] if alike(seed, q) > 0]
    foreground = {divmod(p, grid[1]) for p in range(count) if sum(alike(p, q) for q in expanded) > 0}
    start = divmod(seed, grid[1])
    return seed, degrees, flood(foreground, start) if start in foreground else None


def cells_of(mask: Tensor) -> set[tuple[int, int]]:
    return {(y, x) for y, x in mask.nonzero().tolist()}


def box_of(cells: set[tuple[int, int]]) -> list[int]:
    rows, columns = [y for y, _ in cells], [x for _, x in cells]
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]


def scene(seed: int, grid: Grid = (9, 12)) -> Tensor:
    """Keys (N, 8) of a rectangle that differs from the background, with noise."""
    generator = np.random.default_rng(seed)
    inside = np.zeros(grid, dtype=bool)
    inside[2:6, 3:8] = True
    points = np.where(inside[..., None], [-1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]) * [1, 0.2, 1, 1, 1, 1, 1, 1]
    return torch.from_numpy(points + 0.25 * generator.standard_normal((*grid, 8))).float().flatten(0, 1)


def assert_same(one: SeedExpansion, other: SeedExpansion, images: slice) -> None:
    for name, value in one._asdict().items():
        assert torch.equal(value[images], getattr(other, name)), name


@st.composite
def integer_scenes(draw: st.DrawFn) -> tuple[list[list[int]], Grid, int]:
    grid = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    width = draw(st.integers(1, 3))
    token = st.lists(st.integers(-2, 2), min_size=width, max_size=width)
    count = grid[0] * grid[1]
    return draw(st.lists(token, min_size=count, max_size=count)), grid, draw(st.integers(1, 30))


@given(integer_scenes())
@settings(max_examples=300, deadline=None)
def test_everything_equals_the_published_steps_one_pair_at_a_time(case: tuple[list[list[int]], Grid, int]) -> None:
    features, grid, k = case  # small integers: ties, zeros and products of 0 are the rule
    seed, degrees, cells = reference(features, grid, k)
    result = lost(torch.tensor(features, dtype=torch.float32)[None], grid, k)
    assert result.seed.tolist() == [seed]
    assert result.degree[0].tolist() == degrees
    assert bool(result.alike) == all(degree == len(features) - 1 for degree in degrees)
    expected = set() if cells is None or result.alike else cells
    assert cells_of(result.mask[0]) == expected
    assert result.box[0].tolist() == (box_of(expected) if expected else [0, 0, 0, 0])


@pytest.mark.parametrize("kind", ["vit", "colour"])
@pytest.mark.parametrize("photo", range(5))
def test_outputs_of_the_published_code_are_reproduced(test_data: Path, kind: str, photo: int) -> None:
    golden = np.load(sorted((test_data / "golden").glob("*.npz"))[photo])
    result = lost(torch.from_numpy(golden[f"{kind}_features"]).float()[None], (30, 30))
    seed = int(golden[f"{kind}_lost_seed"])
    if seed == -1:
        assert not result.mask.any()
        return
    assert result.degree[0, result.seed] == result.degree[0, seed]  # the seed, or one tied with it
    assert (result.box[0] * 16).tolist() == golden[f"{kind}_lost_box"].tolist()


def test_a_batch_equals_each_image_alone() -> None:
    points = torch.stack([scene(seed) for seed in range(4)] + [torch.ones(108, 8), torch.full((108, 8), torch.nan)])
    together = lost(points, (9, 12))
    for i in range(6):
        assert_same(together, lost(points[i : i + 1], (9, 12)), slice(i, i + 1))


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returned."""

    entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.entries = max(self.entries, out.numel())
        return out


@pytest.mark.parametrize("entries", [1, 500, 108**2, 2 * 108**2 + 5, 3 * 108**2])
def test_products_are_never_held_beyond_the_limit_and_the_limit_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    points = torch.stack([scene(seed) for seed in range(5)])
    whole = lost(points, (9, 12))
    monkeypatch.setattr(sys.modules[LOST.__module__], "_TILE_ENTRIES", entries)
    with LargestTensor() as largest:
        parts = lost(points, (9, 12))
    assert_same(whole, parts, slice(0, 5))
    assert largest.entries <= max(points.numel(), entries)


def test_a_sign_that_float32_loses_is_preserved() -> None:
    pair = torch.tensor([[[4097.0, 4096.0], [4097.0, -4098.0], [0.0, -1.0]]])  # 4097^2 - 4096 * 4098 = 1
    assert lost(pair, (1, 3)).degree.tolist() == [[1, 2, 1]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_keys_does_not_matter(dtype: torch.dtype) -> None:
    points = scene(2).to(torch.float16).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = lost(points.to(dtype)[None], (9, 12))
    assert_same(lost(points.float()[None], (9, 12)), result, slice(0, 1))


def test_results_carry_no_gradient() -> None:
    result = lost(scene(0)[None].requires_grad_(), (9, 12))
    assert torch.is_grad_enabled()
    assert not any(value.requires_grad for value in result)


@pytest.mark.parametrize("power", [-40, 7, 50])
def test_one_scale_for_all_keys_changes_nothing_but_each_keys_length_counts(power: int) -> None:
    points = scene(4)
    assert_same(lost(points[None], (9, 12)), lost(points[None] * 2.0**power, (9, 12)), slice(0, 1))


def test_a_longer_key_has_more_weight() -> None:
    # The seed is token 0; S is tokens 0 and 1. Token 2 is unlike the first by more than it is like the second...
    keys = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [-1.0, 1.5], [-1.0, 1.6]]])
    assert lost(keys, (2, 2)).expanded.flatten().tolist() == [True, True, False, False]
    assert lost(keys, (2, 2)).foreground.flatten().tolist() == [True, True, False, False]
    keys[0, 1] *= 9  # ... until the second is the longer
    assert lost(keys, (2, 2)).foreground.flatten().tolist() == [True, True, True, True]


def test_invalid_tokens_are_ignored() -> None:
    points = torch.cat([scene(1).view(9, 12, 8), torch.randn(9, 3, 8, generator=torch.Generator().manual_seed(0))], dim=1)
    valid = (torch.arange(15) < 12).repeat(9)
    alone = lost(points[:, :12].reshape(1, 108, 8), (9, 12), k=40)
    result = lost(points.view(1, 135, 8), (9, 15), k=40, valid=valid[None])
    assert torch.equal(result.mask[:, :, :12], alone.mask)
    assert not result.mask[:, :, 12:].any()
    assert torch.equal(result.degree.view(9, 15)[:, :12], alone.degree.view(9, 12))
    assert (result.degree.view(9, 15)[:, 12:] == 135).all()
    assert divmod(int(result.seed), 15) == divmod(int(alone.seed), 12)
    assert result.usable.equal(valid[None])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 3e38])
def test_tokens_that_are_not_finite_are_ignored_and_counted(bad: float) -> None:
    points = scene(6)[None].clone()
    points[0, [5, 40, 41]] = bad  # 3e38 is finite, its length is not
    valid = torch.ones(1, 108, dtype=torch.bool)
    valid[0, [5, 40, 41]] = False
    result, without = lost(points, (9, 12)), lost(points, (9, 12), valid=valid)
    assert torch.equal(result.mask, without.mask)
    assert torch.equal(result.seed, without.seed)
    assert (result.non_finite.tolist(), without.non_finite.tolist()) == ([3], [0])
    assert not result.mask[0].flatten()[[5, 40, 41]].any()


def test_result_is_in_original_pixels_with_its_seed_and_score() -> None:
    points = scene(3)
    cut, (result,) = lost(points[None], (9, 12)), apply(LOST(), batch_of(points[None], (9, 12)))
    np.testing.assert_array_equal(result.masks[0], cut.mask[0].numpy().repeat(4, axis=0).repeat(4, axis=1))
    np.testing.assert_array_equal(result.boxes, 4 * cut.box.numpy())
    seed = int(cut.seed)
    row, column = divmod(seed, 12)
    positive = (points.double() @ points[seed].double() > 0).sum().item() - 1
    assert (result.extras["seed"], result.extras["seed_point"]) == ([seed], [[4 * column + 2, 4 * row + 2]])
    assert result.extras["degree"] == [positive]
    assert result.extras["seeds"] == [int(cut.expanded.sum())]
    assert result.scores[0] == pytest.approx(1 - positive / 107, abs=1e-7)
    assert (result.reason, result.metadata["non_finite_tokens"]) == (None, 0)


def test_k_of_the_method_is_used() -> None:
    points = scene(3)
    (few,), (many,) = apply(LOST(k=1), batch_of(points[None], (9, 12))), apply(LOST(), batch_of(points[None], (9, 12)))
    assert (few.extras["seeds"], many.extras["seeds"]) == ([1], [int(lost(points[None], (9, 12)).expanded.sum())])
    assert many.extras["seeds"][0] > 1


def test_padding_is_used_unless_it_is_dropped() -> None:
    points = scene(1).view(9, 12, 8).clone()
    points[:, 11] = torch.tensor([0.0] * 7 + [9.0]) - 0.1 * scene(2).view(9, 12, 8)[:, 0]
    features = batch_of(points.view(1, 108, 8), (9, 12), padding=(0, 2))
    (published,), (dropped,) = apply(LOST(padding="keep"), features), apply(LOST(padding="drop"), features)
    expected = lost(points[:, :11].reshape(1, 99, 8), (9, 11)).mask[0]
    np.testing.assert_array_equal(dropped.masks[0][::4, :44:4], expected.numpy())
    assert not dropped.masks[0][:, 44:].any()
    assert published.extras["seed"][0] == int(lost(points.view(1, 108, 8), (9, 12)).seed)


def reason_of(tokens: Tensor, grid: Grid, padded: tuple[int, int] = (0, 0), **arguments: Any) -> str:
    (result,) = apply(LOST(**arguments), batch_of(tokens[None], grid, padding=padded))
    assert len(result) == 0
    return result.reason or ""


def test_an_image_without_an_object_is_empty_with_a_reason() -> None:
    assert reason_of(torch.ones(1, 3), (1, 1)).startswith("no object: the image has a single token")
    assert reason_of(torch.full((20, 3), torch.nan), (4, 5)).startswith("no object: no token has finite features")
    assert reason_of(torch.ones(20, 3), (4, 5)).startswith("no object: all tokens look alike")
    assert "is zero, and correlates with none" in reason_of(torch.zeros(20, 3), (4, 5))
    one_zero = torch.ones(20, 3).index_fill(0, torch.tensor([7]), 0)
    assert "is zero, and correlates with none" in reason_of(one_zero, (4, 5))
    one_finite = torch.full((20, 3), torch.nan).index_fill(0, torch.tensor([7]), 1)
    assert "fewer than two tokens are left" in reason_of(one_finite, (4, 5))
    assert "fewer than two tokens are left" in reason_of(torch.ones(5, 3), (1, 5), (1, 0), padding="drop")


def test_an_object_in_the_padding_is_left_out() -> None:
    points = torch.ones(20, 2)
    points[4::5] = torch.tensor([-1.0, -1.0])
    image = Geometry((4, 4), (16, 16), (16, 20), 4)
    (result,) = apply(LOST(), FeatureGrid(points[None], (4, 5), "key", (image,)))
    assert (len(result), result.reason) == (0, "no object: the object lies in the padding")


def test_no_images_give_no_results() -> None:
    assert apply(LOST(), batch_of(scene(0)[None], (9, 12))[0:0]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"k": 2.5}, "k must be an integer of at least 1, got 2.5"),
        ({"k": True}, "k must be an integer of at least 1, got True"),
        ({"padding": "crop"}, "padding must be 'keep' or 'drop', got 'crop'"),
    ],
)
def test_parameters_are_rejected_at_construction(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LOST(**arguments)


def test_wrong_tensors_are_rejected_by_name() -> None:
    with pytest.raises(ValueError, match="grid 3x5 holds 15 tokens, got 12"):
        lost(torch.ones(1, 12, 3), (3, 5))
    with pytest.raises(ValueError, match="k must be an integer"):
        lost(torch.ones(1, 12, 3), (3, 4), k=0)
    with pytest.raises(TypeError, match="features must be a torch tensor"):
        lost(np.ones((1, 12, 3)), (3, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"features must be \(B, N, D\) floating"):
        lost(torch.ones(12, 3), (3, 4))
    for valid in (torch.ones(1, 11, dtype=torch.bool), torch.ones(1, 12)):
        with pytest.raises(ValueError, match=r"valid must be \(1, 12\) bool, got"):
            lost(torch.ones(1, 12, 3), (3, 4), valid=valid)
