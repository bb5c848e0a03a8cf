"""YouTube-VIS: videos whose objects, of forty classes, are annotated on every fifth frame.

::

    root/
      train.json                            2019
      train/instances.json                  2021
      train/JPEGImages/0043f083b5/00000.jpg

From https://youtube-vos.org/dataset/vis/. Only the annotations of train are published; valid and test contain only videos.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VOID, Kind, VideoAnnotation, require, require_given
from eigenseg.data.datasets.coco import check_unique
from eigenseg.data.json_files import check_shape, read_json
from eigenseg.data.json_shapes import YTVIS_FORM, AnnotatedTrack, YtvisAnnotations
from eigenseg.data.rle import decode_mask, encode_segmentation
from eigenseg.data.sources import ImageSource

ORIGIN = "https://youtube-vos.org/dataset/vis/"


class YoutubeVis:
    """YouTube-VIS 2019 or 2021; an item has the name of the video's folder.

    There is one label map per frame: objects are numbered from 1 in the file's order, where two overlap the first one wins,
    and crowd regions (``iscrowd``) are void where there is no object.

    Args:
        root: the folder with the splits.
        year: 2019 or 2021; decides where the json is.
        split: the folder, and in 2019 the json.
        annotations: another json, instead; a path, relative to the working folder.

    Raises:
        FileNotFoundError: if the json is missing.
        ValueError: if the json is not in YouTube-VIS form, has no annotations, or an id occurs twice.
    """

    kind: ClassVar[Kind] = "video"

    def __init__(
        self,
        root: str | os.PathLike[str],
        year: int = 2019,
        split: str = "train",
        annotations: str | os.PathLike[str] | None = None,
    ) -> None:
        self.root, self.title = Path(root), f"YouTube-VIS {year} {split}"
        self._frames = self.root / split / "JPEGImages"
        default = f"{split}.json" if year < 2021 else f"{split}/instances.json"
        if annotations is None:
            self._file = require(self.root / default, self.title, ORIGIN)
        else:
            self._file = require_given(annotations, "annotations", self.title, self.root)
        content = check_shape(read_json(self._file), YtvisAnnotations, str(self._file), YTVIS_FORM)
        videos, entries = content["videos"], content.get("annotations")
        if entries is None:
            raise ValueError(f"{self._file} has no annotations; they are published for split train only")
        for video in videos:
            if not video["file_names"]:
                raise ValueError(f"{self._file} is not {YTVIS_FORM}: video {video['id']} has no file_names")
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.classes = tuple(category["name"] for category in categories)
        self._videos = sorted(videos, key=lambda video: video["id"])
        self.items = [video["file_names"][0].split("/")[0] for video in self._videos]
        check_unique([video["id"] for video in videos], f"{self._file}: video id")
        check_unique(self.items, f"{self._file}: video")
        check_unique([entry["id"] for entry in entries], f"{self._file}: annotation id")
        self._annotations: dict[int, list[AnnotatedTrack]] = defaultdict(list)
        for entry in entries:
            self._annotations[entry["video_id"]].append(entry)

    def images(self, index: int) -> list[ImageSource]:
        """The frames of a video that the json lists."""
        return [ImageSource(self._frames / name, name) for name in self._videos[index]["file_names"]]

    def annotation(self, index: int) -> VideoAnnotation:
        """Label maps of all listed frames.

        Raises:
            ValueError: if a mask is damaged or there are more than 254 objects.
        """
        video = self._videos[index]
        entries, size = self._annotations.get(video["id"], []), (int(video["height"]), int(video["width"]))
        names = tuple(video["file_names"])
        crowds = [entry for entry in entries if entry.get("iscrowd", 0)]
        objects = [entry for entry in entries if not entry.get("iscrowd", 0)]
        if len(objects) >= VOID:
            raise ValueError(f"{self._file}: {self.items[index]} has {len(objects)} objects; a label map holds {VOID - 1}")
        labels = np.zeros((len(names), *size), dtype=np.uint8)
        for number, entry in [*enumerate(objects, start=1), *((VOID, entry) for entry in crowds)]:
            self._paint(labels, number, entry, size)
        return VideoAnnotation(names, labels)

    def _paint(self, labels: NDArray[np.uint8], number: int, entry: AnnotatedTrack, size: tuple[int, int]) -> None:
        where, segmentations = f"{self._file}: annotation {entry['id']}", entry["segmentations"]
        if len(segmentations) != len(labels):
            raise ValueError(f"{where} has {len(segmentations)} segmentations for {len(labels)} frames")
        for frame, segmentation in zip(labels, segmentations, strict=True):
            if segmentation is None:
                continue
            try:
                mask = decode_mask(encode_segmentation(segmentation, size))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            frame[mask & (frame == 0)] = number
