"""LVIS v1: instances of over a thousand classes on COCO's images.

::

    root/
      annotations/lvis_v1_val.json
      train2017/000000446522.jpg      COCO's folders; the val set uses images of both
      val2017/000000397133.jpg

From https://www.lvisdataset.org/dataset (annotations) and https://cocodataset.org/#download (images). The json names an
image only by its URL (``coco_url``), whose last two parts are its path below ``root`` and the item's name.

Not every class was annotated in every image (``neg_category_ids``, ``not_exhaustive_category_ids``). That matters for
per-class average precision, which needs LVIS's own rules, and not for class-agnostic boxes and masks.
"""

from __future__ import annotations

import os
from pathlib import Path

from eigenseg.data.datasets.base import require, require_given
from eigenseg.data.datasets.coco import CocoInstances
from eigenseg.data.json_shapes import CocoImage

ORIGIN = "https://www.lvisdataset.org/dataset"


class LvisInstances(CocoInstances):
    """LVIS v1 instances.

    Args:
        root: the folder with ``annotations`` and COCO's image folders.
        split: names the annotations: ``annotations/lvis_v1_<split>.json``.
        annotations: another json, instead; a path, relative to the working folder.
        image_list: a text file, relative to the working folder; only the images whose file names end its lines are kept, in
            the list's order.
        masks: whether masks are read.

    Raises:
        FileNotFoundError: if the json or the list is missing.
        ValueError: if the json is not in LVIS format, an id occurs twice, or the list names unknown images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "val",
        annotations: str | os.PathLike[str] | None = None,
        image_list: str | os.PathLike[str] | None = None,
        masks: bool = True,
    ) -> None:
        title = f"LVIS v1 {split}"
        if annotations is None:
            annotations = require(Path(root) / f"annotations/lvis_v1_{split}.json", title, ORIGIN)
        else:
            require_given(annotations, "annotations", title, Path(root))
        super().__init__(root, split, annotations, image_list, masks)
        self.title = title

    def image_path(self, image: CocoImage) -> Path:
        """Path of the image of an entry of the images table."""
        return self.root / image["file_name"]
