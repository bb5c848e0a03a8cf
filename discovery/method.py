"""The method interface (features and images of a batch in, objects of every image out) and steps that methods share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry, Nearest
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.discovery.grid import mask_boxes

# Tokens with padding are kept in the graph or dropped.
Padding = Literal["keep", "drop"]
PADDING: tuple[Padding, ...] = ("keep", "drop")


class Method(Protocol):
    """Interface of methods. A new one is one file and one yaml; any object with these three members will do.

    ``preprocess`` is the published preprocessing; the backbone's and the user's settings override it.
    ``needs_attention`` requests ``FeatureGrid.attention`` from the backbone.
    """

    preprocess: Preprocess
    needs_attention: bool

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the objects of B images, in original pixels; an image without one gets ``Instances.empty`` with a reason.

        Args:
            features: of B images with equal grids.
            images: the same B images, (H, W, 3) uint8 RGB in original pixels, for methods that use colors.
        """
        ...


def valid_tokens(features: FeatureGrid, padding: Padding) -> Tensor | None:
    """Tokens that a method may use: (B, N) bool, or None for all of them."""
    return ~features.padded_tokens() if padding == "drop" else None


def in_chunks(
    features: FeatureGrid, images: Sequence[ImageArray], size: int
) -> Iterator[tuple[FeatureGrid, Sequence[ImageArray]]]:
    """Split a batch into chunks of at most ``size`` images, in order."""
    for start in range(0, len(features), size):
        yield features[start : start + size], images[start : start + size]


def token_instances(
    masks: Tensor,
    scores: Sequence[float],
    geometry: Geometry,
    reason: str,
    extras: Mapping[str, Sequence[Any]] | None = None,
    metadata: Mapping[str, Any] | None = None,
    nearest: Nearest = "center",
) -> Instances:
    """Turn masks on the token grid into instances in original pixels; masks that lie in the padding alone are left out.

    Args:
        masks: (n, gh, gw) bool.
        scores: n values in [0, 1].
        geometry: of the image.
        reason: why there is no object, used if no mask is left.
        extras: per-mask values, n each.
        metadata: per-image values; the geometry is added.
        nearest: as in ``Geometry.masks_to_image``.
    """
    metadata = {"geometry": geometry, **(metadata or {})}
    pixels = geometry.masks_to_image(masks, nearest).cpu().numpy()
    kept = np.flatnonzero(pixels.any(axis=(1, 2))).tolist()
    if not kept:
        return Instances.empty(geometry.image_size, f"no object: {reason}", **metadata)
    return Instances(
        masks=pixels[kept],
        scores=np.array([scores[i] for i in kept], dtype=np.float32),
        boxes=geometry.boxes_to_image(mask_boxes(masks[kept])).cpu().numpy(),
        image_size=geometry.image_size,
        extras={name: [values[i] for i in kept] for name, values in (extras or {}).items()},
        metadata=metadata,
    )


def seed_points(geometry: Geometry, seeds: Sequence[int]) -> list[list[float]]:
    """Centers of tokens as (x, y) in original pixels."""
    points: list[list[float]] = geometry.token_centers(torch.tensor(seeds, dtype=torch.int64)).tolist()
    return points
