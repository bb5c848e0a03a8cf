"""DAVIS: short videos with every frame annotated, foreground only (2016) or single objects (2017).

::

    root/
      ImageSets/2017/val.txt                                one sequence per line; 2016 likewise
      JPEGImages/480p/blackswan/00000.jpg
      Annotations/480p/blackswan/00000.png                  2016: 0 and 255; 2017, semi-supervised: palette indices
      Annotations_unsupervised/480p/blackswan/00000.png     2017, unsupervised: palette indices, 255 is void

From https://davischallenge.org/davis2017/code.html (2017) and https://davischallenge.org/davis2016/code.html (2016). The
release of 2016 lists frames instead, ``ImageSets/480p/val.txt`` with lines like ``/JPEGImages/480p/blackswan/00000.jpg
/Annotations/480p/blackswan/00000.png``; that list is read where ``ImageSets/<year>`` is absent.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np

from eigenseg.data.datasets.base import Kind, VideoAnnotation, read_lines, require
from eigenseg.data.datasets.frames import as_labels, frame_sources, list_images, read_label_maps
from eigenseg.data.sources import ImageSource

ORIGIN = "https://davischallenge.org"


class Davis:
    """DAVIS 2016 or 2017.

    Args:
        root: the folder with ImageSets, JPEGImages and the annotations.
        year: 2016 or 2017; names the folder with the list.
        split: name of the list: train, val...
        annotations: the folder of annotations.
        resolution: the folder of the resolution below images and annotations.
        binary: whether all nonzero values are one object, as DAVIS 2016 is annotated and scored.

    Raises:
        FileNotFoundError: if the list or the annotations of a sequence are missing.
        ValueError: if a sequence has no annotation.
    """

    kind: ClassVar[Kind] = "video"
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | os.PathLike[str],
        year: int = 2017,
        split: str = "val",
        annotations: str = "Annotations_unsupervised",
        resolution: str = "480p",
        binary: bool = False,
    ) -> None:
        self.root, self.title, self.binary = Path(root), f"DAVIS {year} {split}", binary
        self._frames = self.root / "JPEGImages" / resolution
        self._annotations = require(self.root / annotations / resolution, self.title, ORIGIN)
        lists = self.root / "ImageSets"
        file, frames = lists / str(year) / f"{split}.txt", lists / resolution / f"{split}.txt"
        lines = read_lines(frames if not file.parent.exists() and frames.exists() else require(file, self.title, ORIGIN))
        fields = [PurePosixPath(line.split()[0]) for line in lines]
        self.items = list(dict.fromkeys(field.parent.name or field.name for field in fields))
        for sequence in self.items:
            folder = require(self._annotations / sequence, self.title, ORIGIN)
            if not self._maps(sequence):
                raise ValueError(f"{self.title}: {folder} holds no .png; complete the annotations from {ORIGIN}")

    def images(self, index: int) -> list[ImageSource]:
        """The frames of a sequence."""
        sequence = self.items[index]
        return frame_sources(self._frames / sequence, sequence, [path.stem for path in self._maps(sequence)])

    def annotation(self, index: int) -> VideoAnnotation:
        """The annotated frames of a sequence.

        Raises:
            ValueError: if frames differ in size or cannot be read.
        """
        sequence = self.items[index]
        paths = self._maps(sequence)
        maps = read_label_maps(paths)
        labels = (maps != 0).astype(np.uint8) if self.binary else as_labels(maps, self._annotations / sequence)
        return VideoAnnotation(tuple(f"{sequence}/{path.stem}.jpg" for path in paths), labels)

    def _maps(self, sequence: str) -> list[Path]:
        return list_images(self._annotations / sequence, (".png",))
