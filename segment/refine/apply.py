"""Instances of pictures, refined: masks on the pictures' edges, and what does not survive is left out with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from eigenseg.data import Instances
from eigenseg.data.images import ImageArray
from eigenseg.data.rle import encode_masks, mask_boxes
from eigenseg.segment.refine.base import Refined, Refiner


def refine_instances(
    refiner: Refiner, images: Sequence[ImageArray], instances: Sequence[Instances], device: torch.device
) -> list[Instances]:
    """Refine what a method found in several pictures.

    A mask that the refiner does not accept, or that it empties, is dropped; boxes become the masks' tight ones; scores and
    extras stay. ``metadata["saliency"]`` becomes the largest soft value of the kept masks at each pixel, and
    ``metadata["refused"]`` counts the dropped ones.

    Args:
        refiner: moves masks to edges.
        images: (H, W, 3) uint8 RGB each.
        instances: of these images.
        device: where to compute.
    """
    waiting = [i for i, found in enumerate(instances) if len(found)]
    if not waiting:
        return list(instances)
    pictures = [torch.from_numpy(np.array(images[i])).to(device) for i in waiting]
    masks = [torch.from_numpy(np.array(instances[i].masks)).to(device) for i in waiting]
    results = list(instances)
    for i, refined in zip(waiting, refiner(pictures, masks), strict=True):
        results[i] = _apply(instances[i], refined)
    return results


def _apply(instances: Instances, refined: Refined) -> Instances:
    masks: NDArray[np.bool_] = refined.masks.cpu().numpy()
    kept = np.flatnonzero(refined.accepted.cpu().numpy() & masks.any(axis=(1, 2)))
    refused = len(instances) - len(kept)
    if not len(kept):
        reason = "no object: refinement left none of the masks, they follow no edge of the picture"
        return Instances.empty(instances.image_size, reason, **{**instances.metadata, "refused": refused})
    chosen, survivors = instances[kept], masks[kept]
    soft = refined.soft[torch.from_numpy(kept).to(refined.soft.device)].amax(dim=0)
    return replace(
        chosen,
        masks=survivors,
        boxes=mask_boxes(encode_masks(survivors)).astype(np.float32),
        metadata={
            **instances.metadata,
            "saliency": soft.clamp(0, 1).float().cpu().numpy(),
            "refused": refused,
        },
    )
