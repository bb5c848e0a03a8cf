"""Clips to tracks: a video method, and the frames in the form that it needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from eigenseg.data.checks import check_choice
from eigenseg.data.clips import Clip, open_clip
from eigenseg.data.inputs import find_clips
from eigenseg.data.preprocess import Preprocess
from eigenseg.data.sources import IMAGE_SUFFIXES, ClipSource
from eigenseg.data.stages import Batching, Stages, StageTimes, run
from eigenseg.data.tracks import Tracks
from eigenseg.discovery.backbones.base import Backbone
from eigenseg.discovery.extractor import FeatureExtractor
from eigenseg.discovery.predicting import ImagePredictor, check_attention
from eigenseg.kinds import check_backbone, check_method
from eigenseg.parts import join_image_parts, provenances, stream_results
from eigenseg.runtime import choose_device
from eigenseg.segment.refine.base import Refiner
from eigenseg.video.features import ClipFeatures
from eigenseg.video.frames import FramePredictor
from eigenseg.video.method import VideoMethod, finish_tracks
from eigenseg.video.refining import refine_tracks

logger = logging.getLogger(__name__)


class OpenedClip:
    """A clip on its way to the device's thread, and the stamp of its source before it was opened."""

    bucket, nbytes = None, 0  # frames are decoded on demand, within a budget of their own

    def __init__(self, clip: Clip, stamp: Any = None) -> None:
        self.clip, self.stamp = clip, stamp


