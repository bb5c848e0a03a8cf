"""Saliency metrics of soft or binary foreground maps, in the two families of definitions that papers use.

Both compute F = (1 + beta^2) P R / (beta^2 P + R) with beta^2 = 0.3; everything else differs, so numbers from the two
families must not be compared.

``toolbox``  (the saliency literature's sal_eval_toolbox): ground truth is gray >= 0.1; a map is divided by its maximum and
    thresholded at >= k/255; precision and recall are averaged over images, then F and its maximum over thresholds follow.
    Averages are sums over all images divided by the number of maps that are not all zero, and a constant map, which cannot
    be stretched to 0 ... 1, has no MAE: both as published.
``tokencut`` (TokenCut's script): ground truth is any value above 0; a map is thresholded at > k/255; F is averaged over
    images, then its maximum over thresholds is taken; IoU and accuracy use > 0.5.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eigenseg.data.datasets.base import Kind
from eigenseg.data.metric import Accumulator, ItemScores, mean

GrayMap = NDArray[np.uint8]
Curve = NDArray[np.float64]
# Weight of precision over recall in the saliency literature.
BETA_SQUARED = 0.3
_FOREGROUND = 0.1 * 255  # the smallest gray level that is foreground in the toolbox family


class SaliencyRecord(NamedTuple):
    """Scores of one image, its curves over thresholds, which are averaged over images before anything else, and maxima.

    Args:
        values: by name.
        curves: (256,) or (255,) float64 by name.
        peak, annotation_peak: largest gray level of the map and of the annotation, 0 ... 255.
    """

    values: ItemScores
    curves: dict[str, Curve]
    peak: int
    annotation_peak: int


class Saliency(Accumulator[SaliencyRecord]):
    """Base of both families: checks maps and averages their scores."""

    kind: ClassVar[Kind] = "saliency"
    main, item_score = "max_f", "iou"

    def update(self, name: str, prediction: GrayMap, annotation: GrayMap) -> None:
        """Score one image.

        Args:
            name: image name.
            prediction: (H, W) uint8, 255 is certain foreground.
            annotation: (H, W) uint8.

        Raises:
            ValueError: if the sizes or types differ.
        """
        for source, values in (("prediction", prediction), ("annotation", annotation)):
            if values.dtype != np.uint8 or values.ndim != 2:
                raise ValueError(f"{name}: the {source} must be (H, W) uint8, got {values.shape} {values.dtype}")
        if prediction.shape != annotation.shape:
            (height, width), (rows, columns) = prediction.shape, annotation.shape
            raise ValueError(
                f"{name}: the map has {width}x{height} pixels, the annotation {columns}x{rows}; predict in original pixels"
            )
        self.add(name, self.score(prediction, annotation))

    def score(self, prediction: GrayMap, annotation: GrayMap) -> SaliencyRecord:
        """Scores and curves of one image."""
        raise NotImplementedError

    def item_scores(self) -> dict[str, ItemScores]:
        """Scores of every image."""
        return {name: record.values for name, record in self.in_order()}

    def _mean_value(self, key: str) -> float | None:
        return mean(record.values[key] for _, record in self.in_order())

    def _mean_curve(self, key: str) -> Curve | None:
        curves = [record.curves[key] for _, record in self.in_order()]
        return np.mean(curves, axis=0) if curves else None


class ToolboxSaliency(Saliency):
    """Metrics of the saliency literature: MAE, maximal and adaptive F, maximal and mean IoU.

    A map that is all zero adds to the sums (at threshold 0 all of it is foreground) and not to the number that they are
    divided by, as in the published code: with many such maps the averages mean little, and a note counts them.
    """

    item_explanation = "IoU of the map, divided by its maximum, at >= 128/255"

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return "toolbox"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return "saliency, toolbox family: ground truth >= 0.1, maps divided by their maximum, P and R averaged before F"

    def score(self, prediction: GrayMap, annotation: GrayMap) -> SaliencyRecord:
        """``mae``, ``adaptive_f``, ``iou`` (at half the maximum); curves of precision, recall and IoU at 0 ... 255."""
        foreground = annotation >= _FOREGROUND
        peak = int(prediction.max(initial=0))
        levels = _toolbox_levels(peak)[prediction]
        true_positives, predicted = (_counts_at_least(levels[where]) for where in (foreground, np.ones_like(foreground)))
        precision, recall, iou = _ratios(true_positives, predicted, int(foreground.sum()))
        adaptive = min(2 * prediction.mean() / max(peak, 1), 1.0)
        mask = prediction / max(peak, 1) >= adaptive
        low = int(prediction.min(initial=255))
        stretched = (prediction.astype(np.float64) - low) / max(peak - low, 1)
        values: ItemScores = {
            "mae": float(np.abs(stretched - foreground).mean()) if peak > low else None,
            "adaptive_f": _f_of_masks(mask, foreground),
            "iou": float(iou[128]),
        }
        curves = {"precision": precision, "recall": recall, "iou": iou}
        return SaliencyRecord(values, curves, peak, int(annotation.max(initial=0)))

    def compute(self) -> ItemScores:
        """``max_f``, ``adaptive_f``, ``mae`` (lower is better), ``max_iou``, ``mean_iou``; None if no map counts."""
        records = [record for _, record in self.in_order()]
        values: ItemScores = dict.fromkeys(("max_f", "adaptive_f", "mae", "max_iou", "mean_iou"))
        values["mae"] = self._mean_value("mae")
        counted = sum(record.peak > 0 for record in records)
        if counted:
            precision, recall, iou = (
                np.sum([record.curves[key] for record in records], axis=0) / counted
                for key in ("precision", "recall", "iou")
            )
            values["adaptive_f"] = math.fsum(record.values["adaptive_f"] or 0.0 for record in records) / counted
            values["max_f"] = float(f_measure(precision, recall).max())
            values["max_iou"], values["mean_iou"] = float(iou.max()), float(iou.mean())
        return values

    def notes(self) -> list[str]:
        """Maps that are left out, and annotations without foreground because their values are 0 and 1."""
        records = [record for _, record in self.in_order()]
        empty = sum(record.peak == 0 for record in records)
        constant = sum(record.peak > 0 and record.values["mae"] is None for record in records)
        faint = sum(0 < record.annotation_peak < _FOREGROUND for record in records)
        notes = []
        if empty:
            notes.append(
                f"{empty} of {len(records)} maps are all zero: averages are divided by the number of the others, and these "
                "have no MAE, as in the published toolbox"
            )
        if constant:
            notes.append(f"{constant} of {len(records)} maps have one value everywhere and no MAE, as published")
        if faint:
            least = math.ceil(_FOREGROUND)
            notes.append(
                f"{faint} of {len(records)} annotations have no value of {least} or more: nothing in them is "
                "foreground here; write masks as 0 and 255"
            )
        return notes


class TokenCutSaliency(Saliency):
    """TokenCut's metrics: maximum of the mean F curve, IoU and accuracy at threshold 0.5."""

    item_explanation = "IoU of the map > 0.5 with the annotation"

    @property
    def tag(self) -> str:
        """Short name of the protocol, printed next to every number."""
        return "tokencut"

    @property
    def protocol(self) -> str:
        """The protocol in one line."""
        return "saliency, tokencut family: ground truth > 0, maps > k/255, F averaged over images before its maximum"

    def score(self, prediction: GrayMap, annotation: GrayMap) -> SaliencyRecord:
        """``iou`` and ``accuracy`` at > 0.5, ``f`` there; the curve of F at 0, 1/255, ..., 254/255."""
        foreground, total = annotation > 0, annotation.size
        true_positives, predicted = (
            _counts_at_least(prediction[where]) for where in (foreground, np.ones_like(foreground))
        )
        # Strictly above k is at least k + 1, for k = 0 ... 254.
        true_positives, predicted, positives = true_positives[1:], predicted[1:], int(foreground.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(predicted > 0, true_positives / predicted, 1.0)
            recall = true_positives / positives if positives else np.ones(255)
        curve = f_measure(precision, recall)
        # 127/255 < 0.5 < 128/255
        intersection, area = int(true_positives[127]), int(predicted[127])
        union = area + positives - intersection
        values: ItemScores = {
            "iou": intersection / union if union else None,
            "accuracy": (total - union + intersection) / total,
            "f": float(curve[127]),
        }
        return SaliencyRecord(values, {"f": curve}, int(prediction.max(initial=0)), int(annotation.max(initial=0)))

    def compute(self) -> ItemScores:
        """``max_f``, ``iou``, ``accuracy``; an image with neither predicted nor annotated foreground has no IoU."""
        curve = self._mean_curve("f")
        return {
            "max_f": None if curve is None else float(curve.max()),
            "iou": self._mean_value("iou"),
            "accuracy": self._mean_value("accuracy"),
        }

    def notes(self) -> list[str]:
        """Maps of 0 and 1, in which nothing is above 0.5."""
        faint = sum(record.peak == 1 for _, record in self.in_order())
        if not faint:
            return []
        return [
            f"{faint} of {len(self.records)} maps hold 0 and 1 alone, which is 0 and 1/255 here: nothing is above 0.5; "
            "write maps as 0 and 255"
        ]


def f_measure(precision: Curve, recall: Curve) -> Curve:
    """F = (1 + beta^2) P R / (beta^2 P + R), 0 where both are 0."""
    numerator, denominator = (1 + BETA_SQUARED) * precision * recall, BETA_SQUARED * precision + recall
    curve: Curve = np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), 0.0)
    return curve


