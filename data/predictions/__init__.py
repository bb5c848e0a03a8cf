"""Readers of predictions in files, whoever wrote them: COCO json, boxes by name, PNG folders, eigenseg's own results."""

from eigenseg.data.predictions.base import Missing, Predictions
from eigenseg.data.predictions.boxes import BoxPredictions
from eigenseg.data.predictions.coco import CocoPredictions
from eigenseg.data.predictions.open import check_missing, open_predictions
from eigenseg.data.predictions.pictures import LabelPredictions, MapPredictions, VideoPredictions

__all__ = [
    "BoxPredictions",
    "CocoPredictions",
    "LabelPredictions",
    "MapPredictions",
    "Missing",
    "Predictions",
    "VideoPredictions",
    "check_missing",
    "open_predictions",
]
