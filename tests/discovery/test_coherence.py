"""Statistics of neighboring tokens equal slow ones, and tell planted objects from noise around them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eigenseg.discovery.coherence import Flaw, boundary, compactness, find_flaws, roughness

GRID = (3, 4)


def joins(inside: NDArray[np.bool_]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """All pairs of tokens inside that share a side."""
    cells = list(zip(*np.nonzero(inside), strict=True))
    return [(a, b) for a, b in itertools.combinations(cells, 2) if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_compactness_is_zero_on_average_over_all_assignments_and_at_most_one_inside(count: int) -> None:
    inside = np.ones(GRID, dtype=bool)
    inside[0, 0] = inside[2, 1] = False
    sides = np.zeros((len(list(itertools.combinations(range(10), count))), *GRID), dtype=bool)
    cells = np.flatnonzero(inside)
    for side, chosen in zip(sides, itertools.combinations(cells, count), strict=True):
        side.flat[list(chosen)] = True
    values = compactness(torch.from_numpy(sides), torch.from_numpy(inside).expand(sides.shape))
    if not (values == 1).all():  # too few tokens to tell
        assert values.mean().item() == pytest.approx(0, abs=1e-12)


def test_a_square_far_from_the_borders_is_as_compact_as_can_be() -> None:
    side = torch.zeros(1, 30, 30, dtype=torch.bool)
    side[0, 10:14, 10:14] = True
    assert compactness(side).item() == pytest.approx(1)


@pytest.mark.parametrize("seed", range(4))
def test_roughness_and_boundary_equal_loops_over_all_joins(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps, mask, inside = rng.standard_normal((*GRID, 5)), rng.random(GRID) < 0.5, rng.random(GRID) < 0.8
    pairs = joins(inside)
    squares = sorted(float(((maps[a] - maps[b]) ** 2).sum()) for a, b in pairs)
    variance = ((maps[inside] - maps[inside].mean(axis=0)) ** 2).sum(axis=1).mean()
    tokens = torch.from_numpy(maps).flatten(0, 1)[None]
    expected = squares[(len(squares) - 1) // 2] / (2 * variance)
    assert roughness(tokens, GRID, torch.from_numpy(inside)[None]).item() == pytest.approx(expected, rel=1e-5)

    across = [(maps[a], maps[b]) for a, b in pairs if mask[a] != mask[b]]
    between = np.linalg.norm(maps[inside & mask].mean(axis=0) - maps[inside & ~mask].mean(axis=0))
    step = np.mean([np.linalg.norm(a - b) for a, b in across]) / between
    similarity = np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in across])
    result = boundary(tokens, torch.from_numpy(mask)[None], torch.from_numpy(inside)[None])
    assert result.step.item() == pytest.approx(step, rel=1e-5)
    assert result.similarity.item() == pytest.approx(similarity, rel=1e-5)


def test_each_flaw_is_named_and_an_object_has_none() -> None:
    rng = np.random.default_rng(0)
    rows = np.arange(30).repeat(30)
    half = rows < 15
    gradient = np.stack([rows - 14.5, np.ones(900)], axis=1)
    edge = np.where(half[:, None], [1.0, 0.0], [0.0, 1.0])
    alike = np.where(half[:, None], [1.0, 0.1], [1.0, 0.0])
    noise, random_side = rng.standard_normal((900, 2)), rng.random(900) < 0.5
    tokens = torch.from_numpy(np.stack([noise, gradient, alike, edge]))
    sides = torch.from_numpy(np.stack([random_side, half, half, half])).view(4, 30, 30)
    assert find_flaws(tokens, sides, sides) == [Flaw.SCATTERED, Flaw.GRADIENT, Flaw.NO_BOUNDARY, None]
    tokens[3, 7] = torch.nan  # a token without features counts for nothing
    assert find_flaws(tokens, sides, sides)[3] is None


def test_one_side_alone_and_a_single_row_have_no_flaw() -> None:
    everything = torch.ones(1, 4, 5, dtype=torch.bool)
    assert find_flaws(torch.randn(1, 20, 3, generator=torch.Generator().manual_seed(0)), everything, everything) == [None]
    assert find_flaws(torch.eye(2)[None], torch.tensor([[[True, False]]]), torch.tensor([[[True, False]]])) == [None]
