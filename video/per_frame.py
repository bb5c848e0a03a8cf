"""An image method on every frame, its objects linked over time: the baseline of every video method.

Data flow: clip -> image method (and refiner) frame by frame -> instances -> linking -> tracks.
"""

from __future__ import annotations

from eigenseg.data.clips import Clip, UnreadableFrame
from eigenseg.data.tracks import Tracks
from eigenseg.discovery.method import Method
from eigenseg.discovery.predicting import ImageModel
from eigenseg.video.frames import FramePredictor
from eigenseg.video.linking import Linker
from eigenseg.video.method import Needs, VideoMethod


class PerFrame:
    """Frames are predicted independently and linked by mask IoU, see ``Linker``.

    A track's score is the mean score of its masks times the fraction of frames in which it is present.

    Args:
        base: the image method, or a model with its own features.
        min_iou: least IoU of a mask with the last one of its track.
        max_gap: frames that a track may be absent, or unreadable, in between.

    Raises:
        ValueError: if a number is out of range, or the base is a video method itself.
    """

    needs: Needs = "predictor"

    def __init__(self, base: Method | ImageModel, min_iou: float = 0.3, max_gap: int = 5) -> None:
        if isinstance(base, VideoMethod):
            raise ValueError(f"base must be an image method, got the video method {type(base).__name__}")
        Linker(min_iou, max_gap)
        self.base, self.min_iou, self.max_gap = base, min_iou, max_gap

    def __call__(self, clip: Clip, frames: FramePredictor) -> Tracks:
        """Find and link the objects of a clip."""
        linker = Linker(self.min_iou, self.max_gap)
        for result in frames(clip):
            linker.add(None if isinstance(result, UnreadableFrame) else result)
        return linker.tracks(clip.frame_names, clip.image_size, clip.frame_rate)
