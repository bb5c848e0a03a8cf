"""ImageNet localization: boxes of the 50,000 validation images of ILSVRC 2012, each of one of a thousand classes.

::

    root/
      LOC_synset_mapping.txt                                    one class per line: its WordNet id, then words
      ILSVRC/Annotations/CLS-LOC/val/ILSVRC2012_val_00000001.xml
      ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG

From https://www.kaggle.com/c/imagenet-object-localization-challenge/data, or https://www.image-net.org/download.php.

The format is PASCAL VOC's, but corners count from 0. Minima of 0 occur (image 10: 0 0 495 374), and a box
that fills an image of the usual 500 x 375 ends at 499 and 374 (image 83), so (xmin, ymin, xmax, ymax) covers the columns
xmin to xmax: (xmin, ymin, xmax + 1, ymax + 1) half-open. Published localization scores compare such inclusive corners with
+ 1 in width and height; that is up to the metric. All boxes of an image are kept, in the file's order.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from eigenseg.data.datasets.base import Kind, ObjectAnnotation, read_lines, require
from eigenseg.data.datasets.coco import check_unique
from eigenseg.data.datasets.voc import read_voc_xml
from eigenseg.data.sources import ImageSource

ORIGIN = "https://www.kaggle.com/c/imagenet-object-localization-challenge/data"


class ImageNetLocalization:
    """The validation images of ILSVRC 2012 with boxes.

    ``classes`` are the WordNet ids of ``LOC_synset_mapping.txt``, sorted, and labels number them from 0.

    Args:
        root: the folder with ILSVRC and LOC_synset_mapping.txt.

    Raises:
        FileNotFoundError: if the mapping or the annotations are missing.
        ValueError: if the mapping names a class twice, or there is no annotation.
    """

    kind: ClassVar[Kind] = "objects"
    title = "ImageNet localization (ILSVRC 2012 val)"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        mapping = require(self.root / "LOC_synset_mapping.txt", self.title, ORIGIN)
        ids = sorted(line.split()[0] for line in read_lines(mapping))
        check_unique(ids, f"{mapping}: class")
        self.classes = tuple(ids)
        self._annotations = require(self.root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val", self.title, ORIGIN)
        # 50,000 entries: comparing names as text is far faster than Path.glob.
        self.items = sorted(f"{name[:-4]}.JPEG" for name in os.listdir(self._annotations) if name.endswith(".xml"))
        if not self.items:
            raise ValueError(f"{self._annotations} holds no .xml; get the annotations of {self.title} from {ORIGIN}")

    def images(self, index: int) -> list[ImageSource]:
        """The image of an item."""
        name = self.items[index]
        return [ImageSource(self.root / "ILSVRC" / "Data" / "CLS-LOC" / "val" / name, name)]

    def annotation(self, index: int) -> ObjectAnnotation:
        """Boxes and classes."""
        file = self._annotations / f"{Path(self.items[index]).stem}.xml"
        annotation = read_voc_xml(file, {name: i for i, name in enumerate(self.classes)})
        # read_voc_xml takes corners that count from 1; these count from 0, so every side is one larger.
        return replace(annotation, boxes=annotation.boxes + 1)
