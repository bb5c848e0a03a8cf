"""What ``Tracks`` checks once, at construction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.rle import Rle, check_rle, mask_areas


def check_tracks(tracks: Any) -> None:
    """Raise if the fields of ``Tracks`` do not fit together; frame scores are checked by ``check_frame_scores``.

    Raises:
        TypeError: if a mask is neither an RLE nor None.
        ValueError: naming the field, what it holds and what it must hold.
    """
    count, rate = len(tracks.masks), tracks.frame_rate
    _check_frame_names(tracks.frame_names)
    for k, track in enumerate(tracks.masks):
        _check_masks(k, track, len(tracks.frame_names), tracks.image_size)
    for name in ("scores", "track_ids", "labels"):
        if getattr(tracks, name).shape != (count,):
            raise ValueError(f"{name} must be ({count},) for {count} tracks, got {getattr(tracks, name).shape}")
    if not ((tracks.scores >= 0) & (tracks.scores <= 1)).all():
        raise ValueError(f"scores must lie in [0, 1], got {tracks.scores.tolist()}")
    if (tracks.track_ids < 1).any() or len(np.unique(tracks.track_ids)) < count:
        raise ValueError(f"track_ids must be positive and unique, got {tracks.track_ids.tolist()}")
    if not tracks.names:
        raise ValueError("names must hold at least one name, got none")
    if not ((tracks.labels >= 0) & (tracks.labels < len(tracks.names))).all():
        raise ValueError(f"labels must index the {len(tracks.names)} names, got {tracks.labels.tolist()}")
    for name, values in tracks.extras.items():
        if len(values) != count:
            raise ValueError(f"extras[{name!r}] has {len(values)} entries for {count} tracks")
    if rate is not None and not (isinstance(rate, (int, float)) and math.isfinite(rate) and rate > 0):
        raise ValueError(f"frame_rate must be a positive number of frames per second, or None if unknown, got {rate!r}")


def check_frame_scores(scores: NDArray[np.float32], present: NDArray[np.bool_]) -> None:
    """Raise if the scores (K, T) are not in [0, 1] where a track is present, (K, T) bool, and NaN elsewhere.

    Raises:
        ValueError: naming the first that is wrong.
    """
    if scores.shape != present.shape:
        raise ValueError(f"frame_scores must be (K, T) = {present.shape}, got {scores.shape}")
    wrong = np.argwhere(np.where(present, ~((scores >= 0) & (scores <= 1)), ~np.isnan(scores)))
    if len(wrong):
        k, t = wrong[0].tolist()
        raise ValueError(
            f"frame_scores must lie in [0, 1] where a track is present and be NaN where it is absent, got {scores[k, t]} "
            f"for track {k} in frame {t}"
        )


def as_integers(name: str, values: Any) -> NDArray[np.int64]:
    """Convert to int64.

    Raises:
        ValueError: if the values are not integers.
    """
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got {array.dtype}")
    return array.astype(np.int64)


def _check_frame_names(frame_names: tuple[Any, ...]) -> None:
    seen: set[str] = set()
    for name in frame_names:
        if not isinstance(name, str):
            raise ValueError(f"frame_names must be strings, got {name!r}")
        if name in seen:
            raise ValueError(f"frame_names must be unique, got {name!r} twice")
        seen.add(name)


def _check_masks(k: int, track: tuple[Rle | None, ...], frames: int, size: tuple[int, int]) -> None:
    if len(track) != frames:
        raise ValueError(f"masks[{k}] has {len(track)} entries for {frames} frames")
    if all(rle is None for rle in track):
        raise ValueError(f"masks[{k}] is None in every frame; leave out tracks that are in no frame")
    for t, rle in enumerate(track):
        if rle is not None:
            _check_mask(f"masks[{k}][{t}]", rle, size)


def _check_mask(where: str, rle: Any, size: tuple[int, int]) -> None:
    if not isinstance(rle, Mapping) or not isinstance(rle.get("counts"), str) or "size" not in rle:
        raise TypeError(f"{where} must be an RLE (size, and counts as text) or None, got {type(rle).__name__}")
    if list(rle["size"]) != list(size):
        raise ValueError(f"{where} has size {list(rle['size'])}, the clip {list(size)}")
    try:
        checked = check_rle(rle, size)
    except ValueError as error:
        raise ValueError(f"{where} is a damaged RLE ({error})") from None
    if not mask_areas([checked])[0]:
        raise ValueError(f"{where} is empty; where a track is absent its mask must be None")
