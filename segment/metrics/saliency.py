"""Saliency measures of soft or hard foreground maps, in the two families of definitions that papers use.

Both compute F = (1 + beta^2) P R / (beta^2 P + R) with beta^2 = 0.3; everything around it differs, so numbers of one family
must not be compared with the other's.

``toolbox``  (the saliency literature's sal_eval_toolbox): annotation is gray >= 0.1; a map is divided by its maximum and
    thresholded at k/255, >=; precision and recall are averaged over images first, then F, then its maximum over thresholds.
``tokencut`` (TokenCut's script): annotation is any value above 0; a map is thresholded at k/255, strictly above; F is
    averaged over images, then its maximum over thresholds; IoU and accuracy at > 0.5.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Kind
from eigenseg.data.metric import Accumulator, ItemScores, mean

GrayMap = NDArray[np.uint8]
Curve = NDArray[np.float64]
# The literature's weight of precision over recall.
BETA_SQUARED = 0.3


class SaliencyRecord(NamedTuple):
    """One image: single numbers, and curves over thresholds that are averaged over images before anything else."""

    values: ItemScores
    curves: dict[str, Curve]


class Saliency(Accumulator[SaliencyRecord]):
    """What both families share: maps in, averages out."""

    kind: ClassVar[Kind] = "saliency"
    main, item_score = "max_f", "iou"

    def update(self, name: str, prediction: GrayMap, annotation: GrayMap) -> None:
        """Score one image.

        Args:
            name: of the image.
            prediction: (H, W) uint8, 255 is surely foreground.
            annotation: (H, W) uint8.

        Raises:
            ValueError: if the sizes or types differ.
        """
        for owner, values in (("prediction", prediction), ("annotation", annotation)):
            if values.dtype != np.uint8 or values.ndim != 2:
                raise ValueError(f"{name}: the {owner} must be (H, W) uint8, got {values.shape} {values.dtype}")
        if prediction.shape != annotation.shape:
            (height, width), (rows, columns) = prediction.shape, annotation.shape
            raise ValueError(
                f"{name}: the map has {width}x{height} pixels, the annotation {columns}x{rows}; predict in original pixels"
            )
        self.add(name, self.score(prediction, annotation))

    def score(self, prediction: GrayMap, annotation: GrayMap) -> SaliencyRecord:
        """The numbers and curves of one image."""
        raise NotImplementedError

    def item_scores(self) -> dict[str, ItemScores]:
        """Single numbers of every image."""
        return {name: record.values for name, record in self.in_order()}

    def _mean_value(self, key: str) -> float | None:
        return mean(record.values[key] for _, record in self.in_order())

    def _mean_curve(self, key: str) -> Curve | None:
        curves = [record.curves[key] for _, record in self.in_order()]
        return np.mean(curves, axis=0) if curves else None


class ToolboxSaliency(Saliency):
    """The saliency literature's measures: MAE, maximal and adaptive F, maximal and mean IoU."""

    @property
    def tag(self) -> str:
        """What is printed beside every number."""
        return "toolbox"

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        return "saliency, toolbox family: annotation >= 0.1, maps divided by their maximum, P and R averaged before F"

    def score(self, prediction: GrayMap, annotation: GrayMap) -> SaliencyRecord:
        """``mae``, ``adaptive_f``, ``iou`` (at half of the maximum); curves of precision, recall and IoU at 0 ... 255."""
        foreground = annotation >= 0.1 * 255
        peak = int(prediction.max(initial=0))
        # Levels by floor in integers: a quotient of floats would round some of them up.
        levels = prediction.astype(np.int64) * 255 // max(peak, 1)
        hits, taken = (_counts_at_least(levels[where]) for where in (foreground, np.ones_like(foreground)))
        precision, recall, iou = _ratios(hits, taken, int(foreground.sum()))
        adaptive = min(2 * prediction.mean() / max(peak, 1), 1.0)
        chosen = prediction / max(peak, 1) >= adaptive
        low = int(prediction.min(initial=255))
        # A map of one value cannot be stretched: it is all foreground, or none where that value is 0.
        low = 0 if low == peak else low
        soft = (prediction.astype(np.float64) - low) / max(peak - low, 1)
        values: ItemScores = {
            "mae": float(np.abs(soft - foreground).mean()),
            "adaptive_f": _f_of_masks(chosen, foreground),
            "iou": float(iou[128]),
        }
        return SaliencyRecord(values, {"precision": precision, "recall": recall, "iou": iou})

    def compute(self) -> ItemScores:
        """``mae`` (lower is better), ``max_f``, ``adaptive_f``, ``max_iou``, ``mean_iou``."""
        values: ItemScores = {"max_f": None, "adaptive_f": self._mean_value("adaptive_f"), "mae": self._mean_value("mae")}
        precision, recall, iou = (self._mean_curve(key) for key in ("precision", "recall", "iou"))
        if precision is not None and recall is not None and iou is not None:
            values["max_f"] = float(f_measure(precision, recall).max())
            values["max_iou"], values["mean_iou"] = float(iou.max()), float(iou.mean())
        return values


