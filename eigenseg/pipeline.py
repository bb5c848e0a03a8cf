"""Results of many images or clips on disk: what is there stays, what is missing is computed or filled in.

Data flow: sources -> the stages of a predictor -> records and files of a ``ResultStore``, item by item.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from eigenseg.clip_predictor import CLIPS, ClipPredictor, OpenedClip
from eigenseg.data.clips import open_clip
from eigenseg.data.files import OutputError
from eigenseg.data.images import decoding_bytes, read_image
from eigenseg.data.instances import Instances
from eigenseg.data.results.records import Kind, Record, Stamp
from eigenseg.data.results.store import ResultStore
from eigenseg.data.sources import ClipSource, ImageSource
from eigenseg.data.stages import Batching, Stages, StageTimes, run
from eigenseg.data.tracks import Tracks
from eigenseg.discovery.reasons import LOOK_ALIKE
from eigenseg.predictor import Predictor


@dataclass
class Summary:
    """Counts of one run."""

    items: int = 0  # images or clips that were processed
    frames: int = 0  # of clips
    objects: int = 0  # instances or tracks
    failures: int = 0  # images or clips without a result
    empty: int = 0  # images or clips without objects
    alike: int = 0  # those whose tokens all look alike
    rejected: int = 0  # masks of images that refinement rejected
    incomplete: int = 0  # clips with frames that are missing or cannot be read
    skipped: int = 0  # already done
    filled: int = 0  # already done, files that were missing are written now
    repeated: int = 0  # already done, computed again because missing files need arrays that were not kept
    seconds: float = 0.0
    bottleneck: str | None = None  # the stage that the others wait for
    times: dict[str, Any] = field(default_factory=dict)  # seconds by stage, for run.json

    def add(self, outline: _Outline) -> None:
        """Count one result."""
        self.objects += outline.objects
        self.empty += not outline.objects
        self.alike += outline.alike
        self.rejected += outline.rejected


def extract(
    predictor: Predictor | ClipPredictor,
    sources: Sequence[ImageSource] | Sequence[ClipSource],
    store: ResultStore,
    batching: Batching | None = None,
    on_progress: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Compute and write what a store does not hold yet.

    Args:
        predictor: of images or of clips, as the sources are.
        sources: what to process.
        store: where results go.
        batching: images at a time; a ``ClipPredictor`` has its own for frames.
        on_progress: called with the number of newly finished images or frames.

    Raises:
        OutputError: if results cannot be written; everything recorded so far is kept.
    """
    start, summary = time.perf_counter(), Summary()
    fresh: list[Any] = []
    lacking: list[Any] = []
    for source in sources:
        if store.holds(source):
            summary.skipped += 1
        elif store.unwritten(source):
            lacking.append(source)
        else:
            summary.repeated += store.lacks_arrays(source)
            fresh.append(source)
    _fill(store, lacking, batching, summary, on_progress)
    times, frame_times = StageTimes(), StageTimes()
    if isinstance(predictor, ClipPredictor):
        outcomes = run(fresh, _clip_stages(predictor, store, summary, frame_times, on_progress), CLIPS, times)
    else:
        outcomes = run(fresh, _image_stages(predictor, store), batching, times)
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.error is not None:
                _fail(store, outcome.item, outcome.error)
                summary.failures += 1
            else:
                summary.items += 1
                assert outcome.output is not None
                summary.add(outcome.output)
            if isinstance(outcome.item, ImageSource):
                on_progress(1)
    store.finish(sources)
    summary.incomplete = len(store.incomplete(sources))
    summary.seconds = time.perf_counter() - start
    # Clips are computed one by one, so what their frames wait for says more than that clips wait for them.
    inner = frame_times.bottleneck() if times.bottleneck() == "infer" else None
    summary.bottleneck = inner or times.bottleneck()
    frames = {"frames": frame_times.summary()} if inner else {}
    summary.times = {**times.summary(), **frames, "bottleneck": summary.bottleneck}
    if summary.items:
        store.update_run(times=summary.times)
    return summary


