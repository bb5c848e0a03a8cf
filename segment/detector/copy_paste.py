"""Copy-paste augmentation (CutLER, Wang et al., CVPR 2023): objects of one image in another one, masks and boxes kept true.

The published code shifts the copies' boxes along the wrong axes and repairs them later; here every box is that of its mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import InterpolationMode, functional as transforms

from eigenseg.data.images import ImageArray

# A copy that would cover this fraction of an object that is there already is left out; published.
MAX_COVERED = 0.5


@dataclass(frozen=True)
class LabeledImage:
    """An image with its objects.

    Args:
        pixels: (3, H, W) uint8 RGB.
        masks: (n, H, W) bool, each with at least one pixel.
        scores: (n,) float32 in [0, 1], how far a label is trusted.
    """

    pixels: Tensor
    masks: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def boxes(self) -> Tensor:
        """The tight boxes of the masks: (n, 4) float32 xyxy half-open pixels."""
        boxes: Tensor = masks_to_boxes(self.masks)
        boxes[:, 2:] += 1  # torchvision's boxes end at the last pixel
        return boxes.reshape(-1, 4)

    def select(self, chosen: Tensor) -> LabeledImage:
        """Some of the objects: indices or (n,) bool."""
        return replace(self, masks=self.masks[chosen], scores=self.scores[chosen])


def resize(labeled: LabeledImage, size: tuple[int, int]) -> LabeledImage:
    """Resize to (H, W), masks to the nearest pixel; objects that vanish are left out."""
    if labeled.pixels.shape[1:] == torch.Size(size):
        return labeled
    pixels = resize_pixels(labeled.pixels.permute(1, 2, 0).numpy(), size)
    masks = transforms.resize(labeled.masks.byte(), list(size), InterpolationMode.NEAREST_EXACT).bool()
    return _without_empty(LabeledImage(pixels, masks, labeled.scores))


def resize_pixels(image: ImageArray, size: tuple[int, int]) -> Tensor:
    """Resize with Pillow's bilinear filter, as detectron2 does: (H, W, 3) uint8 to (3, h, w) uint8."""
    if image.shape[:2] != tuple(size):
        image = np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def shift(labeled: LabeledImage, size: tuple[int, int], top: int, left: int) -> LabeledImage:
    """Lay an image on a black canvas of (H, W) with its corner at ``top``, ``left``; what lies outside is cut off."""
    height, width = labeled.pixels.shape[1:]
    pixels, masks = labeled.pixels.new_zeros(3, *size), labeled.masks.new_zeros(len(labeled), *size)
    y0, x0, y1, x1 = max(0, top), max(0, left), min(size[0], top + height), min(size[1], left + width)
    if y0 < y1 and x0 < x1:
        inside = (..., slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        pixels[:, y0:y1, x0:x1], masks[:, y0:y1, x0:x1] = labeled.pixels[inside], labeled.masks[inside]
    return _without_empty(LabeledImage(pixels, masks, labeled.scores))


def paste(image: LabeledImage, copies: LabeledImage, max_covered: float = MAX_COVERED) -> LabeledImage:
    """Paste objects on an image of the same size.

    A copy that covers at least ``max_covered`` of the pixels of an object of the image is left out. The others hide what
    lies below them: masks of the image lose those pixels, and objects without any left are removed. Copies lie over each
    other in their order, the last on top.

    Args:
        image: below.
        copies: on top, the pixels of their masks alone.
        max_covered: published 0.5.

    Returns:
        The objects of the image, then the copies.

    Raises:
        ValueError: if the sizes differ.

    Example:
        >>> square = torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> square[0, :2, :2] = True
        >>> below = LabeledImage(torch.zeros(3, 4, 4, dtype=torch.uint8), square.roll(2, 2), torch.ones(1))
        >>> pasted = paste(below, LabeledImage(below.pixels + 9, square, torch.ones(1)))
        >>> pasted.boxes.tolist(), pasted.pixels[0, 0].tolist()
        ([[2.0, 0.0, 4.0, 2.0], [0.0, 0.0, 2.0, 2.0]], [9, 9, 0, 0])
    """
    if image.pixels.shape != copies.pixels.shape:
        raise ValueError(
            f"copies of {list(copies.pixels.shape)} do not fit an image of {list(image.pixels.shape)} (C, H, W)"
        )
    if len(image) and len(copies):
        below, above = image.masks.flatten(1).float(), copies.masks.flatten(1).float()
        covered = (above @ below.T) / below.sum(dim=1)
        copies = copies.select((covered < max_covered).all(dim=1))
    hidden = torch.zeros_like(copies.pixels[0], dtype=torch.bool)
    visible = []
    for mask in copies.masks.flip(0):  # from the top down
        visible.append(mask & ~hidden)
        hidden = hidden | mask
    masks = torch.cat([image.masks & ~hidden, *(mask[None] for mask in reversed(visible))])
    pixels = torch.where(hidden, copies.pixels, image.pixels)
    pasted = LabeledImage(pixels, masks, torch.cat([image.scores, copies.scores]))
    return _without_empty(pasted)


def copy_paste(
    image: LabeledImage, source: LabeledImage, rng: np.random.Generator, scale: tuple[float, float] = (0.3, 1.0)
) -> LabeledImage:
    """Paste a random number of a source's objects, at a random size and place.

    One object if the source has one, else 1 to n - 1 of its n. The source is resized to the image's size times a ratio
    drawn from ``scale``, and lies at a uniformly drawn place inside the image.

    Args:
        image: receives the objects.
        source: gives them; without objects the image stays as it is.
        rng: of all that is random.
        scale: published (0.3, 1) for the first training, (0.5, 1) for self-training.

    Returns:
        A new image with its objects and the copies.
    """
    if not len(source):
        return image
    count = len(source)
    number = 1 if count == 1 else int(rng.integers(1, count))
    chosen = torch.from_numpy(np.sort(rng.permutation(count)[:number]))
    height, width = image.pixels.shape[1:]
    ratio = float(rng.uniform(*scale))
    size = (max(1, round(ratio * height)), max(1, round(ratio * width)))
    top, left = int(rng.integers(0, height - size[0] + 1)), int(rng.integers(0, width - size[1] + 1))
    copies = resize(source.select(chosen), size)
    return paste(image, shift(copies, (height, width), top, left))


def _without_empty(labeled: LabeledImage) -> LabeledImage:
    return labeled.select(labeled.masks.flatten(1).any(dim=1)) if len(labeled) else labeled
