"""The network: torchvision's Faster and Mask R-CNN on a feature pyramid, with the losses of ``losses.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from eigenseg.discovery.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from eigenseg.segment.detector.heads import SoftRoIHeads
from eigenseg.segment.detector.pyramid import LEVELS, ViTPyramid, resnet_pyramid
from eigenseg.segment.detector.settings import Architecture, Detections

# Anchors of an FPN begin at 32 pixels where regions of 224 pixels are pooled from its third level; published.
_REGION_PER_ANCHOR = 7


def build_model(
    architecture: Architecture, detections: Detections, drop_iou: float | None, seed: int = 0
) -> GeneralizedRCNN:
    """Build the network with random weights; the global generators are left alone.

    Args:
        architecture: its layers.
        detections: what it returns.
        drop_iou: DropLoss's threshold, None to train without it.
        seed: of the weights.

    Returns:
        torchvision's model. It takes normalized images of any size: nothing is resized within it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pyramid = resnet_pyramid(architecture) if architecture.is_resnet else ViTPyramid(architecture, seed)
        return _detector(pyramid, architecture, detections, drop_iou)


def _detector(
    pyramid: nn.Module, architecture: Architecture, detections: Detections, drop_iou: float | None
) -> GeneralizedRCNN:
    channels, ratios = architecture.channels, (0.5, 1.0, 2.0)
    anchors = AnchorGenerator(tuple((side,) for side in architecture.anchors), (ratios,) * len(architecture.anchors))
    train, test = architecture.proposals
    rpn = RegionProposalNetwork(
        anchors,
        RPNHead(channels, len(ratios)),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=256,
        positive_fraction=0.5,
        # Of each level before non-maximum suppression, detectron2's numbers; never less than what is kept in the end.
        pre_nms_top_n={"training": max(2000, train // 2), "testing": max(1000, test // 2)},
        post_nms_top_n={"training": train, "testing": test},
        nms_thresh=0.65,  # published in CutLER
    )
    align = {"featmap_names": list(LEVELS), "canonical_scale": _REGION_PER_ANCHOR * architecture.anchors[0]}
    heads = SoftRoIHeads(
        MultiScaleRoIAlign(output_size=7, sampling_ratio=2, **align),
        TwoMLPHead(channels * 7**2, architecture.box_width),
        FastRCNNPredictor(architecture.box_width, 2),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=architecture.regions,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=detections.min_score,
        nms_thresh=detections.nms_iou,
        detections_per_img=detections.max_objects,
    )
    heads.drop_iou = drop_iou
    if architecture.mask_widths:
        heads.mask_roi_pool = MultiScaleRoIAlign(output_size=14, sampling_ratio=2, **align)
        heads.mask_head = MaskRCNNHeads(channels, architecture.mask_widths, dilation=1)
        heads.mask_predictor = MaskRCNNPredictor(architecture.mask_widths[-1], architecture.mask_widths[-1], 2)
    divisor = getattr(pyramid, "size_divisible", 32)
    transform = _NormalizeOnly(0, 0, IMAGENET_MEAN, IMAGENET_STD, size_divisible=divisor)
    return GeneralizedRCNN(pyramid, rpn, heads, transform)


class _NormalizeOnly(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Images are resized before, on any thread."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


def load_strictly(module: nn.Module, tensors: Mapping[str, Any], argument: str, origin: str) -> None:
    """Load exactly the tensors of a module.

    Raises:
        ValueError: naming the argument, where the tensors come from and what does not fit.
    """
    expected = module.state_dict()
    # Checkpoints may count batches, which no layer here needs.
    optional = {name for name in {*expected, *tensors} if name.endswith("num_batches_tracked")}
    missing, extra = (
        sorted(expected.keys() - tensors.keys() - optional),
        sorted(tensors.keys() - expected.keys() - optional),
    )
    shapes = [name for name in sorted(expected.keys() & tensors.keys()) if expected[name].shape != tensors[name].shape]
    for names, what in ((missing, "missing"), (extra, "not expected"), (shapes, "of another shape")):
        if names:
            more = ", ..." if len(names) > 1 else ""
            raise ValueError(
                f"{argument}: {origin} does not fit the architecture: {len(names)} tensors are {what} ({names[0]}{more}); "
                "choose the architecture that the file belongs to"
            )
    broken = [name for name, value in sorted(tensors.items()) if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f"{argument}: {origin} has values that are not finite ({broken[0]}); it is damaged")
    module.load_state_dict({name: value for name, value in tensors.items() if name in expected}, strict=False)
