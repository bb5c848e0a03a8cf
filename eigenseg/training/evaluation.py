"""Scores of weights during training, by the same records, readers and metrics as ``eigenseg evaluate``."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from eigenseg.data.datasets.base import Dataset, check_images
from eigenseg.data.metric import Metric
from eigenseg.data.predictions.open import open_predictions
from eigenseg.data.results.base import Writer
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import SaliencyWriter
from eigenseg.data.scoring import check_kind, score_dataset
from eigenseg.data.stages import Batching
from eigenseg.pipeline import extract
from eigenseg.predictor import Predictor

logger = logging.getLogger(__name__)


def make_score(
    dataset: Dataset, metric: Metric, make_predictor: Callable[[Any], Predictor], batching: Batching
) -> Callable[[Any], Mapping[str, float | None]]:
    """A function that scores a trainable as it is.

    Args:
        dataset: of images.
        metric: without items.
        make_predictor: from what ``Trainable.inference`` returns to a predictor.
        batching: images at a time.

    Raises:
        ValueError: if the metric scores another kind of annotation, or the dataset holds videos.
        FileNotFoundError: if an image is missing.
    """
    check_kind(dataset, metric)
    if dataset.kind == "video":
        raise ValueError(f"validation: {dataset.title} holds videos; evaluation during training takes images")
    check_images(dataset)
    sources = [source for i in range(len(dataset.items)) for source in dataset.images(i)]

    def score(trainable: Any) -> Mapping[str, float | None]:
        predictor = make_predictor(trainable.inference())
        # A record holds everything but soft maps, as in eigenseg evaluate.
        writers: list[Writer] = [SaliencyWriter(soft_only=True)] if dataset.kind == "saliency" else []
        with tempfile.TemporaryDirectory(prefix="eigenseg-validation-") as folder:
            summary = extract(predictor, sources, ResultStore(Path(folder), {}, writers, {}), batching)
            if summary.failures:
                logger.warning("%d images of %s failed and count as empty", summary.failures, dataset.title)
            predictions = open_predictions(folder, dataset, "empty")
            return score_dataset(dataset, predictions, metric).compute()

    return score
