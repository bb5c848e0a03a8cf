"""Masks, maps, boxes and points are mapped from patches to the pixels given by exact fractions and torch's resize."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st

from eigenseg.data import Geometry, Preprocess, plan_geometry
from eigenseg.data.preprocess import Mode

sides = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def geometries(draw: st.DrawFn, modes: tuple[str, ...] = get_args(Mode), native: bool = False) -> Geometry:
    mode, patch = draw(st.sampled_from(modes)), draw(st.integers(1, 9))
    smallest = patch if mode == "crop" else 1  # a crop of less than a patch holds nothing
    size = draw(st.integers(smallest, 40)), draw(st.integers(smallest, 40))
    resize = 0 if native else draw(st.integers(patch, 40))
    return plan_geometry(size, patch, Preprocess(mode, resize, max_tokens=10**6))


def patch_of(pixel: int, axis: int, geometry: Geometry) -> int:
    """The patch that holds a pixel's center, in exact fractions; it may lie behind the last one."""
    scale = Fraction(geometry.scaled_size[axis], geometry.image_size[axis])
    return (Fraction(2 * pixel + 1, 2) * scale / geometry.patch_size).__floor__()


@settings(deadline=None)
@given(geometries(), seeds)
def test_a_pixel_has_the_mask_of_the_patch_that_holds_its_center(geometry: Geometry, seed: int) -> None:
    masks = np.random.default_rng(seed).random((2, *geometry.grid)) < 0.5
    height, width = geometry.image_size
    rows, columns = [patch_of(y, 0, geometry) for y in range(height)], [patch_of(x, 1, geometry) for x in range(width)]
    expected = np.zeros((2, height, width), dtype=bool)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            if row < geometry.grid[0] and column < geometry.grid[1]:
                expected[:, y, x] = masks[:, row, column]
    np.testing.assert_array_equal(geometry.masks_to_image(torch.from_numpy(masks)).numpy(), expected)


@pytest.mark.parametrize(("side", "scaled"), [(201, 240), (402, 480), (383, 384)])
def test_a_center_exactly_on_a_patchs_edge_belongs_to_the_patch_behind_it(side: int, scaled: int) -> None:
    geometry = Geometry((side, 1), (scaled, 8), (scaled, 8), 8)  # floating-point arithmetic errs at these sizes
    stripes = torch.arange(scaled // 8)[:, None] % 2 == 1
    expected = [[patch_of(y, 0, geometry) % 2 == 1] for y in range(side)]
    assert geometry.masks_to_image(stripes).tolist() == expected


@settings(deadline=None)
@given(geometries(modes=("round", "square")), seeds)
def test_by_corners_a_mask_without_padding_is_torchs_nearest_resize_to_the_image(geometry: Geometry, seed: int) -> None:
    masks = torch.from_numpy(np.random.default_rng(seed).random((2, *geometry.grid)) < 0.5)
    expected = F.interpolate(masks[None].float(), size=geometry.image_size, mode="nearest")[0]
    assert torch.equal(geometry.masks_to_image(masks, "corner").float(), expected)


def test_corners_and_centers_differ_where_patches_are_no_integer_number_of_pixels() -> None:
    geometry = Geometry((1, 10), (4, 12), (4, 12), 4)  # three patches of 3 1/3 pixels
    numbers = [geometry.masks_to_image(torch.arange(3)[None] == k).nonzero()[:, 1].tolist() for k in range(3)]
    assert numbers == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]
    corners = [geometry.masks_to_image(torch.arange(3)[None] == k, "corner").nonzero()[:, 1].tolist() for k in range(3)]
    assert corners == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]


@settings(deadline=None)
@given(geometries(modes=("pad", "crop"), native=True), seeds)
def test_at_native_size_corners_and_centers_agree_also_with_padding_or_cropping(geometry: Geometry, seed: int) -> None:
    masks = torch.from_numpy(np.random.default_rng(seed).random((2, *geometry.grid)) < 0.5)
    assert torch.equal(geometry.masks_to_image(masks, "corner"), geometry.masks_to_image(masks))


