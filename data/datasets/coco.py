"""COCO instances: polygons, crowd regions and boxes of eighty classes; also COCO20k.

::

    root/
      annotations/instances_val2017.json
      val2017/000000000139.jpg

From https://cocodataset.org/#download. COCO20k is the list of 19,817 images of train2014 on which object discovery is
evaluated (``datasets/coco_20k_filenames.txt`` of https://github.com/valeoai/LOST); pass it as ``image_list``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Kind, ObjectAnnotation, read_lines, require, require_given
from eigenseg.data.geometry import Size
from eigenseg.data.json_files import check_shape, read_json
from eigenseg.data.json_shapes import COCO_FORM, CocoAnnotation, CocoFile, CocoImage
from eigenseg.data.json_values import boxes_of_xywh
from eigenseg.data.rle import Rle, RleMasks, encode_segmentation
from eigenseg.data.sources import ImageSource

ORIGIN = "https://cocodataset.org/#download"


class CocoInstances:
    """Images with instance annotations in COCO format.

    Args:
        root: the folder with ``annotations`` and the images.
        split: names both: ``annotations/instances_<split>.json`` and the folder ``<split>``.
        annotations: another json, instead; a path, relative to the working folder.
        image_list: a text file, relative to the working folder; only the images whose file names end its lines are kept, in
            the list's order.
        masks: whether masks are read; without them only boxes are scored. ``orphans`` are ids of annotations of images that
            the json does not list; they are never read. Published pseudo-label files with swapped width
            and height are recognized by their masks.

    Raises:
        FileNotFoundError: if the json or the list is missing.
        ValueError: if the json is not in COCO format, an id occurs twice, or the list names unknown images.
    """

    kind: ClassVar[Kind] = "objects"

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "val2017",
        annotations: str | os.PathLike[str] | None = None,
        image_list: str | os.PathLike[str] | None = None,
        masks: bool = True,
    ) -> None:
        self.root, self.split, self.masks, self.title = Path(root), split, masks, f"COCO {split}"
        if annotations is not None:
            self.title = f"COCO {Path(annotations).stem}"
        if annotations is None:
            file = require(self.root / f"annotations/instances_{split}.json", self.title, ORIGIN)
        else:
            file = require_given(annotations, "annotations", self.title, self.root)
        self._load(file)
        if image_list is not None:
            self._select(require_given(image_list, "image_list", self.title, self.root))
            self.title += f", {Path(image_list).stem}"

    @property
    def image_ids(self) -> dict[str, int]:
        """The id of each item in result files."""
        return {item: image["id"] for item, image in zip(self.items, self._images, strict=True)}

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item."""
        image = self._images[index]
        return [ImageSource(self.image_path(image), image["file_name"])]

    def image_path(self, image: CocoImage) -> Path:
        """Path of the image of an entry of the images table."""
        return self.root / self.split / image["file_name"]

    def annotation(self, index: int) -> ObjectAnnotation:
        """Boxes, classes, areas, crowd flags and, if ``masks`` is set, masks, in the file's order.

        Raises:
            ValueError: if a box or a mask is damaged; the message names the file and the annotation or image.
        """
        image = self._images[index]
        entries = self._annotations.get(image["id"], [])
        size = _image_size(image, entries)
        corners = np.concatenate([np.zeros((0, 4)), *(self._corners(entry) for entry in entries)])
        encoded = [self._encode(entry, size) for entry in entries] if self.masks else None
        try:
            return ObjectAnnotation(
                boxes=corners,
                labels=np.array([self.category_index[entry["category_id"]] for entry in entries], dtype=np.int64),
                image_size=size,
                masks=None if encoded is None else RleMasks(encoded, size, checked=True),
                areas=np.array([entry["area"] for entry in entries], dtype=np.float64),
                crowd=np.array([entry.get("iscrowd", 0) for entry in entries], dtype=bool),
                image_id=image["id"],
                scores=_scores(entries),
            )
        except ValueError as error:
            raise ValueError(f"{self._file}: image {image['id']}: {error}") from None

    def _corners(self, entry: CocoAnnotation) -> NDArray[np.float64]:
        try:
            return boxes_of_xywh([entry["bbox"]])
        except ValueError as error:
            raise ValueError(f"{self._file}: annotation {entry['id']}: {error}") from None

    def _encode(self, entry: CocoAnnotation, size: Size) -> Rle:
        try:
            return encode_segmentation(entry.get("segmentation"), size)
        except ValueError as error:
            raise ValueError(f"{self._file}: annotation {entry['id']}: {error}") from None

    def _load(self, path: Path) -> None:
        content = check_shape(read_json(path), CocoFile, str(path), COCO_FORM)
        images, entries = content["images"], content["annotations"]
        categories = sorted(content["categories"], key=lambda category: category["id"])
        for image in images:
            if "file_name" not in image:
                if "coco_url" not in image:
                    raise ValueError(f"{path} is not {COCO_FORM}: image {image['id']} has neither file_name nor coco_url")
                image["file_name"] = "/".join(image["coco_url"].split("/")[-2:])
        self._file, self._images = path, sorted(images, key=lambda image: image["id"])
        for kind, ids in (("image", [image["id"] for image in images]), ("annotation", [one["id"] for one in entries])):
            check_unique(ids, f"{path}: {kind} id")
        self.classes = tuple(category["name"] for category in categories)
        self.category_index = {category["id"]: i for i, category in enumerate(categories)}
        self._annotations: dict[int, list[CocoAnnotation]] = defaultdict(list)
        for entry in entries:
            if entry["category_id"] not in self.category_index:
                raise ValueError(f"{path}: annotation {entry['id']} has the unknown category {entry['category_id']}")
            self._annotations[entry["image_id"]].append(entry)
        listed = {image["id"] for image in images}
        self.orphans = [entry["id"] for entry in entries if entry["image_id"] not in listed]
        self.items = [image["file_name"] for image in self._images]
        check_unique(self.items, f"{path}: file name")

    def _select(self, image_list: Path) -> None:
        names = [line.replace("\\", "/").split("/")[-1] for line in read_lines(image_list)]
        check_unique(names, f"{image_list}: image")
        by_name = {image["file_name"].split("/")[-1]: image for image in self._images}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise ValueError(f"{image_list} lists {len(missing)} images that the annotations lack, such as {missing[0]}")
        self._images = [by_name[name] for name in names]
        self.items = [image["file_name"] for image in self._images]


def _image_size(image: CocoImage, annotations: list[CocoAnnotation]) -> Size:
    """(H, W) of an entry; MaskCut's published generator swaps the two, which the size of the RLEs shows."""
    size = (int(image["height"]), int(image["width"]))
    sizes = {str(s.get("size")) for entry in annotations if isinstance(s := entry.get("segmentation"), dict)}
    return (size[1], size[0]) if sizes == {str([size[1], size[0]])} else size


def check_unique(values: list[Any], what: str) -> None:
    """Raise if a list holds a value twice.

    Raises:
        ValueError: naming the first such value.
    """
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} occurs twice")
        seen.add(value)


def _scores(entries: Sequence[CocoAnnotation]) -> NDArray[np.float64] | None:
    """Scores of pseudo-labels; an entry without one counts 1, and None if no entry has one."""
    if not any("score" in entry for entry in entries):
        return None
    return np.array([entry.get("score", 1.0) for entry in entries], dtype=np.float64)
