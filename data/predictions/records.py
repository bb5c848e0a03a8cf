"""Predictions from the records of a result folder: exact, and without reading an image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.checks import check_choice
from eigenseg.data.datasets.base import VideoAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.instances import Instances
from eigenseg.data.label_maps import read_gray_map
from eigenseg.data.predictions.base import Missing, check_absent, stem, without
from eigenseg.data.results.arrays import read_arrays
from eigenseg.data.results.folder import MANIFEST, read_run
from eigenseg.data.results.record_log import read_entries, read_records
from eigenseg.data.results.records import SCHEMA, Record
from eigenseg.data.results.writers import SALIENCY
from eigenseg.data.tracks import Tracks

KINDS = ("objects", "semantic", "saliency", "video")


def holds_records(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds records that ``RecordPredictions`` reads; those of versions 0.1 and 0.2 are not."""
    return Path(root, MANIFEST).is_file() and read_run(Path(root)).get("schema") == SCHEMA


class RecordPredictions:
    """What a result folder says of each item, looked up by its name with or without suffix.

    ========  =============================================================================================
    kind      ``read`` returns
    ========  =============================================================================================
    objects   ``Detections`` of the image's instances, classes by name
    semantic  (H, W) int32 label map of the instances
    saliency  (H, W) uint8: the soft map from ``arrays/`` or ``saliency/`` if it was written, else 255 on all instances
    video     (T, H, W) int32 label maps of the annotated frames, from a clip's tracks or from the records of its frames
    ========  =============================================================================================

    Args:
        root: the folder; it may be that of an unfinished run, and is not changed.
        kind: of the dataset's annotations.
        missing: whether an item without a finished record is an error or an empty prediction; images without a record
            always count as empty predictions of objects.
        classes: names of the dataset's classes, for objects; other names become class -1.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they cannot be read, or the kind is none of these.
    """

    def __init__(
        self, root: str | os.PathLike[str], kind: str, missing: Missing = "error", classes: Sequence[str] = ()
    ) -> None:
        check_choice("kind", kind, KINDS)
        self.root, self.kind, self.missing = Path(root), kind, missing
        self._manifest = self.root / MANIFEST
        if not self._manifest.is_file():
            raise FileNotFoundError(f"predictions: {self.root} holds no {MANIFEST}")
        self._numbers = {name: number for number, name in enumerate(classes)}
        entries, _ = read_entries(self._manifest)
        # Sorted as in instances.json, so that of two names that differ in their suffix only the last one counts.
        self._entries = {name: entries[name] for name in sorted(entries) if entries[name].done}
        self._by_stem = {stem(name): name for name in self._entries}
        self._folders = {str(folder) for name in self._entries for folder in PurePosixPath(name).parents}

    def names(self) -> Iterable[str]:
        """Names of the images and clips that are done."""
        return self._entries

    def lacks(self, item: str) -> bool:
        """Whether there is neither a record of an item nor, of a video, of one of its frames."""
        if self._find(item) is not None:
            return False
        return self.kind != "video" or item not in self._folders

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Names that match no item; of frames, the folders that match no video."""
        items = list(items)
        names = without(self._entries, items)
        if self.kind != "video":
            return names
        images = {name for name in names if self._entries[name].kind == "image"}
        folders = dict.fromkeys(name.rpartition("/")[0] if name in images else name for name in names)
        return without(folders, items)

    def absent_frames(self, annotation: VideoAnnotation) -> list[str]:
        """Annotated frames without a prediction."""
        video = annotation.frames[0].rpartition("/")[0]
        found = self._label_maps(video, annotation.frames)
        return [frame for frame, label_map in zip(annotation.frames, found, strict=True) if label_map is None]

    def read(self, item: str, annotation: Any) -> Any:
        """The prediction of an item, see the class.

        Args:
            item: name in the dataset.
            annotation: of this item; the size of an empty prediction is its size.

        Raises:
            FileNotFoundError: if there is none and ``missing`` is ``error``.
            ValueError: if it cannot be read, or its size differs from the annotation's.
        """
        try:
            return self._read(item, annotation)
        except ValueError as error:
            raise ValueError(f"{self._manifest}: {error}") from None

    def _read(self, item: str, annotation: Any) -> Any:
        if self.kind == "video":
            return self._video(item, annotation)
        record = self._record(item)
        if self.kind == "objects":
            return Detections.none() if record is None else self._detections(record.instances())
        if record is None:
            if self.missing == "error":
                raise FileNotFoundError(
                    f"no prediction for {item} (looked for a finished record in {self._manifest}); "
                    "missing=empty counts it as an empty prediction"
                )
            return np.zeros(annotation.shape, dtype=np.int32 if self.kind == "semantic" else np.uint8)
        return record.instances().label_map() if self.kind == "semantic" else self._saliency(record)

    def _find(self, item: str) -> str | None:
        return item if item in self._entries else self._by_stem.get(stem(item))

    def _record(self, item: str) -> Record | None:
        name = self._find(item)
        return None if name is None else next(read_records(self._manifest, [self._entries[name]]))

    def _detections(self, instances: Instances) -> Detections:
        if not len(instances):
            return Detections.none()
        numbers = [self._numbers.get(instances.names[label], -1) for label in instances.labels]
        return replace(Detections.from_instances(instances), labels=np.array(numbers, dtype=np.int64))

    def _saliency(self, record: Record) -> NDArray[np.uint8]:
        if SALIENCY not in record.array_shapes():
            return record.instances().saliency_map()
        arrays, written = read_arrays(self.root, record.name), self.root / "saliency" / f"{record.name}.png"
        if SALIENCY in arrays:
            return record.with_arrays(arrays).instances().saliency_map()
        if written.is_file():
            return read_gray_map(written)
        return replace(record.instances(), metadata={}).saliency_map()

    def _label_maps(self, video: str, frames: Sequence[str]) -> list[Callable[[], NDArray[np.int32]] | None]:
        """What gives the label map of each frame, None where there is none; the record of a clip is read once."""
        record = self._record(video)
        if record is not None and record.kind == "clip":
            tracks = record.tracks()
            rows = _frame_rows(tracks)
            found = [_row(rows, frame, video) for frame in frames]
            return [None if row is None else partial(tracks.label_map, row) for row in found]
        return [None if self._find(frame) is None else partial(self._frame, frame) for frame in frames]

    def _frame(self, frame: str) -> NDArray[np.int32]:
        record = self._record(frame)
        assert record is not None
        return record.instances().label_map()

    def _video(self, item: str, annotation: VideoAnnotation) -> NDArray[np.int32]:
        found = list(zip(annotation.frames, self._label_maps(item, annotation.frames), strict=True))
        absent = [frame for frame, label_map in found if label_map is None]
        check_absent(item, absent, annotation, self._manifest, self.missing)
        size = annotation.labels.shape[1:]
        stack = np.zeros(annotation.labels.shape, dtype=np.int32)
        for t, (frame, label_map) in enumerate(found):
            if label_map is None:
                continue
            labels = label_map()
            if labels.shape != size:
                raise ValueError(
                    f"{frame} was predicted with {labels.shape[1]}x{labels.shape[0]} pixels, the annotation has "
                    f"{size[1]}x{size[0]}; predict in original pixels"
                )
            stack[t] = labels
        return stack


def _frame_rows(tracks: Tracks) -> dict[str, int]:
    """Indices of frames by their names, with and without suffix."""
    rows = {stem(name): t for t, name in enumerate(tracks.frame_names)}
    return {**rows, **{name: t for t, name in enumerate(tracks.frame_names)}}


def _row(rows: dict[str, int], frame: str, video: str) -> int | None:
    name = frame.removeprefix(f"{video}/")
    return rows.get(name, rows.get(stem(name)))
