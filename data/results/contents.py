"""Instances and tracks as json values and large arrays, and back."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.instances import Instances
from eigenseg.data.results.encoding import Arrays, decode_value, encode_rows, encode_value
from eigenseg.data.rle import Rle, RleMasks
from eigenseg.data.tracks import Tracks

Size = tuple[int, int]


class _Content(TypedDict):
    """What is kept of instances and of tracks."""

    scores: list[float]
    labels: list[int]
    names: list[str]
    extras: dict[str, Any]
    metadata: dict[str, Any]


class InstancesContent(_Content):
    """The result of an image without its size."""

    masks: list[str]
    boxes: list[tuple[float, float, float, float]]


class TracksContent(_Content):
    """The result of a clip without its size."""

    masks: list[list[str | None]]
    track_ids: list[int]
    frame_names: list[str]
    frame_rate: float | None
    frame_scores: list[list[float | None]]


def encode_result(result: Instances | Tracks, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Everything but the masks and the image size as json values; large arrays are added to ``arrays``.

    float32 numbers become the double of equal value, which json gives back exactly.

    Raises:
        ValueError: if a value in extras or metadata has no json form.
    """
    content: dict[str, Any] = {
        "scores": result.scores.tolist(),
        "labels": result.labels.tolist(),
        "names": list(result.names),
        "extras": {name: encode_rows(values, f"extras.{name}", arrays) for name, values in result.extras.items()},
        "metadata": {name: encode_value(value, f"metadata.{name}", arrays) for name, value in result.metadata.items()},
    }
    if isinstance(result, Instances):
        return {"boxes": result.boxes.tolist(), **content}
    return {
        "track_ids": result.track_ids.tolist(),
        "frame_names": list(result.frame_names),
        "frame_rate": None if result.frame_rate is None else float(result.frame_rate),
        "frame_scores": [[None if score != score else score for score in row] for row in result.frame_scores.tolist()],
        **content,
    }


def encode_counts(result: Instances | Tracks) -> list[Any]:
    """The masks as the ``counts`` of their run lengths: n strings, or for K tracks T strings or None each."""
    if isinstance(result, Tracks):
        return [[None if rle is None else rle["counts"] for rle in track] for track in result.masks]
    return [rle["counts"] for rle in result.rles()]


def decode_instances(content: InstancesContent, size: Size, arrays: Arrays) -> Instances:
    """Instances of ``encode_result`` with ``masks``.

    Raises:
        ValueError, KeyError, TypeError: if the content was not encoded so.
    """
    count = len(content["masks"])
    return Instances(
        masks=RleMasks([_rle(counts, size) for counts in content["masks"]], size),
        boxes=np.array(content["boxes"], dtype=np.float32).reshape(count, 4),
        image_size=size,
        **_common(content, arrays),
    )


def decode_tracks(content: TracksContent, size: Size, arrays: Arrays) -> Tracks:
    """Tracks of ``encode_result`` with ``masks``.

    Raises:
        ValueError, KeyError, TypeError: if the content was not encoded so.
    """
    frames = tuple(content["frame_names"])
    scores = [[np.nan if score is None else score for score in row] for row in content["frame_scores"]]
    return Tracks(
        masks=tuple(
            tuple(None if counts is None else _rle(counts, size) for counts in track) for track in content["masks"]
        ),
        track_ids=np.array(content["track_ids"], dtype=np.int64),
        frame_names=frames,
        frame_scores=np.array(scores, dtype=np.float32).reshape(len(scores), len(frames)),
        frame_rate=content["frame_rate"],
        image_size=size,
        **_common(content, arrays),
    )


def _common(content: InstancesContent | TracksContent, arrays: Arrays) -> dict[str, Any]:
    extras = {name: decode_value(values, arrays) for name, values in content["extras"].items()}
    for name, values in extras.items():
        if not isinstance(values, (list, tuple, np.ndarray)):
            raise ValueError(f"extras[{name!r}] must have an entry for each mask, got a {type(values).__name__}")
    return {
        "scores": np.array(content["scores"], dtype=np.float32),
        "labels": np.array(content["labels"], dtype=np.int64),
        "names": tuple(content["names"]),
        "extras": extras,
        "metadata": {name: decode_value(value, arrays) for name, value in content["metadata"].items()},
    }


def _rle(counts: str, size: Size) -> Rle:
    return Rle(size=list(size), counts=counts)
