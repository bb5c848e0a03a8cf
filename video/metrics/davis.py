"""The DAVIS scores J and F of whole videos, in the four protocols that papers use. The mode is part of every number.

====================  =======================================================================================
mode                  how it counts
====================  =======================================================================================
``davis2016``         one foreground (any number above 0); means over all frames, recall and decay without the
                      first and last frame; average over sequences
``semi_supervised``   DAVIS 2017: predicted numbers are the annotation's; first and last frame dropped
``unsupervised``      DAVIS 2017/2019 official: proposals matched to objects once a video (Hungarian on the mean
                      over frames of (J + F) / 2), at most 20, not overlapping; all frames
``oracle_per_frame``  what SSL-UVOS and SMTC report: matched anew in every frame by J + F, at most 300, overlap
                      allowed. Identity over time is not scored: an upper bound, not comparable with the others
====================  =======================================================================================

In the 2017 modes the objects are those of the annotation's first frame: its highest number says how many. Void pixels
(255) are taken out of prediction and annotation before anything is measured; semi-supervised annotation has none, there 255
is background. Extra proposals cost nothing, missing ones are empty. Global numbers are means over objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eigenseg.data.datasets.base import VOID, Kind, VideoAnnotation
from eigenseg.data.metric import Accumulator, ItemScores, mean
from eigenseg.video.metrics.regions import (
    BOUND_TH,
    Region,
    pairwise_scores,
    regions_of_labels,
    regions_of_masks,
    tolerance,
)
from eigenseg.video.metrics.statistics import decay, nan_mean, recall

Mode = Literal["davis2016", "semi_supervised", "unsupervised", "oracle_per_frame"]
Scores = NDArray[np.float64]
# The official limit, and the one that SSL-UVOS and SMTC raise it to.
MAX_PROPOSALS = {"unsupervised": 20, "oracle_per_frame": 300}


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video, a row an object of the annotation.

    Args:
        jaccard, contour: (O, T) float64: J and F of the frames that count.
        proposals: (O, T) int64, index of the proposal that each object was given in each frame.
        first: index of the first frame that counts.
    """

    jaccard: Scores
    contour: Scores
    proposals: NDArray[np.int64]
    first: int = 0


def score_video(
    prediction: NDArray[np.integer] | NDArray[np.bool_],
    annotation: NDArray[np.uint8],
    mode: Mode = "unsupervised",
    bound_th: float = BOUND_TH,
    max_proposals: int | None = None,
) -> VideoScores:
    """Score one video.

    Args:
        prediction: (T, H, W) label maps, 0 is background; with ``oracle_per_frame`` also (P, T, H, W) bool, masks that may
            overlap.
        annotation: (T, H, W) uint8, 0 background, 255 void.
        mode: see the module.
        bound_th: tolerance of F, below 1 a share of the diagonal, otherwise pixels.
        max_proposals: how many are accepted; 20 and 300 as published if not given.

    Raises:
        ValueError: if the shapes differ, the prediction has numbers that the mode does not allow, or no frame is left.
    """
    stacked = prediction.ndim == 4
    if stacked and mode != "oracle_per_frame":
        raise ValueError(f"overlapping masks (P, T, H, W) are scored with mode oracle_per_frame only, got {mode}")
    if prediction.shape[stacked:] != annotation.shape:
        raise ValueError(f"the prediction is (T, H, W) = {prediction.shape[stacked:]}, the annotation {annotation.shape}")
    if mode == "davis2016":
        prediction, annotation = (prediction > 0).astype(np.uint8), (annotation > 0).astype(np.uint8)
    objects = 1 if mode == "davis2016" else _count_objects(annotation)
    limit = MAX_PROPOSALS.get(mode) if max_proposals is None else max_proposals
    frames = range(1, len(annotation) - 1) if mode == "semi_supervised" else range(len(annotation))
    proposals = prediction.shape[0] if stacked else int(prediction[frames.start : frames.stop].max(initial=0))
    if mode == "semi_supervised":
        _check_ids(proposals, objects)
        annotation = np.where(annotation == VOID, 0, annotation)
    elif limit is not None and proposals > limit:
        raise ValueError(
            f"it has {proposals} proposals (the highest number counts), at most {limit} are allowed; "
            "keep the best ones and number them from 1"
        )
    if not frames:
        raise ValueError(f"it has {len(annotation)} frames, and the first and last are not scored; at least 3 are needed")
    proposals = max(proposals, objects)
    pairs = np.empty((2, proposals, objects, len(frames)))
    radius = tolerance((annotation.shape[1], annotation.shape[2]), bound_th)
    for t, frame in enumerate(frames):
        known, wanted = annotation[frame] != VOID, annotation[frame]
        found = (
            _regions(prediction[:, frame] & known, proposals, radius)
            if stacked
            else regions_of_labels(np.where(known, prediction[frame], 0).astype(np.int32), proposals, radius)
        )
        pairs[:, :, :, t] = pairwise_scores(
            found, regions_of_labels(np.where(known, wanted, 0).astype(np.int32), objects, radius)
        )
    chosen = _match(pairs, mode)
    rows, columns = np.arange(objects)[:, None], np.arange(len(frames))[None, :]
    return VideoScores(pairs[0][chosen, rows, columns], pairs[1][chosen, rows, columns], chosen, frames.start)


