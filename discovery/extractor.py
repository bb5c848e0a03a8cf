"""From images to features, in two stages: fitting on any thread, normalizing and encoding on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray, ImageLike, as_rgb
from eigenseg.data.preprocess import NATIVE, Preprocess, fit_image, normalize_images, plan_geometry
from eigenseg.discovery.backbones.base import Backbone


@dataclass(frozen=True)
class FittedImage:
    """An image on its way to the backbone.

    Args:
        image: (H, W, 3) uint8 RGB.
        pixels: (3, h, w) uint8 on the CPU, resized, padded or cropped.
        geometry: of both.
    """

    image: ImageArray
    pixels: Tensor
    geometry: Geometry

    @property
    def bucket(self) -> tuple[int, int]:
        """Images with equal input sizes may share a batch."""
        return self.geometry.input_size

    @property
    def nbytes(self) -> int:
        """Of both arrays."""
        return self.image.nbytes + self.pixels.nbytes


class FeatureExtractor:
    """A backbone with its preprocessing on a device: the one way from images to features.

    Args:
        backbone: encodes images as tokens; it is moved to the device.
        preprocess: fields left ``None`` come from the backbone, then from ``preset``, then from the defaults.
        device: where to encode.
        preset: the method's published preprocessing.

    Example:
        >>> import numpy as np
        >>> from eigenseg.discovery import ColorTexture
        >>> extractor = FeatureExtractor(ColorTexture(), Preprocess(resize=48))
        >>> fitted = extractor.prepare(np.zeros((60, 80, 3), dtype=np.uint8))
        >>> fitted.pixels.shape, extractor.extract([fitted, fitted]).tokens.shape
        (torch.Size([3, 48, 64]), torch.Size([2, 48, 23]))
    """

    def __init__(
        self,
        backbone: Backbone,
        preprocess: Preprocess | None = None,
        device: torch.device | str = "cpu",
        preset: Preprocess | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.backbone = backbone.to(self.device)
        method = (preset or Preprocess()).over(NATIVE)
        self.preprocess = (preprocess or Preprocess()).over(backbone.preprocess.over(method))

    def prepare(self, image: ImageLike) -> FittedImage:
        """Read and fit an image; any thread.

        Args:
            image: path, PIL image, or (H, W, 3) uint8 RGB array.

        Raises:
            TypeError, ValueError, FileNotFoundError: if it cannot be read or does not fit the limits.
        """
        array = as_rgb(image)
        geometry = plan_geometry((array.shape[0], array.shape[1]), self.backbone.patch_size, self.preprocess)
        return FittedImage(array, fit_image(array, geometry), geometry)

    def extract(self, batch: Sequence[FittedImage], attention: bool = False) -> FeatureGrid:
        """Normalize and encode images of one bucket.

        Args:
            batch: with equal input sizes.
            attention: include the CLS attention, where the backbone has it.

        Returns:
            Features on the device.
        """
        pixels = torch.stack([fitted.pixels for fitted in batch])
        if self.device.type == "cuda":  # from pinned memory the copy runs beside the computation
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        geometries = [fitted.geometry for fitted in batch]
        normalized = normalize_images(pixels, geometries, self.backbone.mean, self.backbone.std)
        return self.backbone(normalized, geometries, attention)
