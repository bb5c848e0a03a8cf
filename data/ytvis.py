"""Clips in YouTube-VIS form: one entry per video, one annotation per track with a segmentation or null per frame.

::

    video        id, name, width, height, length, file_names, and where given: frame_rate, metadata
    annotation   id, video_id, category_id (from 1), iscrowd, score, segmentations (RLE), bboxes (xywh), areas,
                 frame_scores, track_id, and where given: extras
    category     id, name, supercategory

``name``, ``frame_rate``, ``metadata``, ``frame_scores``, ``track_id`` and ``extras`` are ours; files of other programs are
read without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.instances import FOREGROUND
from eigenseg.data.json_files import check_shape
from eigenseg.data.json_shapes import YTVIS_FORM, Category, Clip, Track, Video, YtvisFile
from eigenseg.data.rle import Rle, encode_segmentation, mask_areas, mask_boxes


def to_ytvis(tracks: Any, video_id: int, first_id: int, name: str) -> dict[str, Any]:
    """The content of ``Tracks.to_ytvis``."""
    height, width = tracks.image_size
    video: dict[str, Any] = {
        "id": video_id,
        "name": name,
        "width": width,
        "height": height,
        "length": len(tracks.frame_names),
        "file_names": [f"{name}/{frame}" for frame in tracks.frame_names],
    }
    if tracks.frame_rate is not None:
        video["frame_rate"] = tracks.frame_rate
    if metadata := json_items(tracks.metadata):
        video["metadata"] = metadata
    extras = json_items({key: list(values) for key, values in tracks.extras.items()})
    annotations = []
    for k, masks in enumerate(tracks.masks):
        annotation = {
            "id": first_id + k,
            "video_id": video_id,
            "category_id": int(tracks.labels[k]) + 1,
            "iscrowd": 0,
            "score": float(tracks.scores[k]),
            "track_id": int(tracks.track_ids[k]),
            **mask_columns(masks),
            "frame_scores": [None if math.isnan(score) else score for score in tracks.frame_scores[k].tolist()],
        }
        if extras:
            annotation["extras"] = {key: values[k] for key, values in extras.items()}
        annotations.append(annotation)
    return {"video": video, "annotations": annotations, "categories": categories(tracks.names)}


def from_ytvis(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the ``Tracks`` of one clip; ``content`` has ``video``, ``annotations`` and ``categories``.

    Segmentations may have any COCO form; scores that are absent are 1. Empty segmentations count as null, and an
    annotation without any mask is left out.

    Raises:
        ValueError: if the content is damaged.
    """
    clip = check_shape(content, Clip, "this", f"a clip {YTVIS_FORM}")
    video, entries = clip["video"], clip["annotations"]
    size, name = (int(video["height"]), int(video["width"])), video_name(video)
    masks = [tuple(_read_mask(one, size) for one in entry["segmentations"]) for entry in entries]
    shown = [k for k, track in enumerate(masks) if any(track)]
    entries, masks = [entries[k] for k in shown], [masks[k] for k in shown]
    frames = tuple(frame.removeprefix(f"{name}/") for frame in video["file_names"])
    named = sorted(clip.get("categories") or [Category(id=1, name=FOREGROUND)], key=lambda one: one["id"])
    return {
        "masks": tuple(masks),
        "scores": np.array([entry.get("score", 1.0) for entry in entries], dtype=np.float32),
        "track_ids": _track_ids(entries),
        "frame_names": frames,
        "image_size": size,
        "frame_scores": _frame_scores(entries, masks, len(frames)),
        "labels": _labels(entries, named),
        "names": tuple(category["name"] for category in named),
        "frame_rate": video.get("frame_rate"),
        "extras": _read_extras(entries),
        "metadata": video.get("metadata", {}),
    }


