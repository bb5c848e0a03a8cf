"""Cells are grouped and found as a dictionary of coordinates does it."""

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
    place = {row: i for i, row in enumerate(distinct)}
    cells = occupied_cells(torch.from_numpy(values), reach=3)
    assert cells.index.tolist() == [place[row] for row in rows]
    assert cells.counts.tolist() == [rows.count(row) for row in distinct]
    assert cells.order.tolist() == sorted(range(len(rows)), key=lambda i: place[rows[i]])
    step = data.draw(st.tuples(*[st.integers(-3, 3)] * values.shape[1]))
    after, before = cells.neighbors(step)
    for sign, found in ((1, after), (-1, before)):
        wanted = [tuple(a + sign * b for a, b in zip(row, step, strict=True)) for row in distinct]
        assert found.tolist() == [place.get(row, len(distinct)) for row in wanted]


def test_a_grid_that_int64_cannot_number_is_refused() -> None:
    corners = torch.tensor([[0, 0, 0], [2**21, 2**21, 2**21]])
    with pytest.raises(ValueError, match=r"grid of 2097154 x 2097154 x 2097154 cells is too fine .* raise the sigmas"):
        occupied_cells(corners, reach=1)
