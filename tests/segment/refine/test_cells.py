"""Cells and their neighbors equal those of a dictionary of coordinates."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays

from eigenseg.segment.refine.cells import occupied_cells

points = st.integers(1, 4).flatmap(
    lambda dims: arrays("int64", st.tuples(st.integers(1, 30), st.just(dims)), elements=st.integers(-3, 3))
)


@given(points, st.data())
def test_cells_and_their_neighbors_are_those_of_a_dictionary(values, data) -> None:  # type: ignore[no-untyped-def]
    rows = [tuple(row) for row in values.tolist()]
    distinct = sorted(set(rows), key=lambda row: row[::-1])  # the first coordinate runs fastest
    index = {row: i for i, row in enumerate(distinct)}
    cells = occupied_cells(torch.from_numpy(values), reach=3)
    assert cells.index.tolist() == [index[row] for row in rows]
    assert cells.counts.tolist() == [rows.count(row) for row in distinct]
    assert cells.order.tolist() == sorted(range(len(rows)), key=lambda i: index[rows[i]])
    step = data.draw(st.tuples(*[st.integers(-3, 3)] * values.shape[1]))
    after, before = cells.neighbors(step)
    for sign, result in ((1, after), (-1, before)):
        target = [tuple(a + sign * b for a, b in zip(row, step, strict=True)) for row in distinct]
        assert result.tolist() == [index.get(row, len(distinct)) for row in target]


def test_a_grid_with_too_many_cells_for_int64_is_rejected() -> None:
    corners = torch.tensor([[0, 0, 0], [2**21, 2**21, 2**21]])
    with pytest.raises(ValueError, match=r"grid of 2097154 x 2097154 x 2097154 cells is too fine; increase the sigmas"):
        occupied_cells(corners, reach=1)