def error_line(error: Exception) -> str:
    """One line for the record; the type is named where the message alone was not written for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, FileNotFoundError)) else f"{type(error).__name__}: {text}"


class _Stamped:
    """A prepared image and the stamp of its file before it was read."""

    def __init__(self, stamp: Stamp, prepared: Any) -> None:
        self.stamp, self.prepared = stamp, prepared
        self.image, self.bucket, self.nbytes = prepared.image, prepared.bucket, prepared.nbytes


def _image_stages(predictor: Predictor, store: ResultStore) -> Stages[ImageSource, _Stamped, Instances, _Outline]:
    inner = predictor.stages(lambda source: source.path, lambda *_: None)

    def prepare(source: ImageSource) -> _Stamped:
        stamp = source.stamp()  # before reading: a file that changes meanwhile is not taken for the new one
        return _Stamped(stamp, inner.prepare(source))

    def finish(source: ImageSource, stamped: _Stamped, instances: Instances, milliseconds: float) -> _Outline:
        store.add(Record.of(source.name, stamped.stamp, instances, milliseconds), stamped.image)
        return _Outline.of(instances)

    return Stages(prepare, lambda batch: inner.infer([one.prepared for one in batch]), finish, inner.refine, inner.measure)


def _clip_stages(
    predictor: ClipPredictor,
    store: ResultStore,
    summary: Summary,
    times: StageTimes,
    on_frames: Callable[[int], None],
) -> Stages[ClipSource, OpenedClip, Tracks, _Outline]:
    def count(frames: int) -> None:
        summary.frames += frames
        on_frames(frames)

    def finish(source: ClipSource, opened: OpenedClip, tracks: Tracks, milliseconds: float) -> _Outline:
        store.add(Record.of(source.name, opened.stamp, tracks, milliseconds, opened.clip.truncated), opened.clip)
        return _Outline.of(tracks)

    return predictor.stages(finish, times, count)


class _Outline(NamedTuple):
    """What a summary counts of a result, which is not kept."""

    objects: int
    alike: bool
    rejected: int

    @classmethod
    def of(cls, result: Instances | Tracks) -> _Outline:
        return cls(len(result), LOOK_ALIKE in (result.reason or ""), result.metadata.get("rejected", 0))


def _fill(
    store: ResultStore,
    sources: Sequence[Any],
    batching: Batching | None,
    summary: Summary,
    on_progress: Callable[[int], None],
) -> None:
    """Write the missing files of finished items; a source that cannot be read any more keeps its record."""

    def read(source: Any) -> _Pixels:
        if not store.needs_pixels(source):
            return _Pixels(None)
        return _Pixels(read_image(source.path) if isinstance(source, ImageSource) else open_clip(source))

    stages = Stages[Any, _Pixels, None, None](
        prepare=read,
        infer=lambda batch: [None] * len(batch),
        finish=lambda source, pixels, _, milliseconds: store.fill(source, pixels.value),
        measure=lambda source: decoding_bytes(source.path) if store.needs_pixels(source) else 0,
    )
    with closing(run(sources, stages, batching)) as outcomes:
        for outcome in outcomes:
            if outcome.error is None:
                summary.filled += 1
            else:
                _fail(store, outcome.item, outcome.error)
                summary.failures += 1
            on_progress(1 if isinstance(outcome.item, ImageSource) else len(outcome.item.frames))


class _Pixels:
    """An image, a clip, or None where none is needed."""

    bucket = None

    def __init__(self, value: Any) -> None:
        self.value, self.nbytes = value, getattr(value, "nbytes", 0)


def _fail(store: ResultStore, source: Any, error: Exception) -> None:
    if isinstance(error, OutputError):  # a full disk fails everything that follows, too
        raise error
    kind: Kind = "image" if isinstance(source, ImageSource) else "clip"
    store.fail(Record.failure(source.name, kind, None, error_line(error)))
