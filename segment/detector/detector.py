"""Class-agnostic detector: what CutLER, TokenCut and LOST train on the masks that they discover.

::

    image --resize--> trunk --pyramid--> proposals --heads--> boxes, scores, masks --> Instances
    pseudo-labels --copy-paste--> the same network --DropLoss, soft targets--> losses

The network is torchvision's Mask R-CNN with one class, or Faster R-CNN where it has no mask head (``model.py``). It learns
from the discovered masks of all images, so it finds objects that the discovery missed in some of them, and several in an
image (Wang et al., CutLER, CVPR 2023; soft targets: Arica et al., CuVLER, CVPR 2024).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import resize_boxes

from eigenseg.data.checkpoints import read_checkpoint
from eigenseg.data.checks import check_integer
from eigenseg.data.datasets.base import Dataset
from eigenseg.data.images import ImageArray, ImageLike, as_rgb
from eigenseg.data.instances import DENSE_BYTES, Instances
from eigenseg.data.results.identity import file_sha256
from eigenseg.data.rle import RleMasks, encode_masks
from eigenseg.discovery.backbones.weights import RANDOM, load_vit, unwrap
from eigenseg.discovery.extractor import FeatureExtractor
from eigenseg.segment.detector.copy_paste import resize_pixels
from eigenseg.segment.detector.model import build_model, load_strictly
from eigenseg.segment.detector.samples import DetectionSamples, fitted_size
from eigenseg.segment.detector.settings import Architecture, Detections, Recipe

logger = logging.getLogger(__name__)

# torchvision's names of the losses of the proposal network.
_LOSS_NAMES = {"loss_objectness": "proposal_objectness", "loss_rpn_box_reg": "proposal_box"}
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class ResizedImage:
    """An image, and its pixels as the network takes them, (3, h, w) uint8."""

    image: ImageArray
    pixels: Tensor

    @property
    def bucket(self) -> tuple[int, int]:
        """Images of equal sizes share a batch, so that none is padded more than alone."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def nbytes(self) -> int:
        """Of both."""
        return self.image.nbytes + self.pixels.nbytes


