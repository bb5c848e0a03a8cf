"""Training samples of a detector: labeled images of a dataset, resized, flipped, with objects of other images pasted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenseg.data.datasets.base import Dataset, ObjectAnnotation, check_images
from eigenseg.data.images import ImageArray, read_image
from eigenseg.data.rle import mask_areas
from eigenseg.segment.detector.copy_paste import LabeledImage, copy_paste, resize
from eigenseg.segment.detector.settings import Recipe

logger = logging.getLogger(__name__)


class DetectionSamples:
    """Images with objects; a sample is a function of its index and a generator.

    All classes count as one. Crowd regions and masks without a pixel are no objects; images without objects are left out,
    as published. How many of each is logged.

    Args:
        dataset: of kind "objects": ``CocoInstances`` of the json that ``extract`` or ``export`` wrote, or any other.
        recipe: sizes and augmentations.
        max_size: limit of the longer side in pixels.
        masks: whether masks are needed; without them rectangles stand for objects that have none.

    Raises:
        FileNotFoundError: if images are missing.
        ValueError: if the dataset has no objects, no masks where they are needed, labels of images that it does not list,
            or a score outside of [0, 1].
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, max_size: int, masks: bool = True) -> None:
        if dataset.kind != "objects":
            raise ValueError(f"a detector is trained on objects, {dataset.title} has {dataset.kind} annotations")
        orphans = getattr(dataset, "orphans", ())
        if orphans:
            raise ValueError(
                f"{dataset.title}: {len(orphans)} annotations are of images that it does not list, such as annotation "
                f"{orphans[0]}"
            )
        check_images(dataset)
        self.dataset, self.recipe, self.max_size = dataset, recipe, max_size
        kept = [self._objects(i, masks) for i in range(len(dataset.items))]
        self.indices = [i for i, objects in enumerate(kept) if objects.any()]
        self._kept = [objects for objects in kept if objects.any()]
        empty, dropped = len(kept) - len(self.indices), sum(int((~objects).sum()) for objects in kept)
        if not self.indices:
            raise ValueError(f"{dataset.title} has no object in {len(kept)} images, so there is nothing to train on")
        if empty or dropped:
            logger.info(
                "%s: %d of %d images without objects are left out, so are %d crowd regions and masks without a pixel",
                *(dataset.title, empty, len(kept), dropped),
            )

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        """The image of a sample, as the dataset names it."""
        return self.dataset.items[self.indices[index]]

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """A sample: ``name``, ``pixels`` (3, h, w) uint8, ``boxes`` (n, 4) float32, ``masks`` (n, h, w) uint8, ``scores``.

        Args:
            index: of the sample.
            rng: of everything that is random.

        Raises:
            ValueError, FileNotFoundError: if an image cannot be read, or has another size than its annotation.
        """
        recipe = self.recipe
        shorter = int(rng.choice(recipe.sizes))
        labeled = self._flipped(self.load(index), rng)
        labeled = resize(labeled, fitted_size(labeled.pixels.shape[-2:], shorter, self.max_size))
        if len(self) > 1 and rng.random() < recipe.copy_paste:
            other = (index + int(rng.integers(1, len(self)))) % len(self)  # never the image itself
            labeled = copy_paste(labeled, self._flipped(self.load(other), rng), rng, recipe.copy_scale)
        return {
            "name": self.name(index),
            "pixels": labeled.pixels,
            "boxes": labeled.boxes,
            "masks": labeled.masks.byte(),
            "scores": labeled.scores,
        }

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: ``names``, ``images`` and ``targets`` as torchvision's detectors take them, of any sizes."""
        targets = [
            {
                "boxes": one["boxes"],
                "labels": torch.ones(len(one["boxes"]), dtype=torch.int64),
                "masks": one["masks"],
                "scores": one["scores"],
            }
            for one in items
        ]
        return {"names": [one["name"] for one in items], "images": [one["pixels"] for one in items], "targets": targets}

    def load(self, index: int) -> LabeledImage:
        """An image with its objects, as they are.

        Raises:
            ValueError, FileNotFoundError: if the image cannot be read, or has another size than its annotation.
        """
        position, kept = self.indices[index], self._kept[index]
        image = read_image(self.dataset.images(position)[0].path)
        annotation = self.dataset.annotation(position).keep(kept)
        if annotation.masks is None:
            masks = _rectangles(annotation.boxes, image)
        elif annotation.masks.shape[1:] != image.shape[:2]:
            sizes = f"{list(annotation.masks.shape[1:])} (H, W), the image {list(image.shape[:2])}"
            raise ValueError(f"{self.dataset.title}: the labels of {self.name(index)!r} are of size {sizes}")
        else:
            masks = torch.from_numpy(np.asarray(annotation.masks))
        scores = torch.ones(len(masks))
        if self.recipe.soft_targets and annotation.scores is not None:
            scores = torch.from_numpy(annotation.scores.astype(np.float32))
        return LabeledImage(torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")), masks, scores)

    def _objects(self, position: int, masks: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which annotations of an item are objects."""
        annotation: ObjectAnnotation = self.dataset.annotation(position)
        name = f"{self.dataset.title}: {self.dataset.items[position]!r}"
        if annotation.scores is not None and not ((annotation.scores >= 0) & (annotation.scores <= 1)).all():
            raise ValueError(f"{name} has scores outside of [0, 1]: {annotation.scores.tolist()}")
        if annotation.masks is None and masks and len(annotation):
            raise ValueError(f"{name} has boxes without masks; set architecture.mask_widths=[] to train on boxes alone")
        if annotation.masks is None:
            sides = annotation.boxes[:, 2:] - annotation.boxes[:, :2]
            return np.asarray((sides > 0).all(axis=1) & ~annotation.crowd)
        return np.asarray((np.array(mask_areas(annotation.masks.rles), dtype=int) > 0) & ~annotation.crowd)

    def _flipped(self, labeled: LabeledImage, rng: np.random.Generator) -> LabeledImage:
        if rng.random() >= self.recipe.flip:
            return labeled
        return LabeledImage(labeled.pixels.flip(-1), labeled.masks.flip(-1), labeled.scores)


def fitted_size(size: Sequence[int], shorter: int, longer: int) -> tuple[int, int]:
    """Size (h, w) of an image of (H, W): its shorter side becomes ``shorter``, or its longer one ``longer`` if less.

    Example:
        >>> fitted_size((480, 640), 800, 1333), fitted_size((480, 1200), 800, 1333)
        ((800, 1067), (533, 1333))
    """
    scale = min(shorter / min(size), longer / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def _rectangles(boxes: np.ndarray[Any, Any], image: ImageArray) -> Tensor:
    """Boxes as masks, rounded outward."""
    masks = torch.zeros(len(boxes), *image.shape[:2], dtype=torch.bool)
    corners = np.stack([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], axis=1).astype(int).clip(0)
    for mask, ((x0, y0), (x1, y1)) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = True
    return masks
