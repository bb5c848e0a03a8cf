"""Objects in COCO json files: a result list, or a dict with images and annotations such as eigenseg writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Dataset, ObjectAnnotation
from eigenseg.data.datasets.coco import check_unique
from eigenseg.data.detections import Detections
from eigenseg.data.json_files import check_shape
from eigenseg.data.json_shapes import COCO_FORM, CocoPredicted, CocoResult
from eigenseg.data.json_values import boxes_of_xywh
from eigenseg.data.predictions.base import stem
from eigenseg.data.rle import RleMasks, encode_segmentation, mask_boxes


class CocoPredictions:
    """Boxes or masks with scores from one json.

    An entry has ``image_id``, ``bbox`` (xywh) or ``segmentation``, and may have ``category_id`` and
    ``score``: all entries of a file, or none, which are 1 then.

    Args:
        entries: of the file.
        image_ids: id of each image, by the item's name or its file name.
        listed: id of each image that the file mentions, by a name for messages; other images have no prediction.
        category_index: the class of each category id; other ids become class -1.
        source: the file's name, for messages.

    Raises:
        ValueError: if an entry has no image id, or another shape.
    """

    def __init__(
        self,
        entries: Iterable[CocoResult],
        image_ids: Mapping[str, int],
        listed: Mapping[str, int],
        category_index: Mapping[int, int],
        source: str = "predictions",
    ) -> None:
        self._source, self._category = source, category_index
        self._image_ids, self._listed, self._numbers = image_ids, listed, frozenset(listed.values())
        self._by_stem = {stem(name): number for name, number in image_ids.items()}
        by_image: dict[int, list[CocoResult]] = defaultdict(list)
        for entry in entries:
            by_image[entry["image_id"]].append(entry)
        self._by_image = dict(by_image)
        self._scored = any("score" in entry for group in by_image.values() for entry in group)

    @classmethod
    def from_results(cls, entries: list[Any], dataset: Dataset, source: str = "predictions") -> CocoPredictions:
        """Read a result list; images and classes are given by the dataset's ids.

        Raises:
            ValueError: if the dataset has no image ids, or an entry has not the shape of a result.
        """
        image_ids, category_index = (getattr(dataset, name, None) for name in ("image_ids", "category_index"))
        if image_ids is None:
            raise ValueError(f"{source} names images by id, and {dataset.title} has no ids; write boxes by name instead")
        results = check_shape(entries, list[CocoResult], source, "a result list")
        listed = {f"image_id {entry['image_id']}": entry["image_id"] for entry in results}
        return cls(results, image_ids, listed, category_index or {}, source)

    @classmethod
    def from_dataset(
        cls, content: Mapping[str, Any], classes: Sequence[str], source: str = "predictions"
    ) -> CocoPredictions:
        """Read a dict with images, annotations and categories: images are matched by file name, classes by name.

        Raises:
            ValueError: if it has another shape, or an image occurs twice.
        """
        file = check_shape(content, CocoPredicted, source, COCO_FORM)
        images, numbers = file["images"], {name: i for i, name in enumerate(classes)}
        check_unique([image["id"] for image in images], f"{source}: image id")
        check_unique([image["file_name"] for image in images], f"{source}: file name")
        image_ids = {image["file_name"]: image["id"] for image in images}
        category_index = {entry["id"]: numbers.get(entry["name"], -1) for entry in file["categories"]}
        return cls(file["annotations"], image_ids, image_ids, category_index, source)

    def names(self) -> Iterable[str]:
        """File names, or the image ids of a result list."""
        return self._listed

    def lacks(self, item: str) -> bool:
        """Whether the file does not list an item, or a result list has no entry of it."""
        return self._number(item) not in self._numbers

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Images in the file that match no item."""
        known = {self._number(item) for item in items}
        return [name for name, number in self._listed.items() if number not in known]

    def read(self, item: str, annotation: ObjectAnnotation) -> Detections:
        """The objects of an image, in the file's order."""
        entries = self._by_image.get(self._number(item), [])
        if not entries:
            return Detections.none()
        try:
            numbers = [entry.get("category_id", 1) for entry in entries]
            labels = np.array([-1 if one is None else self._category.get(one, -1) for one in numbers], dtype=np.int64)
            scores, masks = self._scores(entries), self._masks(entries, annotation)
            unmasked = sum(not entry.get("segmentation") for entry in entries)
            boxes = self._boxes(entries, masks)
            return Detections(boxes, scores, labels, masks, unmasked if unmasked < len(entries) else 0)
        except ValueError as error:
            raise ValueError(f"{self._source}: {item}: {error}") from None

    def _number(self, item: str) -> int:
        # No image has a negative id.
        return self._image_ids.get(item, self._by_stem.get(stem(item), -1))

    def _masks(self, entries: list[CocoResult], annotation: ObjectAnnotation) -> RleMasks | None:
        if not all(entry.get("segmentation") for entry in entries):
            return None
        sizes = [_rle_size(s) for entry in entries if isinstance(s := entry["segmentation"], dict)]
        size = sizes[0] if sizes else annotation.image_size
        if size is None:
            raise ValueError("polygons need the image's size, which the dataset does not provide")
        return RleMasks([encode_segmentation(entry["segmentation"], size) for entry in entries], size, checked=True)

    def _boxes(self, entries: list[CocoResult], masks: RleMasks | None) -> NDArray[np.float64]:
        boxes = [entry.get("bbox") for entry in entries]
        if None not in boxes:
            return boxes_of_xywh(boxes)
        if masks is None:
            i = boxes.index(None)
            has = "bbox null" if "bbox" in entries[i] else "no bbox"
            raise ValueError(
                f"entry {i + 1} of {len(entries)} of this image has {has}, and not all entries have a segmentation"
            )
        return mask_boxes(masks.rles)

    def _scores(self, entries: list[CocoResult]) -> NDArray[np.float64]:
        """The scores of an image's entries; all 1 if no entry of the file has one."""
        if not self._scored:
            return np.ones(len(entries))
        for i, entry in enumerate(entries, start=1):
            if "score" not in entry:
                raise ValueError(
                    f"entry {i} of {len(entries)} of this image has no score, and other entries of the file have one; "
                    "give every entry a score, or none"
                )
        return np.array([entry["score"] for entry in entries], dtype=np.float64)


def _rle_size(segmentation: Mapping[str, Any]) -> tuple[int, int]:
    """The (H, W) that run lengths are said to have; whether they have is checked where they are encoded."""
    size = segmentation.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        raise ValueError(f"the size of run lengths must be [height, width], got {size!r}")
    return size[0], size[1]