class ClipPredictor:
    """Finds and follows objects in clips.

    Args:
        backbone: encodes frames as tokens; None for a method that brings its own features.
        method: a video method, such as ``PerFrame(TokenCut())``.
        preprocess: the user's settings; fields left ``None`` come from the backbone, then the method, then the defaults.
        device: ``"auto"`` (CUDA if there is one, else CPU; logged), or anything ``torch.device`` knows.
        refiner: refines the masks of every frame; None leaves them as the method has them.
        batching: frames computed together, threads and memory.

    Raises:
        ValueError: if the device is not available, or parts do not fit together.

    Example:
        >>> import numpy as np
        >>> from eigenseg.discovery import ColorTexture, TokenCut
        >>> from eigenseg.video import PerFrame
        >>> frames = np.full((3, 120, 160, 3), (30, 60, 150), dtype=np.uint8)
        >>> for t in range(3):
        ...     frames[t, 40:80, 60 + 8 * t : 100 + 8 * t] = (220, 180, 40)
        >>> predictor = ClipPredictor(ColorTexture(), PerFrame(TokenCut()), device="cpu")
        >>> tracks = predictor(Clip.from_array(frames))
        >>> len(tracks), tracks.present().tolist()
        (1, [[True, True, True]])
    """

    def __init__(
        self,
        backbone: Backbone | None,
        method: VideoMethod,
        preprocess: Preprocess | None = None,
        device: str = "auto",
        refiner: Refiner | None = None,
        batching: Batching | None = None,
    ) -> None:
        check_method(method)
        if not isinstance(method, VideoMethod):
            raise ValueError(f"{type(method).__name__} works on images: use PerFrame({type(method).__name__}(...))")
        self.backbone, self.method, self.batching = backbone, method, batching or Batching()
        self.extractor: FeatureExtractor | None = None
        self.image_predictor: ImagePredictor | None = None
        self.device = choose_device(device)
        any_method: Any = method
        if method.needs == "predictor":
            self.image_predictor, self.extractor = join_image_parts(backbone, any_method.base, preprocess, self.device)
        else:
            check_backbone(type(method).__name__, method.needs == "features", backbone)
            if backbone is not None:
                self.extractor = FeatureExtractor(backbone, preprocess, self.device, any_method.preprocess)
                check_attention(method, self.extractor)
            elif hasattr(method, "to"):
                self.method = any_method.to(self.device)
        self.refiner = None if refiner is None else refiner.to(self.device)

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing in force; empty where a model brings its own."""
        return Preprocess() if self.extractor is None else self.extractor.preprocess

    def __call__(self, clip: Clip | str | os.PathLike[str]) -> Tracks:
        """Find and follow the objects of a clip.

        Args:
            clip: a ``Clip``, a video file, or a folder of frames.
        """
        return self.predict(clip)

    def predict(
        self,
        clip: Clip | str | os.PathLike[str],
        times: StageTimes | None = None,
        on_frames: Callable[[int], None] = lambda count: None,
    ) -> Tracks:
        """Find and follow the objects of a clip.

        Args:
            clip: a ``Clip``, a video file, or a folder of frames.
            times: collects how long every stage of the frames was busy.
            on_frames: called with the number of newly finished frames, for a progress bar.

        Raises:
            TypeError: if this is an image.
            FileNotFoundError, ValueError: if it cannot be read.
        """
        opened = clip if isinstance(clip, Clip) else _warned(self._open(clip))
        frames = self._frames(opened, times or StageTimes(), on_frames)
        tracks = finish_tracks(self.method, opened, self.method(opened, frames))
        if self.method.needs is None:
            on_frames(len(opened))
        if self.refiner is None or self.method.needs == "predictor":  # there every frame was refined before linking
            return tracks
        return refine_tracks(self.refiner, opened, tracks, self.batching)

    def stream(
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        errors: Literal["raise", "skip"] = "raise",
        every_folder: bool = False,
    ) -> Iterator[tuple[str, Tracks]]:
        """Find and follow objects in many clips.

        Args:
            source: a video, a folder of frames, a folder that holds such (with its subfolders), a pattern, a .txt list,
                or any iterable of paths.
            errors: for a clip that cannot be processed: ``"raise"`` its error, or ``"skip"`` it and log why.
            every_folder: take every folder of images for a clip, whatever their names.

        Yields:
            (path, tracks), in the order of the sorted names.

        Raises:
            FileNotFoundError, ValueError: at once if there is no clip, later for a broken one.
        """
        check_choice("errors", errors, ("raise", "skip"))
        clips = find_clips(source, every_folder)

        def finish(source: ClipSource, opened: OpenedClip, tracks: Tracks, milliseconds: float) -> Tracks:
            _warned(opened.clip)
            return tracks

        return stream_results(run(clips, self.stages(finish), CLIPS), errors)

    def stages(
        self,
        finish: Callable[[ClipSource, OpenedClip, Tracks, float], Any],
        times: StageTimes | None = None,
        on_frames: Callable[[int], None] = lambda count: None,
    ) -> Stages[ClipSource, OpenedClip, Tracks, Any]:
        """The way of a clip through the predictor; see ``Stages`` for ``finish`` and ``predict`` for the others."""

        def prepare(source: ClipSource) -> OpenedClip:
            stamp = source.stamp()  # before reading: a file that changes meanwhile is not taken for the new one
            return OpenedClip(open_clip(source), stamp)

        def infer(batch: Sequence[OpenedClip]) -> list[Tracks]:
            return [self.predict(opened.clip, times, on_frames) for opened in batch]

        return Stages(prepare, infer, finish)

    def provenance(self) -> Mapping[str, Any]:
        """What was built: name, and weights with their sha256, of backbone, method, its base and the refiner."""
        return provenances(backbone=self.backbone, method=self.method, refiner=self.refiner)

    def _frames(self, clip: Clip, times: StageTimes, on_frames: Callable[[int], None]) -> Any:
        if self.image_predictor is not None:
            return FramePredictor(self.image_predictor, self.refiner, self.batching, times, on_frames)
        if self.extractor is None:
            return None
        attention: bool = self.method.needs_attention  # type: ignore[attr-defined]
        return ClipFeatures(clip, self.extractor, attention, self.batching, times=times, on_frames=on_frames)

    def _open(self, clip: Any) -> Clip:
        name = type(self.method).__name__
        if isinstance(clip, (str, os.PathLike)):
            if Path(clip).suffix.lower() in IMAGE_SUFFIXES:
                raise ValueError(f"{name} works on clips, {os.fspath(clip)} is an image; {_IMAGES}")
            return open_clip(clip)
        kind = "an image" if isinstance(clip, Image.Image) or hasattr(clip, "shape") else type(clip).__name__
        if getattr(clip, "ndim", 0) == 4:
            kind = f"an array {tuple(clip.shape)}"
        raise TypeError(
            f"{name} works on clips: a video file, a folder of frames, or a Clip (Clip.from_array for arrays), got {kind}; "
            f"{_IMAGES}"
        )


def _warned(clip: Clip) -> Clip:
    """The same clip, after a warning if the end of its file is missing."""
    if clip.truncated:
        logger.warning("%s", clip.truncated)
    return clip


CLIPS = Batching(batch_size=1, workers=1)  # the next clip is opened and the last one written while one is computed
_IMAGES = "image methods, such as method=tokencut, take images"
