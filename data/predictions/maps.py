"""Predictions that are pictures: maps and label maps, one file an image or a frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VideoAnnotation
from eigenseg.data.label_maps import read_gray_map, read_label_map
from eigenseg.data.predictions.base import Missing, stem, without
from eigenseg.data.sources import IMAGE_SUFFIXES


class _PictureFolder:
    """Pictures below a folder, found by an item's name with or without suffix.

    ``dogs/rex.jpg`` is predicted by ``dogs/rex.png`` (any picture's suffix) or ``dogs/rex.jpg.png``.

    Args:
        root: the folder; searched with its subfolders.
        missing: whether an absent picture is an error, or means that nothing was found.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if two files are for the same name.
    """

    def __init__(self, root: str | os.PathLike[str], missing: Missing = "error") -> None:
        self.root, self.missing = Path(root), missing
        if not self.root.is_dir():
            raise FileNotFoundError(f"predictions: no such folder {self.root}")
        self._files: dict[str, Path] = {}
        for path in sorted(self.root.rglob("*")):
            if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
                continue
            key = stem(path.relative_to(self.root).as_posix())
            if key in self._files:
                raise ValueError(f"predictions: {self._files[key]} and {path} are for the same name; keep one of them")
            self._files[key] = path

    def names(self) -> Iterable[str]:
        """Names below the root, without the last suffix."""
        return self._files

    def lacks(self, item: str) -> bool:
        """Whether there is no picture for an item."""
        return self._find(item) is None

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Pictures that belong to no item."""
        return without(self._files, items)

    def _find(self, item: str) -> Path | None:
        return self._files.get(item) or self._files.get(stem(item))

    def _path(self, item: str) -> Path | None:
        path = self._find(item)
        if path is None and self.missing == "error":
            raise FileNotFoundError(
                f"no prediction for {item} (looked for {self.root / stem(item)}.png and the like); "
                "missing=empty counts it as nothing found"
            )
        return path


class MapPredictions(_PictureFolder):
    """Soft or hard foreground maps, 255 is surely foreground."""

    def read(self, item: str, annotation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The map of an image: (H, W) uint8."""
        path = self._path(item)
        return np.zeros_like(annotation) if path is None else read_gray_map(path)


class LabelPredictions(_PictureFolder):
    """Label maps of images."""

    def read(self, item: str, annotation: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """The label map of an image: (H, W) int32."""
        path = self._path(item)
        return np.zeros(annotation.shape, dtype=np.int32) if path is None else read_label_map(path)


class VideoPredictions(_PictureFolder):
    """Label maps of frames, a folder a video: ``<video>/<frame>.png``."""

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Folders that are no video's."""
        known = set(items)
        folders = dict.fromkeys(key.rpartition("/")[0] for key in self._files)
        return [folder for folder in folders if folder not in known]

    def absent_frames(self, annotation: VideoAnnotation) -> list[str]:
        """Annotated frames without a prediction."""
        return [frame for frame in annotation.frames if self._find(frame) is None]

    def lacks(self, item: str) -> bool:
        """Whether no frame of a video was predicted."""
        return not any(key.startswith(f"{item}/") for key in self._files)

    def read(self, item: str, annotation: VideoAnnotation) -> NDArray[np.int32]:
        """The label maps of the annotated frames: (T, H, W) int32.

        Raises:
            FileNotFoundError: if frames are missing; the message counts them.
        """
        absent = self.absent_frames(annotation)
        if absent and self.missing == "error":
            raise FileNotFoundError(
                f"{item}: {len(absent)} of {len(annotation.frames)} frames have no prediction, the first is {absent[0]} "
                f"(looked in {self.root}); missing=empty counts them as nothing found"
            )
        size, frames = annotation.labels.shape[1:], []
        for frame in annotation.frames:
            path = self._find(frame)
            labels = np.zeros(size, dtype=np.int32) if path is None else read_label_map(path)
            if labels.shape != size:
                raise ValueError(
                    f"{path} has {labels.shape[1]}x{labels.shape[0]} pixels, the annotation {size[1]}x{size[0]}; "
                    "predict in original pixels"
                )
            frames.append(labels)
        return np.stack(frames)
