"""Components equal those of a flood fill, boxes are tight, and corners are counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from eigenseg.discovery.grid import (
    Connectivity,
    check_grid,
    component_of,
    component_sizes,
    corners_inside,
    label_components,
    largest_component,
    mask_boxes,
)

masks = arrays(np.bool_, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)))


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[[letter == "#" for letter in row] for row in rows]])


def flood_fill(mask: np.ndarray, row: int, column: int, connectivity: Connectivity = 4) -> np.ndarray:
    """An independent, slow component search: grow from one cell until nothing is added."""
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if connectivity == 8 or abs(y) + abs(x) == 1]
    reached, frontier = np.zeros_like(mask), [(row, column)]
    while frontier:
        r, c = frontier.pop()
        if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c] and not reached[r, c]:
            reached[r, c] = True
            frontier += [(r + y, c + x) for y, x in steps]
    return reached


@given(masks, st.data())
def test_component_equals_a_flood_fill_from_the_seed_in_every_mask(values: np.ndarray, data: st.DataObject) -> None:
    count, height, width = values.shape
    seeds = data.draw(st.lists(st.integers(0, height * width - 1), min_size=count, max_size=count))
    components = component_of(torch.from_numpy(values), torch.tensor(seeds)).numpy()
    for component, values_of_one, seed in zip(components, values, seeds, strict=True):
        np.testing.assert_array_equal(component, flood_fill(values_of_one, *divmod(seed, width)))


def test_a_seed_outside_its_mask_gives_an_empty_component() -> None:
    mask = torch.tensor([[[True, False], [True, False]]])
    assert not component_of(mask, torch.tensor([1])).any()


@given(masks, st.sampled_from([4, 8]))
def test_largest_component_equals_the_largest_of_all_flood_fills(values: np.ndarray, connectivity: Connectivity) -> None:
    kept = largest_component(torch.from_numpy(values), connectivity)
    for largest, values_of_one in zip(kept.numpy(), values, strict=True):
        fills = [flood_fill(values_of_one, *cell, connectivity) for cell in np.argwhere(values_of_one)]  # row-major
        expected = max(fills, key=np.sum, default=values_of_one)  # the first of equally large ones
        np.testing.assert_array_equal(largest, expected)


def test_the_largest_component_is_kept_and_the_first_of_equals() -> None:
    assert torch.equal(largest_component(mask("#..##", "...##", "#....")), mask("...##", "...##", "....."))
    assert torch.equal(largest_component(mask("##.##")), mask("##..."))
    assert torch.equal(largest_component(mask("#.", ".#")), mask("#.", ".."))  # corners do not connect
    assert not largest_component(mask("...")).any()


def test_largest_components_of_several_masks_are_independent() -> None:
    masks = torch.cat([mask("#.##"), mask("...."), mask("##.#")])
    kept = torch.cat([mask("..##"), mask("...."), mask("##..")])
    assert torch.equal(largest_component(masks), kept)
    assert largest_component(masks[:0]).shape == (0, 1, 4)


def test_labels_count_from_one_in_every_mask_and_sizes_add_up() -> None:
    masks = torch.rand(4, 7, 9, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[2] = False
    labels, counts = label_components(masks)
    sizes = component_sizes(labels)
    for i in range(4):
        expected, count = ndimage.label(masks[i].numpy())
        np.testing.assert_array_equal(labels[i], expected)
        assert counts[i] == count
        np.testing.assert_array_equal(sizes[i], np.bincount(expected.ravel(), minlength=sizes.shape[1]))


def test_corners_are_counted_in_every_mask() -> None:
    three = torch.cat([mask("#..", "...", "#.#"), mask(".#.", "###", ".#."), mask("###", "###", "###")])
    assert corners_inside(three).tolist() == [3, 0, 4]


@given(masks)
def test_boxes_are_the_extremes_of_the_cells(values: np.ndarray) -> None:
    for box, mask in zip(mask_boxes(torch.from_numpy(values)).tolist(), values, strict=True):
        rows, columns = np.nonzero(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]
        assert box == expected


def test_a_grid_of_another_size_or_with_too_few_tokens_is_rejected() -> None:
    with pytest.raises(ValueError, match="grid 2x3 holds 6 tokens, got 8"):
        check_grid(torch.zeros(1, 8), (2, 3))
    with pytest.raises(ValueError, match="at least 2 tokens are needed, got a grid of 1x1"):
        check_grid(torch.zeros(1, 1), (1, 1), at_least=2)
    check_grid(torch.zeros(1, 6, 4), (2, 3))
