"""Predicted tracks as training labels: YouTube-VIS json with one category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eigenseg.data.instances import FOREGROUND
from eigenseg.data.json_files import check_shape
from eigenseg.data.json_shapes import Segmentation, TrackOfFile, Video, YtvisFile
from eigenseg.data.rle import Rle, encode_segmentation, mask_areas
from eigenseg.data.ytvis import categories, mask_columns


def track_labels(content: Mapping[str, Any], min_score: float = 0.0, prefix: str = "") -> dict[str, Any]:
    """Turn ``tracks.json`` into pseudo-labels.

    One category, ``fg`` with id 1; ids from 1; boxes and areas are those of the masks. A segmentation without a pixel
    becomes null, and a track without any mask is left out.

    Args:
        content: of ``tracks.json``.
        min_score: tracks below it are dropped; videos are kept.
        prefix: put before every file name, such as ``"train/"``.

    Raises:
        ValueError: if the content is not that of a ``tracks.json``.
    """
    file = check_shape(content, YtvisFile, "this", "a tracks.json of eigenseg")
    videos = {video["id"]: video for video in file["videos"]}
    for entry in file["annotations"]:
        if entry["video_id"] not in videos:
            raise ValueError(f"an annotation has video_id {entry['video_id']}, which no video has")
    kept = [entry for entry in file["annotations"] if entry.get("score", 1.0) >= min_score]
    labels = [_annotation(entry, videos[entry["video_id"]]) for entry in kept]
    labels = [label for label in labels if any(label["segmentations"])]
    annotations = [{"id": number, **label} for number, label in enumerate(labels, start=1)]
    video_entries = [
        {
            "id": video["id"],
            "file_names": [f"{prefix}{name}" for name in video["file_names"]],
            "width": video["width"],
            "height": video["height"],
            "length": len(video["file_names"]),
            "date_captured": "",
            "license": 1,
            "coco_url": "",
            "flickr_url": "",
        }
        for video in file["videos"]
    ]
    return {
        "info": {"description": "pseudo-labels found without supervision by eigenseg"},
        "licenses": [{"id": 1, "name": "that of the videos", "url": ""}],
        "categories": categories([FOREGROUND]),
        "videos": video_entries,
        "annotations": annotations,
    }


def _annotation(entry: TrackOfFile, video: Video) -> dict[str, Any]:
    size, length = (int(video["height"]), int(video["width"])), len(video["file_names"])
    if len(entry["segmentations"]) != length:
        raise ValueError(
            f"annotation {entry.get('id')} has {len(entry['segmentations'])} segmentations for {length} frames of "
            f"video {video['id']}"
        )
    return {
        "video_id": video["id"],
        "category_id": 1,
        "iscrowd": 0,
        "width": video["width"],
        "height": video["height"],
        "length": length,
        **mask_columns([_mask(one, size, entry) for one in entry["segmentations"]]),
        "score": entry.get("score", 1.0),
    }


def _mask(segmentation: Segmentation, size: tuple[int, int], entry: TrackOfFile) -> Rle | None:
    try:
        rle = None if segmentation is None else encode_segmentation(segmentation, size)
    except ValueError as error:
        raise ValueError(f"annotation {entry.get('id')}: {error}") from None
    return rle if rle is not None and mask_areas([rle])[0] else None
