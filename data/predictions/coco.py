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
from eigenseg.data.json_values import boxes_of_xywh, is_number, quoted
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
        ValueError: if an entry has no image id.
    """

    def __init__(
        self,
        entries: Iterable[Mapping[str, Any]],
        image_ids: Mapping[str, int],
        listed: Mapping[str, int],
        category_index: Mapping[int, int],
        source: str = "predictions",
    ) -> None:
        self._source, self._category = source, category_index
        self._image_ids, self._listed, self._numbers = image_ids, listed, frozenset(listed.values())
        self._by_stem = {stem(name): number for name, number in image_ids.items()}
        by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        try:
            for entry in entries:
                by_image[entry["image_id"]].append(entry)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{source} is not in COCO format ({type(error).__name__}: {error})") from None
        if any(not isinstance(number, int) for number in by_image):
            raise ValueError(f"{source}: image_id must be an integer in every entry, as in the dataset")
        self._by_image = dict(by_image)
        self._scored = any("score" in entry for group in by_image.values() for entry in group)

    @classmethod
    def from_results(cls, entries: list[Any], dataset: Dataset, source: str = "predictions") -> CocoPredictions:
        """Read a result list; images and classes are given by the dataset's ids.

        Raises:
            ValueError: if the dataset has no image ids.
        """
        image_ids, category_index = (getattr(dataset, name, None) for name in ("image_ids", "category_index"))
        if image_ids is None:
            raise ValueError(f"{source} names images by id, and {dataset.title} has no ids; write boxes by name instead")
        if not all(isinstance(entry, dict) and "image_id" in entry for entry in entries):
            raise ValueError(f"{source} is not a result list: every entry needs image_id, score and bbox or segmentation")
        listed = {f"image_id {entry['image_id']}": entry["image_id"] for entry in entries}
        return cls(entries, image_ids, listed, category_index or {}, source)

    @classmethod
    def from_dataset(
        cls, content: Mapping[str, Any], classes: Sequence[str], source: str = "predictions"
    ) -> CocoPredictions:
        """Read a dict with images, annotations and categories: images are matched by file name, classes by name.

        Raises:
            ValueError: if a key is missing, or an image occurs twice.
        """
        try:
            images, numbers = content["images"], {name: i for i, name in enumerate(classes)}
            check_unique([image["id"] for image in images], "image id")
            check_unique([image["file_name"] for image in images], "file name")
            image_ids = {image["file_name"]: image["id"] for image in images}
            category_index = {entry["id"]: numbers.get(entry["name"], -1) for entry in content["categories"]}
            entries = content["annotations"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source} is not in COCO format ({type(error).__name__}: {error})") from None
        return cls(entries, image_ids, image_ids, category_index, source)

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
            scores = self._scores(entries)
            labels = np.array([self._category.get(entry.get("category_id", 1), -1) for entry in entries], dtype=np.int64)
            masks = self._masks(entries, annotation)
            unmasked = sum(not entry.get("segmentation") for entry in entries)
            boxes = self._boxes(entries, masks)
            return Detections(boxes, scores, labels, masks, unmasked if unmasked < len(entries) else 0)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._source}: {item}: {error}") from None

    def _number(self, item: str) -> int:
        # No image has a negative id.
        return self._image_ids.get(item, self._by_stem.get(stem(item), -1))

    def _masks(self, entries: list[Mapping[str, Any]], annotation: ObjectAnnotation) -> RleMasks | None:
        if not all(entry.get("segmentation") for entry in entries):
            return None
        sizes = [tuple(s["size"]) for entry in entries if isinstance(s := entry["segmentation"], dict)]
        size = sizes[0] if sizes else annotation.image_size
        if size is None:
            raise ValueError("polygons need the image's size, which the dataset does not provide")
        return RleMasks([encode_segmentation(entry["segmentation"], size) for entry in entries], size)

    def _boxes(self, entries: list[Mapping[str, Any]], masks: RleMasks | None) -> NDArray[np.float64]:
        boxes = [entry.get("bbox") for entry in entries]
        if masks is not None and any(box is None for box in boxes):
            return mask_boxes(masks.rles)
        for i, (entry, box) in enumerate(zip(entries, boxes, strict=True), start=1):
            if box is None:
                has = "bbox null" if "bbox" in entry else "no bbox"
                raise ValueError(
                    f"entry {i} of {len(entries)} of this image has {has}, and not all entries have a segmentation"
                )
        return boxes_of_xywh(boxes)

    def _scores(self, entries: list[Mapping[str, Any]]) -> NDArray[np.float64]:
        """The scores of an image's entries; all 1 if no entry of the file has one."""
        if not self._scored:
            return np.ones(len(entries))
        for i, entry in enumerate(entries, start=1):
            if "score" not in entry:
                raise ValueError(
                    f"entry {i} of {len(entries)} of this image has no score, and other entries of the file have one; "
                    "give every entry a score, or none"
                )
            if not is_number(entry["score"]):
                raise ValueError(
                    f"entry {i} of {len(entries)} of this image has score {quoted(entry['score'])}; "
                    "a score is a finite number"
                )
        return np.array([entry["score"] for entry in entries], dtype=np.float64)
