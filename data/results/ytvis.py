"""The tracks of several clips in one YouTube-VIS json."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eigenseg.data import ytvis
from eigenseg.data.instances import FOREGROUND, json_number
from eigenseg.data.json_files import read_json
from eigenseg.data.tracks import Tracks


def ytvis_dataset(entries: Iterable[tuple[str, Tracks]]) -> dict[str, Any]:
    """Join the tracks of clips into one YouTube-VIS dict (info, videos, annotations, categories).

    Videos are sorted by name; ids count from 1 in that order, over videos and over annotations. Floats keep seven
    significant digits, because the digits after depend on the number of threads.

    Args:
        entries: (name of the clip, tracks).

    Raises:
        ValueError: if two clips have one name.
    """
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    for video_id, (name, tracks) in enumerate(sorted(entries, key=lambda entry: entry[0]), start=1):
        if videos and videos[-1]["name"] == name:
            raise ValueError(f"two clips are named {name!r}; names must be unique")
        clip = tracks.to_ytvis(video_id, len(annotations) + 1, name)
        videos.append(_rounded(clip["video"]))
        for category in tracks.names:
            numbers.setdefault(category, len(numbers) + 1)
        for annotation, label in zip(clip["annotations"], tracks.labels.tolist(), strict=True):
            # Names may differ between clips; in the file each has one id.
            annotations.append({**_rounded(annotation), "category_id": numbers[tracks.names[label]]})
    return {
        "info": {"description": "eigenseg: objects found without labels"},
        "videos": videos,
        "annotations": annotations,
        "categories": ytvis.categories(list(numbers) or [FOREGROUND]),
    }


def read_ytvis(path: str | os.PathLike[str]) -> dict[str, Tracks]:
    """Read a file of ``ytvis_dataset``, or another one in YouTube-VIS form: tracks by name of the clip.

    All tracks have the names of all categories of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged; the message names the file and the clip.
    """
    clips, tracks = ytvis.split_ytvis(read_json(Path(path)), str(path)), {}
    for name, clip in clips.items():
        try:
            tracks[name] = Tracks.from_ytvis(clip)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {name}: {error}") from None
    return tracks


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return json_number(value)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value
