"""The cut's foreground does not depend on the eigenvector's sign, and its component is what a flood fill finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from eigenseg.discovery.grid import component_of, mask_boxes
from eigenseg.discovery.tokencut import bipartition

shapes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
grids = arrays(np.float64, shapes, elements=st.floats(-1, 1, width=16))
masks = arrays(np.bool_, shapes)


def flood_fill(mask: np.ndarray, row: int, column: int) -> np.ndarray:
    """An independent, slow component search: grow from one cell until nothing is added."""
    reached, frontier = np.zeros_like(mask), [(row, column)]
    while frontier:
        r, c = frontier.pop()
        if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c] and not reached[r, c]:
            reached[r, c] = True
            frontier += [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
    return reached


@given(grids)
def test_sign_of_the_eigenvector_does_not_matter(values: np.ndarray) -> None:
    x, grid = torch.from_numpy(values).flatten(1), values.shape[1:]
    cut, mirrored = bipartition(x, grid), bipartition(-x, grid)
    assert torch.equal(cut.foreground, mirrored.foreground)
    assert torch.equal(cut.seed, mirrored.seed)


@given(grids)
def test_component_equals_a_flood_fill_from_the_seed_in_every_image(values: np.ndarray) -> None:
    cut = bipartition(torch.from_numpy(values).flatten(1), values.shape[1:])
    found = component_of(cut.foreground, cut.seed).numpy()
    for image, mask in enumerate(cut.foreground.numpy()):
        row, column = divmod(int(cut.seed[image]), mask.shape[1])
        np.testing.assert_array_equal(found[image], flood_fill(mask, row, column))


@given(grids)
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


def test_a_seed_outside_its_mask_gives_an_empty_component() -> None:
    mask = torch.tensor([[[True, False], [True, False]]])
    assert not component_of(mask, torch.tensor([1])).any()


@given(masks)
def test_boxes_are_the_extremes_of_the_cells(values: np.ndarray) -> None:
    for box, mask in zip(mask_boxes(torch.from_numpy(values)).tolist(), values, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box == expected


def test_a_grid_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="grid 2x3 holds 6 tokens, got 8"):
        bipartition(torch.zeros(1, 8), (2, 3))


def test_an_eigenvector_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        bipartition(torch.tensor([[1.0, float("nan")]]), (1, 2))
