"""Records of a run as one COCO dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from eigenseg.data.instances import FOREGROUND
from eigenseg.data.results.records import Record

_INFO = {"description": "eigenseg: objects found without labels"}


def coco_chunks(images: Iterable[tuple[str, tuple[int, int]]], records: Iterable[Record]) -> Iterator[str]:
    """The json (images, annotations, categories) piece by piece, so that the masks of all images need not fit into memory.

    Args:
        images: name and (H, W) of each image, sorted by name.
        records: of the images, in the same order.
    """
    yield from ('{"info": ', json.dumps(_INFO), ', "images": [')
    for image_id, (name, (height, width)) in enumerate(images, start=1):
        image = {"id": image_id, "file_name": name, "width": width, "height": height}
        yield (", " if image_id > 1 else "") + json.dumps(image)
    yield '], "annotations": ['
    categories, count = {FOREGROUND: 1}, 0
    for image_id, record in enumerate(records, start=1):
        instances = record.instances()
        for annotation in instances.to_coco():
            # Names may differ between images; in the file each has one id.
            name = instances.names[annotation["category_id"] - 1]
            category = categories.setdefault(name, len(categories) + 1)
            count += 1
            entry = {"id": count, "image_id": image_id, **annotation, "category_id": category}
            yield (", " if count > 1 else "") + json.dumps(entry, allow_nan=False)
    yield f'], "categories": {json.dumps(_categories(categories))}}}\n'


def _categories(numbers: dict[str, int]) -> list[dict[str, Any]]:
    return [{"id": i, "name": name, "supercategory": FOREGROUND} for name, i in numbers.items()]
