"""The backbone interface: normalized pixels of a batch in, one token per patch out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.preprocess import Preprocess

# What a ViT gives of a block: outputs of its qkv layer, or its own output.
QKV = ("query", "key", "value")
FACETS = (*QKV, "token")
# RGB statistics of ImageNet for values in [0, 1], with which all DINO models were trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_facet(name: str, facet: Any) -> None:
    """Raise if this is no facet, nor several joined by ``+``.

    Raises:
        ValueError: naming the setting and the facets.
    """
    if not isinstance(facet, str) or any(one not in FACETS for one in facet.split("+")):
        raise ValueError(f"{name} must be {', '.join(FACETS)}, or several joined by '+', got {facet!r}")


class Backbone(Protocol):
    """Interface of feature extractors. A new one is one file and one yaml; there is no registry.

    ``preprocess`` holds the backbone's own requirements; they override the method's preset.
    """

    patch_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    preprocess: Preprocess
    has_attention: bool

    def __call__(self, pixels: Tensor, geometries: Sequence[Geometry], attention: bool = False) -> FeatureGrid:
        """Encode a batch of equal size.

        Args:
            pixels: (B, 3, h, w) float32, normalized by ``mean`` and ``std``, h and w multiples of the patch.
            geometries: one per image.
            attention: whether to return ``FeatureGrid.attention`` too.

        Raises:
            ValueError: if attention is requested and ``has_attention`` is false, or the sizes do not fit.
        """
        ...

    def to(self, device: torch.device) -> Backbone:
        """Move to a device; returns itself."""
        ...

    def provenance(self) -> Mapping[str, Any]:
        """Name and origin of the weights as JSON values, for ``run.json``."""
        ...