def _toolbox_levels(peak: int) -> NDArray[np.int64]:
    """The highest k with k/255 <= gray / peak for every gray level, in the published floats: (256,) int64.

    Both sides are rounded quotients, (gray/255) / (peak/255) and k/255, so some levels fall one below their exact place.
    """
    if not peak:
        return np.zeros(256, dtype=np.int64)
    quotients = np.arange(256) / 255 / (peak / 255)
    return np.searchsorted(np.arange(256) / 255, quotients, side="right") - 1


def _counts_at_least(levels: NDArray[np.integer]) -> Curve:
    """Number of entries >= k, for k = 0 ... 255."""
    return np.bincount(levels.ravel(), minlength=256)[::-1].cumsum()[::-1].astype(np.float64)


def _ratios(true_positives: Curve, predicted: Curve, positives: int) -> tuple[Curve, Curve, Curve]:
    """Precision, recall and IoU at every threshold; 0 where the denominator is 0, also the IoU of two empty masks."""

    def ratio(denominator: Curve) -> Curve:
        return np.divide(true_positives, denominator, out=np.zeros_like(true_positives), where=denominator > 0)

    union = predicted + positives - true_positives
    return ratio(predicted), ratio(np.full_like(predicted, positives)), ratio(union)


def _f_of_masks(mask: NDArray[np.bool_], foreground: NDArray[np.bool_]) -> float:
    true_positives = float((mask & foreground).sum())
    precision, recall = (true_positives / max(int(pixels.sum()), 1) for pixels in (mask, foreground))
    return float(f_measure(np.array([precision]), np.array([recall]))[0])
