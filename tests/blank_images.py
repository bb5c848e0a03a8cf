"""Call methods on features alone, with blank images."""

from __future__ import annotations

import numpy as np

from eigenseg.data import FeatureGrid, Instances
from eigenseg.data.images import ImageArray
from eigenseg.discovery import Method


def blank_images(features: FeatureGrid) -> list[ImageArray]:
    """A black image of the right size for each geometry."""
    return [np.zeros((*geometry.image_size, 3), dtype=np.uint8) for geometry in features.geometries]


def apply(method: Method, features: FeatureGrid) -> list[Instances]:
    """The method's results, with blank images."""
    return method(features, blank_images(features))