class ClassAgnosticDetector(nn.Module):
    """A detector of objects of any kind: an image model, and trainable on pseudo-labels.

    Boxes of the results are the detector's; masks lie within them, and a detection whose mask has no pixel is left out.
    Without a mask head the box is the mask. Scores are the classifier's.

    Args:
        weights: the ``.safetensors`` file that training wrote, or ``"random"``, which is where training begins.
        backbone_weights: with ``weights="random"``: weights of the trunk, a file of DINO's ResNet-50 or of the ViT; None:
            random.
        architecture: see there; the default is CutLER's Mask R-CNN.
        detections: what is kept of the detections.
        recipe: of training; ignored in inference.
        size: length of the shorter side in inference, in pixels; published 800.
        max_size: limit of the longer side, in training too; published 1333.
        seed: of random weights.

    Raises:
        FileNotFoundError: if there is no such file of weights.
        ValueError: if weights are missing or do not fit the architecture, or a setting is out of range.

    Example:
        >>> small = Architecture("resnet18", "group", 64, 128, (32, 32), 32, (200, 100), (8, 16, 32, 64, 96))
        >>> detector = ClassAgnosticDetector("random", architecture=small, detections=Detections(max_objects=3), size=64)
        >>> instances = detector.infer([detector.prepare(np.zeros((48, 64, 3), dtype=np.uint8))])[0]
        >>> instances.masks.shape[1:], len(instances) <= 3
        ((48, 64), True)
    """

    revision = 1

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        backbone_weights: str | os.PathLike[str] | None = None,
        architecture: Architecture | None = None,
        detections: Detections | None = None,
        recipe: Recipe | None = None,
        size: int = 800,
        max_size: int = 1333,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_integer("size", size, 1)
        check_integer("max_size", max_size, 1)
        if weights is None:
            raise ValueError(
                "weights are missing: method.weights=detector.safetensors takes those of a trained detector, "
                "method.weights=random is where training begins"
            )
        if weights != RANDOM and backbone_weights is not None:
            raise ValueError(
                f"backbone_weights={backbone_weights!r} is used with weights='random' only: {weights} holds the trunk"
            )
        self.weights, self.backbone_weights, self.seed = weights, backbone_weights, seed
        self.architecture, self.detections = architecture or Architecture(), detections or Detections()
        self.recipe, self.size, self.max_size = recipe or Recipe(), size, max_size
        self.model = build_model(self.architecture, self.detections, self.recipe.drop_iou, seed)
        self._origin: dict[str, Any] = {"source": RANDOM, "seed": seed}
        if weights == RANDOM:
            logger.warning("the detector has random weights (seed %d): without training its results are meaningless", seed)
            if backbone_weights is not None:
                self._origin["backbone"] = self._load_trunk(backbone_weights)
        else:
            path = Path(weights).expanduser()
            load_strictly(self.model, read_checkpoint(path, "weights", (f"'{RANDOM}'",)), "weights", str(path))
            self._origin = {"source": str(path), "sha256": file_sha256(path)}

    def prepare(self, image: ImageLike) -> ResizedImage:
        """Read and resize an image; any thread.

        Args:
            image: path, PIL image, or (H, W, 3) uint8 RGB array.
        """
        array = as_rgb(image)
        return ResizedImage(array, resize_pixels(array, fitted_size(array.shape[:2], self.size, self.max_size)))

    @torch.no_grad()
    def infer(self, batch: Sequence[ResizedImage]) -> list[Instances]:
        """Objects of images of equal sizes, in order, the highest scores first."""
        self.model.eval()
        # On a CPU a batch gains no time, and a matrix product of more rows rounds differently.
        step = len(batch) if self.device.type == "cuda" else 1
        results: list[Instances] = []
        for first in range(0, len(batch), max(1, step)):
            several = batch[first : first + step]
            images, _ = self.model.transform([self._scaled(one.pixels) for one in several])
            features = self.model.backbone(images.tensors)
            proposals, _ = self.model.rpn(images, features)
            detections, _ = self.model.roi_heads(features, proposals, images.image_sizes)
            results += [self._instances(one, found) for one, found in zip(several, detections, strict=True)]
        return results

    def to(self, device: torch.device) -> ClassAgnosticDetector:  # type: ignore[override]  # as image models have it
        """Move the network to a device; returns itself."""
        super().to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Of the network."""
        parameter: Tensor = next(self.model.parameters())
        return parameter.device

    def provenance(self) -> Mapping[str, Any]:
        """Trunk, and origin of the weights."""
        return {"architecture": self.architecture.trunk, "weights": self._origin}

    def samples(self, dataset: Dataset, extractor: FeatureExtractor | None = None) -> DetectionSamples:
        """Labeled images of a dataset, see ``DetectionSamples``; no extractor is used, it has its own features."""
        return DetectionSamples(dataset, self.recipe, self.max_size, bool(self.architecture.mask_widths))

    def loss(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Losses of a batch of ``DetectionSamples.collate``: of proposals (objectness, box) and of heads (classification,
        box, mask). torch's global generator decides which regions are sampled."""
        self.model.train()
        images = [self._scaled(pixels) for pixels in batch["images"]]
        targets = [{name: value.to(self.device) for name, value in one.items()} for one in batch["targets"]]
        losses: dict[str, Tensor] = self.model(images, targets)
        return {_LOSS_NAMES.get(name, name): value for name, value in losses.items()}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All parameters; those of normalization layers without weight decay, as in detectron2."""
        norms = [
            p for module in self.model.modules() if isinstance(module, _NORMS) for p in module.parameters(recurse=False)
        ]
        ids = {id(parameter) for parameter in norms}
        others = [parameter for parameter in self.model.parameters() if id(parameter) not in ids]
        return [{"params": others}, {"params": norms, "weight_decay": 0.0}]

    def after_step(self, step: int) -> None:
        """Nothing: the detector has no schedule of its own."""

    def export(self) -> Mapping[str, Tensor]:
        """All weights, as ``weights`` takes them."""
        return {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}

    def inference(self) -> ClassAgnosticDetector:
        """Itself: it detects with the weights as they are."""
        return self

    def _scaled(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.device).float() / 255

    def _load_trunk(self, weights: str | os.PathLike[str]) -> dict[str, Any]:
        body = self.model.backbone.body
        if not self.architecture.is_resnet:
            try:
                network, origin = load_vit(self.architecture.trunk, weights)
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(str(error).replace("backbone.weights", "backbone_weights")) from None
            body.load_state_dict(network.state_dict())
            return origin
        path = Path(weights).expanduser()
        tensors = unwrap(read_checkpoint(path, "backbone_weights"))
        # A classifier, which the trunk of a detector does not have, may come with the weights.
        given = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
        load_strictly(body, given, "backbone_weights", str(path))
        return {"source": str(path), "sha256": file_sha256(path)}

    def _instances(self, prepared: ResizedImage, found: Mapping[str, Tensor]) -> Instances:
        height, width = size = (prepared.image.shape[0], prepared.image.shape[1])
        boxes = resize_boxes(found["boxes"], list(prepared.bucket), list(size)).cpu()
        # float32 may leave the image by its last bit
        boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height], dtype=boxes.dtype))
        scores = found["scores"].cpu().numpy().clip(0, 1)
        soft = found["masks"].cpu() if "masks" in found else None
        compact = len(boxes) * height * width > DENSE_BYTES
        masks: list[Any] = []
        kept: list[int] = []
        for i, box in enumerate(boxes):
            mask = _mask_in_box(None if soft is None else soft[i], box, size)
            if mask.any():
                kept.append(i)
                masks.append(encode_masks(mask[None])[0] if compact else mask)
        if not kept:
            return Instances.empty(size, f"no object: no detection with a mask scores above {self.detections.min_score:g}")
        stack = RleMasks(masks, size) if compact else np.stack(masks)
        return Instances(stack, scores[kept], boxes.numpy()[kept], size)


def _mask_in_box(soft: Tensor | None, box: Tensor, size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a mask (1, M, M) of probabilities in its box exceeds 0.5, as (H, W) bool; the whole box without one."""
    x0, y0 = box[:2].floor().int().tolist()
    x1, y1 = box[2:].ceil().int().tolist()
    mask = np.zeros(size, dtype=bool)
    if soft is None:
        mask[y0:y1, x0:x1] = True
    else:  # one at a time: a hundred soft masks of a photograph would take gigabytes
        pasted = paste_masks_in_image(soft[None], box[None], size)[0, 0]
        mask[y0:y1, x0:x1] = (pasted > 0.5).numpy()[y0:y1, x0:x1]  # interpolation reaches beyond the box
    return mask
