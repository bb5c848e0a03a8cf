"""Tracks of clips in one json in YouTube-VIS form: the ``tracks.json`` of eigenseg, or another program's file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import VideoAnnotation
from eigenseg.data.predictions.base import Missing, check_absent, stem
from eigenseg.data.sources import IMAGE_SUFFIXES
from eigenseg.data.tracks import Tracks
from eigenseg.data.ytvis import split_ytvis


class TrackPredictions:
    """Label maps of clips, painted from their tracks.

    A clip is found by its name, ``name`` or the folder of its ``file_names``, and a frame by its name in the clip, both
    with or without suffix: ``bear.mp4`` predicts the item ``bear``, its frame ``00000`` is ``bear/00000.jpg``. A frame in
    which no track is present is predicted to be empty.

    Args:
        content: of the file: ``videos``, ``annotations`` and ``categories``.
        source: the file's name, for messages.
        missing: whether a missing frame is an error or an empty prediction.

    Raises:
        ValueError: if the file is not in YouTube-VIS form, or a name or id occurs twice.
    """

    def __init__(self, content: Mapping[str, Any], source: str = "predictions", missing: Missing = "error") -> None:
        self._source, self.missing = source, missing
        self._clips = split_ytvis(content, source)
        self._by_stem: dict[str, list[str]] = {}
        for name in self._clips:
            self._by_stem.setdefault(stem(name), []).append(name)
        self._frames = {name: self._frame_numbers(name, clip["video"]["file_names"]) for name, clip in self._clips.items()}

    def names(self) -> Iterable[str]:
        """Names of the clips in the file."""
        return self._clips

    def lacks(self, item: str) -> bool:
        """Whether the file does not list a clip of this name."""
        return self._find(item) is None

    def unmatched(self, items: Iterable[str]) -> list[str]:
        """Clips in the file that match no item."""
        found = {self._find(item) for item in items}
        return [name for name in self._clips if name not in found]

    def absent_frames(self, annotation: VideoAnnotation) -> list[str]:
        """Annotated frames that the file does not list."""
        return [frame for frame in annotation.frames if self._locate(frame) is None]

    def read(self, item: str, annotation: VideoAnnotation) -> NDArray[np.int32]:
        """The label maps of the annotated frames: (T, H, W) int32.

        Tracks are numbered from 1 in the file's order; the higher score is on top.

        Raises:
            FileNotFoundError: if frames are missing; the message counts them.
            ValueError: if the clip is damaged or has another size.
        """
        check_absent(item, self.absent_frames(annotation), annotation, self._source, self.missing)
        size = annotation.labels.shape[1:]
        places = [self._locate(frame) for frame in annotation.frames]
        tracks = {name: self._tracks(name, size) for name in dict.fromkeys(place[0] for place in places if place)}
        maps = (np.zeros(size, np.int32) if place is None else tracks[place[0]].label_map(place[1]) for place in places)
        return np.stack(list(maps))

    def _find(self, item: str) -> str | None:
        """The clip of this name; else the only one that is this name and a suffix, or this name without its suffix."""
        if item in self._clips:
            return item
        matches = [name for name in self._by_stem.get(item, ()) if name != item]
        if len(matches) > 1:
            raise ValueError(f"{self._source}: {item} may be {matches[0]} or {matches[1]}; keep one of them")
        return matches[0] if matches else (stem(item) if stem(item) in self._clips else None)

    def _locate(self, frame: str) -> tuple[str, int] | None:
        """The clip and the number of a frame ``<item>/<frame>``."""
        parts = frame.split("/")
        for cut in range(len(parts) - 1, 0, -1):  # names of clips and of frames may be paths
            clip, name = self._find("/".join(parts[:cut])), _bare("/".join(parts[cut:]))
            if clip is not None and name in self._frames[clip]:
                return clip, self._frames[clip][name]
        return None

    def _frame_numbers(self, clip: str, file_names: Iterable[Any]) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for name in file_names:
            key = _bare(str(name).removeprefix(f"{clip}/"))
            if key in numbers:
                raise ValueError(f"{self._source}: {clip} lists the frame {key} twice, with or without suffix")
            numbers[key] = len(numbers)
        return numbers

    def _tracks(self, clip: str, size: tuple[int, ...]) -> Tracks:
        try:
            tracks = Tracks.from_ytvis(self._clips[clip])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._source}: {clip}: {error}") from None
        if tracks.image_size != size:
            raise ValueError(
                f"{self._source}: {clip} has {tracks.image_size[1]}x{tracks.image_size[0]} pixels, the annotation "
                f"{size[1]}x{size[0]}; predict in original pixels"
            )
        return tracks


def _bare(frame: str) -> str:
    """A frame's name without the suffix of an image; other dots belong to the name."""
    return stem(frame) if frame.lower().endswith(tuple(IMAGE_SUFFIXES)) else frame
