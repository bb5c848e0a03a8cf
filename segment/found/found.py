"""FOUND: the foreground as the complement of the background (Siméoni et al., CVPR 2023).

Data flow: CLS attention and keys -> background (``background.py``) -> its complement is the object (mode "background");
or keys -> a trained 1x1 convolution (``head.py``) -> saliency above 0.5 (mode "head"). Then components.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eigenseg.data.checkpoints import read_metadata
from eigenseg.data.checks import check_choice
from eigenseg.data.features import FeatureGrid
from eigenseg.data.geometry import Geometry
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import DENSE_BYTES, Instances
from eigenseg.data.preprocess import Preprocess
from eigenseg.data.rle import RleMasks, encode_masks
from eigenseg.discovery.backbones.base import check_facet
from eigenseg.discovery.checks import facet_error, require_attention
from eigenseg.discovery.grid import component_sizes, label_components, mask_boxes
from eigenseg.discovery.method import PADDING, Padding, valid_tokens
from eigenseg.discovery.reasons import LOOK_ALIKE, too_few_reason
from eigenseg.discovery.spectral.checks import valid_or_all
from eigenseg.discovery.spectral.result import peak_index
from eigenseg.segment.found.background import TIE, background, check_background_parameters
from eigenseg.segment.found.head import FoundHead, load_head, random_head
from eigenseg.segment.found.training import FoundRecipe, FoundTraining

logger = logging.getLogger(__name__)

_UNUSED_LOGIT = -30.0  # of a patch that is not usable: a saliency of 1e-13


class FOUND:
    """FOUND as a method: features of a batch in, one ``Instances`` per image out, in original pixels.

    ``mode="background"`` needs no training: the object is the complement of ``background``. With ``mode="head"`` a trained
    ``FoundHead`` gives one logit per patch; the object is where the saliency sigmoid(logit) exceeds 0.5.

    ``metadata["saliency"]`` is a NumPy (H, W) float32 map in [0, 1], also for images without an object: the sigmoid of the
    bilinearly upsampled logits, or, without a head, the upsampled distance from the background, linear in the cosine c on
    either side of the threshold t: 0 at c = 1, 0.5 at c = t, 1 at c = -1. An instance's score is its mean over the
    mask. Extras: ``seed_point`` (x, y of the most salient pixel in the mask). With ``mode="background"``
    ``metadata["background_seed"]`` is the token index of the patch that the background resembles. An image whose patches
    are all alike has no object. Published on keys; of other facets the parts that the heads' weights scale are consecutive
    channels, which belong to a head in queries, keys and values only (on 80 COCO images with DINOv2's tokens, the weights
    change one image).

    Args:
        mode: see above.
        head: file or ``FoundHead`` for ``mode="head"``, or ``"random"``, for tests and ablations.
        head_facet: the facet that the head was trained on; None: what its file says, else keys, as published.
        recipe: of the head's training (``trainable``); None: as published.
        outputs: ``"single"`` is the largest 4-connected component, ``"multi"`` all of them, the largest first.
        level: where components are computed: ``"patch"``, published for boxes (CorLoc), or ``"pixel"``, published for
            saliency, where the upsampled map is thresholded at 0.5.
        threshold, epsilon, weighted: as in ``background``.
        padding: ``"keep"`` uses patches with padding, as published; ``"drop"`` ignores them.

    Raises:
        FileNotFoundError: if the head's file is missing.
        ValueError: if a parameter is out of range, or ``mode="head"`` has no head.
    """

    preprocess = Preprocess(mode="pad")
    needs_attention = True

    def __init__(
        self,
        mode: Literal["background", "head"] = "background",
        head: str | os.PathLike[str] | FoundHead | None = None,
        outputs: Literal["single", "multi"] = "single",
        level: Literal["patch", "pixel"] = "patch",
        threshold: float = 0.3,
        epsilon: float = 1e-10,
        weighted: bool = True,
        padding: Padding = "keep",
        head_facet: str | None = None,
        recipe: FoundRecipe | None = None,
    ) -> None:
        check_choice("mode", mode, ("background", "head"))
        check_choice("outputs", outputs, ("single", "multi"))
        check_choice("level", level, ("patch", "pixel"))
        check_choice("padding", padding, PADDING)
        check_background_parameters(threshold, epsilon)
        if mode == "head" and head is None:
            raise ValueError(
                "mode='head' needs a trained head, method.head=found.pth (decoder.weight and decoder.bias); "
                "mode='background' needs none"
            )
        if mode == "background" and head is not None:
            raise ValueError(f"head={head!r} is used with mode='head' only, got mode='background'")
        self.mode, self.head, self.outputs, self.level, self.padding = mode, head, outputs, level, padding
        if head_facet is not None:
            check_facet("head_facet", head_facet)
        self.head_facet, self.recipe = head_facet, recipe
        self.threshold, self.epsilon, self.weighted = threshold, epsilon, weighted
        self.needs_attention = mode == "background"  # a head uses tokens alone
        self._head: FoundHead | None = None
        if isinstance(head, FoundHead):
            self._head = head
        elif head == "random":
            logger.warning("FOUND has a random head (seed 0): its results are meaningless")
        elif head is not None:
            self._head = load_head(head)
        self.needs_facet = (head_facet or "key") if mode == "head" else None
        if isinstance(head, (str, os.PathLike)) and head != "random":
            self.needs_facet = _facet_of(Path(head).expanduser(), head_facet)

    @torch.no_grad()
    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        """Find the objects of every image of a batch.

        Raises:
            ValueError: if the features are of another facet or width than the head's, or carry no attention.
        """
        if self.needs_facet is not None and features.kind != self.needs_facet:
            raise ValueError(facet_error("FOUND", self.needs_facet, features.kind))
        if not len(features):
            return []
        valid = valid_or_all(valid_tokens(features, self.padding), features.tokens)
        maps = self._by_head(features, valid) if self.mode == "head" else self._by_background(features, valid)
        return [self._instances(maps, features.geometries[i], i) for i in range(len(features))]

    def trainable(self) -> FoundTraining:
        """The head's training, with this method's background as first target."""

        def with_head(facet: str, head: FoundHead) -> FOUND:
            parts = (self.outputs, self.level, self.threshold, self.epsilon, self.weighted, self.padding)
            return FOUND("head", head, *parts, facet, self.recipe)

        settings = (self.threshold, self.epsilon, self.weighted, self.padding)
        return FoundTraining(self.recipe or FoundRecipe(), *settings, with_head)

    def _by_background(self, features: FeatureGrid, valid: Tensor) -> _Maps:
        attention = require_attention(features.attention, "FOUND")
        settings = (self.threshold, self.epsilon, self.weighted, valid)
        result = background(attention, features.tokens, features.grid, *settings)
        cosine, threshold = result.similarity, self.threshold
        near = 0.5 * (1 - cosine) / (1 - threshold)
        far = 1 - 0.5 * (cosine + 1) / (threshold + 1 or 1)  # a threshold of -1 would divide by 0
        soft = torch.where(cosine > threshold, near, far).clamp(0, 1)
        soft = torch.where(result.usable & result.has_contrast[:, None], soft, 0.0).view_as(result.mask)
        return _Maps(soft, False, ~result.mask, result.has_contrast, result.usable, result.non_finite, result.seed)

    def _by_head(self, features: FeatureGrid, valid: Tensor) -> _Maps:
        tokens = features.tokens
        head = self._head or random_head(tokens.shape[2])
        if head.width != tokens.shape[2]:
            raise ValueError(f"head is for tokens of width {head.width}, the backbone's have {tokens.shape[2]}")
        finite = torch.isfinite(tokens.float().norm(dim=2))
        usable = valid & finite
        logits = head.to(tokens.device)(torch.where(usable[:, :, None], tokens, 0.0).double())
        highest = torch.where(usable, logits, -torch.inf).amax(dim=1)
        lowest = torch.where(usable, logits, torch.inf).amin(dim=1)
        has_contrast = highest - lowest > TIE * torch.maximum(highest.abs(), lowest.abs())
        logits = torch.where(usable, logits, _UNUSED_LOGIT).view(len(tokens), *features.grid)
        objects = (logits > 0) & has_contrast[:, None, None]
        return _Maps(logits, True, objects, has_contrast, usable, (valid & ~finite).sum(dim=1), None)

    def _instances(self, maps: _Maps, geometry: Geometry, i: int) -> Instances:
        soft = geometry.maps_to_image(maps.soft[i])
        soft = soft.sigmoid() if maps.soft_is_logits else soft
        visible = geometry.masks_to_image(torch.ones_like(maps.objects[i]))  # cropped pixels have no saliency
        saliency = torch.where(visible & maps.has_contrast[i], soft, 0.0).float()
        metadata = {
            "geometry": geometry,
            "saliency": saliency.cpu().numpy(),
            "non_finite_tokens": int(maps.non_finite[i]),
        }
        if maps.seed is not None and maps.has_contrast[i]:
            metadata["background_seed"] = int(maps.seed[i])
        objects = saliency > 0.5 if self.level == "pixel" else maps.objects[i]
        labels, by_size = _components(objects)
        chosen = by_size[:1] if self.outputs == "single" else by_size
        compact = len(chosen) * saliency.numel() > DENSE_BYTES
        masks: list[Any] = []
        boxes, scores, points = [], [], []
        for label in chosen:
            component = labels == label
            mask, box = component, mask_boxes(component[None]).float()
            if self.level == "patch":
                mask, box = geometry.masks_to_image(component), geometry.boxes_to_image(box)
            if not mask.any():
                continue  # it lies in the padding
            inside = torch.where(mask, saliency, 0.0)
            row, column = divmod(int(peak_index(inside.flatten())), mask.shape[1])
            dense = mask.cpu().numpy()
            masks.append(encode_masks(dense[None])[0] if compact else dense)
            boxes.append(box[0].cpu().numpy())
            scores.append(min(1.0, float(inside.double().sum() / mask.sum())))
            points.append([column + 0.5, row + 0.5])
        if not masks:
            reason = _empty_reason(maps, i, bool(objects.any()))
            return Instances.empty(geometry.image_size, f"no object: {reason}", **metadata)
        return Instances(
            masks=RleMasks(tuple(masks), geometry.image_size) if compact else np.stack(masks),
            scores=np.array(scores, dtype=np.float32),
            boxes=np.stack(boxes),
            image_size=geometry.image_size,
            extras={"seed_point": points},
            metadata=metadata,
        )


def _facet_of(path: Path, given: str | None) -> str:
    """The facet that a file's metadata names, the given one, or the published one."""
    written = read_metadata(path).get("facet")
    if written and given and written != given:
        raise ValueError(f"head_facet={given} and {path}, which says that it was trained on facet {written!r}, differ")
    return written or given or "key"


