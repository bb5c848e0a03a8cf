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
    accepted = refined.accepted.cpu().numpy() & masks.any(axis=(1, 2))
    extras = dict(instances.extras)
    if "parent" in extras:
        masks, accepted, extras["parent"] = _keep_nested(masks, accepted, extras["parent"])
        instances = replace(instances, extras=extras)
    kept = np.flatnonzero(accepted)
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


def _keep_nested(
    masks: NDArray[np.bool_], accepted: NDArray[np.bool_], parents: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], list[int]]:
    """Parts stay within what holds them: masks, who is left, and parents by their new numbers; owners come before parts."""
    masks, accepted, owners = masks.copy(), accepted.copy(), list(parents)
    for i in range(len(masks)):
        while owners[i] >= 0 and not accepted[owners[i]]:
            owners[i] = owners[owners[i]]  # what held the refused one holds its parts
        if owners[i] >= 0:
            masks[i] &= masks[owners[i]]
            accepted[i] &= bool(masks[i].any())
    numbers = np.cumsum(accepted) - 1
    return masks, accepted, [int(numbers[owner]) if owner >= 0 else -1 for owner in owners]
