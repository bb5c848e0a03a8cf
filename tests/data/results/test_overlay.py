"""Overlays tint and outline the instances and nothing else, and a heat map is brightest at the eigenvector's maximum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from eigenseg.data import Geometry, Instances
from eigenseg.data.results.overlay import PALETTE, draw_heatmap, draw_overlay

SIZE = (160, 200)
PHOTO = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
GRAY = np.full((*SIZE, 3), 100, dtype=np.uint8)
# The ends of matplotlib's viridis.
DARK, BRIGHT = np.array([68, 1, 84]), np.array([253, 231, 37])


def disk(y: int, x: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def instances_of(*masks: np.ndarray, scores: list[float] | None = None) -> Instances:
    stack = np.stack(masks)
    boxes = [[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] for ys, xs in (np.nonzero(mask) for mask in masks)]
    return Instances(stack, np.array(scores or [0.9] * len(masks)), np.array(boxes), SIZE)


def inside(mask: np.ndarray, by: int) -> np.ndarray:
    return ndimage.binary_erosion(mask, iterations=by)


def blend_fraction(tint: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """The fraction of a tint in a blended color, by least squares: 0 is none, 1 is only the tint."""
    way = tint.astype(float) - before
    return float((after - before.astype(float)) @ way / (way @ way))


def test_inside_a_mask_every_pixel_is_blended_with_the_tint_by_the_same_fraction() -> None:
    mask = disk(90, 100, 40)
    drawn = draw_overlay(PHOTO, instances_of(mask)).astype(float)
    inner = inside(mask, 12)  # away from contour and text
    fraction = np.mean([blend_fraction(PALETTE[0], *colors) for colors in zip(PHOTO[inner], drawn[inner], strict=True)])
    assert 0.3 < fraction < 0.55
    np.testing.assert_allclose(drawn[inner], PHOTO[inner] + fraction * (PALETTE[0] - PHOTO[inner].astype(float)), atol=2)


def test_outside_the_box_and_its_text_no_pixel_changes() -> None:
    mask = disk(110, 60, 20)
    drawn = draw_overlay(PHOTO, instances_of(mask))
    changed = (drawn != PHOTO).any(axis=2)
    ys, xs = np.nonzero(changed)
    # the box is 40..81 x 90..131; a line's width around it and a line of text above it may change
    assert xs.min() >= 37
    assert xs.max() <= 84
    assert ys.min() >= 65
    assert ys.max() <= 134
    between = np.zeros(SIZE, dtype=bool)
    between[93:128, 43:78] = True
    assert not changed[between & (ndimage.distance_transform_edt(~mask) > 4)].any()


def test_a_contour_in_the_tints_color_follows_the_masks_boundary() -> None:
    mask = disk(80, 100, 50)
    drawn = draw_overlay(GRAY, instances_of(mask)).astype(int)
    boundary = mask & ~inside(mask, 1)
    boundary[:, :55] = boundary[:, 146:] = boundary[:35] = boundary[126:] = False  # the box touches the mask there
    distance = np.abs(drawn - PALETTE[0]).sum(axis=2)
    assert distance[boundary].max() < distance[inside(mask, 12)].min() / 2


def test_instances_differ_in_color_and_the_palette_repeats() -> None:
    centers = [(40 + 40 * (i % 3), 15 + 16 * i) for i in range(11)]
    drawn = draw_overlay(GRAY, instances_of(*(disk(y, x, 8) for y, x in centers)))
    for i, center in enumerate(centers):
        expected = [GRAY[0, 0] + 0.42 * (tint - GRAY[0, 0].astype(float)) for tint in PALETTE]
        assert np.argmin(np.abs(drawn[center] - np.array(expected)).sum(axis=1)) == i % 10
    assert len({tuple(color) for color in PALETTE.tolist()}) == 10


@pytest.mark.parametrize("top", [0, 1])
def test_where_two_masks_overlap_the_higher_score_is_on_top(top: int) -> None:
    masks = disk(90, 80, 45), disk(90, 120, 45)
    scores = [0.1, 0.1]
    scores[top] = 0.9
    drawn = draw_overlay(GRAY, instances_of(*masks, scores=scores)).astype(float)
    pixel = drawn[100, 100]
    fraction = blend_fraction(PALETTE[0], GRAY[0, 0], draw_overlay(GRAY, instances_of(masks[0]))[100, 100])
    lower = GRAY[0, 0] + fraction * (PALETTE[1 - top] - GRAY[0, 0].astype(float))
    np.testing.assert_allclose(pixel, lower + fraction * (PALETTE[top] - lower), atol=2)


def test_the_score_is_written_on_the_tint_above_the_box_or_inside_it_at_the_top() -> None:
    low, high = disk(110, 60, 20), disk(21, 60, 20)
    for mask, rows in ((low, slice(70, 90)), (high, slice(1, 21))):
        drawn = draw_overlay(GRAY, instances_of(mask, scores=[0.87]))
        label = drawn[rows, 40:80]
        assert (label == PALETTE[0]).all(axis=2).mean() > 0.2
        other = draw_overlay(GRAY, instances_of(mask, scores=[0.11]))
        assert (label != other[rows, 40:80]).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 53), (700, 500)])
def test_the_size_is_kept_the_image_is_not_modified_and_the_result_is_drawn_on_a_copy(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    whole = Instances(np.ones((1, *size), bool), np.ones(1), np.array([[0, 0, size[1], size[0]]]), size)
    for instances in (whole, Instances.empty(size, "nothing")):
        for draw in (draw_overlay, draw_heatmap):
            drawn = draw(image, instances)
            assert (drawn.shape, drawn.dtype) == (image.shape, image.dtype)
            assert not np.shares_memory(drawn, image)
            np.testing.assert_array_equal(image, before)


def test_an_image_without_objects_says_so_in_a_corner_and_is_untouched_elsewhere() -> None:
    drawn = draw_overlay(PHOTO, Instances.empty(SIZE, "flat"))
    changed = (drawn != PHOTO).any(axis=2)
    ys, xs = np.nonzero(changed)
    assert (ys.min(), xs.min()) == (0, 0)
    assert ys.max() < 30
    assert xs.max() < 90
    note = drawn[: ys.max() + 1, : xs.max() + 1]
    assert changed[: ys.max() + 1, : xs.max() + 1].mean() > 0.99
    assert note.min() < 60
    assert note.max() > 200  # light text on a dark background
    assert not (draw_overlay(GRAY, instances_of(disk(110, 150, 20)))[:20, :20] != GRAY[:20, :20]).any()


def with_vector(vector: np.ndarray, size: tuple[int, int] = SIZE) -> Instances:
    scaled = (vector.shape[0] * 8, vector.shape[1] * 8)
    return Instances(
        np.zeros((1, *size), bool), np.ones(1), np.zeros((1, 4)), size,
        extras={"eigenvector": vector[None]}, metadata={"geometry": Geometry(size, scaled, scaled, 8)},
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1.0, -1.0, 300.0])
def test_the_heat_map_has_the_ends_of_the_colors_at_the_eigenvectors_extremes(scale: float, dtype: type) -> None:
    vector = np.random.default_rng(0).uniform(-0.5, 0.5, (5, 6))
    vector[0, 0], vector[-1, -1] = -1, 1  # at the border the map is clamped, so a corner pixel has the patch's own value
    drawn = draw_heatmap(GRAY, with_vector((vector * scale).astype(dtype))).astype(float)
    low, high = ((0, 0), (-1, -1)) if scale > 0 else ((-1, -1), (0, 0))
    np.testing.assert_allclose(drawn[low], 0.75 * DARK + 25, atol=1.5)
    np.testing.assert_allclose(drawn[high], 0.75 * BRIGHT + 25, atol=1.5)
    green = drawn[..., 1]  # rises along viridis
    assert green.argmax() in np.flatnonzero(green == green[high])
    assert green.argmin() in np.flatnonzero(green == green[low])


def test_the_heat_maps_colors_rise_with_the_eigenvector() -> None:
    ramp = np.tile(np.linspace(-3, 5, 7), (4, 1))
    green = draw_heatmap(GRAY, with_vector(ramp))[..., 1].astype(int)
    assert (green == green[:1]).all()
    assert (np.diff(green[0]) >= 0).all()
    assert green[0, -1] - green[0, 0] > 150


@pytest.mark.filterwarnings("error")
def test_a_constant_eigenvector_has_one_color() -> None:
    drawn = draw_heatmap(GRAY, with_vector(np.full((4, 5), 0.3)))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_without_an_eigenvector_the_heat_map_is_the_images_luma() -> None:
    expected = PHOTO @ np.array([0.299, 0.587, 0.114])
    for instances in (Instances.empty(SIZE, "flat"), instances_of(disk(80, 100, 30))):
        drawn = draw_heatmap(PHOTO, instances).astype(float)
        assert np.abs(drawn - expected[..., None]).max() <= 1


@pytest.mark.parametrize("draw", [draw_overlay, draw_heatmap])
def test_instances_of_another_image_are_refused(draw: Any) -> None:
    instances = instances_of(disk(80, 100, 30))
    with pytest.raises(ValueError, match="image has 80x200 pixels .*its instances are those of an image of 160x200"):
        draw(PHOTO[:80], instances)
    with pytest.raises(ValueError, match=r"image must be \(H, W, 3\) uint8 RGB, got \(160, 200\)"):
        draw(PHOTO[..., 0], instances)
