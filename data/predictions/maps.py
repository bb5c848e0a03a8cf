"""Predictions that are images: maps and label maps, one file per image or frame."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VideoAnnotation
from eigenseg.data.label_maps import read_gray_map, read_label_map
from eigenseg.data.predictions.base import Missing, check_absent, stem, without
from eigenseg.data.sources import IMAGE_SUFFIXES


class _ImageFolder:
    """Images below a folder, looked up by an item's name with or without suffix.

    ``dogs/rex.jpg`` is predicted by ``dogs/rex.png`` (any image suffix) or ``dogs/rex.jpg.png``.

    Args:
        root: the folder; searched with its subfolders.
        missing: whether a missing image is an error or an empty prediction.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if two files have the same name.
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
                raise ValueError(f"predictions: {self._files[key]} and {path} have the same name; keep one of them")
            self._files[key] = path

    def names(self) -> Iterable[str]:
        """Names below the root, without the last suffix."""
        return self._files

    def lacks(self, item: str) -> bool:
        """Whether there is no image for an item."""
        return self._find(item) is None

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Images that match no item."""
        return without(self._files, items)

    def _find(self, item: str) -> Path | None:
        return self._files.get(item) or self._files.get(stem(item))

    def _path(self, item: str) -> Path | None:
        path = self._find(item)
        if path is None and self.missing == "error":
            raise FileNotFoundError(
                f"no prediction for {item} (looked for {self.root / stem(item)}.png or another suffix); "
                "missing=empty counts it as an empty prediction"
            )
        return path


class MapPredictions(_ImageFolder):
    """Soft or hard foreground maps, 255 is foreground."""

    def read(self, item: str, annotation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The map of an image: (H, W) uint8."""
        path = self._path(item)
        return np.zeros_like(annotation) if path is None else read_gray_map(path)


class LabelPredictions(_ImageFolder):
    """Label maps of images."""

    def read(self, item: str, annotation: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """The label map of an image: (H, W) int32."""
        path = self._path(item)
        return np.zeros(annotation.shape, dtype=np.int32) if path is None else read_label_map(path)


class VideoPredictions(_ImageFolder):
    """Label maps of frames, one folder per video: ``<video>/<frame>.png``."""

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Folders that match no video."""
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
        check_absent(item, self.absent_frames(annotation), annotation, self.root, self.missing)
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
