"""PASCAL VOC detection: boxes of twenty classes.

::

    root/                            VOCdevkit/VOC2007 or VOCdevkit/VOC2012
      Annotations/000005.xml
      ImageSets/Main/trainval.txt    one id per line
      JPEGImages/000005.jpg

From http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ and .../voc2012/ (trainval and test archives).

The files contain 1-based inclusive corners: (xmin, ymin, xmax, ymax) covers columns xmin - 1 to xmax - 1 counted
from 0, which is (xmin - 1, ymin - 1, xmax, ymax) half-open. LOST and TokenCut subtract 1 from the same two numbers.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np

from eigenseg.data.datasets.base import Kind, ObjectAnnotation, read_lines, require
from eigenseg.data.sources import ImageSource

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
ORIGIN = "http://host.robots.ox.ac.uk/pascal/VOC/"


class VocDetection:
    """PASCAL VOC 2007 or 2012 with boxes, difficult and truncated flags.

    Args:
        root: the folder with Annotations, ImageSets and JPEGImages.
        year: 2007 or 2012, for the title.
        split: name of the list below ``ImageSets/Main``: trainval (5011 and 11540 images), test...

    Raises:
        FileNotFoundError: if the list or the annotations are missing.
    """

    kind: ClassVar[Kind] = "objects"
    classes = VOC_CLASSES

    def __init__(self, root: str | os.PathLike[str], year: int = 2007, split: str = "trainval") -> None:
        self.root, self.title = Path(root), f"PASCAL VOC {year} {split}"
        require(self.root / "Annotations", self.title, ORIGIN)
        ids = read_lines(require(self.root / "ImageSets" / "Main" / f"{split}.txt", self.title, ORIGIN))
        self.items = [f"{line.split()[0]}.jpg" for line in ids]

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item."""
        name = self.items[index]
        return [ImageSource(self.root / "JPEGImages" / name, name)]

    def annotation(self, index: int) -> ObjectAnnotation:
        """Boxes, classes and flags; difficult and truncated objects are included."""
        file = self.root / "Annotations" / f"{Path(self.items[index]).stem}.xml"
        return read_voc_xml(require(file, self.title, ORIGIN), {name: i for i, name in enumerate(self.classes)})


def read_voc_xml(path: Path, classes: dict[str, int]) -> ObjectAnnotation:
    """Read an annotation file in PASCAL VOC format (ImageNet's is the same).

    Args:
        path: the file.
        classes: index of each class name.

    Raises:
        ValueError: if the file is damaged or names an unknown class.
    """
    try:
        tree = ElementTree.parse(path)
        objects = tree.findall("object")
        names = [_text(entry, "name") for entry in objects]
        corners = [
            [float(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")] for entry in objects
        ]
        size = tree.find("size")
        image_size = None if size is None else (int(_text(size, "height")), int(_text(size, "width")))
        flags = {
            flag: np.array([entry.findtext(flag, "0").strip() == "1" for entry in objects], dtype=bool)
            for flag in ("difficult", "truncated")
        }
        labels = np.array([classes[name] for name in names], dtype=np.int64)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from None
    except KeyError as error:
        raise ValueError(f"{path} names the unknown class {error}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not an annotation in PASCAL VOC format: {error}") from None
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4) - np.array([1, 1, 0, 0])
    try:
        return ObjectAnnotation(boxes, labels, image_size, difficult=flags["difficult"], truncated=flags["truncated"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _text(entry: ElementTree.Element, path: str) -> str:
    text = entry.findtext(path)
    if text is None:
        raise ValueError(f"<{entry.tag}> has no <{path}>")
    return text.strip()
