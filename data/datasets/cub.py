"""CUB-200-2011: birds of two hundred species, one box each.

::

    root/                              CUB_200_2011
      images.txt                       <image> <path below images>
      bounding_boxes.txt               <image> <x> <y> <width> <height>
      train_test_split.txt             <image> <1 for training, 0 for test>
      image_class_labels.txt           <image> <class>
      classes.txt                      <class> <name>
      images/001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg

From https://www.vision.caltech.edu/datasets/cub_200_2011/. Images and classes are numbered from 1; labels from 0.

A box is (x, y, x + width, y + height) half-open. TokenCut's evaluation takes x + width - 1 for its last column and counts
columns with + 1, which is the same box in an inclusive convention.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from eigenseg.data.checks import check_choice
from eigenseg.data.datasets.base import Kind, ObjectAnnotation, read_lines, require
from eigenseg.data.sources import ImageSource

ORIGIN = "https://www.vision.caltech.edu/datasets/cub_200_2011/"
_SPLITS = {"train": ("1",), "test": ("0",), "all": ("0", "1")}


class CubBoxes:
    """CUB-200-2011 with boxes.

    Args:
        root: the folder with images.txt and the other tables.
        split: train (5,994 images), test (5,794) or all.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if a table is damaged or lacks an image, or the split is unknown.
    """

    kind: ClassVar[Kind] = "objects"

    def __init__(self, root: str | os.PathLike[str], split: str = "test") -> None:
        check_choice("split", split, tuple(_SPLITS))
        self.root, self.title = Path(root), f"CUB-200-2011 {split}"
        names, splits = self._table("classes.txt", 1), self._table("train_test_split.txt", 1)
        paths, labels = self._table("images.txt", 1), self._table("image_class_labels.txt", 1)
        boxes, numbers = self._table("bounding_boxes.txt", 4), {key: i for i, key in enumerate(names)}
        self.classes = tuple(name for (name,) in names.values())
        self.items: list[str] = []
        self._annotation: list[tuple[tuple[float, ...], int]] = []
        for image, (path,) in paths.items():
            try:
                if splits[image][0] not in _SPLITS[split]:
                    continue
                x, y, width, height = (float(side) for side in boxes[image])
                self._annotation.append(((x, y, x + width, y + height), numbers[labels[image][0]]))
            except KeyError as error:
                raise ValueError(
                    f"{self.title}: the tables in {self.root} lack {error} for image {image} ({path})"
                ) from None
            except ValueError as error:
                raise ValueError(
                    f"{self.root / 'bounding_boxes.txt'}: the box of image {image} is damaged ({error})"
                ) from None
            self.items.append(path)

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item."""
        name = self.items[index]
        return [ImageSource(self.root / "images" / name, name)]

    def annotation(self, index: int) -> ObjectAnnotation:
        """The box and its class; the tables do not contain the image's size."""
        box, label = self._annotation[index]
        return ObjectAnnotation(np.array([box]), np.array([label]))

    def _table(self, name: str, columns: int) -> dict[str, list[str]]:
        path = require(self.root / name, self.title, ORIGIN)
        table: dict[str, list[str]] = {}
        for line in read_lines(path):
            key, *values = line.split()
            if len(values) != columns:
                raise ValueError(f"{path} has the line {line!r}; expected a number and {columns} more columns")
            if key in table:
                raise ValueError(f"{path} has two lines for id {key}")
            table[key] = values
        return table
