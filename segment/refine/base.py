"""The refiner interface: images and their instances in, instances whose masks follow the edges of the image out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from eigenseg.data.checks import check_choice
from eigenseg.data.images import ImageArray
from eigenseg.data.instances import Instances
from eigenseg.segment.refine.cleanup import mask_iou

_PIXELS_AT_ONCE = 2**20  # the CRF's lattice takes about 1.1 GB for them, the bilateral grid 0.15 GB

OnDisagreement = Literal["keep", "drop"]
ON_DISAGREEMENT: tuple[OnDisagreement, ...] = ("keep", "drop")


@dataclass(frozen=True)
class Refined:
    """One image's masks after refinement.

    Args:
        soft: (n, H, W) floating, soft masks, about 0 to 1.
        masks: (n, H, W) bool.
        iou: (n,) float64, IoU of every mask before and after; 1 where both are empty.
        kept: (n,) bool, whether that is at least the refiner's ``min_iou``. What becomes of the other masks is decided
            where they become instances, see ``refine_instances``.
        details: further per-mask values of the refiner, (n, ...) each.
    """

    soft: Tensor
    masks: Tensor
    iou: Tensor
    kept: Tensor
    details: Mapping[str, Tensor] = field(default_factory=dict)


class Refiner(Protocol):
    """Interface of refiners. One that works on masks alone derives from ``eigenseg.segment.refine.MaskRefiner``."""

    def to(self, device: torch.device) -> Refiner:
        """Compute on a device; returns itself."""
        ...

    def __call__(self, images: Sequence[ImageArray], instances: Sequence[Instances]) -> list[Instances]:
        """Refine the instances of several images, or of several frames of a clip.

        Args:
            images: (H, W, 3) uint8 RGB each, of any sizes.
            instances: of these images.

        Returns:
            One ``Instances`` per image, its instances in the given order; those that do not survive are left out, and
            extras (track ids among them) travel with the others.
        """
        ...


def hard(masks: Tensor) -> Tensor:
    """Bool masks as they are, soft masks thresholded at 0.5 (strict)."""
    return masks if masks.dtype == torch.bool else masks > 0.5


def compare(
    soft: Tensor, masks: Tensor, before: Tensor, min_iou: float = 0.0, details: Mapping[str, Tensor] | None = None
) -> Refined:
    """Build a result with the IoU of its masks and the masks before; a mask is kept if that is at least ``min_iou``."""
    iou = mask_iou(hard(before), masks)
    return Refined(soft, masks, iou, iou >= min_iou, details or {})


def check_images(images: Sequence[Tensor]) -> None:
    """Raise if these are not images on one device.

    Raises:
        TypeError: if an image is not a tensor or not uint8.
        ValueError: if a shape is not (H, W, 3), an image is empty, or devices differ.
    """
    for i, image in enumerate(images):
        if (kind := _kind(image)) != torch.uint8:
            raise TypeError(f"images[{i}] must be a uint8 tensor, got {kind}; torch.from_numpy converts an array")
        if image.ndim != 3 or image.shape[2] != 3 or not image.numel():
            raise ValueError(f"images[{i}] must be (H, W, 3) with H, W > 0, got shape {tuple(image.shape)}")
        if image.device != images[0].device:
            raise ValueError(f"images[{i}] is on {image.device}, images[0] on {images[0].device}; move all to one device")


def check_maps(images: Sequence[Tensor], maps: Sequence[Tensor], name: str, dims: str = "n") -> None:
    """Raise if maps do not fit their images; ``dims`` names the axes before (H, W).

    Raises:
        TypeError: if a map is not a tensor, or neither bool nor floating.
        ValueError: if counts, shapes or devices do not fit, or a value is not finite.
    """
    if len(images) != len(maps):
        raise ValueError(f"{name} must hold one entry per image, got {len(maps)} for {len(images)} images")
    for i, (image, given) in enumerate(zip(images, maps, strict=True)):
        kind = _kind(given)
        if isinstance(kind, str) or not (kind == torch.bool or kind.is_floating_point):
            raise TypeError(f"{name}[{i}] must be a bool or floating tensor, got {kind}")
        if given.ndim != 2 + dims.count(",") + 1 or given.shape[-2:] != image.shape[:2]:
            expected = f"({dims}, {image.shape[0]}, {image.shape[1]})"
            raise ValueError(f"{name}[{i}] must be {expected} to fit its image, got shape {tuple(given.shape)}")
        if given.device != image.device:
            raise ValueError(f"{name}[{i}] is on {given.device}, its image on {image.device}; move both to one device")
        if not torch.isfinite(given).all():
            raise ValueError(f"{name}[{i}] holds values that are not finite")


def _kind(value: object) -> torch.dtype | str:
    return value.dtype if isinstance(value, Tensor) else type(value).__name__


def check_masks(images: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    """Raise if masks do not fit their images or lie outside [0, 1].

    Raises:
        TypeError, ValueError: as ``check_maps``; also if a value lies outside [0, 1].
    """
    check_maps(images, masks, "masks")
    for i, mask in enumerate(masks):
        if mask.numel() and not (mask.min() >= 0 and mask.max() <= 1):
            raise ValueError(f"masks[{i}] must be in [0, 1], got {float(mask.min()):g} to {float(mask.max()):g}")


def check_positive(**values: float) -> None:
    """Raise if a number is not positive and finite.

    Raises:
        ValueError: naming the first one.
    """
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value}")


def check_disagreement(min_iou: float, on_disagreement: OnDisagreement = "drop") -> None:
    """Raise if the minimum IoU lies outside [0, 1], or it is not known what happens below it.

    Raises:
        ValueError: with the value.
    """
    if not 0 <= min_iou <= 1:
        raise ValueError(f"min_iou must be in [0, 1], got {min_iou}")
    check_choice("on_disagreement", on_disagreement, ON_DISAGREEMENT)


def check_min_component(min_component: float) -> None:
    """Raise if the fraction lies outside [0, 1).

    Raises:
        ValueError: with the value.
    """
    if not 0 <= min_component < 1:
        raise ValueError(f"min_component must be at least 0 and below 1, got {min_component}")


def check_parameters(parameters: object, kind: type) -> None:
    """Raise if the parameters belong to another refiner; values from a yaml may have any type.

    Raises:
        TypeError: naming the expected class.
    """
    if not isinstance(parameters, kind):
        raise TypeError(f"parameters must be {kind.__name__}, got {type(parameters).__name__}")


def chunks(images: Sequence[Tensor]) -> Iterator[slice]:
    """Slices of consecutive images to process at once; an image above the limit is a chunk of its own."""
    start, pixels = 0, 0
    for i, image in enumerate(images):
        size = image.shape[0] * image.shape[1]
        if i > start and pixels + size > _PIXELS_AT_ONCE:
            yield slice(start, i)
            start, pixels = i, 0
        pixels += size
    if len(images):
        yield slice(start, len(images))


def as_columns(maps: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Stack the maps of several images into one table of pixels.

    Args:
        maps: per image (n, ..., H, W); n may differ, the axes in between may not.

    Returns:
        (pixels of all images, max n, ...), 0 where an image has fewer maps than another.
    """
    width = max([1, *map(len, maps)])
    rows = []
    for given in maps:
        flat = given.to(dtype).flatten(-2).movedim(-1, 0)  # (HW, n, ...)
        padded = flat.new_zeros(flat.shape[0], width, *flat.shape[2:])
        padded[:, : flat.shape[1]] = flat
        rows.append(padded)
    return torch.cat(rows)


def from_columns(table: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Inverse of ``as_columns``: per image (n, ..., H, W), contiguous."""
    pixels = [given.shape[-2] * given.shape[-1] for given in like]
    return [
        rows[:, : len(given)].movedim(0, -1).reshape(given.shape).contiguous()
        for rows, given in zip(torch.split(table, pixels), like, strict=True)
    ]
