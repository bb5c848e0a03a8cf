"""The frames of a clip through a backbone: windows over time, read ahead and cached within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from eigenseg.data.checks import check_integer
from eigenseg.data.clips import Clip, UnreadableFrame
from eigenseg.data.features import FeatureGrid, join_features
from eigenseg.data.stages import Batching, Stages, StageTimes, run
from eigenseg.discovery.extractor import FeatureExtractor, FittedImage


@dataclass(frozen=True)
class FrameWindow:
    """Features of some frames of a clip.

    Args:
        frames: indices of the frames, ascending.
        features: a batch with one image per frame.
    """

    frames: tuple[int, ...]
    features: FeatureGrid


class ClipFeatures:
    """Features of a clip, extracted when they are asked for. Frames that cannot be read are left out.

    Args:
        clip: with the frames.
        extractor: from images to features.
        attention: include the CLS attention.
        batching: how many frames at a time.
        cache_mb: MiB of features that are kept, the latest ones; what is asked for again is extracted again.
        times: collects how long every stage was busy.
        on_frames: called with the number of newly extracted frames, for a progress bar.
    """

    def __init__(
        self,
        clip: Clip,
        extractor: FeatureExtractor,
        attention: bool = False,
        batching: Batching | None = None,
        cache_mb: int = 1024,  # about 600 frames of ViT-S keys on a grid of 60 x 30
        times: StageTimes | None = None,
        on_frames: Callable[[int], None] = lambda count: None,
    ) -> None:
        check_integer("cache_mb", cache_mb, 0)
        self.clip, self.extractor, self.attention = clip, extractor, attention
        self.batching, self.times, self.on_frames = batching or Batching(), times or StageTimes(), on_frames
        self._cache: OrderedDict[int, FeatureGrid] = OrderedDict()
        self._free = cache_mb * 2**20

    def windows(self, length: int, overlap: int = 0) -> Iterator[FrameWindow]:
        """Consecutive windows over the readable frames; while one is used, the next frames are read.

        The last window may be shorter, but holds at least one frame that no other holds.

        Args:
            length: frames of a window.
            overlap: frames that a window shares with the one before.

        Raises:
            ValueError: if the overlap is not smaller than the length.
        """
        check_integer("length", length, 1)
        check_integer("overlap", overlap, 0)
        if overlap >= length:
            raise ValueError(f"overlap must be smaller than length, got {overlap} and {length}")
        window: list[tuple[int, FeatureGrid]] = []
        fresh = 0
        for entry in self._stream(range(len(self.clip))):
            window.append(entry)
            fresh += 1
            if len(window) == length:
                yield _join(window)
                window, fresh = window[length - overlap :], 0
        if fresh:
            yield _join(window)

    def __getitem__(self, frames: slice) -> FrameWindow:
        """The readable frames of a slice.

        Raises:
            ValueError: if there is none.
        """
        indices = range(len(self.clip))[frames]
        window = sorted(self._stream(indices), key=lambda entry: entry[0])
        if not window:
            raise ValueError(f"clip {self.clip.name} has no readable frame in {frames.start}:{frames.stop}")
        return _join(window)

    def _stream(self, indices: Sequence[int]) -> Iterator[tuple[int, FeatureGrid]]:
        """Readable frames in the order of the indices: from the cache, the others by one run of the stages."""
        cached = {i: self._cache[i] for i in indices if i in self._cache}
        names, known = self.clip.frame_names, set(self.clip.unreadable)
        missing = {i: None for i in indices if i not in cached and names[i] not in known}
        with closing(run(list(missing), self._stages(), self.batching, self.times)) as outcomes:
            for i in indices:
                if i in cached:
                    yield i, cached[i]
                elif i in missing:
                    outcome = next(outcomes)
                    self.on_frames(1)
                    if outcome.output is not None:
                        self._keep(i, outcome.output)
                        yield i, outcome.output
                    elif outcome.error is not None and not isinstance(outcome.error, UnreadableFrame):
                        raise outcome.error

    def _stages(self) -> Stages[int, FittedImage, FeatureGrid, FeatureGrid]:
        def extract(batch: Sequence[FittedImage]) -> list[FeatureGrid]:
            features = self.extractor.extract(batch, self.attention)
            return [features[i : i + 1] for i in range(len(batch))]

        return Stages(
            prepare=lambda i: self.extractor.prepare(self.clip[i]),
            infer=extract,
            finish=lambda i, fitted, features, milliseconds: features,
        )

    def _keep(self, i: int, features: FeatureGrid) -> None:
        self._cache[i] = features
        self._free -= features.nbytes
        while self._free < 0:
            _, oldest = self._cache.popitem(last=False)
            self._free += oldest.nbytes


def _join(window: Sequence[tuple[int, FeatureGrid]]) -> FrameWindow:
    return FrameWindow(tuple(i for i, _ in window), join_features([grid for _, grid in window]))
