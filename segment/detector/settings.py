"""Settings of the detector: what the network consists of, what it returns, how it is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from eigenseg.data.checks import check_choice, check_integer

Norm = Literal["batch", "frozen", "group"]
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
GROUPS = 32  # of group normalization, its paper's number


@dataclass(frozen=True)
class Architecture:
    """What the network consists of; the defaults are CutLER's Mask R-CNN.

    Args:
        trunk: resnet18 to resnet152, or timm's name of a ViT.
        norm: of a ResNet and its pyramid: ``"batch"``, published; ``"group"``, 32 groups, for small batches; ``"frozen"``,
            of the ResNet alone, the statistics of its weights. A ViT and its pyramid have layer norms.
        channels: of the pyramid; a multiple of 32 with ``norm="group"``.
        box_width: of the two layers of the box head.
        mask_widths: of the convolutions of the mask head; none: boxes only (Faster R-CNN).
        regions: regions an image that are trained on.
        proposals: that the proposal network keeps an image, in training and in inference.
        anchors: sides of the square-like anchors in input pixels, one for each of the five levels.

    Raises:
        ValueError: if a number or name is out of range.
    """

    trunk: str = "resnet50"
    norm: Norm = "batch"
    channels: int = 256
    box_width: int = 1024
    mask_widths: tuple[int, ...] = (256, 256, 256, 256)
    regions: int = 512
    proposals: tuple[int, int] = (4000, 1000)
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512)

    def __post_init__(self) -> None:
        check_choice("architecture.norm", self.norm, ("batch", "frozen", "group"))
        for name in ("mask_widths", "proposals", "anchors"):  # yamls hold lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
            for value in getattr(self, name):
                check_integer(f"architecture.{name}", value, 1)
        for name in ("channels", "box_width", "regions"):
            check_integer(f"architecture.{name}", getattr(self, name), 1)
        for name, length in (("proposals", 2), ("anchors", 5)):
            if len(getattr(self, name)) != length:
                raise ValueError(f"architecture.{name} must be {length} integers, got {list(getattr(self, name))}")
        if self.norm == "group" and self.channels % GROUPS:
            raise ValueError(f"architecture.channels must be a multiple of {GROUPS} with norm=group, got {self.channels}")
        if self.trunk not in RESNETS and not re.search(r"vit|eva", self.trunk):
            raise ValueError(
                f"architecture.trunk must be {', '.join(RESNETS)} or timm's name of a ViT, such as "
                f"vit_small_patch14_dinov2, got {self.trunk!r}"
            )

    @property
    def is_resnet(self) -> bool:
        """Whether the trunk is a ResNet, else a ViT."""
        return self.trunk in RESNETS


@dataclass(frozen=True)
class Detections:
    """What is kept of the detections of an image.

    Args:
        min_score: of a detection; published 0.
        nms_iou: box IoU above which the lower score is dropped.
        max_objects: an image; published 100, 300 for LVIS.
    """

    min_score: float = 0.0
    nms_iou: float = 0.5
    max_objects: int = 100

    def __post_init__(self) -> None:
        for name in ("min_score", "nms_iou"):
            check_fraction(f"detections.{name}", getattr(self, name))
        check_integer("detections.max_objects", self.max_objects, 1)


@dataclass(frozen=True)
class Recipe:
    """How the detector is trained; the defaults are CutLER's first training.

    Args:
        sizes: lengths of the shorter side in pixels, one of which is drawn for every image.
        drop_iou: DropLoss: a region whose regressed box has no larger IoU with any label has no classification loss. None
            trains without it, as published for self-training.
        soft_targets: CuVLER: a label counts as much as its score says; otherwise all count 1.
        copy_paste: probability that objects of another image are pasted; published 1.
        copy_scale: range of the ratio by which they are resized; published (0.3, 1), for self-training (0.5, 1).
        flip: probability of a horizontal flip.

    Raises:
        ValueError: if a number is out of range.
    """

    sizes: tuple[int, ...] = (240, 320, 480, 640, 672, 704, 736, 768, 800, 1024)
    drop_iou: float | None = 0.01
    soft_targets: bool = False
    copy_paste: float = 1.0
    copy_scale: tuple[float, float] = (0.3, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        for name in ("sizes", "copy_scale"):  # yamls hold lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for size in self.sizes:
            check_integer("recipe.sizes", size, 1)
        if not self.sizes:
            raise ValueError("recipe.sizes must be at least one length in pixels, got none")
        for name in ("copy_paste", "flip"):
            check_fraction(f"recipe.{name}", getattr(self, name))
        if self.drop_iou is not None:
            check_fraction("recipe.drop_iou", self.drop_iou)
        for value in self.copy_scale:
            check_fraction("recipe.copy_scale", value)
        scale = list(self.copy_scale)
        if len(scale) != 2 or scale != sorted(scale):
            raise ValueError(f"recipe.copy_scale must be two numbers, the smaller one first, got {scale}")


def check_fraction(name: str, value: Any) -> None:
    """Raise if a value is not a number in [0, 1].

    Raises:
        ValueError: naming the argument and the value.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value!r}")
