"""From masks to instances: refine the masks of ``Instances`` and drop those that do not survive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.rle import encode_masks, mask_boxes
from eigenseg.segment.refine.base import Refined

RefineMasks = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], list[Refined]]


class MaskRefiner:
    """Base of refiners that work on masks: a subclass provides ``refine_masks``, the rest follows."""

    device = torch.device("cpu")

    def to(self, device: torch.device) -> Self:
        """Compute on a device; returns itself."""
        self.device = device
        return self

    def refine_masks(self, images: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> list[Refined]:
        """Refine the masks of several images.

        Args:
            images: a list of (H, W, 3) uint8 RGB of any sizes, or one (B, H, W, 3) tensor.
            masks: for every image (n, H, W), bool or floating in [0, 1], on the image's device; n may be 0 and may differ.

        Returns:
            One ``Refined`` per image, on the images' device.
        """
        raise NotImplementedError

    def __call__(self, images: Sequence[ImageArray], instances: Sequence[Instances]) -> list[Instances]:
        """Refine instances, see ``Refiner`` and ``refine_instances``."""
        return refine_instances(self.refine_masks, images, instances, self.device)


def refine_instances(
    refine_masks: RefineMasks, images: Sequence[ImageArray], instances: Sequence[Instances], device: torch.device
) -> list[Instances]:
    """Refine the instances of several images.

    A mask that the refiner does not keep, or that it empties, is dropped; boxes are recomputed from the masks; scores and
    extras stay. ``metadata["saliency"]`` becomes the largest soft value of the kept masks at each pixel, and
    ``metadata["rejected"]`` counts the dropped ones.

    Args:
        refine_masks: as in ``MaskRefiner``.
        images: (H, W, 3) uint8 RGB each.
        instances: of these images.
        device: where to compute.
    """
    nonempty = [i for i, one in enumerate(instances) if len(one)]
    if not nonempty:
        return list(instances)
    pixels = [torch.from_numpy(np.array(images[i])).to(device) for i in nonempty]
    masks = [torch.from_numpy(np.array(instances[i].masks)).to(device) for i in nonempty]
    results = list(instances)
    for i, refined in zip(nonempty, refine_masks(pixels, masks), strict=True):
        results[i] = _apply(instances[i], refined)
    return results


def _apply(instances: Instances, refined: Refined) -> Instances:
    masks: NDArray[np.bool_] = refined.masks.cpu().numpy()
    kept = refined.kept.cpu().numpy() & masks.any(axis=(1, 2))
    extras = dict(instances.extras)
    if "parent" in extras:
        masks, kept, extras["parent"] = _keep_nested(masks, kept, extras["parent"])
        instances = replace(instances, extras=extras)
    chosen = np.flatnonzero(kept)
    metadata = {**instances.metadata, "rejected": len(instances) - len(chosen)}
    if not len(chosen):
        reason = "no object: refinement rejected all masks, they follow no edge of the image"
        return Instances.empty(instances.image_size, reason, **metadata)
    soft = refined.soft[torch.from_numpy(chosen).to(refined.soft.device)].amax(dim=0)
    return replace(
        instances[chosen],
        masks=masks[chosen],
        boxes=mask_boxes(encode_masks(masks[chosen])).astype(np.float32),
        metadata={**metadata, "saliency": soft.clamp(0, 1).float().cpu().numpy()},
    )


def _keep_nested(
    masks: NDArray[np.bool_], kept: NDArray[np.bool_], parents: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], list[int]]:
    """Clip masks to their parents'; return masks, ``kept``, and parents as indices into the kept masks.

    Args:
        masks: (n, H, W), parents before their children.
        kept: (n,) whether a mask survived refinement.
        parents: index of each mask's parent, -1 for none.
    """
    masks, kept, parents = masks.copy(), kept.copy(), list(parents)
    for i in range(len(masks)):
        while parents[i] >= 0 and not kept[parents[i]]:
            parents[i] = parents[parents[i]]  # children of a rejected mask move to its parent
        if parents[i] >= 0:
            masks[i] &= masks[parents[i]]
            kept[i] &= bool(masks[i].any())
    numbers = np.cumsum(kept) - 1
    return masks, kept, [int(numbers[parent]) if parent >= 0 else -1 for parent in parents]