class DavisScore(Accumulator[VideoScores]):
    """J, F and their mean over the videos of a dataset, in one mode.

    Args:
        mode, bound_th, max_proposals: as in ``score_video``.

    Raises:
        ValueError: if a parameter is out of range.
    """

    kind: ClassVar[Kind] = "video"
    main, item_score = "J&F", "J&F"

    def __init__(self, mode: Mode = "unsupervised", bound_th: float = BOUND_TH, max_proposals: int | None = None) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}, got {mode!r}")
        if not bound_th > 0:
            raise ValueError(f"bound_th must be above 0, got {bound_th}")
        if max_proposals is not None and max_proposals < 1:
            raise ValueError(f"max_proposals must be at least 1, got {max_proposals}")
        self.mode, self.bound_th, self.max_proposals = mode, bound_th, max_proposals

    @property
    def tag(self) -> str:
        """What is printed beside every number."""
        return self.mode

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        rules = {
            "davis2016": "one foreground, sequence average",
            "semi_supervised": "numbers as given, without first and last frame, object average",
            "unsupervised": "official, matched once a video, at most 20 proposals, object average",
            "oracle_per_frame": "matched anew in every frame, identity not scored: an upper bound of J&F",
        }[self.mode]
        return f"DAVIS {self.mode}: {rules}"

    def update(self, name: str, prediction: NDArray[np.integer] | NDArray[np.bool_], annotation: VideoAnnotation) -> None:
        """Score one video; see ``score_video``.

        Raises:
            ValueError: naming the video.
        """
        try:
            scores = score_video(prediction, annotation.labels, self.mode, self.bound_th, self.max_proposals)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        self.add(name, scores)

    def compute(self) -> ItemScores:
        """``J&F``, and mean, recall and decay of J and F, means over objects, in [0, 1]; ``objects`` and ``videos``."""
        statistics = [row for _, scores in self.in_order() for row in self.statistics(scores)]
        names = [f"{measure}_{statistic}" for measure in ("J", "F") for statistic in ("mean", "recall", "decay")]
        means = {name: mean([row[i] for row in statistics]) for i, name in enumerate(names)}
        both = None if means["J_mean"] is None or means["F_mean"] is None else (means["J_mean"] + means["F_mean"]) / 2
        return {"J&F": both, **means, "objects": len(statistics), "videos": len(self.records)}

    def item_scores(self) -> dict[str, ItemScores]:
        """``J&F``, ``J`` and ``F`` of every video (means over its objects), and ``J_<object>``, ``F_<object>``."""
        items: dict[str, ItemScores] = {}
        for name, scores in self.in_order():
            rows = self.statistics(scores)
            jaccard, contour = mean([row[0] for row in rows]), mean([row[3] for row in rows])
            both = None if jaccard is None or contour is None else (jaccard + contour) / 2
            items[name] = {"J&F": both, "J": jaccard, "F": contour}
            for i, row in enumerate(rows, start=1):
                items[name] |= {f"J_{i}": row[0], f"F_{i}": row[3]}
        return items

    def statistics(self, scores: VideoScores) -> list[list[float | None]]:
        """Mean, recall and decay of J, then of F, for every object; None where no frame counts."""
        # DAVIS 2016's script drops the first and last frame for recall and decay, not for the mean.
        inner = slice(1, -1) if self.mode == "davis2016" else slice(None)
        return [
            [
                None if np.isnan(value) else value
                for row in (j, f)
                for value in (nan_mean(row), recall(row[inner]), decay(row[inner]))
            ]
            for j, f in zip(scores.jaccard, scores.contour, strict=True)
        ]


def _count_objects(annotation: NDArray[np.uint8]) -> int:
    first = annotation[0]
    return int(first[first != VOID].max(initial=0))


def _check_ids(highest: int, objects: int) -> None:
    if highest > objects:
        hint = "" if objects else "; 255 is void, an annotation of 0 and 255 is read with dataset.binary=true"
        raise ValueError(f"it has number {highest}, but the first frame of the annotation has {objects} objects{hint}")


def _regions(masks: NDArray[np.bool_], count: int, radius: int) -> list[Region]:
    empty = np.zeros((count - len(masks), *masks.shape[1:]), dtype=bool)
    return regions_of_masks(np.concatenate([masks, empty]), radius)


def _match(pairs: Scores, mode: Mode) -> NDArray[np.int64]:
    """Which proposal each object gets in each frame: (O, T) int64.

    Args:
        pairs: (2, P, O, T), J and F; P >= O.
    """
    _, _, objects, frames = pairs.shape
    if mode == "unsupervised":
        return np.repeat(_assign(pairs.mean(axis=3).mean(axis=0))[:, None], frames, axis=1)
    if mode == "oracle_per_frame":
        return np.stack([_assign(pairs[:, :, :, t].sum(axis=0)) for t in range(frames)], axis=1)
    return np.repeat(np.arange(objects)[:, None], frames, axis=1)


def _assign(gain: Scores) -> NDArray[np.int64]:
    """The proposal of each object, so that the sum of gains (P, O) is largest: (O,) int64."""
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return np.asarray(rows[np.argsort(columns)], dtype=np.int64)
