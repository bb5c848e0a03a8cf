"""Choose the reader of a prediction path by its content and the kind of annotation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.checks import check_choice
from eigenseg.data.datasets.base import Dataset
from eigenseg.data.json_files import read_json
from eigenseg.data.predictions.base import Missing, Predictions
from eigenseg.data.predictions.boxes import FORM, BoxPredictions
from eigenseg.data.predictions.coco import CocoPredictions
from eigenseg.data.predictions.maps import LabelPredictions, MapPredictions, VideoPredictions
from eigenseg.data.predictions.records import RecordPredictions, holds_records
from eigenseg.data.predictions.tracks import TrackPredictions


class _ForegroundOf:
    """Result folders as foreground maps: pixels of any instance are 255."""

    def __init__(self, labels: LabelPredictions) -> None:
        self._labels = labels
        self.names, self.lacks, self.unmatched = labels.names, labels.lacks, labels.unmatched

    def read(self, item: str, annotation: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The map of an image: (H, W) uint8."""
        return np.where(self._labels.read(item, annotation) > 0, 255, 0).astype(np.uint8)


def open_predictions(path: str | os.PathLike[str], dataset: Dataset, missing: Missing = "error") -> Predictions:
    """Choose a reader.

    ==========  ===========================================================================================
    kind        what ``path`` may be
    ==========  ===========================================================================================
    objects     a COCO json (result list, or with images), boxes by name (json), or a folder that eigenseg wrote
    saliency    a folder of gray maps, or one that eigenseg wrote
    semantic    a folder of label maps, or one that eigenseg wrote
    video       a folder of label maps ``<video>/<frame>.png``, a YouTube-VIS json of tracks, or a folder that eigenseg
                wrote: its ``labels/``, and without them its ``tracks.json``
    ==========  ===========================================================================================

    Args:
        path: of the predictions.
        dataset: of the same kind.
        missing: what a missing map means; images without objects in the file always count as empty predictions.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if it cannot be predictions of this kind.
    """
    check_missing(missing)
    source = Path(path)
    if not source.exists():
        raise FileNotFoundError(f"predictions: no such file or folder {path}")
    if any((source / "predictions" / name).is_file() for name in ("instances.json", "tracks.json", "manifest.jsonl")):
        source = source / "predictions"  # where an evaluation keeps its predictions
    if holds_records(source):
        return RecordPredictions(source, dataset.kind, missing, dataset.classes)
    own = source / "instances.json"
    if dataset.kind == "objects":
        if source.is_dir() and not own.is_file():
            raise ValueError(f"predictions: {path} is a folder without instances.json; objects are read from a json file")
        return _open_objects(own if source.is_dir() else source, dataset)
    if dataset.kind == "video":
        return _open_videos(source, dataset, missing)
    if source.is_file():
        raise ValueError(f"predictions: {path} is a file; {dataset.title} needs a folder of images")
    if dataset.kind == "saliency" and own.is_file() and (source / "saliency").is_dir():
        return MapPredictions(source / "saliency", missing)
    labels = source / "labels"
    root = labels if own.is_file() and labels.is_dir() else source
    if dataset.kind == "saliency":
        return _ForegroundOf(LabelPredictions(root, missing)) if root is labels else MapPredictions(root, missing)
    return LabelPredictions(root, missing)


def check_missing(missing: str) -> None:
    """Raise if ``missing`` is not a valid choice.

    Raises:
        ValueError: naming the choices.
    """
    check_choice("missing", missing, get_args(Missing))


def _open_videos(source: Path, dataset: Dataset, missing: Missing) -> Predictions:
    tracks, labels = source / "tracks.json", source / "labels"
    if source.is_dir() and labels.is_dir() and (tracks.is_file() or (source / "instances.json").is_file()):
        return VideoPredictions(labels, missing)
    if source.is_dir() and not tracks.is_file():
        return VideoPredictions(source, missing)
    path = tracks if source.is_dir() else source
    content: Any = read_json(path) if path.suffix in (".json", ".gz") else None
    if not isinstance(content, dict) or "videos" not in content:
        raise ValueError(
            f"predictions: {path} is a file; {dataset.title} needs a folder of label maps, or a json in YouTube-VIS form "
            "(videos, annotations, categories)"
        )
    return TrackPredictions(content, str(path), missing)


def _open_objects(path: Path, dataset: Dataset) -> Predictions:
    content: Any = read_json(path)
    if isinstance(content, list):
        return CocoPredictions.from_results(content, dataset, str(path))
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is neither a result list nor a dict; boxes by name are written as {{name: [x0, y0, x1, y1]}}"
        )
    if {"images", "annotations"} <= set(content):
        return CocoPredictions.from_dataset(content, dataset.classes, str(path))
    for name, entries in content.items():
        if isinstance(entries, list) and entries and isinstance(entries[0], dict):
            raise ValueError(
                f"{path} holds a list under {name!r}; a COCO result file is the list itself, and a dict with images has "
                "the keys images, annotations and categories"
            )
    if content.keys() <= {"boxes", "scores", "labels"} and "boxes" in content:
        raise ValueError(f"{path} holds the boxes of one image without its name; write {{name: {FORM}}}")
    return BoxPredictions(content, str(path))
