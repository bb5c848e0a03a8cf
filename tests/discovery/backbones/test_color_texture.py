"""Color and texture features equal independent computations, and segment the flower of scikit-learn's sample image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_sample_image

from eigenseg import Predictor
from eigenseg.data import Geometry
from eigenseg.discovery import ColorTexture, TokenCut
from eigenseg.discovery.backbones.color_texture import gabor_energy, pixel_features


def grating(wavelength: float, angle: float) -> NDArray[np.float32]:
    """(96, 96) sine wave of amplitude 20 whose crests run across ``angle``."""
    rows, columns = np.indices((96, 96))
    phase = 2 * np.pi * (columns * np.cos(angle) + rows * np.sin(angle)) / wavelength
    return (50 + 20 * np.sin(phase)).astype(np.float32)


def lab_by_hand(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* (D65) of sRGB values in [0, 1], (n, 3)."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    x, y, z = (linear @ matrix.T / [0.950456, 1, 1.088754]).T
    fx, fy, fz = (np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116) for t in (x, y, z))
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=1)


def test_the_first_channels_are_lab_and_its_blurs_and_the_last_are_position() -> None:
    image = np.random.default_rng(0).random((48, 64, 3)).astype(np.float32)
    channels = pixel_features(image)
    lab = lab_by_hand(image.reshape(-1, 3).astype(np.float64)).T.reshape(3, 48, 64)
    np.testing.assert_allclose(channels[:3], lab, atol=0.4)  # OpenCV interpolates Lab in a table: 0.32 off at most here
    middle = np.s_[:, 20:-20, 30:-30]  # beyond the borders, which the two libraries mirror differently
    blurred = np.stack([ndimage.gaussian_filter(channel, 2.0, truncate=4) for channel in lab])
    np.testing.assert_allclose(channels[3:6][middle], blurred[middle], atol=0.1)
    texture = [gabor_energy(channels[0], wavelength, np.pi * i / 6) for wavelength in (4.0, 8.0) for i in range(6)]
    np.testing.assert_array_equal(channels[9:21], texture)
    np.testing.assert_array_equal(channels[21], np.indices((48, 64))[0])
    np.testing.assert_array_equal(channels[22], np.indices((48, 64))[1])


@pytest.mark.parametrize("wavelength", [4.0, 8.0])
@pytest.mark.parametrize("direction", range(6))
def test_a_grating_has_the_highest_energy_in_its_own_filter(wavelength: float, direction: int) -> None:
    image = grating(wavelength, np.pi * direction / 6)
    energies = {(other, i): gabor_energy(image, other, np.pi * i / 6)[48, 48] for other in (4.0, 8.0) for i in range(6)}
    assert max(energies, key=lambda key: energies[key]) == (wavelength, direction)


def test_constant_brightness_has_no_texture() -> None:
    energy = gabor_energy(np.full((40, 40), 70, dtype=np.float32), 8.0, 0.3)
    assert energy.max() < 1e-3


def test_tokens_are_patch_means_with_zero_mean_and_unit_variance() -> None:
    pixels = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    geometry = Geometry((48, 64), (48, 64), (48, 64), 8)
    result = ColorTexture()(pixels, [geometry, geometry])
    assert result.grid == (6, 8)
    for image in range(2):
        channels = pixel_features(pixels[image].permute(1, 2, 0).numpy())
        means = channels.reshape(23, 6, 8, 8, 8).mean(axis=(2, 4)).reshape(23, 48)
        expected = (means - means.mean(axis=1, keepdims=True)) / means.std(axis=1, keepdims=True)
        np.testing.assert_allclose(result.tokens[image].numpy(), expected.T, atol=1e-3)


def test_what_varies_by_less_than_a_gray_level_is_not_scaled_up_and_positions_keep_their_part() -> None:
    # Brightness varies, hue does not: rounding alone moves a and b.
    rng = np.random.default_rng(0)
    gray = np.repeat(np.kron(rng.integers(0, 256, (6, 8, 1)), np.ones((8, 8, 1))), 3, axis=2) / 255
    channels = pixel_features(gray.astype(np.float32)).reshape(23, 6, 8, 8, 8).mean(axis=(2, 4)).reshape(23, 48)
    tokens = ColorTexture()(
        torch.from_numpy(gray).float().permute(2, 0, 1)[None], [Geometry((48, 64), (48, 64), (48, 64), 8)]
    )
    found = tokens.tokens[0].numpy().T
    for channel in (0, 3, 6, *range(9, 21)):
        np.testing.assert_allclose(found[channel].std(), 1, atol=1e-3)
    for channel in (1, 2, 4, 5, 7, 8):
        np.testing.assert_allclose(found[channel], (channels[channel] - channels[channel].mean()) * 2.55, atol=1e-3)
    np.testing.assert_allclose(found[21:].var(axis=1), 15 / 21, atol=1e-2)


@pytest.mark.parametrize("kind", ["constant", "one pixel", "one gray level of noise"])
@pytest.mark.parametrize("seed", range(3))
def test_an_image_without_content_has_tokens_of_zeros(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.broadcast_to(rng.integers(1, 255, 3), (240, 320, 3)).copy()
    if kind == "one pixel":
        image[rng.integers(240), rng.integers(320)] = rng.integers(0, 256, 3)
    elif kind == "one gray level of noise":
        image += rng.integers(-1, 2, image.shape)
    pixels = torch.from_numpy(image / 255).float().permute(2, 0, 1)[None]
    assert not ColorTexture()(pixels, [Geometry((240, 320), (240, 320), (240, 320), 8)]).tokens.any()


def test_a_gray_image_gives_finite_tokens() -> None:
    geometry = Geometry((16, 16), (16, 16), (16, 16), 8)
    assert ColorTexture()(torch.full((1, 3, 16, 16), 0.5), [geometry]).tokens.isfinite().all()


def test_requesting_attention_raises() -> None:
    with pytest.raises(ValueError, match="color_texture has no attention; choose a ViT"):
        ColorTexture()(torch.zeros(1, 3, 8, 8), [Geometry((8, 8), (8, 8), (8, 8), 8)], attention=True)


def test_the_flower_is_segmented() -> None:
    image = load_sample_image("flower.jpg")
    result = Predictor(ColorTexture(), TokenCut(), device="cpu")(image)
    red, _, blue = (image[..., channel].astype(int) for channel in range(3))
    petals = ndimage.binary_opening(red - blue > 60, iterations=2)  # both blossoms are orange, everything else is not
    mask = np.asarray(result.masks[0])
    assert (mask & petals).sum() / petals.sum() > 0.97
    assert (mask & ndimage.binary_dilation(petals, iterations=24)).sum() / mask.sum() > 0.99  # about a patch and a half
