"""FBMS-59: videos in which some frames are annotated, one gray value per object.

::

    root/
      Testset/camel01/camel01_0001.jpg                    every frame
      Testset/camel01/GroundTruth/camel01_0001_gt.png     some frames; the frame's name, with or without _gt

or, with ``split=None``, the layout common in code for motion segmentation::

    root/
      JPEGImages/camel01/00001.jpg
      Annotations/camel01/00001.png

The dataset is https://lmb.informatik.uni-freiburg.de/resources/datasets/moseg.en.html. It ships annotations as .pgm and
.ppm whose gray values and colors mean different things from video to video. Those are rejected: convert them to .png with 0
for background and one gray value for each object (or 255 for all of them together) first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from eigenseg.data.datasets.base import VOID, Kind, VideoAnnotation, require
from eigenseg.data.datasets.frames import frame_sources, list_folders, list_images, read_label_maps
from eigenseg.data.sources import ImageSource

ORIGIN = "https://lmb.informatik.uni-freiburg.de/resources/datasets/moseg.en.html"


class Fbms:
    """FBMS-59 with annotations converted to .png; items are all videos of the split.

    Gray values other than 0 are numbered 1, 2, ... in ascending order over the video: 255 is an object, not void.

    Args:
        root: the folder with the splits, or with JPEGImages and Annotations.
        split: Testset or Trainingset; None for the second layout above, which holds the videos of one split.

    Raises:
        FileNotFoundError: if the split or the annotations of a video are missing.
        ValueError: if a video has no annotation, or only those of the original release.
    """

    kind: ClassVar[Kind] = "video"
    classes: tuple[str, ...] = ()

    def __init__(self, root: str | os.PathLike[str], split: str | None = "Testset") -> None:
        self.root, self.split, self.title = Path(root), split, f"FBMS-59 {split}" if split else "FBMS-59"
        videos = require(self.root / (split or "Annotations"), self.title, ORIGIN)
        self.items = list_folders(videos)
        if not self.items:
            raise ValueError(f"{videos} holds no folder; get {self.title} from {ORIGIN}")
        for video in self.items:
            folder = require(self._folder(video), self.title, ORIGIN)
            if not self._maps(video):
                original = bool(list_images(folder, (".pgm", ".ppm")))
                raise ValueError(
                    f"{folder} holds {'.pgm or .ppm of the original release' if original else 'no .png'}; {self.title} "
                    "needs label maps as .png, 0 for background and one gray value for each object"
                )
            if len(self._maps(video)) < len(list_images(folder, (".png",))):
                raise ValueError(f"{folder} holds a frame twice, with and without _gt; keep one")

    def images(self, index: int) -> list[ImageSource]:
        """All frames of a video."""
        video = self.items[index]
        folder = self.root / (self.split or "JPEGImages") / video
        return frame_sources(folder, video, self._maps(video))

    def annotation(self, index: int) -> VideoAnnotation:
        """The annotated frames of a video, which are some of its frames.

        Raises:
            ValueError: if frames differ in size, cannot be read, or hold more than 254 objects.
        """
        video = self.items[index]
        maps = self._maps(video)
        labels = read_label_maps(list(maps.values()))
        values, numbers = np.unique(np.append(labels, 0), return_inverse=True)
        if len(values) > VOID:
            raise ValueError(
                f"{self._folder(video)} holds {len(values) - 1} gray values; a label map holds {VOID - 1} objects, "
                "and the outlines of objects must not be antialiased"
            )
        return VideoAnnotation(
            tuple(f"{video}/{stem}.jpg" for stem in maps), numbers[:-1].reshape(labels.shape).astype(np.uint8)
        )

    def _folder(self, video: str) -> Path:
        return self.root / self.split / video / "GroundTruth" if self.split else self.root / "Annotations" / video

    def _maps(self, video: str) -> dict[str, Path]:
        return {path.stem.removesuffix("_gt"): path for path in list_images(self._folder(video), (".png",))}