class _Maps(NamedTuple):
    """Maps of a batch, from either mode."""

    soft: Tensor  # (B, gh, gw) float64, logits or saliency
    soft_is_logits: bool  # whether ``soft`` holds logits
    objects: Tensor  # (B, gh, gw) bool
    has_contrast: Tensor  # (B,) bool, whether patches differ
    usable: Tensor  # (B, N) bool
    non_finite: Tensor  # (B,) int64
    seed: Tensor | None  # (B,) int64, of the background


def _components(objects: Tensor) -> tuple[Tensor, list[int]]:
    """Component labels (H, W) of a mask, and the list of labels, the largest component first, then in row-major order."""
    labels, _ = label_components(objects[None])
    sizes = component_sizes(labels)[0, 1:]
    return labels[0], (sizes.argsort(descending=True, stable=True) + 1).tolist()


def _empty_reason(maps: _Maps, i: int, outside: bool) -> str:
    usable, non_finite = int(maps.usable[i].sum()), int(maps.non_finite[i])
    too_few = too_few_reason(maps.usable.shape[1], usable, non_finite, "stand out")
    if too_few is not None:
        return too_few
    if not maps.has_contrast[i]:
        return "all patches have the same logit" if maps.soft_is_logits else "no patch is attended less than others"
    if outside:
        return "the object lies in the padding"
    return "no saliency exceeds 0.5" if maps.soft_is_logits else f"{LOOK_ALIKE}, every patch is similar to the background"
