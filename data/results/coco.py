"""Records of a run as one COCO dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eigenseg.data.instances import FOREGROUND
from eigenseg.data.results.log import DONE, Record


def coco_dataset(records: Iterable[Record]) -> dict[str, Any]:
    """Join records of finished images into one COCO dict (images, annotations, categories)."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {FOREGROUND: 1}
    finished = (record for record in records if record["status"] == DONE)
    for image_id, record in enumerate(sorted(finished, key=lambda record: str(record["image"])), start=1):
        height, width = record["size"]
        images.append({"id": image_id, "file_name": record["image"], "width": width, "height": height})
        for annotation in record["annotations"]:
            # Names may differ between images; in the file each has one id.
            name = record["names"][annotation["category_id"] - 1]
            category = categories.setdefault(name, len(categories) + 1)
            numbers = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append({**numbers, **annotation, "category_id": category})
    return {
        "info": {"description": "eigenseg: objects found without labels"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": FOREGROUND} for name, i in categories.items()],
    }
