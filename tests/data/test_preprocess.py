"""Every mode gives the sizes of its rule, and the pixels are PIL's Lanczos and torchvision's normalization, then zeros."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from torchvision.transforms import functional as reference

from eigenseg.data import Preprocess, plan_geometry, prepare_image
from eigenseg.data.geometry import Geometry, Size
from eigenseg.data.preprocess import grid_colors

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))
patches = st.integers(1, 16)
resizes = st.integers(0, 100)
UNLIMITED = 10**9


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scaled_by_rule(size: Size, resize: int) -> list[Fraction]:
    """The shorter side becomes ``resize``, the other follows; 0 leaves both."""
    return [side * Fraction(resize or min(size), min(size)) for side in size]


@given(sizes, patches, resizes)
def test_pad_scales_the_shorter_side_and_rounds_up_to_whole_patches(size: Size, patch: int, resize: int) -> None:
    geometry = plan_geometry(size, patch, Preprocess("pad", resize, UNLIMITED))
    for side, exact in zip(geometry.scaled_size, scaled_by_rule(size, resize), strict=True):
        assert abs(side - exact) <= Fraction(1, 2)
    assert geometry.input_size == tuple(
        next(n for n in range(side, side + patch) if n % patch == 0) for side in geometry.scaled_size
    )


@given(sizes, patches, resizes)
def test_crop_scales_the_shorter_side_and_rounds_down_to_whole_patches(size: Size, patch: int, resize: int) -> None:
    if (resize or min(size)) < patch:
        with pytest.raises(ValueError, match=rf"{size[1]}x{size[0]} pixels holds no whole patch of {patch}.*resize"):
            plan_geometry(size, patch, Preprocess("crop", resize, UNLIMITED))
        return
    geometry = plan_geometry(size, patch, Preprocess("crop", resize, UNLIMITED))
    for side, exact in zip(geometry.scaled_size, scaled_by_rule(size, resize), strict=True):
        assert abs(side - exact) <= Fraction(1, 2)
    assert geometry.input_size == tuple(
        next(n for n in range(side, side - patch, -1) if n % patch == 0) for side in geometry.scaled_size
    )


@given(sizes, patches, resizes)
def test_round_takes_each_side_to_a_nearest_multiple_and_never_to_zero(size: Size, patch: int, resize: int) -> None:
    geometry = plan_geometry(size, patch, Preprocess("round", resize, UNLIMITED))
    assert geometry.scaled_size == geometry.input_size
    for side, exact in zip(geometry.input_size, scaled_by_rule(size, resize), strict=True):
        assert side % patch == 0
        assert side >= patch
        assert abs(side - exact) <= Fraction(patch, 2) or (side == patch and exact < patch)


def test_round_chooses_the_even_multiple_half_way_between_two() -> None:
    assert plan_geometry((24, 40), 16, Preprocess("round")).input_size == (32, 32)


@pytest.mark.parametrize(("patch", "side"), [(8, 480), (16, 480), (14, 476), (500, 500), (1000, 1000)])
def test_square_ignores_the_aspect_ratio_and_takes_the_nearest_multiple_of_the_side(patch: int, side: int) -> None:
    geometry = plan_geometry((333, 77), patch, Preprocess("square", 480))
    assert geometry.scaled_size == geometry.input_size == (side, side)
    assert geometry.image_size == (333, 77)


def test_without_settings_an_image_keeps_its_size_and_is_padded() -> None:
    geometry = plan_geometry((375, 500), 16, Preprocess())
    assert (geometry.scaled_size, geometry.input_size) == ((375, 500), (384, 512))


def test_explicit_settings_override_and_zero_is_explicit() -> None:
    preset = Preprocess("square", 480, 5000)
    assert Preprocess().over(preset) == preset
    assert Preprocess("pad").over(preset) == Preprocess("pad", 480, 5000)
    assert Preprocess(resize=0).over(preset) == Preprocess("square", 0, 5000)
    assert Preprocess("crop", 240, 7).over(preset) == Preprocess("crop", 240, 7)
    assert Preprocess(max_tokens=9).over(Preprocess("crop")).over(preset) == Preprocess("crop", 480, 9)


def test_the_token_limit_is_inclusive() -> None:
    assert plan_geometry((80, 160), 16, Preprocess(max_tokens=50)).grid == (5, 10)
    with pytest.raises(ValueError, match=r"160x80 pixels makes 5x10 = 50 tokens, more than max_tokens=49"):
        plan_geometry((80, 160), 16, Preprocess(max_tokens=49))


def test_an_image_of_48_megapixels_is_rejected_and_the_message_names_resize() -> None:
    with pytest.raises(ValueError, match=r"8000x6000 .* 750x1000 = 750000 tokens.*max_tokens=16384.*preprocess\.resize"):
        plan_geometry((6000, 8000), 8, Preprocess())


@pytest.mark.parametrize("settings", [Preprocess("pad"), Preprocess("round"), Preprocess("crop"), Preprocess("pad", 10**6)])
def test_the_limit_is_checked_before_memory_is_allocated(settings: Preprocess) -> None:
    with pytest.raises(ValueError, match=r"preprocess\.resize"):
        plan_geometry((10**9, 10**9), 1, settings)  # a single array of this size would need an exabyte


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_very_narrow_image_is_rejected_if_enlarging_it_makes_too_many_tokens(size: Size) -> None:
    assert sorted(plan_geometry(size, 16, Preprocess()).grid) == [1, 313]
    with pytest.raises(ValueError, match=r"more than max_tokens=16384"):
        plan_geometry(size, 16, Preprocess(resize=240))


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (1, 1), (5, 90)])
@pytest.mark.parametrize(
    "settings", [Preprocess(m, r) for m in ("pad", "round") for r in (0, 24)] + [Preprocess("square", 40)]
)
def test_pixels_are_lanczos_then_normalized_then_padded_with_zeros(size: Size, settings: Preprocess) -> None:
    geometry, image = plan_geometry(size, 8, settings), photo(*size)
    height, width = geometry.scaled_size
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    expected = reference.normalize(reference.to_tensor(resized), MEAN, STD)
    prepared = prepare_image(image, geometry, MEAN, STD)
    assert prepared.shape == (3, *geometry.input_size)
    torch.testing.assert_close(prepared[:, :height, :width], expected)
    assert not prepared[:, height:].any()
    assert not prepared[:, :, width:].any()


@pytest.mark.parametrize("resize", [0, 24])
def test_a_crop_removes_the_right_and_bottom_and_keeps_the_scale(resize: int) -> None:
    image, geometry = photo(37, 53), plan_geometry((37, 53), 8, Preprocess("crop", resize))
    resized = Image.fromarray(image).resize(geometry.scaled_size[::-1], Image.Resampling.LANCZOS)
    height, width = geometry.input_size
    expected = reference.normalize(reference.to_tensor(resized), MEAN, STD)[:, :height, :width]
    torch.testing.assert_close(prepare_image(image, geometry, MEAN, STD), expected)


def test_the_image_is_not_modified() -> None:
    image = photo(20, 20)
    before = image.copy()
    prepare_image(image, plan_geometry((20, 20), 8, Preprocess()), MEAN, STD)
    np.testing.assert_array_equal(image, before)


def test_wrong_settings_are_rejected_by_name() -> None:
    with pytest.raises(ValueError, match=r"preprocess\.mode must be 'pad', 'round', 'square' or 'crop', got 'stretch'"):
        Preprocess("stretch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"preprocess\.resize must be .*, got -1"):
        Preprocess(resize=-1)
    with pytest.raises(ValueError, match=r"preprocess\.max_tokens must be positive, got 0"):
        Preprocess(max_tokens=0)
    with pytest.raises(ValueError, match=r"mode=square needs preprocess\.resize"):
        plan_geometry((8, 8), 8, Preprocess("square"))


def test_a_patchs_color_is_pillows_bilinear_reduction_of_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    geometry = Geometry((50, 70), (50, 70), (48, 64), 16)
    small = Image.fromarray(image).resize((4, 3), Image.Resampling.BILINEAR)
    expected = [[channel / 255 for channel in small.getpixel((x, y))] for y in range(3) for x in range(4)]
    np.testing.assert_allclose(grid_colors(image, geometry).numpy(), expected, atol=1e-7)