class TokenCutSaliency(Saliency):
    """TokenCut's measures: maximal F of the averaged F curve, IoU and accuracy at one half."""

    @property
    def tag(self) -> str:
        """What is printed beside every number."""
        return "tokencut"

    @property
    def protocol(self) -> str:
        """The rules in one line."""
        return "saliency, tokencut family: annotation > 0, maps > k/255, F averaged over images before its maximum"

    def score(self, prediction: GrayMap, annotation: GrayMap) -> SaliencyRecord:
        """``iou`` and ``accuracy`` at > 0.5, ``f`` there; the curve of F at 0, 1/255, ..., 254/255."""
        foreground, total = annotation > 0, annotation.size
        hits, taken = (_counts_at_least(prediction[where]) for where in (foreground, np.ones_like(foreground)))
        # Strictly above k is at least k + 1, for k = 0 ... 254.
        hits, taken, wanted = hits[1:], taken[1:], int(foreground.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(taken > 0, hits / taken, 1.0)
            recall = hits / wanted if wanted else np.ones(255)
        curve = f_measure(precision, recall)
        # 127/255 < 0.5 < 128/255
        hit, area = int(hits[127]), int(taken[127])
        union = area + wanted - hit
        values: ItemScores = {
            "iou": hit / union if union else None,
            "accuracy": (total - union + hit) / total,
            "f": float(curve[127]),
        }
        return SaliencyRecord(values, {"f": curve})

    def compute(self) -> ItemScores:
        """``max_f``, ``iou``, ``accuracy``; an image without any foreground at all has no IoU."""
        curve = self._mean_curve("f")
        return {
            "max_f": None if curve is None else float(curve.max()),
            "iou": self._mean_value("iou"),
            "accuracy": self._mean_value("accuracy"),
        }


def f_measure(precision: Curve, recall: Curve) -> Curve:
    """F = (1 + beta^2) P R / (beta^2 P + R), 0 where both are 0."""
    bottom = BETA_SQUARED * precision + recall
    curve: Curve = np.where(bottom > 0, (1 + BETA_SQUARED) * precision * recall / np.where(bottom > 0, bottom, 1), 0.0)
    return curve


def _counts_at_least(levels: NDArray[np.integer]) -> Curve:
    """How many entries are >= k, for k = 0 ... 255."""
    return np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1].astype(np.float64)


def _ratios(hits: Curve, taken: Curve, wanted: int) -> tuple[Curve, Curve, Curve]:
    """Precision, recall and IoU of every threshold; what has no denominator is 0, IoU of two empty masks likewise."""

    def ratio(bottom: Curve) -> Curve:
        return np.divide(hits, bottom, out=np.zeros_like(hits), where=bottom > 0)

    return ratio(taken), ratio(np.full_like(hits, wanted)), ratio(taken + wanted - hits)


def _f_of_masks(mask: NDArray[np.bool_], foreground: NDArray[np.bool_]) -> float:
    hits = float((mask & foreground).sum())
    precision, recall = hits / max(int(mask.sum()), 1), hits / max(int(foreground.sum()), 1)
    return float(f_measure(np.array([precision]), np.array([recall]))[0])
