"""Objects of single frames linked to tracks by the overlap of their masks.

::

    last masks of the tracks, new masks -> IoU of all pairs -> pairs of at least min_iou and of one class
        -> Hungarian: the assignment with the largest sum of IoUs -> the rest starts new tracks
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from eigenseg.data.checks import check_integer
from eigenseg.data.instances import Instances
from eigenseg.data.rle import Rle, mask_areas, mask_ious
from eigenseg.data.tracks import Tracks


def link(
    frames: Iterable[Instances | None],
    frame_names: Sequence[str],
    image_size: tuple[int, int],
    min_iou: float = 0.3,
    max_gap: int = 5,
    frame_rate: float | None = None,
    **metadata: Any,
) -> Tracks:
    """Link the objects of a clip's frames, see ``Linker``.

    Args:
        frames: the objects of every frame in order, None for a frame that could not be read.
        frame_names, image_size, frame_rate, metadata: of the tracks, see ``Linker.tracks``.
        min_iou, max_gap: see ``Linker``.

    Example:
        >>> mask = np.zeros((1, 2, 3), dtype=bool)
        >>> mask[0, :, :2] = True
        >>> one = Instances(mask, [0.8], [[0, 0, 2, 2]], (2, 3))
        >>> tracks = link([one, None, one], ["00000", "00001", "00002"], (2, 3))
        >>> tracks.present().tolist(), round(float(tracks.scores[0]), 4)
        ([[True, False, True]], 0.5333)
    """
    linker = Linker(min_iou, max_gap)
    for instances in frames:
        linker.add(instances)
    return linker.tracks(frame_names, image_size, frame_rate, **metadata)


class Linker:
    """Links the objects of one clip, frame by frame; only RLE masks are kept.

    A new mask may continue a track whose last seen mask it overlaps by at least ``min_iou``, if both have the same class
    name and the track was last seen at most ``max_gap`` + 1 frames before: the track is absent in at most ``max_gap``
    frames in between, unreadable frames included. Of all assignments the one with the largest sum of IoUs is taken
    (Hungarian). Masks that continue no track start one each. Ids count from 1 in order of appearance, within a frame by
    descending score, the first of equals first.

    The score of a track is the mean score of its masks times the fraction of the clip's frames in which it is present.
    Empty masks and the instances' extras are dropped.

    Args:
        min_iou: in (0, 1].
        max_gap: frames, at least 0.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, min_iou: float = 0.3, max_gap: int = 5) -> None:
        given: Any = min_iou  # a yaml may hold anything
        # At 0 every mask would continue any track, even far away.
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 < given <= 1:
            raise ValueError(f"min_iou must be a number above 0 and at most 1, got {min_iou!r}")
        check_integer("max_gap", max_gap, 0)
        self.min_iou, self.max_gap = min_iou, max_gap
        self._tracks: list[_Track] = []
        self._names: dict[str, int] = {}
        self._size: tuple[int, int] | None = None
        self._count = self._unreadable = 0
        self._reason: str | None = None

    def add(self, instances: Instances | None) -> None:
        """Add the objects of the next frame; None if the frame could not be read.

        Raises:
            ValueError: if its size differs from that of the frames before.
        """
        t = self._count
        if instances is not None:
            self._check_size(instances.image_size)
            masks = _masks_of(instances)
            active = [track for track in self._tracks if t - track.seen[-1].frame <= self.max_gap + 1]
            continued = self._assign(active, masks)
            # Appearance order: the best new object gets the lowest id, the first of equals.
            for i in sorted(range(len(masks)), key=lambda i: -masks[i].score):
                if i in continued:
                    continued[i].seen.append(masks[i].at(t))
                else:
                    self._tracks.append(_Track(masks[i].name, [masks[i].at(t)]))
            if masks:
                for name in instances.names:
                    self._names.setdefault(name, len(self._names))
            self._reason = self._reason or instances.reason
        self._unreadable += instances is None
        self._count += 1

    def tracks(
        self,
        frame_names: Sequence[str],
        image_size: tuple[int, int],
        frame_rate: float | None = None,
        **metadata: Any,
    ) -> Tracks:
        """The tracks of all frames so far.

        Args:
            frame_names: one for each frame added.
            image_size: (H, W) of the frames.
            frame_rate: frames per second, None if unknown.
            metadata: of the tracks, such as ``unreadable``: the error of each frame that could not be read.

        Raises:
            ValueError: if the number of names or the size does not fit the frames.
        """
        if len(frame_names) != self._count:
            raise ValueError(f"frame_names has {len(frame_names)} names for {self._count} frames")
        self._check_size(image_size)
        if not self._tracks:
            return Tracks.empty(frame_names, image_size, self._why_empty(), frame_rate=frame_rate, **metadata)
        masks: list[list[Rle | None]] = [[None] * self._count for _ in self._tracks]
        scores = np.full((len(self._tracks), self._count), np.nan, dtype=np.float32)
        for k, track in enumerate(self._tracks):
            for one in track.seen:
                masks[k][one.frame], scores[k, one.frame] = one.rle, one.score
        return Tracks(
            masks=tuple(tuple(track) for track in masks),
            # mean x fraction of frames = (sum / present) x (present / T)
            scores=np.array([math.fsum(one.score for one in track.seen) / self._count for track in self._tracks]),
            track_ids=np.arange(1, len(self._tracks) + 1),
            frame_names=tuple(frame_names),
            image_size=image_size,
            frame_scores=scores,
            labels=np.array([self._names[track.name] for track in self._tracks]),
            names=tuple(self._names),
            frame_rate=frame_rate,
            metadata=metadata,
        )

    def _assign(self, active: Sequence[_Track], masks: Sequence[_Mask]) -> dict[int, _Track]:
        """The track that each new mask continues, by the mask's index."""
        ious = mask_ious([track.seen[-1].rle for track in active], [mask.rle for mask in masks])
        same = np.array([[track.name == mask.name for mask in masks] for track in active], dtype=bool)
        # A pair that may not be linked counts nothing, so it never displaces one that may.
        gains = np.where((ious >= self.min_iou) & same.reshape(ious.shape), ious, 0)
        rows, columns = linear_sum_assignment(gains, maximize=True)
        return {i: active[k] for k, i in zip(rows.tolist(), columns.tolist(), strict=True) if gains[k, i] > 0}

    def _check_size(self, image_size: tuple[int, int]) -> None:
        size = tuple(image_size)
        if self._size is not None and size != self._size:
            raise ValueError(f"all frames of a clip must have one size: {list(self._size)} before, {list(size)} now")
        self._size = (size[0], size[1])

    def _why_empty(self) -> str:
        if self._unreadable == self._count:
            return f"none of the {self._count} frames can be read" if self._count else "the clip has no frames"
        return f"no object in any of the {self._count} frames" + (f": {self._reason}" if self._reason else "")


@dataclass(frozen=True)
class _Seen:
    frame: int
    rle: Rle
    score: float


@dataclass
class _Track:
    name: str
    seen: list[_Seen]


@dataclass(frozen=True)
class _Mask:
    rle: Rle
    score: float
    name: str

    def at(self, frame: int) -> _Seen:
        return _Seen(frame, self.rle, self.score)


def _masks_of(instances: Instances) -> list[_Mask]:
    """The masks that are not empty, in the instances' order."""
    rles = instances.rles()
    return [
        _Mask(rle, score, instances.names[label])
        for rle, area, score, label in zip(
            rles, mask_areas(rles), instances.scores.tolist(), instances.labels.tolist(), strict=True
        )
        if area
    ]
