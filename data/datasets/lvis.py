"""LVIS v1: instances of over a thousand classes on COCO's pictures.

::

    root/
      annotations/lvis_v1_val.json
      train2017/000000446522.jpg      COCO's folders; the val set uses pictures of both
      val2017/000000397133.jpg

From https://www.lvisdataset.org/dataset (annotations) and https://cocodataset.org/#download (pictures). The json names a
picture by its address alone (``coco_url``), whose last two parts are its place below ``root`` and the item's name.

Not every class was looked for in every picture (``neg_category_ids``, ``not_exhaustive_category_ids``). That matters to an
average precision by class, which needs LVIS's own rules; boxes and masks without classes do not touch it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from eigenseg.data.datasets.base import require
from eigenseg.data.datasets.coco import CocoInstances

ORIGIN = "https://www.lvisdataset.org/dataset"


class LvisInstances(CocoInstances):
    """LVIS v1 instances.

    Args:
        root: the folder with ``annotations`` and COCO's picture folders.
        split: names the annotations: ``annotations/lvis_v1_<split>.json``.
        annotations: another json, instead; a path, relative to ``root`` unless absolute.
        image_list: a text file; only the images whose file names end its lines are kept, in the list's order.
        masks: whether masks are read.

    Raises:
        FileNotFoundError: if the json or the list is missing.
        ValueError: if the json is not in LVIS's form, an id occurs twice, or the list names unknown images.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "val",
        annotations: str | os.PathLike[str] | None = None,
        image_list: str | os.PathLike[str] | None = None,
        masks: bool = True,
    ) -> None:
        annotations, title = annotations or f"annotations/lvis_v1_{split}.json", f"LVIS v1 {split}"
        require(Path(root) / annotations, title, ORIGIN)
        super().__init__(root, split, annotations, image_list, masks)
        self.title = title

    def image_path(self, image: dict[str, Any]) -> Path:
        """Where the picture of an entry of the images table lies."""
        return self.root / str(image["file_name"])
