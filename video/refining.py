"""Refine the masks of tracks frame by frame; ids and scores stay."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from statistics import fmean

import numpy as np

from eigenseg.data.clips import Clip
from eigenseg.data.instances import Instances
from eigenseg.data.rle import Rle
from eigenseg.data.stages import Batching, Stages, run
from eigenseg.data.tracks import Tracks
from eigenseg.discovery.predicting import PlainImage, check_results
from eigenseg.segment.refine.base import Refiner

_NOTES = ("refined", "refinement_iou")


def refine_tracks(refiner: Refiner, clip: Clip, tracks: Tracks, batching: Batching | None = None) -> Tracks:
    """Refine the masks of every frame that has any.

    A mask that does not survive is absent from its track, and a track without masks is dropped. What a ``MaskRefiner``
    says of every mask becomes two extras of the track: ``refined``, the fraction of its remaining masks that are refined,
    and ``refinement_iou``, their mean IoU with the masks before.

    Args:
        refiner: of images.
        clip: that the tracks are of.
        tracks: to refine.
        batching: how many frames at a time.

    Raises:
        Exception: what a frame fails with.
    """
    masks: list[list[Rle | None]] = [[None] * len(clip) for _ in range(len(tracks))]
    notes: list[dict[str, list[float]]] = [{} for _ in range(len(tracks))]
    row = {int(number): k for k, number in enumerate(tracks.track_ids)}

    def refine(batch: Sequence[_Frame]) -> list[Instances]:
        images = [frame.image.image for frame in batch]
        return check_results(refiner, refiner(images, [frame.instances for frame in batch]), images)

    stages = Stages[int, _Frame, Instances, Instances](
        prepare=lambda t: _Frame(PlainImage(clip[t]), tracks.frame(t)),
        infer=refine,
        finish=lambda t, frame, refined, milliseconds: refined,
    )
    shown = np.flatnonzero(tracks.present().any(axis=0)).tolist()
    with closing(run(shown, stages, batching)) as outcomes:
        for outcome in outcomes:
            if outcome.output is None:
                assert outcome.error is not None
                raise outcome.error
            refined = outcome.output
            for i, (number, rle) in enumerate(zip(refined.extras["track_id"], refined.rles(), strict=True)):
                masks[row[int(number)]][outcome.item] = rle
                for name in _NOTES:
                    if name in refined.extras:
                        notes[row[int(number)]].setdefault(name, []).append(float(refined.extras[name][i]))
    kept = [k for k, track in enumerate(masks) if any(rle is not None for rle in track)]
    if not kept and len(tracks):
        reason = (
            "no object: refinement rejected every mask of every frame; postprocess.on_disagreement=keep keeps those before"
        )
        metadata = {name: value for name, value in tracks.metadata.items() if name != "reason"}
        return Tracks.empty(tracks.frame_names, tracks.image_size, reason, frame_rate=tracks.frame_rate, **metadata)
    names = [name for name in _NOTES if all(name in notes[k] for k in kept)]
    extras = {**tracks[kept].extras, **{name: [fmean(notes[k][name]) for k in kept] for name in names}}
    return _with_masks(replace(tracks[kept], extras=extras), [masks[k] for k in kept])


class _Frame:
    """A frame and its instances."""

    bucket = None

    def __init__(self, image: PlainImage, instances: Instances) -> None:
        self.image, self.instances, self.nbytes = image, instances, image.nbytes


def _with_masks(tracks: Tracks, masks: list[list[Rle | None]]) -> Tracks:
    present = np.array([[rle is not None for rle in track] for track in masks]).reshape(len(tracks), -1)
    return Tracks(
        masks=tuple(tuple(track) for track in masks),
        scores=tracks.scores,
        track_ids=tracks.track_ids,
        frame_names=tracks.frame_names,
        image_size=tracks.image_size,
        frame_scores=np.where(present, tracks.frame_scores, np.nan),
        labels=tracks.labels,
        names=tracks.names,
        frame_rate=tracks.frame_rate,
        extras=tracks.extras,
        metadata=tracks.metadata,
    )
