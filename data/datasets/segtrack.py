"""SegTrack v2: fourteen short videos with every frame annotated, with one or several objects.

::

    root/
      JPEGImages/birdfall/birdfall2_00018.png         .png or .bmp, varies between videos
      GroundTruth/birdfall/birdfall2_00018.png        one object
      GroundTruth/bmx/1/bmx_06668.png                 several: a numbered folder per object
      GroundTruth/bmx/2/bmx_06668.png

From https://web.engr.oregonstate.edu/~lif/SegTrack2/dataset.html. A frame and its masks have the same name; their suffixes
may differ. Masks are white on black, some with three channels and gray values in between: 128 and above is the object.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from eigenseg.data.datasets.base import VOID, Kind, VideoAnnotation, require
from eigenseg.data.datasets.frames import frame_sources, list_folders, list_images, same_size
from eigenseg.data.label_maps import read_gray_map
from eigenseg.data.sources import ImageSource, in_order

ORIGIN = "https://web.engr.oregonstate.edu/~lif/SegTrack2/dataset.html"
_SUFFIX = ".png"


class SegTrackV2:
    """SegTrack v2; items are the folders of GroundTruth.

    Frames are named ``<sequence>/<stem>.png`` whatever their suffix, so that names do not depend on the images. An object
    has its folder's number, or 1; where two overlap, the smaller number wins.

    Args:
        root: the folder with JPEGImages and GroundTruth.

    Raises:
        FileNotFoundError: if the annotations are missing.
        ValueError: if a sequence has no annotation, or a folder of an object is not numbered.
    """

    kind: ClassVar[Kind] = "video"
    classes: tuple[str, ...] = ()
    title = "SegTrack v2"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._annotation = require(self.root / "GroundTruth", self.title, ORIGIN)
        self.items = list_folders(self._annotation)
        if not self.items:
            raise ValueError(f"{self._annotation} holds no folder; get {self.title} from {ORIGIN}")
        for sequence in self.items:
            if not self._masks(sequence):
                raise ValueError(f"{self._annotation / sequence} holds no mask; complete the annotations from {ORIGIN}")

    def images(self, index: int) -> list[ImageSource]:
        """The frames of a sequence."""
        sequence = self.items[index]
        return frame_sources(self.root / "JPEGImages" / sequence, sequence, self._masks(sequence), _SUFFIX)

    def annotation(self, index: int) -> VideoAnnotation:
        """The annotated frames of a sequence.

        Raises:
            ValueError: if frames differ in size or cannot be read.
        """
        sequence = self.items[index]
        frames = self._masks(sequence)
        paths = [path for masks in frames.values() for _, path in masks]
        maps = iter(same_size([read_gray_map(path) for path in paths], paths))
        labels = []
        for masks in frames.values():
            objects = [(number, next(maps) >= 128) for number, _ in masks]
            label = np.zeros(objects[0][1].shape, dtype=np.uint8)
            for number, mask in objects:
                label[mask & (label == 0)] = number
            labels.append(label)
        return VideoAnnotation(tuple(f"{sequence}/{stem}{_SUFFIX}" for stem in frames), np.stack(labels))

    def _masks(self, sequence: str) -> dict[str, list[tuple[int, Path]]]:
        folder = self._annotation / sequence
        objects = {self._number(folder / name): folder / name for name in list_folders(folder)} or {1: folder}
        masks: dict[str, list[tuple[int, Path]]] = {}
        for number, folder in sorted(objects.items()):
            for path in list_images(folder):
                masks.setdefault(path.stem, []).append((number, path))
        return {stem: masks[stem] for stem in sorted(masks, key=in_order)}

    def _number(self, folder: Path) -> int:
        if not folder.name.isdecimal() or not 0 < int(folder.name) < VOID:
            raise ValueError(f"{folder} must be named by the number of an object, 1 to {VOID - 1}")
        return int(folder.name)
