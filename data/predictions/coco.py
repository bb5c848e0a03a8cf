"""Objects in COCO's json forms: a result list, or a dict with images and annotations such as eigenseg writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Dataset, ObjectAnnotation
from eigenseg.data.datasets.coco import check_unique
from eigenseg.data.detections import Detections
from eigenseg.data.predictions.base import stem
from eigenseg.data.rle import RleMasks, encode_segmentation, mask_boxes


class CocoPredictions:
    """Boxes or masks with scores from one json.

    An entry has ``image_id``, ``bbox`` (xywh) or ``segmentation``, and may have ``score`` (1 if not) and ``category_id``.

    Args:
        entries: of the file.
        image_ids: number of each image, by the item's name or its file name.
        looked_at: number of each image that was looked at, by a name for messages; other images have no prediction.
        category_index: the class of each category number; other numbers become class -1.
        source: the file's name, for messages.

    Raises:
        ValueError: if an entry names no image.
    """

    def __init__(
        self,
        entries: Iterable[Mapping[str, Any]],
        image_ids: Mapping[str, int],
        looked_at: Mapping[str, int],
        category_index: Mapping[int, int],
        source: str = "predictions",
    ) -> None:
        self._source, self._category = source, category_index
        self._image_ids, self._looked_at, self._numbers = image_ids, looked_at, frozenset(looked_at.values())
        self._by_stem = {stem(name): number for name, number in image_ids.items()}
        found: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        try:
            for entry in entries:
                found[entry["image_id"]].append(entry)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{source} is not in COCO's form ({type(error).__name__}: {error})") from None
        if any(not isinstance(number, int) for number in found):
            raise ValueError(f"{source}: image_id must be an integer in every entry, as the dataset has it")
        self._found = dict(found)

    @classmethod
    def from_results(cls, entries: list[Any], dataset: Dataset, source: str = "predictions") -> CocoPredictions:
        """Read a result list: images and classes go by the numbers that the dataset gives them.

        Raises:
            ValueError: if the dataset has no numbers.
        """
        image_ids, category_index = (getattr(dataset, name, None) for name in ("image_ids", "category_index"))
        if image_ids is None:
            raise ValueError(f"{source} names images by number, and {dataset.title} has none; give boxes by name instead")
        if not all(isinstance(entry, dict) and "image_id" in entry for entry in entries):
            raise ValueError(f"{source} is no result list: every entry needs image_id, score and bbox or segmentation")
        looked_at = {f"image_id {entry['image_id']}": entry["image_id"] for entry in entries}
        return cls(entries, image_ids, looked_at, category_index or {}, source)

    @classmethod
    def from_dataset(
        cls, content: Mapping[str, Any], classes: Sequence[str], source: str = "predictions"
    ) -> CocoPredictions:
        """Read a dict with images, annotations and categories: images go by file name, classes by name.

        Raises:
            ValueError: if something is missing, or an image occurs twice.
        """
        try:
            images, numbers = content["images"], {name: i for i, name in enumerate(classes)}
            check_unique([image["id"] for image in images], "image id")
            check_unique([image["file_name"] for image in images], "file name")
            image_ids = {image["file_name"]: image["id"] for image in images}
            category_index = {entry["id"]: numbers.get(entry["name"], -1) for entry in content["categories"]}
            entries = content["annotations"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{source} is not in COCO's form ({type(error).__name__}: {error})") from None
        return cls(entries, image_ids, image_ids, category_index, source)

    def names(self) -> Iterable[str]:
        """File names, or the numbers of a result list."""
        return self._looked_at

    def lacks(self, item: str) -> bool:
        """Whether the file's images do not mention an item, or a result list has no entry of it."""
        return self._number(item) not in self._numbers

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Images in the file that belong to no item."""
        known = {self._number(item) for item in items}
        return [name for name, number in self._looked_at.items() if number not in known]

    def read(self, item: str, annotation: ObjectAnnotation) -> Detections:
        """The objects of an image, in the file's order."""
        entries = self._found.get(self._number(item), [])
        if not entries:
            return Detections.none()
        try:
            scores = [entry.get("score", 1.0) for entry in entries]
            labels = np.array([self._category.get(entry.get("category_id", 1), -1) for entry in entries], dtype=np.int64)
            masks = self._masks(entries, annotation)
            return Detections(self._boxes(entries, masks), np.array(scores, dtype=np.float64), labels, masks)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self._source}: {item}: {error}") from None

    def _number(self, item: str) -> int:
        # No image has a negative number.
        return self._image_ids.get(item, self._by_stem.get(stem(item), -1))

    def _masks(self, entries: list[Mapping[str, Any]], annotation: ObjectAnnotation) -> RleMasks | None:
        if not all(entry.get("segmentation") for entry in entries):
            return None
        sizes = [tuple(s["size"]) for entry in entries if isinstance(s := entry["segmentation"], dict)]
        size = sizes[0] if sizes else annotation.image_size
        if size is None:
            raise ValueError("polygons need the image's size, which the dataset does not tell")
        return RleMasks([encode_segmentation(entry["segmentation"], size) for entry in entries], size)

    def _boxes(self, entries: list[Mapping[str, Any]], masks: RleMasks | None) -> NDArray[np.float64]:
        if all("bbox" in entry for entry in entries):
            if any(len(entry["bbox"]) != 4 for entry in entries):
                raise ValueError("a bbox must have four numbers, x, y, width and height")
            boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64)
            boxes[:, 2:] += boxes[:, :2]
            return boxes
        if masks is None:
            raise ValueError("an entry has neither bbox nor segmentation")
        return mask_boxes(masks.rles)
