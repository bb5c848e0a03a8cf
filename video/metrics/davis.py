"""DAVIS J and F of videos, in the four protocols that papers use. Scores of different modes are not comparable.

====================  =======================================================================================
mode                  protocol
====================  =======================================================================================
``davis2016``         one foreground (any id above 0); first and last frame dropped from mean, recall and decay;
                      averaged over sequences
``semi_supervised``   DAVIS 2017: predicted ids are those of the annotation; first and last frame dropped
``unsupervised``      DAVIS 2017/2019 official: one matching of proposals to objects per video (Hungarian, on
                      (J + F) / 2 averaged over frames), at most 20 non-overlapping proposals; all frames
``oracle_per_frame``  as SSL-UVOS and SMTC report it: a new matching in every frame by J + F, at most 300
                      proposals, which may overlap. Identity over time is ignored: an upper bound
====================  =======================================================================================

In the 2017 modes the highest id in the first annotated frame is the number of objects. Void pixels (255) are removed from
prediction and annotation before scoring; semi-supervised annotations have none, there 255 is background. Extra proposals
are not penalized, missing ones count as empty masks. Dataset scores are means over objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from eigenseg.data.checks import check_choice
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
# The first frame is given to semi-supervised methods; the published evaluators leave the last one out with it.
WITHOUT_ENDS = ("davis2016", "semi_supervised")
Scores = NDArray[np.float64]
# The official limit, and the one used by SSL-UVOS and SMTC.
MAX_PROPOSALS = {"unsupervised": 20, "oracle_per_frame": 300}


@dataclass(frozen=True)
class VideoScores:
    """Scores of one video, one row per annotated object.

    Args:
        jaccard, contour: (O, T) float64: J and F of the scored frames.
        proposals: (O, T) int64, index of the proposal matched to each object in each frame.
        first: index of the first scored frame.
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
        prediction: (T, H, W) label maps, 0 is background; ``oracle_per_frame`` also takes masks (P, T, H, W) bool that may
            overlap.
        annotation: (T, H, W) uint8, 0 background, 255 void.
        mode: see the module docstring.
        bound_th: tolerance of F; below 1 a fraction of the image diagonal, otherwise pixels.
        max_proposals: largest number of proposals; None for the published limits, 20 and 300.

    Raises:
        ValueError: if the shapes differ, the prediction has ids that the mode does not allow, or no frame can be scored.
    """
    stacked = prediction.ndim == 4
    if stacked and mode != "oracle_per_frame":
        raise ValueError(f"overlapping masks (P, T, H, W) need mode oracle_per_frame, got {mode}")
    if prediction.shape[stacked:] != annotation.shape:
        raise ValueError(f"the prediction is (T, H, W) = {prediction.shape[stacked:]}, the annotation {annotation.shape}")
    if mode == "davis2016":
        prediction, annotation = (prediction > 0).astype(np.uint8), (annotation > 0).astype(np.uint8)
    objects = 1 if mode == "davis2016" else _count_objects(annotation)
    limit = MAX_PROPOSALS.get(mode) if max_proposals is None else max_proposals
    frames = range(1, len(annotation) - 1) if mode in WITHOUT_ENDS else range(len(annotation))
    proposals = prediction.shape[0] if stacked else int(prediction[frames.start : frames.stop].max(initial=0))
    if mode != "davis2016" and not stacked and proposals == VOID:
        _check_not_binary(prediction)
    if mode == "semi_supervised":
        _check_ids(proposals, objects)
        annotation = np.where(annotation == VOID, 0, annotation)
    elif limit is not None and proposals > limit:
        hint = "; 255 marks void pixels in annotations alone" if proposals == VOID else ""
        raise ValueError(
            f"the prediction has {proposals} proposals (its highest id), at most {limit} are allowed; "
            f"keep the best ones and give them ids from 1{hint}"
        )
    if not frames:
        raise ValueError(
            f"the video has {len(annotation)} frames; at least 3 are needed, because the first and last are not scored"
        )
    proposals = max(proposals, objects)
    pairs = np.empty((2, proposals, objects, len(frames)))
    radius = tolerance((annotation.shape[1], annotation.shape[2]), bound_th)
    for t, frame in enumerate(frames):
        valid, labels = annotation[frame] != VOID, annotation[frame]
        predicted = (
            _regions(prediction[:, frame] & valid, proposals, radius)
            if stacked
            else regions_of_labels(np.where(valid, prediction[frame], 0).astype(np.int32), proposals, radius)
        )
        pairs[:, :, :, t] = pairwise_scores(
            predicted, regions_of_labels(np.where(valid, labels, 0).astype(np.int32), objects, radius)
        )
    matches = _match(pairs, mode)
    rows, columns = np.arange(objects)[:, None], np.arange(len(frames))[None, :]
    return VideoScores(pairs[0][matches, rows, columns], pairs[1][matches, rows, columns], matches, frames.start)


class DavisScore(Accumulator[VideoScores]):
    """J, F and their mean over the videos of a dataset, in one mode.

    Args:
        mode, bound_th, max_proposals: as in ``score_video``.

    Raises:
        ValueError: if a parameter is out of range.
    """

    kind: ClassVar[Kind] = "video"
    main, item_score = "J&F", "J&F"
    item_explanation = "mean of J and F over the objects and scored frames of a video"

    def __init__(self, mode: Mode = "unsupervised", bound_th: float = BOUND_TH, max_proposals: int | None = None) -> None:
        super().__init__()
        check_choice("mode", mode, get_args(Mode))
        if not bound_th > 0:
            raise ValueError(f"bound_th must be above 0, got {bound_th}")
        if max_proposals is not None and max_proposals < 1:
            raise ValueError(f"max_proposals must be at least 1, got {max_proposals}")
        self.mode, self.bound_th, self.max_proposals = mode, bound_th, max_proposals

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return self.mode

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        rules = {
            "davis2016": "one foreground, without first and last frame, averaged over sequences",
            "semi_supervised": "predicted ids as given, without first and last frame, averaged over objects",
            "unsupervised": "official, one matching per video, at most 20 proposals, averaged over objects",
            "oracle_per_frame": "a new matching in every frame, identity ignored: an upper bound of J&F",
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
        names = [f"{metric}_{statistic}" for metric in ("J", "F") for statistic in ("mean", "recall", "decay")]
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

    def matches(self, name: str) -> NDArray[np.int64] | None:
        """Index of the proposal matched to each object of a video in each annotated frame: (O, T) int64.

        None in the modes that match none, where ids are taken as given.
        """
        return self.records[name].proposals if self.mode in MAX_PROPOSALS else None

    def statistics(self, scores: VideoScores) -> list[list[float | None]]:
        """Mean, recall and decay of J, then of F, for every object; None if no frame counts."""
        return [
            [None if np.isnan(value) else value for row in (j, f) for value in (nan_mean(row), recall(row), decay(row))]
            for j, f in zip(scores.jaccard, scores.contour, strict=True)
        ]


def _count_objects(annotation: NDArray[np.uint8]) -> int:
    first = annotation[0]
    return int(first[first != VOID].max(initial=0))


def _check_not_binary(prediction: NDArray[np.integer] | NDArray[np.bool_]) -> None:
    """A foreground mask of 0 and 255 would be 254 empty proposals and one."""
    if np.isin(prediction, (0, VOID)).all():
        raise ValueError(
            "the prediction holds 0 and 255 alone; number objects from 1, or score one foreground with evaluation=davis2016"
        )


def _check_ids(highest: int, objects: int) -> None:
    if highest > objects:
        hint = "" if objects else "; 255 is void; set dataset.binary=true for annotations of 0 and 255"
        raise ValueError(
            f"the prediction has id {highest}, but the first frame of the annotation has {objects} objects{hint}"
        )


def _regions(masks: NDArray[np.bool_], count: int, radius: int) -> list[Region]:
    empty = np.zeros((count - len(masks), *masks.shape[1:]), dtype=bool)
    return regions_of_masks(np.concatenate([masks, empty]), radius)


def _match(pairs: Scores, mode: Mode) -> NDArray[np.int64]:
    """Index of the proposal matched to each object in each frame: (O, T) int64.

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
    """The proposal of each object in the matching with the largest sum of gains (P, O): (O,) int64."""
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return np.asarray(rows[np.argsort(columns)], dtype=np.int64)
