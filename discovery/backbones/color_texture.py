"""Handcrafted features without weights: color at three scales, texture, and position.

For tests and for trying the toolkit offline. They separate regions that differ in color or texture from their surroundings
and carry no semantics; the papers' numbers need a DINO backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.preprocess import Preprocess

_BLURS = (0.0, 2.0, 8.0)  # pixels: the patch's own color, its surroundings, the region
_WAVELENGTHS = (4.0, 8.0)  # pixels: finest texture that survives resizing, and one period per patch
_ORIENTATIONS = 6  # every 30 degrees; a Gabor filter with these envelopes responds to about 40
_ENVELOPE = 0.56  # sigma over wavelength for a bandwidth of one octave
_APPEARANCE = 21  # channels of color and texture; y and x follow
# Standard deviations below which a channel is not scaled up to unit variance. Colors: one gray level, in units of L*.
# Energies: an image that is constant but for one pixel reaches 0.44, a gradient's borders 0.93, photographs at least 6.9.
_LEAST_COLOR = 100 / 255
_LEAST_ENERGY = 1.0


class ColorTexture:
    """Lab color blurred at sigma 0, 2 and 8, Gabor energies (2 wavelengths x 6 orientations, smoothed), y and x: D = 23.

    Channels are averaged over patches of 8x8 pixels and z-scored per image. A channel that varies by less than a gray level
    is divided by the gray level instead, so that rounding and noise do not become features; y and x are scaled to the mean
    variance of the others, so that their part in a cosine stays 2 of 23. Where no color or texture varies by that much
    there is nothing to tell patches apart, and all tokens are 0. There is neither CLS nor attention.
    """

    revision = 2  # faint channels are not scaled up

    patch_size = 8
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    # Filters are in pixels, so the image's scale is fixed; rounding avoids padding, which would look like an object.
    preprocess = Preprocess(mode="round", resize=240)
    has_attention = False

    def __init__(self) -> None:
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> ColorTexture:
        """Set the device of the tokens; filtering happens on the CPU. Returns itself."""
        self._device = device
        return self

    def provenance(self) -> dict[str, Any]:
        """Name of the features; there are no weights."""
        return {"architecture": "color_texture", "weights": {"source": "none"}}

    def __call__(self, pixels: Tensor, geometries: Sequence[Geometry], attention: bool = False) -> FeatureGrid:
        """Encode a batch; see ``Backbone``.

        Args:
            pixels: (B, 3, h, w) float32 RGB in [0, 1].
            geometries: one per image.
            attention: not available.

        Raises:
            ValueError: if attention is requested.
        """
        if attention:
            raise ValueError("backbone color_texture has no attention; choose a ViT, such as dino_vits16")
        images = pixels.permute(0, 2, 3, 1).float().cpu().numpy()
        channels = torch.from_numpy(np.stack([pixel_features(image) for image in images]))  # (B, 23, h, w)
        patches = F.avg_pool2d(channels, self.patch_size)
        return FeatureGrid(
            tokens=normalize_channels(patches).flatten(2).mT.contiguous().to(self._device),
            grid=(patches.shape[2], patches.shape[3]),
            kind="color_texture",
            geometries=tuple(geometries),
        )


def normalize_channels(patches: Tensor) -> Tensor:
    """Z-score every channel of every image, but do not scale up what varies by less than a gray level.

    Args:
        patches: (B, 23, gh, gw) float32, channels of ``pixel_features`` averaged over patches.

    Returns:
        (B, 23, gh, gw) float32; 0 for images without a channel of color or texture that varies.
    """
    std, mean = torch.std_mean(patches, dim=(2, 3), keepdim=True, correction=0)
    least = patches.new_full((patches.shape[1], 1, 1), _LEAST_ENERGY)
    least[: 3 * len(_BLURS)] = _LEAST_COLOR
    least[_APPEARANCE:] = 1.0  # y and x of a grid with one row or column are constant
    scaled = (patches - mean) / torch.maximum(std, least)
    appearance = scaled[:, :_APPEARANCE]
    weight = appearance.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    varies = (std >= least)[:, :_APPEARANCE].any(dim=1, keepdim=True)
    return torch.cat([appearance, weight * scaled[:, _APPEARANCE:]], dim=1) * varies


def pixel_features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """All channels of one image before averaging.

    Args:
        image: (h, w, 3) float32 RGB in [0, 1].

    Returns:
        (23, h, w) float32: 9 of Lab, 12 Gabor energies, y, x.
    """
    lab = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2LAB)  # L in 0..100, a and b in about -128..127
    colors = [lab if sigma == 0 else cv2.GaussianBlur(lab, (0, 0), sigma) for sigma in _BLURS]
    lightness = np.ascontiguousarray(lab[..., 0])
    energies = [
        gabor_energy(lightness, wavelength, np.pi * i / _ORIENTATIONS)
        for wavelength in _WAVELENGTHS
        for i in range(_ORIENTATIONS)
    ]
    rows, columns = np.indices(image.shape[:2], dtype=np.float32)
    stacked = np.concatenate([*(color.transpose(2, 0, 1) for color in colors), energies, [rows, columns]])
    return stacked.astype(np.float32)


def gabor_energy(lightness: NDArray[np.float32], wavelength: float, angle: float) -> NDArray[np.float32]:
    """Local strength of a grating: square root of the squared even and odd Gabor responses, blurred by two wavelengths.

    Args:
        lightness: (h, w) float32.
        wavelength: pixels.
        angle: radians, of the direction across the stripes.

    Returns:
        (h, w) float32, nonnegative.
    """
    sigma = _ENVELOPE * wavelength
    side = 2 * int(np.ceil(3 * sigma)) + 1
    even, odd = (
        cv2.getGaborKernel((side, side), sigma, angle, wavelength, gamma=1.0, psi=phase, ktype=cv2.CV_32F)
        for phase in (0.0, np.pi / 2)
    )
    even -= even.mean()  # constant brightness must give no response
    energy = np.hypot(cv2.filter2D(lightness, -1, even), cv2.filter2D(lightness, -1, odd))
    # Two wavelengths are enough for the ripple of neighboring stripes to vanish.
    smoothed: NDArray[np.float32] = cv2.GaussianBlur(energy, (0, 0), 2 * wavelength)
    return smoothed
