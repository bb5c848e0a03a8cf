"""From masks to instances: refine the masks of ``Instances``, settle disagreements with the masks before, and overlaps.

::

    masks -> refined one by one -> less than min_iou in common with the mask before: that one is kept, or none
          -> pixels that only refinement made shared -> within the parents' masks -> boxes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.data.rle import encode_masks, mask_boxes
from eigenseg.segment.refine.base import ON_DISAGREEMENT, OnDisagreement, Refined
from eigenseg.segment.refine.cleanup import remove_specks
from eigenseg.segment.refine.overlap import separate

RefineMasks = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Refined]]


class MaskRefiner:
    """Base of refiners that work on masks: a subclass provides ``refine_masks``, the rest follows.

    Attributes:
        on_disagreement: what happens to a refined mask with less than ``min_iou`` in common with the mask before, or
            without a pixel: ``"keep"`` keeps the mask before, ``"drop"`` removes the instance.
        separate: whether masks may share only pixels that they shared before, see ``eigenseg.segment.refine.overlap``.
        min_component: refined components with less than this fraction of their mask's pixels are removed.
    """

    on_disagreement: OnDisagreement = "drop"
    separate: bool = True
    # Refined masks of photographs have up to 200 specks, of a few pixels each, that double the height of a box; objects
    # behind poles have halves.
    min_component: float = 0.01
    device = torch.device("cpu")

    def to(self, device: torch.device) -> Self:
        """Compute on a device; returns itself."""
        self.device = device
        return self

    def refine_masks(self, images: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Refined]:
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
        return refine_instances(
            self.refine_masks,
            images,
            instances,
            self.device,
            self.on_disagreement,
            separated=self.separate,
            min_component=self.min_component,
        )


def refine_instances(
    refine_masks: RefineMasks,
    images: Sequence[ImageArray],
    instances: Sequence[Instances],
    device: torch.device,
    on_disagreement: OnDisagreement = "drop",
    separated: bool = True,
    min_component: float = 0.0,
) -> list[Instances]:
    """Refine the instances of several images.

    A refined mask disagrees with the mask before if the refiner does not keep it (``Refined.kept``: their IoU is below
    ``min_iou``), or if it is empty. Masks share no pixel that they did not share before (``separate``), except with their
    parents, within which they stay. Instances whose mask is empty after that are dropped.

    Boxes are recomputed from the masks. Scores and extras stay: a score judges the object that was found, not its outline.
    Two extras are new: ``refined``, False where the mask is the one before, and ``refinement_iou``, the IoU of the refined
    mask and the one before, also where that is kept. ``metadata["saliency"]`` becomes the largest soft value of the
    remaining instances at each pixel, whichever mask is kept, and ``metadata["rejected"]`` counts the dropped ones.

    Args:
        refine_masks: as in ``MaskRefiner``.
        images: (H, W, 3) uint8 RGB each.
        instances: of these images.
        device: where to compute.
        on_disagreement: ``"keep"`` keeps the mask before, ``"drop"`` removes the instance.
        separated: False lets refined masks overlap.
        min_component: components of a refined mask with less than this fraction of its pixels are removed.

    Raises:
        ValueError: if ``on_disagreement`` is neither.
    """
    check_choice("on_disagreement", on_disagreement, ON_DISAGREEMENT)
    nonempty = [i for i, one in enumerate(instances) if len(one)]
    if not nonempty:
        return list(instances)
    pixels = [torch.from_numpy(np.array(images[i])).to(device) for i in nonempty]
    masks = [torch.from_numpy(np.array(instances[i].masks)).to(device) for i in nonempty]
    results = list(instances)
    for i, before, refined in zip(nonempty, masks, refine_masks(pixels, masks), strict=True):
        results[i] = _apply(instances[i], before, refined, on_disagreement == "keep", separated, min_component)
    return results


def _apply(
    instances: Instances, before: Tensor, refined: Refined, fall_back: bool, separated: bool, min_component: float
) -> Instances:
    agrees = refined.kept & refined.masks.flatten(1).any(dim=1)
    chosen = torch.where(agrees[:, None, None], refined.masks, before & fall_back)
    remains = chosen.flatten(1).any(dim=1).tolist()
    extras = {**instances.extras, "refined": agrees.tolist(), "refinement_iou": refined.iou.tolist()}
    if separated:
        depths = _depths(extras.get("parent", [-1] * len(instances)), remains)
        chosen = separate(chosen, before, refined.soft, instances.scores.tolist(), depths)
    chosen = torch.where(agrees[:, None, None], remove_specks(chosen, min_component), chosen)
    masks: NDArray[np.bool_] = chosen.cpu().numpy()
    kept: NDArray[np.bool_] = np.asarray(masks.any(axis=(1, 2)))
    if "parent" in extras:
        masks, kept, extras["parent"] = _keep_nested(masks, kept, extras["parent"])
    left = np.flatnonzero(kept)
    metadata = {**instances.metadata, "rejected": len(instances) - len(left)}
    if not len(left):
        return Instances.empty(instances.image_size, all_rejected(max(extras["refinement_iou"])), **metadata)
    soft = refined.soft[torch.from_numpy(left).to(refined.soft.device)].amax(dim=0)
    return replace(
        replace(instances, extras=extras)[left],
        masks=masks[left],
        boxes=mask_boxes(encode_masks(masks[left])).astype(np.float32),
        metadata={**metadata, "saliency": soft.clamp(0, 1).float().cpu().numpy()},
    )


def all_rejected(iou: float) -> str:
    """Reason for an image or clip whose masks were all rejected; ``iou`` is their largest IoU with the masks before."""
    return (
        f"no object: refinement changed every mask too much (IoU with the masks before at most {iou:.2f}); "
        "postprocess.on_disagreement=keep keeps those before, postprocess.min_iou accepts more change"
    )


def _depths(parents: Sequence[int], remains: Sequence[bool]) -> list[int]:
    """How many of its ancestors remain, for every mask; parents come before their children."""
    depths: list[int] = []
    for parent in parents:
        depths.append(depths[parent] + remains[parent] if parent >= 0 else 0)
    return depths


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
