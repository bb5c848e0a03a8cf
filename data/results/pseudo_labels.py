"""Predicted objects as training labels: COCO json for the data loader of the CutLER detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eigenseg.data.instances import FOREGROUND
from eigenseg.data.json_files import check_shape
from eigenseg.data.json_shapes import ExportedInstance, InstancesFile, SizedImage
from eigenseg.data.rle import encode_segmentation, mask_areas, mask_boxes


def pseudo_labels(results: Mapping[str, Any], min_score: float = 0.0, prefix: str = "") -> dict[str, Any]:
    """Turn ``instances.json`` into pseudo-labels.

    One category, ``fg`` with id 1; ids from 1; every annotation also has its image's width and height; boxes and areas
    are those of the masks. Width and height are not swapped: the published generator swaps them, and its loader swaps them
    back where they do not match the image, so it reads these files as well.

    Args:
        results: content of ``instances.json``.
        min_score: annotations below it are dropped; images are kept.
        prefix: put before every file name, such as ``"n02111889/"``.

    Raises:
        ValueError: if the content is not that of an ``instances.json``.
    """
    file = check_shape(results, InstancesFile, "this", "an instances.json of eigenseg")
    images = {image["id"]: image for image in file["images"]}
    for entry in file["annotations"]:
        if entry["image_id"] not in images:
            raise ValueError(f"an annotation has image_id {entry['image_id']}, which no image has")
    kept = [entry for entry in file["annotations"] if entry.get("score", 1.0) >= min_score]
    annotations = [_annotation(number, entry, images[entry["image_id"]]) for number, entry in enumerate(kept, start=1)]
    image_entries = [
        {
            "id": image["id"],
            "file_name": f"{prefix}{image['file_name']}",
            "width": image["width"],
            "height": image["height"],
            "date_captured": "",
            "license": 1,
            "coco_url": "",
            "flickr_url": "",
        }
        for image in file["images"]
    ]
    return {
        "info": {"description": "pseudo-labels found without supervision by eigenseg"},
        "licenses": [{"id": 1, "name": "that of the images", "url": ""}],
        "categories": [{"id": 1, "name": FOREGROUND, "supercategory": FOREGROUND}],
        "images": image_entries,
        "annotations": annotations,
    }


def _annotation(number: int, entry: ExportedInstance, image: SizedImage) -> dict[str, Any]:
    try:
        rle = encode_segmentation(entry["segmentation"], (image["height"], image["width"]))
    except ValueError as error:
        raise ValueError(f"an annotation of image {image['id']}: {error}") from None
    x0, y0, x1, y1 = mask_boxes([rle])[0].tolist()
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": 1,
        "iscrowd": 0,
        "area": mask_areas([rle])[0],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "segmentation": dict(rle),
        "width": image["width"],
        "height": image["height"],
        "score": entry.get("score", 1.0),
    }
