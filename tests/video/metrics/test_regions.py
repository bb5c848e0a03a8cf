"""J and F of masks equal the published evaluator, also at the border of the frame, and crops score as whole frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from metric_samples import BoolArray, slow_boundary, slow_contour, slow_jaccard

from eigenseg.video.metrics.regions import (
    boundary_of,
    disc,
    pairwise_scores,
    regions_of_labels,
    regions_of_masks,
    tolerance,
)

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
masks = sizes.flatmap(lambda size: arrays(bool, size))


@pytest.fixture(scope="module")
def golden(test_data: Path) -> Any:
    return np.load(test_data / "golden_video" / "davis_metrics.npz")


def scores(mine: BoolArray, other: BoolArray, bound_th: float = 0.008) -> tuple[float, float]:
    radius = tolerance((mine.shape[0], mine.shape[1]), bound_th)
    jaccard, contour = pairwise_scores(regions_of_masks(mine[None], radius), regions_of_masks(other[None], radius))
    return float(jaccard[0, 0]), float(contour[0, 0])


@given(masks)
def test_a_boundary_pixel_differs_from_a_right_or_lower_neighbor(mask: BoolArray) -> None:
    np.testing.assert_array_equal(boundary_of(mask), slow_boundary(mask), strict=True)


def test_boundary_maps_equal_the_published_ones(golden: Any) -> None:
    for i, expected in enumerate(golden["boundary_map"], start=1):
        np.testing.assert_array_equal(boundary_of(golden["gt_a_void_swap"][0] == i), expected, strict=True)


@pytest.mark.parametrize("pair", range(4))
def test_pairs_of_masks_score_as_in_the_published_evaluator(golden: Any, pair: int) -> None:
    mine, other = golden[f"pair{pair}_a"], golden[f"pair{pair}_b"]
    assert tolerance(mine.shape) == golden[f"pair{pair}_tolerance"]
    jaccard, contour = scores(mine, other)
    assert jaccard == pytest.approx(float(golden[f"pair{pair}_J"]), abs=1e-12)
    assert contour == pytest.approx(float(golden[f"pair{pair}_F"]), abs=1e-12)
    assert scores(mine, other, bound_th=3)[1] == pytest.approx(float(golden[f"pair{pair}_F_th3"]), abs=1e-12)


@pytest.mark.parametrize(
    ("size", "radius"), [((480, 854), 8), ((240, 427), 4), ((320, 480), 5), ((1080, 1920), 18), ((60, 90), 1), ((3, 4), 1)]
)
def test_tolerance_is_a_fraction_of_the_diagonal_rounded_up(size: tuple[int, int], radius: int) -> None:
    assert tolerance(size) == radius
    assert tolerance(size[::-1]) == radius


@pytest.mark.parametrize(("bound_th", "radius"), [(1, 1), (1.2, 2), (3, 3), (0.5, 3), (0.999, 5)])
def test_bound_th_from_1_up_is_in_pixels_and_below_a_fraction(bound_th: float, radius: int) -> None:
    assert tolerance((3, 4), bound_th) == radius


@pytest.mark.parametrize("radius", [1, 2, 3, 8, 18])
def test_disc_contains_the_offsets_within_its_radius(radius: int) -> None:
    expected = [[int(x**2 + y**2 <= radius**2) for x in range(-radius, radius + 1)] for y in range(-radius, radius + 1)]
    assert disc(radius).tolist() == expected
    assert disc(8).sum() == 197


def placed_masks(data: st.DataObject, size: tuple[int, int], count: int) -> BoolArray:
    """Random masks within rectangles, often at the border or in a corner of the frame."""
    height, width = size
    drawn = np.zeros((count, height, width), dtype=bool)
    for mask in drawn:
        top, left = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
        low, right = data.draw(st.integers(top, height)), data.draw(st.integers(left, width))
        mask[top:low, left:right] = data.draw(arrays(bool, (low - top, right - left), fill=st.nothing()))
    return drawn


@settings(deadline=None, max_examples=100)
@given(st.data(), sizes, st.integers(1, 3))
def test_cropped_regions_score_as_whole_frames_do(data: st.DataObject, size: tuple[int, int], radius: int) -> None:
    mine, others = placed_masks(data, size, 2), placed_masks(data, size, 2)
    jaccard, contour = pairwise_scores(regions_of_masks(mine, radius), regions_of_masks(others, radius))
    for i in range(2):
        for j in range(2):
            assert jaccard[i, j] == slow_jaccard(mine[i], others[j])
            assert contour[i, j] == pytest.approx(slow_contour(mine[i], others[j], radius), abs=1e-12)


CORNERS = {
    "one pixel in the last corner": (slice(8, 9), slice(11, 12)),
    "one pixel in the first corner": (slice(0, 1), slice(0, 1)),
    "last row": (slice(8, 9), slice(3, 7)),
    "last column": (slice(2, 6), slice(11, 12)),
    "last row and column": (slice(5, 9), slice(8, 12)),
    "whole frame": (slice(0, 9), slice(0, 12)),
    "all but the last row": (slice(0, 8), slice(0, 12)),
    "inside": (slice(3, 6), slice(4, 8)),
}


@pytest.mark.parametrize("mine", CORNERS)
@pytest.mark.parametrize("other", CORNERS)
def test_masks_in_corners_and_at_borders_score_as_whole_frames_do(mine: str, other: str) -> None:
    drawn = np.zeros((2, 9, 12), dtype=bool)
    drawn[0][CORNERS[mine]], drawn[1][CORNERS[other]] = True, True
    assert scores(*drawn, bound_th=2) == pytest.approx((slow_jaccard(*drawn), slow_contour(*drawn, radius=2)), abs=1e-12)


@settings(deadline=None)
@given(sizes.flatmap(lambda size: arrays(np.uint8, size, elements=st.integers(0, 4))), st.integers(0, 6))
def test_regions_of_a_label_map_equal_those_of_its_masks(labels: np.ndarray, count: int) -> None:
    each = np.stack([labels == i for i in range(1, 7)])
    regions, expected = regions_of_labels(labels.astype(np.int32), count, 1), regions_of_masks(each, 1)
    assert len(regions) == count
    probes = regions_of_masks(each, 1)
    for mine, theirs in zip(pairwise_scores(regions, probes), pairwise_scores(expected[:count], probes), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def square(start: int, stop: int, size: tuple[int, int] = (480, 854)) -> BoolArray:
    mask = np.zeros(size, dtype=bool)
    mask[start:stop, start:stop] = True
    return mask


@pytest.mark.parametrize(
    ("shift", "jaccard", "contour"),
    [(4, 0.854599, 1), (8, 0.733703, 0.9625), (9, 0.706630, 0.0850), (12, 0.631854, 0.0850)],
)
def test_a_shifted_square_has_the_known_scores(shift: int, jaccard: float, contour: float) -> None:
    expected = pytest.approx((jaccard, contour), abs=5e-7)
    assert scores(square(100, 200), square(100 + shift, 200 + shift)) == expected


def test_two_empty_masks_score_1_and_an_empty_one_with_another_0() -> None:
    empty, other = np.zeros((20, 30), dtype=bool), square(3, 9, (20, 30))
    assert scores(empty, empty) == (1, 1)
    assert scores(empty, other) == (0, 0)
    assert scores(other, empty) == (0, 0)


def test_a_mask_of_the_whole_frame_has_no_boundary_so_f_is_that_of_an_empty_mask() -> None:
    full, empty, part = np.ones((20, 30), dtype=bool), np.zeros((20, 30), dtype=bool), square(3, 9, (20, 30))
    assert scores(full, full) == (1, 1)
    assert scores(full, empty) == (0, 1)
    assert scores(full, part) == (36 / 600, 0)


@settings(deadline=None)
@given(sizes.flatmap(lambda size: arrays(bool, (2, *size))))
def test_both_scores_are_symmetric(pair: BoolArray) -> None:
    assert scores(pair[0], pair[1]) == pytest.approx(scores(pair[1], pair[0]), abs=1e-15)
