"""Windows of features hold what the extractor gives for their frames, whatever was cached, and read each frame once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eigenseg.data import Clip, FeatureGrid, UnreadableFrame
from eigenseg.data.features import join_features
from eigenseg.data.stages import Batching
from eigenseg.discovery import ColorTexture, FeatureExtractor
from eigenseg.video import ClipFeatures, FrameWindow


class Frames:
    """Ten random frames, some of them damaged; counts what is read."""

    def __init__(self, damaged: Sequence[int] = ()) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (10, 48, 64, 3), dtype=np.uint8)
        self.damaged, self.reads = set(damaged), [0] * 10
        self.clip = Clip("clip", tuple(f"{i:05d}" for i in range(10)), (48, 64), None, self.read)

    def read(self, i: int) -> NDArray[np.uint8]:
        self.reads[i] += 1
        if i in self.damaged:
            raise UnreadableFrame(f"frame {i} is damaged")
        return self.images[i]


@pytest.fixture
def extractor() -> FeatureExtractor:
    return FeatureExtractor(ColorTexture())


def tokens(extractor: FeatureExtractor, frames: Frames, i: int) -> torch.Tensor:
    return extractor.extract([extractor.prepare(frames.images[i])]).tokens[0]


def assert_holds(window: FrameWindow, expected: Sequence[int], extractor: FeatureExtractor, frames: Frames) -> None:
    assert window.frames == tuple(expected)
    assert len(window.features) == len(expected)
    for i, found in zip(expected, window.features.tokens, strict=True):
        torch.testing.assert_close(found, tokens(extractor, frames, i), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("length", "overlap", "expected"),
    [
        (4, 0, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        (4, 2, [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [6, 7, 8, 9]]),
        (4, 1, [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]),
        (20, 3, [list(range(10))]),
        (1, 0, [[i] for i in range(10)]),
    ],
)
def test_windows_cover_all_frames_with_the_features_of_each(
    extractor: FeatureExtractor, length: int, overlap: int, expected: list[list[int]], batch_size: int
) -> None:
    frames = Frames()
    windows = list(ClipFeatures(frames.clip, extractor, batching=Batching(batch_size)).windows(length, overlap))
    assert [list(window.frames) for window in windows] == expected
    for window in windows:
        assert_holds(window, window.frames, extractor, frames)
    assert frames.reads == [1] * 10


def test_unreadable_frames_are_left_out_and_named(extractor: FeatureExtractor) -> None:
    frames = Frames(damaged=(3, 9))
    features = ClipFeatures(frames.clip, extractor)
    assert [window.frames for window in features.windows(4, 1)] == [(0, 1, 2, 4), (4, 5, 6, 7), (7, 8)]
    assert frames.clip.unreadable == {"00003": "frame 3 is damaged", "00009": "frame 9 is damaged"}
    assert features[2:5].frames == (2, 4)
    with pytest.raises(ValueError, match="clip clip has no readable frame in 3:4"):
        features[3:4]


@pytest.mark.parametrize("cache_mb", [0, 1024])
def test_a_slice_backwards_and_a_second_pass_do_not_depend_on_the_cache(extractor: FeatureExtractor, cache_mb: int) -> None:
    frames = Frames()
    features = ClipFeatures(frames.clip, extractor, cache_mb=cache_mb)
    assert_holds(features[6:9], [6, 7, 8], extractor, frames)
    assert_holds(features[4:8], [4, 5, 6, 7], extractor, frames)
    assert_holds(features[-2:], [8, 9], extractor, frames)
    assert [window.frames for window in features.windows(5)] == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    expected = [1] * 10 if cache_mb else [1, 1, 1, 1, 2, 2, 3, 3, 3, 2]
    assert frames.reads == expected


def test_the_cache_stays_within_its_bytes(extractor: FeatureExtractor) -> None:
    frames = Frames()
    features = ClipFeatures(frames.clip, extractor, cache_mb=1)
    list(features.windows(3))
    one = features[0:1].features.nbytes
    assert sum(grid.nbytes for grid in features._cache.values()) <= 2**20
    assert len(features._cache) == min(10, 2**20 // one)


def test_windows_that_cannot_be_are_rejected(extractor: FeatureExtractor) -> None:
    features = ClipFeatures(Frames().clip, extractor)
    with pytest.raises(ValueError, match="overlap must be smaller than length, got 3 and 3"):
        next(features.windows(3, 3))
    with pytest.raises(ValueError, match="length must be an integer of at least 1"):
        next(features.windows(0))


def test_joined_features_are_those_of_their_parts(extractor: FeatureExtractor) -> None:
    frames = Frames()
    fitted = [extractor.prepare(image) for image in frames.images[:3]]
    whole = extractor.extract(fitted)
    joined = join_features([whole[:2], whole[2:]])
    assert torch.equal(joined.tokens, whole.tokens)
    assert joined.geometries == whole.geometries
    other = FeatureGrid(whole.tokens, whole.grid, "other", whole.geometries)
    with pytest.raises(ValueError, match="features of one grid and kind can be joined"):
        join_features([whole, other])