@settings(deadline=None)
@given(geometries(modes=("pad", "crop"), native=True), seeds)
def test_a_soft_map_at_native_size_is_torchs_bilinear_upsampling_cropped(geometry: Geometry, seed: int) -> None:
    maps = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, *geometry.grid)))
    large = F.interpolate(maps[None], size=geometry.input_size, mode="bilinear", align_corners=False)[0]
    height, width = geometry.image_size
    expected = torch.zeros(2, height, width, dtype=torch.float64)
    rows, columns = min(height, large.shape[1]), min(width, large.shape[2])
    expected[:, :rows, :columns] = large[:, :rows, :columns]
    torch.testing.assert_close(geometry.maps_to_image(maps), expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(geometries(modes=("round", "square")), seeds)
def test_a_soft_map_without_padding_is_torchs_bilinear_resize_to_the_image(geometry: Geometry, seed: int) -> None:
    maps = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, *geometry.grid)))
    expected = F.interpolate(maps[None], size=geometry.image_size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(geometry.maps_to_image(maps), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_a_soft_map_of_an_enlarged_image_is_torchs_upscaling_by_an_integer(factor: int) -> None:
    geometry = Geometry((12 * factor, 20 * factor), (12, 20), (12, 20), 4)
    maps = torch.from_numpy(np.random.default_rng(factor).normal(size=(3, 5)))
    expected = F.interpolate(maps[None, None], scale_factor=4 * factor, mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(geometry.maps_to_image(maps), expected, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(geometries(), st.data())
def test_a_box_maps_its_edges_linearly_and_is_clipped_to_the_image(geometry: Geometry, data: st.DataObject) -> None:
    (height, width), (rows, columns) = geometry.image_size, geometry.grid
    x0, y0 = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, columns)), data.draw(st.integers(y0 + 1, rows))
    per_patch = [
        Fraction(a, b) * geometry.patch_size for a, b in zip(geometry.image_size, geometry.scaled_size, strict=True)
    ]
    exact = [x0 * per_patch[1], y0 * per_patch[0], x1 * per_patch[1], y1 * per_patch[0]]
    expected = [float(min(side, limit)) for side, limit in zip(exact, (width, height, width, height), strict=True)]
    box = geometry.boxes_to_image(torch.tensor([[x0, y0, x1, y1]]))
    assert box.dtype == torch.float32
    torch.testing.assert_close(box[0], torch.tensor(expected), rtol=1e-6, atol=0)

    mask = torch.zeros(geometry.grid, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    ys, xs = geometry.masks_to_image(mask).nonzero().T
    if len(xs):  # a pixel belongs to the patch of its center, so the pixels end within half a pixel of the box
        tight = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert ((tight - box[0]).abs() <= 0.5 + 1e-5).all()


def test_a_box_at_native_size_is_in_patches_times_patch_size_clipped_to_the_image() -> None:
    geometry = plan_geometry((30, 50), 8, Preprocess("pad"))
    boxes = torch.tensor([[1.0, 0.0, 3.0, 2.0], [0.0, 3.0, 7.0, 4.0], [0.5, 0.25, 2.0, 1.0]])
    expected = torch.tensor([[8.0, 0.0, 24.0, 16.0], [0.0, 24.0, 50.0, 30.0], [4.0, 2.0, 16.0, 8.0]])
    torch.testing.assert_close(geometry.boxes_to_image(boxes), expected, rtol=0, atol=0)


def test_a_token_is_at_the_center_of_the_visible_part_of_its_patch() -> None:
    geometry = plan_geometry((12, 20), 8, Preprocess("pad"))
    expected = [[4, 4], [12, 4], [18, 4], [4, 10], [12, 10], [18, 10]]
    assert geometry.token_centers(torch.arange(6)).tolist() == expected
    assert geometry.token_centers(torch.tensor([5, 1])).tolist() == [expected[5], expected[1]]


def test_a_token_of_a_resized_image_is_at_its_patchs_scaled_center() -> None:
    geometry = Geometry((30, 100), (16, 24), (16, 24), 8)
    expected = [[(j + 0.5) * 8 * 100 / 24, (i + 0.5) * 8 * 30 / 16] for i in range(2) for j in range(3)]
    torch.testing.assert_close(geometry.token_centers(torch.arange(6)), torch.tensor(expected))


@settings(deadline=None)
@given(geometries())
def test_a_patch_counts_as_padded_when_one_of_its_pixels_is(geometry: Geometry) -> None:
    added = np.ones(geometry.input_size, dtype=bool)
    added[: geometry.scaled_size[0], : geometry.scaled_size[1]] = False
    p = geometry.patch_size
    expected = [
        [added[i * p : (i + 1) * p, j * p : (j + 1) * p].any() for j in range(geometry.grid[1])]
        for i in range(geometry.grid[0])
    ]
    np.testing.assert_array_equal(geometry.padded_patches().numpy(), expected)
    assert geometry.padding == (added.all(axis=1).sum(), added.all(axis=0).sum())


@pytest.mark.parametrize("name", ["image_size", "scaled_size", "input_size"])
@pytest.mark.parametrize("size", [(0, 8), (8, -8), (8,), (8, 8, 8)])
def test_a_size_that_is_not_two_positive_numbers_is_rejected_by_name(name: str, size: tuple[int, ...]) -> None:
    given_sizes = {"image_size": (8, 8), "scaled_size": (8, 8), "input_size": (8, 8), name: size}
    with pytest.raises(ValueError, match=rf"^{name} must be two positive numbers"):
        Geometry(**given_sizes, patch_size=8)  # type: ignore[arg-type]


def test_an_input_that_is_not_a_multiple_of_the_patch_size_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"input_size \(16, 20\) is not a multiple of the patch size 8"):
        Geometry((16, 20), (16, 20), (16, 20), 8)
    with pytest.raises(ValueError, match="patch_size must be positive, got 0"):
        Geometry((16, 20), (16, 20), (16, 20), 0)


def test_masks_and_maps_of_another_grid_are_rejected() -> None:
    geometry = Geometry((16, 24), (16, 24), (16, 24), 8)
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 2, 3\) patches, got shape \(1, 3, 2\)"):
        geometry.masks_to_image(torch.zeros(1, 3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected \(\.\.\., 2, 3\) patches, got shape \(2, 4\)"):
        geometry.maps_to_image(torch.zeros(2, 4))