def split_ytvis(content: Any, source: str) -> dict[str, dict[str, Any]]:
    """Split a file into clips by name, each as ``from_ytvis`` takes it; masks are not looked at.

    Args:
        content: of the file.
        source: the file's name, for messages.

    Raises:
        ValueError: if the file is not in YouTube-VIS form, an id or name occurs twice, or an annotation has no video.
    """
    file = check_shape(content, YtvisFile, source, YTVIS_FORM)
    videos, named = file["videos"], file.get("categories") or []
    names = [video_name(video) for video in videos]
    _check_unique([video["id"] for video in videos], f"{source}: video id")
    _check_unique(names, f"{source}: video")
    _check_unique([category["id"] for category in named], f"{source}: category id")
    clips: dict[int, dict[str, Any]] = {
        video["id"]: {"video": video, "annotations": [], "categories": named} for video in videos
    }
    for entry in file["annotations"]:
        if entry["video_id"] not in clips:
            raise ValueError(f"{source}: an annotation has video_id {entry['video_id']}, which no video has")
        clips[entry["video_id"]]["annotations"].append(entry)
    return dict(zip(names, clips.values(), strict=True))


def video_name(video: Video) -> str:
    """The name of a clip: ``name`` if the entry has one, else the folder of its first frame, else its id."""
    if "name" in video:
        return video["name"]
    files = video["file_names"]
    return (files[0].rpartition("/")[0] if files else "") or str(video["id"])


def mask_columns(masks: Sequence[Rle | None]) -> dict[str, list[Any]]:
    """``segmentations``, ``bboxes`` (xywh) and ``areas`` of one track, null where it is absent."""
    shown = [rle for rle in masks if rle is not None]
    boxes = mask_boxes(shown)
    boxes[:, 2:] -= boxes[:, :2]
    box, area = iter(boxes.tolist()), iter(mask_areas(shown))
    return {
        "segmentations": [None if rle is None else dict(rle) for rle in masks],
        "bboxes": [None if rle is None else next(box) for rle in masks],
        "areas": [None if rle is None else next(area) for rle in masks],
    }


def categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """Categories with ids from 1."""
    return [{"id": i, "name": name, "supercategory": FOREGROUND} for i, name in enumerate(names, start=1)]


def json_items(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that json can hold: finite numbers, text, bools, None, and lists and dicts of them.

    NumPy's numbers become Python's, tuples become lists.
    """
    kept = {}
    for key, value in values.items():
        try:
            kept[key] = _as_json(value)
        except TypeError:
            continue
    return kept


def _as_json(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as_json(entry) for key, entry in value.items()}
    raise TypeError(f"json cannot hold {value!r}")


def _read_mask(segmentation: Any, size: tuple[int, int]) -> Rle | None:
    if segmentation is None:
        return None
    rle = encode_segmentation(segmentation, size)
    return rle if mask_areas([rle])[0] else None


def _track_ids(entries: Sequence[Track]) -> list[int]:
    """Ours; else the annotations' ids if they are positive and unique; else the order."""
    for ids in ([entry.get("track_id", 0) for entry in entries], [entry.get("id", 0) for entry in entries]):
        if all(0 < number < 2**63 for number in ids) and len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(entries) + 1))


def _labels(entries: Sequence[Track], named: Sequence[Category]) -> NDArray[np.int64]:
    numbers = {category["id"]: i for i, category in enumerate(named)}
    for number in (entry.get("category_id", 1) for entry in entries):
        if number not in numbers:
            raise ValueError(f"an annotation has category_id {number}, which no category has")
    return np.array([numbers[entry.get("category_id", 1)] for entry in entries], dtype=np.int64)


def _frame_scores(entries: Sequence[Track], masks: Sequence[Sequence[Rle | None]], length: int) -> Any:
    """(K, T) float32, NaN where absent; None if no annotation has scores of its own."""
    if not any("frame_scores" in entry for entry in entries):
        return None
    rows = []
    for entry, track in zip(entries, masks, strict=True):
        scores = entry.get("frame_scores", [entry.get("score", 1.0)] * length)
        if len(scores) != length:
            raise ValueError(f"annotation {entry.get('id')} has {len(scores)} frame_scores for {length} frames")
        rows.append([np.nan if rle is None or score is None else score for score, rle in zip(scores, track, strict=False)])
    return np.array(rows, dtype=np.float32).reshape(len(entries), -1)


def _read_extras(entries: Sequence[Track]) -> dict[str, list[Any]]:
    extras = [entry.get("extras", {}) for entry in entries]
    if any(one.keys() != extras[0].keys() for one in extras):
        raise ValueError("extras must have the same keys in all annotations of a clip")
    return {name: [one[name] for one in extras] for name in (extras[0] if extras else ())}


def _check_unique(values: Sequence[Any], what: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} occurs twice")
        seen.add(value)
