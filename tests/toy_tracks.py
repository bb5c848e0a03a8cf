"""Small tracks, random and drawn by hand, and a slow reader of their encoded masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from eigenseg.data import Rle, Tracks, encode_masks


def draw_tracks(rows: list[list[str]], scores: list[float] | None = None, **more: Any) -> Tracks:
    """Tracks from pictograms: ``rows[k][t]`` is a mask as lines of ``#`` and ``.``, separated by blanks; "" is absent."""
    masks = tuple(tuple(to_rle(frame) for frame in row) for row in rows)
    size = next((len(frame.split()), len(frame.split()[0])) for row in rows for frame in row if frame)
    fields = {
        "scores": scores or [1.0] * len(rows),
        "track_ids": list(range(1, len(rows) + 1)),
        "frame_names": tuple(f"{t:05d}" for t in range(len(rows[0]))),
        "image_size": size,
    }
    return Tracks(masks, **{**fields, **more})


def to_mask(frame: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in line] for line in frame.split()])


def to_rle(frame: str) -> Rle | None:
    return encode_masks(to_mask(frame)[None])[0] if frame else None


def decode_slowly(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Pixels of a compressed COCO RLE, from its definition: five bits a character, every run but three as a difference."""
    counts: list[int] = []
    value = shift = 0
    for character in rle["counts"]:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    height, width = rle["size"]
    pixels = [bool(i % 2) for i, count in enumerate(counts) for _ in range(count)]
    return np.array(pixels).reshape(width, height).T


unit = st.floats(0, 1, width=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def any_tracks(draw: st.DrawFn) -> Tracks:
    """Tracks with every field filled in."""
    count, frames, height, width = draw(
        st.tuples(st.integers(0, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    present = rng.random((count, frames)) < 0.6
    present[np.arange(count), rng.integers(0, frames, count)] = True
    stack = rng.random((count, frames, height, width)) < rng.random()
    stack[..., 0, 0] |= ~stack.any(axis=(2, 3))
    masks = tuple(
        tuple(encode_masks(stack[k, t][None])[0] if present[k, t] else None for t in range(frames)) for k in range(count)
    )
    frame_scores = np.where(present, rng.random(present.shape), np.nan)
    names = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3))
    return Tracks(
        masks=masks,
        scores=np.array(draw(st.lists(unit, min_size=count, max_size=count)), dtype=np.float32),
        track_ids=np.array(
            draw(st.lists(st.integers(1, 2**62), min_size=count, max_size=count, unique=True)), dtype=np.int64
        ),
        frame_names=draw(st.lists(st.text(min_size=1, max_size=4), min_size=frames, max_size=frames, unique=True)),  # type: ignore[arg-type]
        image_size=(height, width),
        frame_scores=frame_scores,
        labels=rng.integers(0, len(names), count),
        names=tuple(names),
        frame_rate=draw(st.none() | st.floats(0.1, 1000)),
        extras={"seed": rng.integers(0, 9, count), "gap": rng.random(count).astype(np.float32), "from": ["a"] * count}
        if count and draw(st.booleans())
        else {},
        metadata=draw(st.dictionaries(st.text(max_size=3), json_values, max_size=3)),
    )
