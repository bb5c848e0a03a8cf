"""The result of every video method: objects of one clip, as masks over time with scores and ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data import ytvis
from eigenseg.data.comparison import equal_extras, equal_values
from eigenseg.data.instances import FOREGROUND, Instances
from eigenseg.data.rle import BoolArray, Rle, RleMasks, decode_mask, equal_masks, mask_boxes
from eigenseg.data.track_checks import as_integers, check_frame_scores, check_tracks


@dataclass(frozen=True, eq=False)
class Tracks:
    """Objects of one clip: K tracks over T frames. All arrays are NumPy; masks are RLE, because clips are long.

    Args:
        masks: K tuples of T masks as COCO RLE of the frame's size, None where a track is absent.
        scores: (K,) float32 in [0, 1].
        track_ids: (K,) int64, positive and unique.
        frame_names: T unique names of frames, in order.
        image_size: (H, W) of all frames, in pixels.
        frame_scores: (K, T) float32 in [0, 1], NaN where absent; the track's score where present if not given.
        labels: (K,) int64 indices into ``names``; all 0 if not given.
        names: names of the classes; one, ``"fg"``, if not given.
        frame_rate: frames per second, None if unknown.
        extras: values per track: each entry has length K.
        metadata: values of the clip as a whole, such as ``reason``: why there are no tracks, or ``unreadable``: the error
            of each frame that could not be read, by its name.

    Raises:
        TypeError: if a mask is neither an RLE nor None.
        ValueError: if lengths, sizes or ranges are inconsistent, a mask is empty or damaged, or a track is in no frame.

    Example:
        >>> from eigenseg.data.rle import encode_masks
        >>> moving = np.zeros((2, 2, 3), dtype=bool)
        >>> moving[0, :, 0] = moving[1, :, 1] = True
        >>> tracks = Tracks((tuple(encode_masks(moving)),), [0.9], [1], ("00000", "00001"), (2, 3))
        >>> len(tracks), tracks.frame(1).boxes.tolist(), tracks.label_map(1).tolist()
        (1, [[1.0, 0.0, 2.0, 2.0]], [[0, 1, 0], [0, 1, 0]])
    """

    masks: tuple[tuple[Rle | None, ...], ...]
    scores: NDArray[np.float32]
    track_ids: NDArray[np.int64]
    frame_names: tuple[str, ...]
    image_size: tuple[int, int]
    frame_scores: NDArray[np.float32] = None  # type: ignore[assignment]  # the tracks' scores are filled in
    labels: NDArray[np.int64] = None  # type: ignore[assignment]  # zeros are filled in
    names: tuple[str, ...] = (FOREGROUND,)
    frame_rate: float | None = None
    extras: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels: Any = self.labels
        frame_scores: Any = self.frame_scores
        _set(self, "masks", tuple(tuple(track) for track in self.masks))
        _set(self, "frame_names", tuple(self.frame_names))
        _set(self, "image_size", (int(self.image_size[0]), int(self.image_size[1])))
        _set(self, "names", tuple(self.names))
        _set(self, "scores", np.asarray(self.scores, dtype=np.float32))
        _set(self, "track_ids", as_integers("track_ids", self.track_ids))
        _set(self, "labels", np.zeros(len(self), np.int64) if labels is None else as_integers("labels", labels))
        check_tracks(self)
        if frame_scores is None:
            frame_scores = np.where(self.present(), self.scores[:, None], np.nan)
        _set(self, "frame_scores", np.asarray(frame_scores, dtype=np.float32))
        check_frame_scores(self.frame_scores, self.present())

    @classmethod
    def empty(
        cls,
        frame_names: Sequence[str],
        image_size: tuple[int, int],
        reason: str,
        *,
        frame_rate: float | None = None,
        **metadata: Any,
    ) -> Tracks:
        """No tracks; ``reason`` says why in one sentence."""
        return cls(
            masks=(),
            scores=np.zeros(0, dtype=np.float32),
            track_ids=np.zeros(0, dtype=np.int64),
            frame_names=tuple(frame_names),
            image_size=image_size,
            frame_rate=frame_rate,
            metadata={"reason": reason, **metadata},
        )

    @classmethod
    def from_ytvis(cls, content: Mapping[str, Any]) -> Tracks:
        """The tracks of one clip in YouTube-VIS form: what ``to_ytvis`` returns, or a clip of another program's file.

        Segmentations may have any COCO form. Scores that are absent are 1, ids that are absent or not positive are the
        order, and an annotation without any mask is left out.

        Args:
            content: ``video``, ``annotations`` and ``categories``.

        Raises:
            ValueError: if the content is damaged.
        """
        return cls(**ytvis.from_ytvis(content))

    def to_ytvis(self, video_id: int = 1, first_id: int = 1, name: str = "clip") -> dict[str, Any]:
        """The clip in YouTube-VIS form: ``video``, ``annotations`` and ``categories``, see ``eigenseg.data.ytvis``.

        ``Tracks.from_ytvis`` of it equals these tracks, except that extras and metadata are kept only as far as json can
        hold them: numbers, text, and lists and dicts of them.

        Args:
            video_id: of the video.
            first_id: of the first annotation; the others follow.
            name: of the clip, which becomes the folder of its frames in ``file_names``.
        """
        return ytvis.to_ytvis(self, video_id, first_id, name)

    def __repr__(self) -> str:
        height, width = self.image_size
        why = f": {self.reason}" if self.reason else ""
        return f"Tracks({len(self)} tracks in {len(self.frame_names)} frames of {height} x {width} (H x W){why})"

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: Any) -> Tracks:
        """Select tracks by an integer, a slice, a list of integers or a bool array; always returns Tracks."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return replace(
            self,
            masks=tuple(self.masks[k] for k in chosen),
            scores=self.scores[chosen],
            track_ids=self.track_ids[chosen],
            frame_scores=self.frame_scores[chosen],
            labels=self.labels[chosen],
            extras={name: [values[k] for k in chosen] for name, values in self.extras.items()},
        )

    def __iter__(self) -> Iterator[Tracks]:
        return (self[k] for k in range(len(self)))

    @property
    def reason(self) -> str | None:
        """Why there are no tracks, in one sentence; None if there are."""
        return self.metadata.get("reason")

    def equals(self, other: object) -> bool:
        """Whether all fields are equal, exactly; NaN equals NaN, and values compare as in ``Instances.equals``."""
        if not isinstance(other, Tracks) or (len(self), self.frame_names) != (len(other), other.frame_names):
            return False
        fields = ("scores", "track_ids", "image_size", "frame_scores", "labels", "names", "frame_rate", "metadata")
        if not all(equal_values(getattr(self, name), getattr(other, name)) for name in fields):
            return False
        pairs = (pair for tracks in zip(self.masks, other.masks, strict=True) for pair in zip(*tracks, strict=True))
        return equal_extras(self.extras, other.extras) and all(_equal_or_absent(*pair) for pair in pairs)

    def present(self) -> NDArray[np.bool_]:
        """Where each track has a mask: (K, T) bool."""
        shown = [[rle is not None for rle in track] for track in self.masks]
        return np.array(shown, dtype=bool).reshape(len(self), len(self.frame_names))

    def frame(self, t: int) -> Instances:
        """The objects of frame ``t`` in the order of the tracks, with their frame scores.

        ``extras["track_id"]`` holds their ids. Negative ``t`` counts from the end.

        Raises:
            IndexError: if there is no such frame.
        """
        t = range(len(self.frame_names))[t]
        shown = [k for k, track in enumerate(self.masks) if track[t] is not None]
        rles = [rle for track in self.masks if (rle := track[t]) is not None]
        return Instances(
            masks=RleMasks(rles, self.image_size, checked=True),
            scores=self.frame_scores[shown, t],
            boxes=mask_boxes(rles).astype(np.float32),
            image_size=self.image_size,
            labels=self.labels[shown],
            names=self.names,
            extras={"track_id": self.track_ids[shown]},
            metadata={} if shown else {"reason": self._why_empty(t)},
        )

    def frames(self) -> Iterator[Instances]:
        """The objects of every frame, in order."""
        return (self.frame(t) for t in range(len(self.frame_names)))

    def track(self, k: int) -> list[BoolArray | None]:
        """The masks of track ``k`` in every frame: (H, W) bool, None where it is absent."""
        return [None if rle is None else decode_mask(rle) for rle in self.masks[k]]

    def label_map(self, t: int, numbers: Sequence[int] | NDArray[np.integer[Any]] | None = None) -> NDArray[np.int32]:
        """Label map of frame ``t``: (H, W) int32, 0 is background; the higher track score is on top, the first of equals.

        Args:
            t: the frame; negative counts from the end.
            numbers: the number of each track, such as ``track_ids``; k + 1 for track k if not given.

        Raises:
            IndexError: if there is no such frame.
            ValueError: if there is not one number for each track.
        """
        t = range(len(self.frame_names))[t]
        values = np.arange(1, len(self) + 1) if numbers is None else as_integers("numbers", numbers)
        if values.shape != (len(self),):
            raise ValueError(f"numbers must be ({len(self)},) for {len(self)} tracks, got {values.shape}")
        canvas = np.zeros(self.image_size, dtype=np.int32)
        for k in np.argsort(-self.scores, kind="stable")[::-1].tolist():
            rle = self.masks[k][t]
            if rle is not None:
                canvas[decode_mask(rle)] = values[k]
        return canvas

    def label_maps(self) -> Iterator[NDArray[np.int32]]:
        """The label map of every frame, in order."""
        return (self.label_map(t) for t in range(len(self.frame_names)))

    def _why_empty(self, t: int) -> str:
        unreadable = self.metadata.get("unreadable", {})
        return unreadable.get(self.frame_names[t]) or self.reason or "no track is in this frame"


def _equal_or_absent(one: Rle | None, other: Rle | None) -> bool:
    return one is other if one is None or other is None else equal_masks(one, other)


def _set(tracks: Tracks, name: str, value: object) -> None:
    object.__setattr__(tracks, name, value)
