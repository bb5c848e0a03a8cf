"""PASCAL VOC segmentation: pixelwise classes (background and twenty) and objects.

::

    root/                                   VOCdevkit/VOC2012 or VOCdevkit/VOC2007
      ImageSets/Segmentation/val.txt        one id per line
      JPEGImages/2007_000033.jpg
      SegmentationClass/2007_000033.png     palette indices: 0 background, 1 to 20 classes, 255 void
      SegmentationObject/2007_000033.png    palette indices: 0 background, 1 to n objects, 255 void (only ``instances``)

From http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ and .../voc2007/ (trainval and test archives).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VOID, Kind, ObjectAnnotation, read_lines, require
from eigenseg.data.datasets.voc import ORIGIN, VOC_CLASSES
from eigenseg.data.label_maps import read_label_map
from eigenseg.data.rle import RleMasks, encode_masks
from eigenseg.data.sources import ImageSource


class VocSegmentation:
    """PASCAL VOC 2007 or 2012 with a class per pixel.

    Args:
        root: the folder with ImageSets, JPEGImages and SegmentationClass.
        year: 2007 or 2012, for the title.
        split: name of the list below ``ImageSets/Segmentation``: train, val, trainval...

    Raises:
        FileNotFoundError: if the list or the annotations are missing.
    """

    kind: ClassVar[Kind] = "semantic"
    classes = ("background", *VOC_CLASSES)

    def __init__(self, root: str | os.PathLike[str], year: int = 2012, split: str = "val") -> None:
        self.root, self.title = Path(root), f"PASCAL VOC {year} segmentation {split}"
        require(self.root / "SegmentationClass", self.title, ORIGIN)
        ids = read_lines(require(self.root / "ImageSets" / "Segmentation" / f"{split}.txt", self.title, ORIGIN))
        self.items = [f"{line.split()[0]}.jpg" for line in ids]

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item."""
        name = self.items[index]
        return [ImageSource(self.root / "JPEGImages" / name, name)]

    def annotation(self, index: int) -> NDArray[np.uint8]:
        """Classes: (H, W) uint8, 0 background, 1 to 20 as in ``classes``, 255 void.

        Raises:
            FileNotFoundError: if the annotation is missing.
            ValueError: if it holds other values.
        """
        path, classes = self._read("SegmentationClass", index)
        wrong = np.unique(classes[(classes >= len(self.classes)) & (classes != VOID)])
        if len(wrong):
            raise ValueError(f"{path} holds the class {int(wrong[0])}; expected 0 to {len(self.classes) - 1} and 255, void")
        return classes.astype(np.uint8)

    def instances(self, index: int) -> ObjectAnnotation:
        """Objects: tight half-open boxes, masks without void, and classes numbered as in ``VocDetection``.

        Raises:
            FileNotFoundError: if an annotation is missing.
            ValueError: if the two annotations disagree in size or an object has no class.
        """
        path, numbers = self._read("SegmentationObject", index)
        classes = self.annotation(index)
        if numbers.shape != classes.shape:
            raise ValueError(f"{path} has shape {numbers.shape}, the classes have {classes.shape}")
        objects = [number for number in np.unique(numbers).tolist() if number not in (0, VOID)]
        masks = numbers == np.array(objects, dtype=np.int64).reshape(-1, 1, 1)
        boxes, labels = [], []
        for number, mask in zip(objects, masks, strict=True):
            votes = np.bincount(classes[mask], minlength=VOID + 1)[1 : len(self.classes)]
            if not votes.any():
                raise ValueError(f"{path} holds object {number}, whose pixels have no class")
            labels.append(int(votes.argmax()))
            rows, columns = np.nonzero(mask)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        return ObjectAnnotation(
            boxes=np.array(boxes, dtype=np.float64),
            labels=np.array(labels, dtype=np.int64),
            image_size=(classes.shape[0], classes.shape[1]),
            masks=RleMasks(encode_masks(masks), (classes.shape[0], classes.shape[1])),
            areas=masks.sum(axis=(1, 2)).astype(np.float64),
        )

    def _read(self, folder: str, index: int) -> tuple[Path, NDArray[np.int32]]:
        path = require(self.root / folder / f"{Path(self.items[index]).stem}.png", self.title, ORIGIN)
        return path, read_label_map(path)
