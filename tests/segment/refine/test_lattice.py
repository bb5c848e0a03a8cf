"""Filters equal the sums that they approximate, and the lattice's geometry follows its definition."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from eigenseg.segment.refine import gaussian
from eigenseg.segment.refine.gaussian import GaussianKernel, smooth_rows
from eigenseg.segment.refine.lattice import PermutohedralLattice, enclosing_corners


def basis(dims: int) -> Tensor:
    """Orthonormal axes of the plane in R^(d+1) whose coordinates sum to 0: (d, d + 1)."""
    rows = [[1.0] * i + [-float(i)] + [0.0] * (dims - i) for i in range(1, dims + 1)]
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float64), dim=1)


def sums(features: Tensor) -> Tensor:
    """exp(-|f_i - f_j|^2 / 2)."""
    return torch.exp(-((features[:, None] - features[None]) ** 2).sum(dim=2) / 2)


def normalized(matrix: Tensor) -> Tensor:
    scale = matrix.sum(dim=1).rsqrt()
    return scale[:, None] * matrix * scale


@pytest.mark.parametrize("dims", [1, 2, 3, 5])
def test_each_point_is_the_weighted_mean_of_the_corners_around_it(dims: int) -> None:
    points = 4 * torch.randn(200, dims, generator=torch.Generator().manual_seed(dims), dtype=torch.float64)
    points[:20] = points[:20].round()  # integers tie
    first, weights = enclosing_corners(points)
    corners = torch.cat([first, -first.sum(dim=2, keepdim=True)], dim=2)  # the coordinates sum to 0
    remainder = torch.arange(dims + 1)[:, None].expand(dims + 1, dims + 1)
    assert torch.equal(corners % (dims + 1), remainder.expand_as(corners))
    assert float(weights.min()) > -1e-12
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(200, dtype=torch.float64), rtol=0, atol=1e-12)
    scale = (dims + 1) * math.sqrt(2 / 3)  # of the paper, section 3.1: one filtering then has unit variance
    torch.testing.assert_close((weights[..., None] * corners).sum(dim=1), scale * points @ basis(dims), rtol=0, atol=1e-11)
    # Corners of one simplex are neighbors: they differ by at most d in a coordinate.
    assert int((corners[:, :, None] - corners[:, None]).abs().max()) <= dims


def test_filtering_has_unit_variance_and_no_drift() -> None:
    # On a line that is dense everywhere, mass spreads as the Gaussian's does.
    line = torch.arange(-8, 8, 0.05, dtype=torch.float64)[:, None]
    lattice = PermutohedralLattice(line, torch.zeros(len(line), dtype=torch.long))
    inner = (line[:, 0].abs() < 3).nonzero()[:, 0]
    impulses = torch.zeros(len(line), len(inner), dtype=torch.float64)
    impulses[inner, torch.arange(len(inner))] = 1
    response = lattice.filter(impulses)
    response = response / response.sum(dim=0)
    mean = (response * line).sum(dim=0)
    variance = (response * (line - mean) ** 2).sum(dim=0)
    assert float((mean - line[inner, 0]).abs().mean()) < 0.15
    assert float(variance.mean()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("dims", "worst"), [(1, 0.1), (2, 0.12), (3, 0.2)])
def test_on_dense_points_the_lattice_is_near_the_gaussian(dims: int, worst: float) -> None:
    generator = torch.Generator().manual_seed(0)
    points = 3 * torch.rand(1500, dims, generator=generator, dtype=torch.float64)
    values = torch.rand(1500, 2, generator=generator, dtype=torch.float64)
    lattice = PermutohedralLattice(points, torch.zeros(1500, dtype=torch.long))
    matrix = lattice.filter(torch.eye(1500, dtype=torch.float64))
    torch.testing.assert_close(matrix @ values, lattice.filter(values), rtol=0, atol=1e-9)
    exact, approximate = normalized(sums(points)), normalized((matrix + matrix.T) / 2)
    assert float(((exact - approximate).abs().sum(dim=1) / exact.sum(dim=1)).mean()) < worst


def test_axes_may_be_given_in_any_order_on_the_average() -> None:
    points = 3 * torch.rand(800, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = [
        float(
            PermutohedralLattice(points[:, list(order)], torch.zeros(800, dtype=torch.long))
            .filter(torch.ones(800, 1))
            .sum()
        )
        for order in permutations(range(3))
    ]
    assert max(total) / min(total) < 1.05


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_groups_do_not_interact_and_are_bitwise_equal_to_each_alone(dims: int) -> None:
    generator = torch.Generator().manual_seed(2)
    points = 5 * torch.rand(900, dims, generator=generator, dtype=torch.float64)
    points[300:600] = points[:300] + 0.01  # close by, but in another group
    values = torch.rand(900, 2, generator=generator)
    together = PermutohedralLattice(points, torch.arange(3).repeat_interleave(300)).filter(values)
    for part in (slice(0, 300), slice(300, 600), slice(600, 900)):
        alone = PermutohedralLattice(points[part], torch.zeros(300, dtype=torch.long)).filter(values[part])
        assert torch.equal(together[part], alone)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 40.0])
def test_the_gaussian_of_images_is_the_normalized_sum_over_their_pixels(sigma: float) -> None:
    sizes = [(9, 14), (1, 5), (12, 3)]
    values = torch.rand(sum(h * w for h, w in sizes), 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    result = GaussianKernel(sizes, sigma)(values)
    start = 0
    for height, width in sizes:
        part = slice(start, start := start + height * width)
        positions = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double() / sigma
        torch.testing.assert_close(result[part], normalized(sums(positions)) @ values[part], rtol=0, atol=1e-13)


def test_long_sides_are_smoothed_in_blocks_that_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(600, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    whole = normalized(sums(torch.arange(600, dtype=torch.float64)[:, None] / 5)) @ values
    torch.testing.assert_close(smooth_rows(values, 5.0), whole, rtol=0, atol=1e-13)
    monkeypatch.setattr(gaussian, "_BLOCK", 7)
    torch.testing.assert_close(smooth_rows(values, 5.0), whole, rtol=0, atol=1e-13)
    assert smooth_rows(values.float(), 5.0).dtype == torch.float32
