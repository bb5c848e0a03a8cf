from .base import Missing as Missing, Predictions as Predictions
from .boxes import BoxPredictions as BoxPredictions
from .coco import CocoPredictions as CocoPredictions
from .maps import (
    LabelPredictions as LabelPredictions,
    MapPredictions as MapPredictions,
    VideoPredictions as VideoPredictions,
)
from .open import check_missing as check_missing, open_predictions as open_predictions
from .records import RecordPredictions as RecordPredictions
from .tracks import TrackPredictions as TrackPredictions
