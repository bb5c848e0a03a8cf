"""Run the configured method over images into a result folder: what extract and evaluate share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eigenseg.cli.console import is_watched, progress_bar
from eigenseg.config.build import build_parts
from eigenseg.config.compose import plain
from eigenseg.data.datasets.base import Dataset, check_images
from eigenseg.data.files import exclusive
from eigenseg.data.results.store import ResultFolder
from eigenseg.data.sources import ImageSource
from eigenseg.pipeline import Summary, check_batching, extract
from eigenseg.predictor import Predictor
from eigenseg.runtime import versions

_FAILURES_SHOWN = 20  # a screenful; the manifest has them all


def predict_into(
    root: Path, config: Any, sources: list[ImageSource], origin: Any, written: dict[str, bool]
) -> tuple[Summary, ResultFolder]:
    """Predict images with the configured method and write the results, continuing what an earlier run began.

    Args:
        root: folder of the results.
        config: with ``backbone``, ``method``, ``preprocess``, ``runtime`` and ``resume``.
        sources: what to predict.
        origin: where the images come from; a folder is continued only with images of the same origin.
        written: which files ``ResultFolder`` writes, its keyword arguments.
    """
    settings = plain(config)
    runtime = settings["runtime"]
    check_batching(runtime["batch_size"], runtime["workers"])
    predictor = Predictor(**build_parts(config))
    with exclusive(root):
        run = _provenance(settings, predictor, origin, written)
        folder = ResultFolder(root, run, resume=settings["resume"], **written)
        return _extract_with_progress(predictor, sources, folder, runtime), folder


def dataset_images(dataset: Dataset, indices: Sequence[int] | None = None) -> list[ImageSource]:
    """Images of a dataset's items, all if no indices are given.

    Raises:
        FileNotFoundError: if one is missing.
    """
    check_images(dataset, indices)
    chosen = range(len(dataset.items)) if indices is None else indices
    return [source for i in chosen for source in dataset.images(i)]


def report_failures(folder: ResultFolder, sources: list[ImageSource]) -> None:
    """Name the images that could not be processed, on standard error."""
    failed = folder.failures(sources)
    for record in failed[:_FAILURES_SHOWN]:
        print(f"failed: {record['image']}: {record['error']}", file=sys.stderr)
    if len(failed) > _FAILURES_SHOWN:
        more = len(failed) - _FAILURES_SHOWN
        print(f"failed: and {more} more, see {folder.log.path}", file=sys.stderr)


def _extract_with_progress(
    predictor: Predictor, sources: list[ImageSource], folder: ResultFolder, runtime: dict[str, Any]
) -> Summary:
    # Counting looks at every file once more, so only where the bar is seen.
    waiting = sum(not folder.holds(source) for source in sources) if is_watched() else 0
    with progress_bar("extracting", waiting) as advance:
        return extract(
            predictor.predict,
            sources,
            folder,
            batch_size=runtime["batch_size"],
            workers=runtime["workers"],
            on_outcome=lambda _: advance(1),
        )


def _provenance(settings: dict[str, Any], predictor: Predictor, origin: Any, written: dict[str, bool]) -> dict[str, Any]:
    """What ``run.json`` says; ``identity`` holds everything that decides what is in the folder."""
    identity = {name: settings[name] for name in ("backbone", "method", "postprocess")}
    identity["preprocess"] = vars(predictor.preprocess)
    identity["weights"] = predictor.backbone.provenance()["weights"]
    identity["input"] = origin
    identity["output"] = written
    return {
        "identity": identity,
        "config": settings,
        "device": str(predictor.device),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
