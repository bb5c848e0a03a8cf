"""The frames of a clip through an image predictor: read ahead, in batches, refined and encoded off the main thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from eigenseg.data.clips import Clip, UnreadableFrame
from eigenseg.data.instances import Instances
from eigenseg.data.rle import RleMasks
from eigenseg.data.stages import Batching, Stages, StageTimes, run
from eigenseg.discovery.predicting import ImagePredictor, check_results
from eigenseg.segment.refine.base import Refiner

# While a frame is prepared: the decoded frame, its conversion, and the resized input.
_BYTES_PER_PIXEL = 9


class FramePredictor:
    """Predicts frames of clips.

    Args:
        predictor: of images.
        refiner: refines the masks of every frame, or None.
        batching: how many frames at a time.
        times: collects how long every stage was busy.
        on_frames: called with the number of newly finished frames, for a progress bar.
    """

    def __init__(
        self,
        predictor: ImagePredictor,
        refiner: Refiner | None = None,
        batching: Batching | None = None,
        times: StageTimes | None = None,
        on_frames: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.predictor, self.refiner = predictor, refiner
        self.batching, self.times, self.on_frames = batching or Batching(), times or StageTimes(), on_frames

    def __call__(self, clip: Clip, frames: Iterable[int] | None = None) -> Iterator[Instances | UnreadableFrame]:
        """Predict frames.

        Args:
            clip: where they are.
            frames: indices; all by default.

        Yields:
            For every index, in order, the instances (masks as RLE), or the error of a frame that cannot be read.

        Raises:
            Exception: whatever else a frame fails with; it ends the clip.
        """
        stages = Stages[int, Any, Instances, Instances](
            measure=lambda _: _BYTES_PER_PIXEL * clip.image_size[0] * clip.image_size[1],
            prepare=lambda i: self.predictor.prepare(clip[i]),
            infer=self.predictor.infer,
            refine=None if self.refiner is None else refining(self.refiner),
            # Encoded here, on a thread of its own; masks of all frames would not fit into memory otherwise.
            finish=lambda i, prepared, instances, milliseconds: replace(
                instances, masks=RleMasks(instances.rles(), instances.image_size)
            ),
        )
        indices = range(len(clip)) if frames is None else frames
        with closing(run(indices, stages, self.batching, self.times)) as outcomes:
            for outcome in outcomes:
                self.on_frames(1)
                if outcome.output is not None:
                    yield outcome.output
                elif isinstance(outcome.error, UnreadableFrame):
                    yield outcome.error
                elif outcome.error is not None:
                    raise outcome.error


def refining(refiner: Refiner) -> Callable[[Sequence[Any], Sequence[Instances]], list[Instances]]:
    """A refiner as a stage: prepared images and their instances in, refined instances out."""

    def refine(batch: Sequence[Any], instances: Sequence[Instances]) -> list[Instances]:
        images = [prepared.image for prepared in batch]
        return check_results(refiner, refiner(images, instances), images)

    return refine
